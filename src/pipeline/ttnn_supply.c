#include "pipeline/ttnn_supply.h"

#include "base/half.h"
#include "base/pool.h"
#include "weights/recipe_tiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Forms of a weight, as the worker names them: its matrix turned in tiles, or as it is row by row. */
typedef enum form { FORM_BF16_TILES, FORM_BFP8_TILES, FORM_BF16_ROWS, FORM_F32_ROWS, FORMS } form;
static const char *const form_names[FORMS] = {"bfloat16.tile", "bfloat8_b.tile", "bfloat16.row", "float32.row"};

static bool in_tiles(form f) { return f <= FORM_BFP8_TILES; }
static tile_format tiles_of(form f) { return f == FORM_BFP8_TILES ? TILE_BFP8 : TILE_BF16; }

/* A weight that is asked for. */
typedef struct wish {
    int64_t w, rows, cols; /* of the matrix as the worker wants it */
    bool bias;
    form form;
} wish;

static flux1_status broken(const char *keys, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT, "device ttnn: the worker asks for \"%.120s\", which is none", keys);
}

static flux1_status read_wish(const char *keys, wish *out, flux1_error *err)
{
    char name[TTNN_WORD];
    int64_t bias;
    int f = 0;
    if (!ttnn_number(keys, "w", &out->w) || !ttnn_number(keys, "bias", &bias) || bias > 1 ||
        !ttnn_number(keys, "rows", &out->rows) || !ttnn_number(keys, "cols", &out->cols) ||
        !ttnn_key(keys, "form", name))
        return broken(keys, err);
    while (f < FORMS && strcmp(form_names[f], name) != 0)
        f++;
    out->bias = bias == 1;
    out->form = (form)f;
    return f < FORMS ? FLUX1_OK : broken(keys, err);
}

/* ---- packed ---- */

/* Work of a few bands of one array each. */
enum { BANDS = 8 };

typedef struct packing {
    const weight_recipe **recipe; /* [arrays]; NULL: zeros */
    form form;
    unsigned char *out;
    size_t bytes;   /* of an array */
    int64_t chunks; /* of an array */
    pthread_mutex_t lock;
    flux1_error *err;
    flux1_status status;
} packing;

static flux1_status pack_rows(const weight_recipe *r, form f, int64_t first, int64_t count, unsigned char *out,
                              flux1_error *err)
{
    if (f == FORM_F32_ROWS)
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
    const int64_t array = index / k->chunks, band = index % k->chunks * BANDS;
    const weight_recipe *r = k->recipe[array];
    unsigned char *out = k->out + (size_t)array * k->bytes;
    flux1_error err = {0};
    flux1_status st = FLUX1_OK;
    (void)worker;
    if (!r)
        return;
    const int64_t bands = i64_min(BANDS, recipe_bands(r) - band),
                  rows = i64_min(bands * TILE_SIDE, r->rows - band * TILE_SIDE);
    if (in_tiles(k->form))
        st = recipe_tiles(r, tiles_of(k->form), TILES_TURNED, band, bands, out, &err);
    else
        st = pack_rows(r, k->form, band * TILE_SIDE, rows, out, &err);
    if (st == FLUX1_OK)
        return;
    pthread_mutex_lock(&k->lock);
    if (k->status == FLUX1_OK)
        *k->err = err;
    k->status = st;
    pthread_mutex_unlock(&k->lock);
}

static flux1_status pack(packing *k, int64_t rows, int arrays, int threads)
{
    pool *p;
    k->chunks = i64_ceil_div(i64_ceil_div(rows, TILE_SIDE), BANDS);
    TRY(pool_create(threads, &p, k->err));
    pthread_mutex_init(&k->lock, NULL);
    pool_run(p, k->chunks * arrays, pack_chunk, k);
    pthread_mutex_destroy(&k->lock);
    pool_destroy(p);
    return k->status;
}

/* ---- weights ---- */

static int arrays_of(const ttnn_program *p, script_vary v)
{
    return v == VARY_SP ? p->r.mesh.sp : v == VARY_TP ? p->r.mesh.tp : v == VARY_ALL ? p->ranks : 1;
}

/* Bytes of the matrix [rows, cols] in that form; false if they cannot be counted. */
static bool bytes_of(form f, int64_t rows, int64_t cols, size_t *out)
{
    if (in_tiles(f))
        return tiles_bytes(tiles_of(f), rows, cols, out);
    return size_mul((size_t)rows, (size_t)cols, out) && size_mul(*out, f == FORM_F32_ROWS ? 4 : 2, out);
}

