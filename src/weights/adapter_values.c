#include "weights/adapter_values.h"

#include "base/checked.h"
#include "weights/adapter_product.h"

#include <stdlib.h>
#include <string.h>

enum { LINES = 16 }; /* of a right factor that are decoded at once */

/* a's rows [row, row + rows), or columns where it is across: out[rows][a_rank]. line: [rows] */
static flux1_status left_rows(const adapter_factor *f, int64_t row, int64_t rows, float *line, float *out,
                              flux1_error *err)
{
    if (!f->across)
        return tensor_decode(&f->a->view, row * f->a_rank, rows * f->a_rank, out, err);
    for (int64_t k = 0; k < f->a_rank; k++) {
        TRY(tensor_decode(&f->a->view, k * f->rows + row, rows, line, err));
        for (int64_t i = 0; i < rows; i++)
            out[i * f->a_rank + k] = line[i];
    }
    return FLUX1_OK;
}

/* out[rows][cols] = left[rows][inner] · columns [col, col + cols) of right, a tensor of `ld` columns. work: LINES ·
 * cols
 */
static flux1_status multiply(const float *left, int64_t rows, int64_t inner, const tensor *right, int64_t ld,
                             int64_t col, int64_t cols, float *work, float *out, flux1_error *err)
{
    memset(out, 0, (size_t)(rows * cols) * sizeof *out);
    for (int64_t k = 0, lines; k < inner; k += lines) {
        lines = i64_min(LINES, inner - k);
        for (int64_t i = 0; i < lines; i++)
            TRY(tensor_decode(right, (k + i) * ld + col, cols, work + i * cols, err));
        adapter_product_add((adapter_matrix){left + k, inner}, (adapter_matrix){work, cols}, rows, lines, cols, out,
                            cols);
    }
    return FLUX1_OK;
}

static flux1_status product_rows(const adapter_factor *f, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                 float *out, flux1_error *err)
{
    const int64_t widest = i64_max(LINES * i64_max(cols, f->rank), rows);
    float *left = malloc((size_t)(rows * (f->a_rank + f->rank) + widest) * sizeof *left);
    flux1_status st = FLUX1_OK;
    if (!left)
        return error_oom(err, 0, "an adapter's rows");
    float *with_core = left + rows * f->a_rank, *work = with_core + rows * f->rank;
    TRY_CLEANUP(left_rows(f, row, rows, work, left, err));
    if (f->core)
        TRY_CLEANUP(multiply(left, rows, f->a_rank, &f->core->view, f->rank, 0, f->rank, work, with_core, err));
    st = multiply(f->core ? with_core : left, rows, f->rank, &f->b->view, f->cols, col, cols, work, out, err);
cleanup:
    free(left);
    return st;
}

static flux1_status factor_rows(const adapter_factor *f, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                float *out, flux1_error *err)
{
    if (f->b)
        return product_rows(f, row, rows, col, cols, out, err);
    for (int64_t i = 0; i < rows; i++)
        TRY(tensor_decode(&f->a->view, (row + i) * f->cols + col, cols, out + i * cols, err));
    return FLUX1_OK;
}

static flux1_status hadamard(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out,
                             flux1_error *err)
{
    float *y = malloc((size_t)(rows * cols) * sizeof *y);
    if (!y)
        return error_oom(err, (size_t)(rows * cols) * sizeof *y, "an adapter's rows");
    flux1_status st = factor_rows(&c->x, row, rows, col, cols, out, err);
    if (st == FLUX1_OK)
        st = factor_rows(&c->y, row, rows, col, cols, y, err);
    for (int64_t i = 0; st == FLUX1_OK && i < rows * cols; i++)
        out[i] *= y[i];
    free(y);
    return st;
}

/* Row r is row r / y.rows of x with each element times row r % y.rows of y. */
static flux1_status kronecker(const adapter_change *c, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out,
                              flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const int64_t high = c->y.rows, wide = c->y.cols;
    float *x = malloc((size_t)(c->x.cols + wide) * sizeof *x);
    if (!x)
        return error_oom(err, (size_t)(c->x.cols + wide) * sizeof *x, "an adapter's rows");
    float *y = x + c->x.cols;
    for (int64_t r = row; r < row + rows; r++, out += cols) {
        if (r == row || r % high == 0)
            TRY_CLEANUP(factor_rows(&c->x, r / high, 1, 0, c->x.cols, x, err));
        TRY_CLEANUP(factor_rows(&c->y, r % high, 1, 0, wide, y, err));
        for (int64_t i = 0; i < cols; i++)
            out[i] = x[(col + i) / wide] * y[(col + i) % wide];
    }
cleanup:
    free(x);
    return st;
}

flux1_status adapter_factor_times(const float *v, int64_t rows, const adapter_factor *f, int64_t col, int64_t cols,
                                  float *out, flux1_error *err)
{
    const int64_t count = rows * f->rank + LINES * i64_max(f->rank, cols);
    float *low = malloc((size_t)count * sizeof *low);
    if (!low)
        return error_oom(err, (size_t)count * sizeof *low, "an adapter's rows");
    float *work = low + rows * f->rank;
    flux1_status st = multiply(v, rows, f->rows, &f->a->view, f->rank, 0, f->rank, work, low, err);
    if (st == FLUX1_OK)
        st = multiply(low, rows, f->rank, &f->b->view, f->cols, col, cols, work, out, err);
    free(low);
    return st;
}

flux1_status adapter_change_rows(const adapter_change *c, const adapter_window *w, float *out, flux1_error *err)
{
    static flux1_status (*const by_form[ADAPTER_ROTATED + 1])(const adapter_change *, int64_t, int64_t, int64_t,
                                                              int64_t, float *, flux1_error *) = {
        [ADAPTER_HADAMARD] = hadamard, [ADAPTER_KRONECKER] = kronecker};
    flux1_status st = by_form[c->form] ? by_form[c->form](c, w->row, w->rows, w->col, w->cols, out, err)
                                       : factor_rows(&c->x, w->row, w->rows, w->col, w->cols, out, err);
    for (int64_t i = 0; st == FLUX1_OK && i < w->rows * w->cols; i++)
        out[i] *= c->scale;
    return st == FLUX1_OK ? st : error_prefix(err, "%s: tensor \"%s\"", c->head->file, c->head->name);
}
