#include "pipeline/ttnn_pack.h"

#include "base/half.h"
#include "ops/kept.h"
#include "weights/recipe_tiles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Of the forms below, in keys: another one where the same recipe has other bytes. */
enum { LAYOUT = 1 };

static bool in_tiles(ttnn_form f) { return f <= TTNN_BFP8_TILES; }
static tile_format tiles_of(ttnn_form f) { return f == TTNN_BFP8_TILES ? TILE_BFP8 : TILE_BF16; }

ttnn_form ttnn_form_find(const char *name)
{
    static const char *const names[] = {
#define TTNN_FORM_NAME(id, name) name,
        TTNN_FORMS(TTNN_FORM_NAME)
#undef TTNN_FORM_NAME
    };
    int f = 0;
    while (f < TTNN_FORM_COUNT && strcmp(names[f], name) != 0)
        f++;
    return (ttnn_form)f;
}

/* ---- what is wanted ---- */

/* As the worker's `prepare` and `filter` choose it. */
static ttnn_form usual_form(const weight_recipe *w, bool bias, ttnn_part_id part, tile_format weights)
{
    if (w->role == WEIGHT_TABLE || (w->role == WEIGHT_CONV && w->kernel == 3))
        return TTNN_BF16_ROWS;
    const bool packed = part == TTNN_TEXT_T5 || part == TTNN_DENOISER;
    return packed && weights == TILE_BFP8 && !bias && w->role != WEIGHT_VECTOR ? TTNN_BFP8_TILES : TTNN_BF16_TILES;
}

/* The first rank's recipe that has any values; NULL: none has. */
static const weight_recipe *any_share(const ttnn_program *p, int64_t w, bool bias)
{
    for (int i = 0; i < p->ranks; i++) {
        const weight_recipe *r = ttnn_program_recipe(p, i, w, bias);
        if (r && r->rows && r->cols)
            return r;
    }
    return NULL;
}

size_t ttnn_wishes(const ttnn_program *p, ttnn_part_id part, tile_format weights, ttnn_wish *out)
{
    size_t count = 0;
    for (size_t i = 0; i < 2 * p->weights; i++) {
        const int64_t w = (int64_t)(i / 2);
        const bool bias = i % 2;
        const weight_recipe *r = any_share(p, w, bias), *of = any_share(p, w, false);
        if (!r || !of)
            continue;
        const ttnn_form f = usual_form(of, bias, part, weights);
        if (out)
            out[count] = (ttnn_wish){.w = w,
                                     .rows = in_tiles(f) ? r->cols : r->rows,
                                     .cols = in_tiles(f) ? r->rows : r->cols,
                                     .bias = bias,
                                     .form = f};
        count++;
    }
    return count;
}

/* ---- arrays ---- */

/* Bytes of the matrix [rows, cols] in that form; false if they cannot be counted. */
static bool bytes_of(ttnn_form f, int64_t rows, int64_t cols, size_t *out)
{
    if (in_tiles(f))
        return tiles_bytes(tiles_of(f), rows, cols, out);
    return size_mul((size_t)rows, (size_t)cols, out) && size_mul(*out, f == TTNN_F32_ROWS ? 4 : 2, out);
}

static bool has_shape(const weight_recipe *r, const ttnn_wish *q)
{
    return in_tiles(q->form) ? r->rows == q->cols && r->cols == q->rows : r->rows == q->rows && r->cols == q->cols;
}

/* Of each array the recipe, from the first rank that has it. */
static bool take_recipes(const ttnn_program *p, const ttnn_wish *q, ttnn_arrays *a)
{
    bool any = false;
    for (int i = 0; i < a->count; i++) {
        const weight_recipe *r = ttnn_program_recipe(p, a->vary == VARY_SP ? i * p->r.mesh.tp : i, q->w, q->bias);
        a->recipe[i] = r = r && r->rows && r->cols ? r : NULL;
        any |= r != NULL;
        if (r && !has_shape(r, q))
            return false;
        a->rows = r ? r->rows : a->rows;
    }
    return any;
}

