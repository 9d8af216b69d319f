#include "weights/recipe.h"

#include "base/checked.h"
#include "tensor/scale.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static int64_t source_rows(const tensor *t) { return t->dims > 0 ? t->shape[0] : 1; }

weight_recipe recipe_whole(weight_role role, const store_tensor *source)
{
    const tensor *t = &source->view;
    weight_recipe r = {.role = role, .rows = source_rows(t), .cols = tensor_row_elements(t)};
    if (role == WEIGHT_CONV)
        r.kernel = t->dims == 4 ? (int)t->shape[3] : 1;
    if (r.rows == 0 || r.cols == 0)
        return r;
    if (!source->half[0]) {
        r.piece[r.count++] = (recipe_piece){.source = source, .rows = r.rows, .cols = r.cols};
        return r;
    }
    const int64_t half = r.rows / 2;
    for (int i = 0; i < 2; i++)
        r.piece[r.count++] = (recipe_piece){.source = source->half[i], .row = i * half, .rows = half, .cols = r.cols};
    return r;
}

weight_recipe recipe_rows(const weight_recipe *r, int64_t begin, int64_t count)
{
    assert(begin >= 0 && count >= 0 && begin <= r->rows - count);
    weight_recipe out = {.role = r->role, .rows = count, .cols = r->cols, .kernel = r->kernel};
    for (int i = 0; i < r->count; i++) {
        recipe_piece p = r->piece[i];
        int64_t first = i64_max(p.row, begin), last = i64_min(p.row + p.rows, begin + count);
        if (first >= last)
            continue;
        p.source_row += first - p.row;
        p.row = first - begin;
        p.rows = last - first;
        out.piece[out.count++] = p;
    }
    return out;
}

weight_recipe recipe_cols(const weight_recipe *r, int64_t begin, int64_t count)
{
    assert(begin >= 0 && count >= 0 && begin <= r->cols - count);
    weight_recipe out = {.role = r->role, .rows = r->rows, .cols = count, .kernel = r->kernel};
    for (int i = 0; i < r->count; i++) {
        recipe_piece p = r->piece[i];
        int64_t first = i64_max(p.col, begin), last = i64_min(p.col + p.cols, begin + count);
        if (first >= last)
            continue;
        p.source_col += first - p.col;
        p.col = first - begin;
        p.cols = last - first;
        out.piece[out.count++] = p;
    }
    return out;
}

/* a's pieces, then b's moved by (rows, cols). */
static flux1_status join(const weight_recipe *a, const weight_recipe *b, int64_t rows, int64_t cols, weight_recipe *out,
                         flux1_error *err)
{
    if (a->role != b->role || a->kernel != b->kernel)
        return error_set(err, FLUX1_ERR_INTERNAL, "weights of two roles cannot be one matrix");
    if (a->count + b->count > RECIPE_PIECES)
        return error_set(err, FLUX1_ERR_INTERNAL, "a weight of %d pieces, at most %d are possible", a->count + b->count,
                         RECIPE_PIECES);
    weight_recipe joined = *a;
    for (int i = 0; i < b->count; i++) {
        recipe_piece p = b->piece[i];
        p.row += rows;
        p.col += cols;
        joined.piece[joined.count++] = p;
    }
    *out = joined;
    return FLUX1_OK;
}

flux1_status recipe_stack(const weight_recipe *a, const weight_recipe *b, weight_recipe *out, flux1_error *err)
{
    int64_t rows;
    if (a->cols != b->cols || !i64_add(a->rows, b->rows, &rows))
        return error_set(err, FLUX1_ERR_INTERNAL, "a matrix of %" PRId64 " columns cannot stand below one of %" PRId64,
                         b->cols, a->cols);
    TRY(join(a, b, a->rows, 0, out, err));
    out->rows = rows;
    return FLUX1_OK;
}

flux1_status recipe_beside(const weight_recipe *a, const weight_recipe *b, weight_recipe *out, flux1_error *err)
{
    int64_t cols;
    if (a->rows != b->rows || !i64_add(a->cols, b->cols, &cols))
        return error_set(err, FLUX1_ERR_INTERNAL, "a matrix of %" PRId64 " rows cannot stand beside one of %" PRId64,
                         b->rows, a->rows);
    TRY(join(a, b, 0, a->cols, out, err));
    out->cols = cols;
    return FLUX1_OK;
}

