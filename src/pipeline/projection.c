#include "pipeline/projection.h"

#include "base/hash.h"
#include "image/pixels.h"
#include "weights/small_cache.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- fitting ---- */

enum { ROOM = PROJECTION_CHANNELS + 1 };

/* The normal equations: a·x = b for three right-hand sides, a symmetric of which the lower half is set. */
typedef struct equations {
    int n;
    double a[ROOM][ROOM], b[ROOM][3];
} equations;

static void add_sample(equations *e, const double *row, const float *colour)
{
    for (int i = 0; i < e->n; i++) {
        for (int j = 0; j <= i; j++)
            e->a[i][j] += row[i] * row[j];
        for (int k = 0; k < 3; k++)
            e->b[i][k] += row[i] * (double)colour[k];
    }
}

/* Cholesky: a becomes its factor L. A little is added to the diagonal, so that channels that were never seen apart have
 * a solution too. */
static void factor(equations *e)
{
    double trace = 0;
    for (int i = 0; i < e->n; i++)
        trace += e->a[i][i];
    for (int i = 0; i < e->n; i++) {
        e->a[i][i] += 1e-9 * trace;
        for (int j = 0; j <= i; j++) {
            double sum = e->a[i][j];
            for (int k = 0; k < j; k++)
                sum -= e->a[i][k] * e->a[j][k];
            e->a[i][j] = i == j ? sqrt(sum) : sum / e->a[j][j];
        }
    }
}

/* b becomes x: L·y = b, then Lᵀ·x = y. */
static void substitute(equations *e)
{
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < e->n; i++) {
            for (int j = 0; j < i; j++)
                e->b[i][k] -= e->a[i][j] * e->b[j][k];
            e->b[i][k] /= e->a[i][i];
        }
        for (int i = e->n - 1; i >= 0; i--) {
            for (int j = i + 1; j < e->n; j++)
                e->b[i][k] -= e->a[j][i] * e->b[j][k];
            e->b[i][k] /= e->a[i][i];
        }
    }
}

flux1_status projection_solve(projection *p, const float *values, const float *colours, size_t n, flux1_error *err)
{
    double row[ROOM];
    const int channels = (int)p->channels;
    equations *e = calloc(1, sizeof *e);
    if (!e)
        return error_oom(err, sizeof *e, "fitting the preview's colours");
    e->n = channels + 1;
    row[channels] = 1;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < channels; k++)
            row[k] = (double)values[i * (size_t)channels + (size_t)k];
        add_sample(e, row, colours + 3 * i);
    }
    factor(e);
    substitute(e);
    for (int i = 0; i <= channels; i++)
        for (int k = 0; k < 3; k++)
            p->weight[i][k] = (float)e->b[i][k];
    free(e);
    return FLUX1_OK;
}

/* ---- drawing ---- */

static void project(const projection *p, const float *tokens, int64_t h, int64_t w, float *colour)
{
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++, colour += 3) {
            const float *cell = tokens + latent_cell(p->channels, w, y, x);
            memcpy(colour, p->weight[p->channels], 3 * sizeof *colour);
            for (int64_t k = 0; k < p->channels; k++)
                for (int i = 0; i < 3; i++)
                    colour[i] += cell[4 * k] * p->weight[k][i];
        }
}

/* Where a pixel lies between two cells of n, `scale` pixels each: at first + share. */
static int64_t between(int64_t pixel, int64_t scale, int64_t n, int64_t *next, float *share)
{
    const float at = ((float)pixel + 0.5f) / (float)scale - 0.5f;
    int64_t first = at < 0 ? 0 : (int64_t)at;
    *share = at < 0 ? 0 : at - (float)first;
    *next = first + 1 < n ? first + 1 : first;
    return first;
}

/* A row of pixels from a row of cells. */
static void widen(const float *cells, int64_t w, int64_t scale, float *pixels)
{
    for (int64_t x = 0; x < w * scale; x++) {
        int64_t next;
        float share;
        const int64_t first = between(x, scale, w, &next, &share);
        for (int i = 0; i < 3; i++)
            *pixels++ = cells[3 * first + i] + share * (cells[3 * next + i] - cells[3 * first + i]);
    }
}

flux1_status projection_canvas_create(int64_t h, int64_t w, int64_t scale, projection_canvas *out, flux1_error *err)
{
    const size_t cells = (size_t)(3 * h * w), row = (size_t)(3 * w), bytes = cells * (size_t)(scale * scale);
    *out = (projection_canvas){.h = h, .w = w, .scale = scale};
    out->pixels = malloc(bytes);
    out->work = malloc((cells + row + row * (size_t)scale) * sizeof *out->work);
    if (out->pixels && out->work)
        return FLUX1_OK;
    projection_canvas_free(out);
    return error_oom(err, bytes, "previews");
}