/* Of each array the recipe, from the first rank that has it; NULL, which is zeros, where a rank has no share of the
 * weight. */
static flux1_status take_recipes(const ttnn_program *p, const wish *q, script_vary v, int arrays,
                                 const weight_recipe **out, const char *keys, flux1_error *err)
{
    bool any = false;
    for (int i = 0; i < arrays; i++) {
        const weight_recipe *r = ttnn_program_recipe(p, v == VARY_SP ? i * p->r.mesh.tp : i, q->w, q->bias);
        out[i] = r = r && r->rows && r->cols ? r : NULL;
        any |= r != NULL;
        if (r &&
            !(in_tiles(q->form) ? r->rows == q->cols && r->cols == q->rows : r->rows == q->rows && r->cols == q->cols))
            return broken(keys, err);
    }
    return any ? FLUX1_OK : broken(keys, err);
}

static flux1_status give_weight(ttnn_supplies *k, ttnn_worker *w, const char *keys, char answer[TTNN_ANSWER],
                                flux1_error *err)
{
    static const char *const names[] = {[VARY_NOT] = "not", [VARY_SP] = "sp", [VARY_TP] = "tp", [VARY_ALL] = "all"};
    const ttnn_program *p = k->program;
    size_t all;
    void *memory;
    wish q;
    TRY(read_wish(keys, &q, err));
    const script_vary v = ttnn_program_varies(p, q.w, q.bias);
    const int arrays = arrays_of(p, v);
    packing work = {.form = q.form, .err = err};
    if (!bytes_of(q.form, q.rows, q.cols, &work.bytes) || !size_mul(work.bytes, (size_t)arrays, &all))
        return broken(keys, err);
    if (!(work.recipe = malloc((size_t)arrays * sizeof *work.recipe)))
        return error_oom(err, 0, "packing a weight");
    flux1_status st = take_recipes(p, &q, v, arrays, work.recipe, keys, err);
    if (st == FLUX1_OK)
        st = ttnn_worker_memory(w, all, &memory, err);
    if (st == FLUX1_OK) {
        work.out = memory;
        for (int i = 0; i < arrays; i++)
            if (!work.recipe[i])
                memset(work.out + (size_t)i * work.bytes, 0, work.bytes);
        st = pack(&work, in_tiles(q.form) ? q.cols : q.rows, arrays, k->threads);
    }
    free(work.recipe);
    TRY(st);
    k->bytes += (double)all;
    snprintf(answer, TTNN_ANSWER, "vary=%s arrays=%d bytes=%zu", names[v], arrays, work.bytes);
    return FLUX1_OK;
}

/* ---- inputs ---- */

static flux1_status give_input(const ttnn_supplies *k, ttnn_worker *w, const char *keys, char answer[TTNN_ANSWER],
                               flux1_error *err)
{
    char name[TTNN_WORD];
    int64_t given;
    int32_t row;
    tensor t;
    void *memory;
    if (!ttnn_key(keys, "name", name))
        return broken(keys, err);
    const bool is_row = k->from->row(k->from->user, name, &given, err) == FLUX1_OK;
    error_clear(err);
    if (is_row) {
        row = (int32_t)given;
        t = (tensor){.type = DTYPE_I32, .dims = 2, .shape = {1, 1}, .data = &row};
    } else if (k->from->input(k->from->user, name, &t, err) != FLUX1_OK)
        return broken(keys, err);
    const size_t bytes = tensor_bytes(&t);
    TRY(ttnn_worker_memory(w, bytes, &memory, err));
    memcpy(memory, t.data, bytes);
    snprintf(answer, TTNN_ANSWER, "rows=%" PRId64 " cols=%" PRId64 " type=%s", t.shape[0], t.shape[1],
             t.type == DTYPE_I32 ? "int32" : "float32");
    return FLUX1_OK;
}

flux1_status ttnn_supplies_give(void *user, ttnn_worker *w, const char *what, const char *keys,
                                char answer[TTNN_ANSWER], flux1_error *err)
{
    ttnn_supplies *k = user;
    return strcmp(what, "weight") == 0 ? give_weight(k, w, keys, answer, err) : give_input(k, w, keys, answer, err);
}
