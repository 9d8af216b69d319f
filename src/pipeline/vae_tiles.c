#include "pipeline/vae_tiles.h"

#include "base/checked.h"
#include "base/large.h"

#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, OVERLAP = 4 /* a quarter */ };

tile_grid tile_grid_make(int64_t h, int64_t w, int64_t scale, int64_t sample_size)
{
    int64_t side = i64_max(1, sample_size / scale);
    return (tile_grid){.h = h, .w = w, .scale = scale, .side = side, .step = side - side / OVERLAP};
}

bool tile_grid_divides(const tile_grid *g) { return g->h > g->side || g->w > g->side; }

int64_t tile_rows(const tile_grid *g) { return i64_ceil_div(g->h, g->step); }
int64_t tile_columns(const tile_grid *g) { return i64_ceil_div(g->w, g->step); }
int64_t tile_extent(const tile_grid *g, int64_t whole, int64_t i) { return i64_min(g->side, whole - i * g->step); }

/* Sizes in pixels. */
typedef struct tile {
    int64_t height, width;
    float *pixels;
} tile;

static void fade(const float *from, float *to, int64_t count, float part)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i] * (1 - part) + to[i] * part;
}

/* b's first rows come out of a's last; both are equally wide. */
static void blend_down(const tile *a, tile *b, int64_t overlap)
{
    int64_t extent = i64_min(overlap, i64_min(a->height, b->height)), row = CHANNELS * b->width;
    for (int64_t y = 0; y < extent; y++)
        fade(a->pixels + (a->height - extent + y) * row, b->pixels + y * row, row, (float)y / (float)extent);
}

/* b's first columns come out of a's last; both are equally high. */
static void blend_right(const tile *a, tile *b, int64_t overlap)
{
    int64_t extent = i64_min(overlap, i64_min(a->width, b->width));
    for (int64_t y = 0; y < b->height; y++)
        for (int64_t x = 0; x < extent; x++)
            fade(a->pixels + CHANNELS * ((y + 1) * a->width - extent + x), b->pixels + CHANNELS * (y * b->width + x),
                 CHANNELS, (float)x / (float)extent);
}

/* What the next tiles do not begin with. */
static void keep(const tile_grid *g, int64_t i, int64_t j, const tile *t, float *out)
{
    int64_t step = g->step * g->scale, height = i64_min(t->height, step), width = i64_min(t->width, step),
            row = g->w * g->scale;
    for (int64_t y = 0; y < height; y++)
        memcpy(out + CHANNELS * ((i * step + y) * row + j * step), t->pixels + CHANNELS * y * t->width,
               (size_t)(CHANNELS * width) * sizeof(float));
}

/* Row i of tiles; `above` is the finished row before it. */
static flux1_status decode_row(const tile_grid *g, int64_t i, const tile *above, tile *row, decode_tile *decode,
                               void *user, float *out)
{
    int64_t overlap = (g->side - g->step) * g->scale, height = tile_extent(g, g->h, i);
    for (int64_t j = 0; j < tile_columns(g); j++) {
        int64_t width = tile_extent(g, g->w, j);
        tile *t = &row[j];
        t->height = height * g->scale;
        t->width = width * g->scale;
        TRY(decode(user, i * g->step, j * g->step, height, width, t->pixels));
        if (i > 0)
            blend_down(&above[j], t, overlap);
        if (j > 0)
            blend_right(&row[j - 1], t, overlap);
        keep(g, i, j, t, out);
    }
    return FLUX1_OK;
}

int64_t tile_grid_cells(const tile_grid *g) { return i64_min(g->side, g->h) * i64_min(g->side, g->w); }

static size_t pixel_values(const tile_grid *g) { return (size_t)(tile_grid_cells(g) * g->scale * g->scale * CHANNELS); }

size_t tile_grid_bytes(const tile_grid *g) { return 2 * (size_t)tile_columns(g) * pixel_values(g) * sizeof(float); }

flux1_status tiles_decode(const tile_grid *g, decode_tile *decode, void *user, float *out, flux1_error *err)
{
    int64_t columns = tile_columns(g);
    const size_t pixels = pixel_values(g);
    tile *rows[2] = {calloc((size_t)columns, sizeof(tile)), calloc((size_t)columns, sizeof(tile))};
    float *memory = large_alloc(tile_grid_bytes(g));
    flux1_status st = FLUX1_OK;
    if (!rows[0] || !rows[1] || !memory) {
        st = error_oom(err, tile_grid_bytes(g), "the picture's tiles");
        goto cleanup;
    }
    for (int64_t j = 0; j < 2 * columns; j++)
        rows[j % 2][j / 2].pixels = memory + (size_t)j * pixels;
    for (int64_t i = 0; i < tile_rows(g); i++)
        TRY_CLEANUP(decode_row(g, i, rows[(i + 1) % 2], rows[i % 2], decode, user, out));
cleanup:
    large_free(memory, tile_grid_bytes(g));
    free(rows[0]);
    free(rows[1]);
    return st;
}