flux1_status ttnn_arrays_find(const ttnn_program *p, const ttnn_wish *q, ttnn_arrays *out, flux1_error *err)
{
    ttnn_arrays a = {.form = q->form, .vary = ttnn_program_varies(p, q->w, q->bias)};
    a.count = a.vary == VARY_SP ? p->r.mesh.sp : a.vary == VARY_TP ? p->r.mesh.tp : a.vary == VARY_ALL ? p->ranks : 1;
    *out = (ttnn_arrays){0};
    if (!bytes_of(q->form, q->rows, q->cols, &a.each) || !size_mul(a.each, (size_t)a.count, &a.bytes))
        return FLUX1_ERR_FORMAT;
    if (!(a.recipe = malloc((size_t)a.count * sizeof *a.recipe)))
        return error_oom(err, 0, "packing a weight");
    if (!take_recipes(p, q, &a)) {
        ttnn_arrays_free(&a);
        return FLUX1_ERR_FORMAT;
    }
    *out = a;
    return FLUX1_OK;
}

void ttnn_arrays_free(ttnn_arrays *a)
{
    free(a->recipe);
    *a = (ttnn_arrays){0};
}

void ttnn_arrays_key(const ttnn_arrays *a, uint64_t key[2])
{
    kept_key(key, "ttnn", LAYOUT, a->form);
    for (int i = 0; i < a->count; i++) {
        kept_key_add(key, a->recipe[i] != NULL);
        if (a->recipe[i])
            kept_key_recipe(key, a->recipe[i]);
    }
}

/* ---- packed ---- */

/* Work of a few bands of one array each. */
enum { BANDS = 8 };

typedef struct packing {
    const ttnn_arrays *a;
    unsigned char *out;
    int64_t chunks; /* of an array */
    pthread_mutex_t lock;
    flux1_error *err;
    flux1_status status;
} packing;

static flux1_status pack_rows(const weight_recipe *r, ttnn_form f, int64_t first, int64_t count, unsigned char *out,
                              flux1_error *err)
{
    if (f == TTNN_F32_ROWS)
        return recipe_decode_rows(r, first, count, 0, r->cols, (float *)out + first * r->cols, err);
    float *row = malloc((size_t)r->cols * sizeof *row);
    flux1_status st = row ? FLUX1_OK : error_oom(err, (size_t)r->cols * sizeof *row, "packing a weight");
    for (int64_t i = first; st == FLUX1_OK && i < first + count; i++) {
        st = recipe_decode(r, i, 0, r->cols, row, err);
        for (int64_t k = 0; st == FLUX1_OK && k < r->cols; k++)
            ((uint16_t *)out)[i * r->cols + k] = bf16_from_f32(row[k]);
    }
    free(row);
    return st;
}

static void pack_chunk(void *arg, int64_t index, int worker)
{
    packing *k = arg;
    const ttnn_arrays *a = k->a;
    const int64_t array = index / k->chunks, band = index % k->chunks * BANDS;
    const weight_recipe *r = a->recipe[array];
    unsigned char *out = k->out + (size_t)array * a->each;
    flux1_error err = {0};
    flux1_status st = FLUX1_OK;
    (void)worker;
    if (!r)
        return;
    const int64_t bands = i64_min(BANDS, recipe_bands(r) - band),
                  rows = i64_min(bands * TILE_SIDE, r->rows - band * TILE_SIDE);
    if (in_tiles(a->form))
        st = recipe_tiles(r, tiles_of(a->form), TILES_TURNED, band, bands, out, &err);
    else
        st = pack_rows(r, a->form, band * TILE_SIDE, rows, out, &err);
    if (st == FLUX1_OK)
        return;
    pthread_mutex_lock(&k->lock);
    if (k->status == FLUX1_OK) { /* the first one's: others may fail otherwise */
        *k->err = err;
        k->status = st;
    }
    pthread_mutex_unlock(&k->lock);
}

flux1_status ttnn_arrays_pack(const ttnn_arrays *a, pool *workers, unsigned char *out, flux1_error *err)
{
    packing k = {.a = a, .out = out, .err = err};
    k.chunks = i64_ceil_div(i64_ceil_div(a->rows, TILE_SIDE), BANDS);
    for (int i = 0; i < a->count; i++)
        if (!a->recipe[i])
            memset(out + (size_t)i * a->each, 0, a->each);
    pthread_mutex_init(&k.lock, NULL);
    pool_run(workers, k.chunks * a->count, pack_chunk, &k);
    pthread_mutex_destroy(&k.lock);
    return k.status;
}
