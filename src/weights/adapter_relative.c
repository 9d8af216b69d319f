#include "weights/adapter_relative.h"

#include "base/checked.h"
#include "weights/adapter_product.h"
#include "weights/adapter_values.h"
#include "weights/recipe.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 32 };

/* Which part of an entry is asked for: rows [at, at + rows), which are the layer's from `row` on. */
typedef struct part {
    const adapter_file *file;
    const adapter_term *term;
    const adapter_change *change;
    const adapter_rotation *rotation;
    int64_t row, at, rows, col, cols;
} part;

static flux1_status layer_rows(const adapter_term *t, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out,
                               flux1_error *err)
{
    const weight_recipe base = recipe_whole(t->base->view.dims == 1 ? WEIGHT_VECTOR : WEIGHT_LINEAR, t->base);
    return recipe_decode_rows(&base, row, rows, col, cols, out, err);
}

/* Columns [col, col + cols) of the part's own rows. */
static flux1_status own_rows(const part *p, int64_t col, int64_t cols, float **out, flux1_error *err)
{
    if (!(*out = malloc((size_t)(p->rows * cols) * sizeof **out)))
        return error_oom(err, (size_t)(p->rows * cols) * sizeof **out, "an adapter's rows");
    const flux1_status st = layer_rows(p->term, p->row, p->rows, col, cols, *out, err);
    if (st != FLUX1_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

/* The factor of the part's row i, or of column i; 1 if there is none. */
static flux1_status read_factors(const part *p, float *out, flux1_error *err)
{
    const adapter_change *c = p->change;
    const int64_t first = c->factors_by_column ? p->col : p->at, count = c->factors_by_column ? p->cols : p->rows;
    if (c->factors)
        TRY(tensor_decode(&c->factors->view, first, count, out, err));
    for (int64_t i = 0; i < count; i++)
        out[i] = c->factors ? out[i] + c->factors_from : 1;
    return FLUX1_OK;
}

/* ---- GLoRA ---- */

/* out: scale · (x + W·y) */
static flux1_status general(const part *p, const float *factors, float *out, flux1_error *err)
{
    const adapter_change *c = p->change;
    float *own, *product = malloc((size_t)(p->rows * p->cols) * sizeof *product);
    (void)factors;
    if (!product)
        return error_oom(err, (size_t)(p->rows * p->cols) * sizeof *product, "an adapter's rows");
    flux1_status st = own_rows(p, 0, c->cols, &own, err);
    if (st == FLUX1_OK) {
        st = adapter_factor_times(own, p->rows, &c->y, p->col, p->cols, product, err);
        if (st == FLUX1_OK)
            st = adapter_change_rows(c, &(adapter_window){p->at, p->rows, p->col, p->cols}, out, err);
        for (int64_t i = 0; st == FLUX1_OK && i < p->rows * p->cols; i++)
            out[i] += c->scale * product[i];
        free(own);
    }
    free(product);
    return st;
}

/* ---- replaced weights ---- */

/* out: x − W */
static flux1_status replaced(const part *p, const float *factors, float *out, flux1_error *err)
{
    float *own;
    (void)factors;
    TRY(own_rows(p, p->col, p->cols, &own, err));
    const flux1_status st =
        adapter_change_rows(p->change, &(adapter_window){p->at, p->rows, p->col, p->cols}, out, err);
    for (int64_t i = 0; st == FLUX1_OK && i < p->rows * p->cols; i++)
        out[i] -= own[i];
    free(own);
    return st;
}

/* ---- (IA)^3 ---- */

/* out: W · factor − W */
static flux1_status scaled(const part *p, const float *factors, float *out, flux1_error *err)
{
    float *own;
    TRY(own_rows(p, p->col, p->cols, &own, err));
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t i = 0; i < p->cols; i++) {
            const float factor = factors[p->change->factors_by_column ? i : r];
            out[r * p->cols + i] = own[r * p->cols + i] * (factor - 1);
        }
    free(own);
    return FLUX1_OK;
}

/* ---- rotated columns ---- */

/* out: factor · W·rotation − W */
static flux1_status turned_columns(const part *p, const float *factors, float *out, flux1_error *err)
{
    int64_t first = p->col, end = p->col + p->cols;
    adapter_rotation_reach(p->rotation, &first, &end);
    const int64_t wide = end - first, count = p->rows * (wide + 2 * p->change->rotation.width);
    float *own, *turned = malloc((size_t)count * sizeof *turned);
    if (!turned)
        return error_oom(err, (size_t)count * sizeof *turned, "an adapter's rows");
    flux1_status st = own_rows(p, first, wide, &own, err);
    if (st == FLUX1_OK) {
        memcpy(turned, own, (size_t)(p->rows * wide) * sizeof *turned);
        adapter_rotation_turn(p->rotation, first, end, p->rows, turned, turned + p->rows * wide);
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t i = 0; i < p->cols; i++) {
                const int64_t at = r * wide + p->col - first + i;
                out[r * p->cols + i] = factors[r] * turned[at] - own[at];
            }
        free(own);
    }
    free(turned);
    return st;
}