void projection_canvas_free(projection_canvas *c)
{
    free(c->pixels);
    free(c->work);
    *c = (projection_canvas){0};
}

void projection_draw(const projection *p, const float *tokens, projection_canvas *c)
{
    const size_t row = (size_t)(3 * c->w), wide = row * (size_t)c->scale;
    float *mixed = c->work + (size_t)c->h * row, *line = mixed + row;
    uint8_t *pixels = c->pixels;
    project(p, tokens, c->h, c->w, c->work);
    for (int64_t y = 0; y < c->h * c->scale; y++, pixels += wide) {
        int64_t next;
        float share;
        const int64_t first = between(y, c->scale, c->h, &next, &share);
        const float *a = c->work + (size_t)first * row, *b = c->work + (size_t)next * row;
        for (size_t i = 0; i < row; i++)
            mixed[i] = a[i] + share * (b[i] - a[i]);
        widen(mixed, c->w, c->scale, line);
        pixels_to_bytes(line, wide, pixels);
    }
}

double picture_distance(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    double sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum += (double)((a[i] - b[i]) * (a[i] - b[i]));
    return bytes ? sqrt(sum / (double)bytes) : 0;
}

/* ---- kept ---- */

struct projection_place {
    pthread_mutex_t lock;
    bool known;
    projection projection;
};

projection_place *projection_place_create(void)
{
    projection_place *p = calloc(1, sizeof *p);
    if (p && pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p);
        return NULL;
    }
    return p;
}

void projection_place_free(projection_place *p)
{
    if (p)
        pthread_mutex_destroy(&p->lock);
    free(p);
}

#define NAME_ROOM (sizeof "preview-" + 32)
#define VERSION 1 /* of how it is fitted and of the entry's form */

/* The entry's name follows from everything that determines it. False if no file has the weights. */
static bool entry_name(const store *vae, const double settings[PROJECTION_SETTINGS], char name[NAME_ROOM])
{
    const uint64_t version = VERSION;
    uint64_t sum[2];
    hash_stream *h = store_files(vae) > 0 ? hash_begin() : NULL;
    if (!h)
        return false;
    hash_add(h, &version, sizeof version);
    hash_add(h, settings, PROJECTION_SETTINGS * sizeof *settings);
    for (size_t i = 0; i < store_files(vae); i++)
        hash_add(h, &store_file(vae, i)->map.identity, sizeof(file_identity));
    hash_end(h, sum);
    snprintf(name, NAME_ROOM, "preview-%016" PRIx64 "%016" PRIx64, sum[0], sum[1]);
    return true;
}

static bool is_usable(const projection *p)
{
    bool usable = p->channels > 0 && p->channels <= PROJECTION_CHANNELS && isfinite(p->error);
    for (int64_t i = 0; usable && i <= p->channels; i++)
        for (int k = 0; k < 3; k++)
            usable = usable && isfinite(p->weight[i][k]);
    return usable;
}

static bool recall(const store *vae, const double settings[PROJECTION_SETTINGS], projection *out)
{
    char name[NAME_ROOM], *bytes;
    size_t size;
    if (!entry_name(vae, settings, name) || !small_cache_get(name, sizeof *out, &bytes, &size))
        return false;
    const bool whole = size == sizeof *out;
    if (whole)
        memcpy(out, bytes, sizeof *out);
    free(bytes);
    return whole && is_usable(out) && (double)out->channels == settings[0];
}

const projection *projection_known(projection_place *place, const store *vae,
                                   const double settings[PROJECTION_SETTINGS])
{
    pthread_mutex_lock(&place->lock);
    place->known = place->known || recall(vae, settings, &place->projection);
    const bool known = place->known;
    pthread_mutex_unlock(&place->lock);
    return known ? &place->projection : NULL;
}

const projection *projection_note(projection_place *place, const store *vae, const double settings[PROJECTION_SETTINGS],
                                  const projection *p)
{
    char name[NAME_ROOM];
    pthread_mutex_lock(&place->lock);
    if (!place->known)
        place->projection = *p;
    place->known = true;
    pthread_mutex_unlock(&place->lock);
    if (entry_name(vae, settings, name))
        small_cache_put(name, p, sizeof *p, NULL); /* without it the next run fits again */
    return &place->projection;
}