flux1_status recipe_decode_by(recipe_decoder *decode, const void *arg, const weight_recipe *r, int64_t row, int64_t col,
                              int64_t count, float *out, flux1_error *err)
{
    if (row < 0 || row >= r->rows || col < 0 || count < 0 || col > r->cols - count)
        return error_set(err, FLUX1_ERR_INTERNAL,
                         "row %" PRId64 ", columns %" PRId64 "+%" PRId64 " of a weight [%" PRId64 ", %" PRId64 "]", row,
                         col, count, r->rows, r->cols);
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        int64_t first = i64_max(p->col, col), last = i64_min(p->col + p->cols, col + count);
        if (row < p->row || row >= p->row + p->rows || first >= last)
            continue;
        const tensor *t = &p->source->view;
        if (!t->data)
            return error_set(err, FLUX1_ERR_INTERNAL, "the weight \"%s\" has no data (a dry run's)", p->source->name);
        int64_t element = (p->source_row + row - p->row) * tensor_row_elements(t) + p->source_col + first - p->col;
        flux1_status st = decode(arg, t, element, last - first, out + (first - col), err);
        if (st != FLUX1_OK)
            return error_prefix(err, "%s: tensor \"%s\"", p->source->file, p->source->name);
    }
    return FLUX1_OK;
}

static flux1_status decode_any(const void *arg, const tensor *t, int64_t first, int64_t count, float *out,
                               flux1_error *err)
{
    (void)arg;
    return tensor_decode(t, first, count, out, err);
}

flux1_status recipe_decode(const weight_recipe *r, int64_t row, int64_t col, int64_t count, float *out,
                           flux1_error *err)
{
    return recipe_decode_by(decode_any, NULL, r, row, col, count, out, err);
}

/* The piece that is all there is of these rows, as they lie in its tensor; NULL if there is none. */
static const recipe_piece *whole_rows(const weight_recipe *r, int64_t row, int64_t rows, int64_t col, int64_t count)
{
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const bool inside = row >= p->row && row + rows <= p->row + p->rows && col == p->col && count == p->cols;
        if (inside && p->source_col == 0 && p->cols == tensor_row_elements(&p->source->view) && p->source->view.data)
            return p;
    }
    return NULL;
}

/* The piece that has all of these elements and computes rows together; NULL if there is none. */
static const recipe_piece *rows_computed(const weight_recipe *r, int64_t row, int64_t rows, int64_t col, int64_t count)
{
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const tensor *t = &p->source->view;
        const bool inside =
            row >= p->row && row + rows <= p->row + p->rows && col >= p->col && col + count <= p->col + p->cols;
        if (inside && t->type == DTYPE_COMPUTED && ((const tensor_values *)t->data)->decode_rows)
            return p;
    }
    return NULL;
}

flux1_status recipe_decode_rows(const weight_recipe *r, int64_t row, int64_t rows, int64_t col, int64_t count,
                                float *out, flux1_error *err)
{
    const recipe_piece *p = rows_computed(r, row, rows, col, count);
    if (p) {
        const tensor_values *values = p->source->view.data;
        return values->decode_rows(values, p->source_row + row - p->row, rows, p->source_col + col - p->col, count, out,
                                   err);
    }
    p = whole_rows(r, row, rows, col, count);
    if (!p) {
        for (int64_t i = 0; i < rows; i++)
            TRY(recipe_decode(r, row + i, col, count, out + i * count, err));
        return FLUX1_OK;
    }
    const int64_t first = (p->source_row + row - p->row) * p->cols;
    flux1_status st = tensor_decode(&p->source->view, first, rows * p->cols, out, err);
    return st == FLUX1_OK ? st : error_prefix(err, "%s: tensor \"%s\"", p->source->file, p->source->name);
}

size_t recipe_bytes(const weight_recipe *r)
{
    size_t bytes = 0;
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const dtype_info *info = dtype_describe(p->source->view.type);
        const unsigned char *scales;
        bytes += (size_t)i64_ceil_div(p->rows * p->cols, info->block_elements) * (size_t)info->block_bytes +
                 tensor_scale_beside(p->source->view.scale, 0, p->rows * p->cols, &scales);
    }
    return bytes;
}