/* ---- rotated rows ---- */

/* The layer's row that the entry's is, and how many follow it there; an entry's terms have all of its rows (adapter.c).
 */
static const adapter_term *layer_of(const part *p, int64_t row, int64_t *in_layer, int64_t *follow)
{
    for (size_t i = 0; i < p->file->count; i++) {
        const adapter_term *t = &p->file->term[i];
        const int64_t at = row - t->first, half = t->rows / 2;
        if (t->change != p->term->change || at < 0 || at >= t->rows)
            continue;
        *in_layer = !t->swapped ? at : at < half ? at + half : at - half;
        *follow = (t->swapped && at < half ? half : t->rows) - at;
        return t;
    }
    return NULL;
}

/* out += turns[rows][end − first] · W's rows [first, end) of the entry. work: ROWS_AT_ONCE · cols */
static flux1_status add_rows(const part *p, const float *turns, int64_t first, int64_t end, float *work, float *out,
                             flux1_error *err)
{
    for (int64_t from = first, some; from < end; from += some) {
        int64_t in_layer;
        const adapter_term *t = layer_of(p, from, &in_layer, &some);
        if (!t)
            return error_set(err, FLUX1_ERR_INTERNAL, "row %lld of an adapter has no layer", (long long)from);
        some = i64_min(i64_min(some, ROWS_AT_ONCE), end - from);
        TRY(layer_rows(t, in_layer, some, p->col, p->cols, work, err));
        adapter_product_add((adapter_matrix){turns + from - first, end - first}, (adapter_matrix){work, p->cols},
                            p->rows, some, p->cols, out, p->cols);
    }
    return FLUX1_OK;
}

/* out: factor · rotation·W − W, as factor · (rotation − 1)·W + (factor − 1) · W: what is small stays exact. */
static flux1_status turned_rows(const part *p, const float *factors, float *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    int64_t first = p->at, end = p->at + p->rows;
    adapter_rotation_reach(p->rotation, &first, &end);
    const int64_t wide = end - first, room = i64_max(ROWS_AT_ONCE * p->cols, 2 * p->rows * p->change->rotation.width);
    const size_t bytes = (size_t)(p->rows * wide + room) * sizeof(float);
    float *own = NULL, *turns = malloc(bytes);
    if (!turns)
        return error_oom(err, bytes, "an adapter's rows");
    float *work = turns + p->rows * wide;
    adapter_rotation_rows(p->rotation, p->at, p->rows, first, end, turns, work);
    for (int64_t r = 0; r < p->rows; r++)
        turns[r * wide + p->at + r - first] -= 1;
    memset(out, 0, (size_t)(p->rows * p->cols) * sizeof *out);
    TRY_CLEANUP(add_rows(p, turns, first, end, work, out, err));
    if (!p->change->factors)
        goto cleanup;
    TRY_CLEANUP(own_rows(p, p->col, p->cols, &own, err));
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t i = r * p->cols; i < (r + 1) * p->cols; i++)
            out[i] = factors[r] * out[i] + (factors[r] - 1) * own[i];
cleanup:
    free(own);
    free(turns);
    return st;
}

flux1_status adapter_relative_rows(const adapter_file *f, const adapter_term *t, const adapter_rotation *rotation,
                                   int64_t layer_row, const adapter_window *w, float *out, flux1_error *err)
{
    const adapter_change *c = &f->change[t->change];
    const part p = {f, t, c, rotation, layer_row, w->row, w->rows, w->col, w->cols};
    const int64_t count = i64_max(w->rows, w->cols);
    float *factors = malloc((size_t)count * sizeof *factors);
    if (!factors)
        return error_oom(err, (size_t)count * sizeof *factors, "an adapter's rows");
    flux1_status st = read_factors(&p, factors, err);
    if (st == FLUX1_OK)
        st = c->form == ADAPTER_GENERAL    ? general(&p, factors, out, err)
             : c->form == ADAPTER_REPLACED ? replaced(&p, factors, out, err)
             : c->form == ADAPTER_SCALED   ? scaled(&p, factors, out, err)
             : c->rotation.of_rows         ? turned_rows(&p, factors, out, err)
                                           : turned_columns(&p, factors, out, err);
    free(factors);
    return st;
}
