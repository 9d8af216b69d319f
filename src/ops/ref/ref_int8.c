/* Products in int8 (ops/int8.h), as they are defined. */
#include "ops/ref/ref.h"

#include <stdlib.h>

flux1_status ref_int8_weight(const weight_recipe *r, ref_weight *out, flux1_error *err)
{
    const int64_t groups = int8_groups(r->cols);
    ref_numbers *w = &out->numbers;
    w->number = malloc((size_t)(r->rows * r->cols) + 1);
    w->scale = malloc((size_t)(r->rows * groups + 1) * sizeof *w->scale);
    if (!w->number || !w->scale)
        return error_oom(err, (size_t)(r->rows * r->cols), "a weight matrix");
    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t col = g * INT8_GROUP, count = i64_min(INT8_GROUP, r->cols - col);
            TRY(int8_recipe_group(r, row, col, count, w->number + row * r->cols + col, w->scale + row * groups + g,
                                  err));
        }
    return FLUX1_OK;
}

static size_t number_bytes(int64_t cols) { return size_round_up((size_t)cols, ARENA_ALIGN); }

size_t ref_int8_scratch(int64_t cols)
{
    return number_bytes(cols) + size_round_up((size_t)int8_groups(cols) * sizeof(float), ARENA_ALIGN);
}

flux1_status ref_int8_row(ref_ops *o, const float *x, int64_t cols, ref_numbers *out)
{
    void *bytes;
    TRY(arena_alloc(&o->memory, ref_int8_scratch(cols), &bytes, o->head.err));
    *out = (ref_numbers){bytes, (float *)(void *)((char *)bytes + number_bytes(cols))};
    for (int64_t k = 0; k < cols; k += INT8_GROUP)
        int8_quantise(x + k, i64_min(INT8_GROUP, cols - k), out->number + k, out->scale + k / INT8_GROUP);
    return FLUX1_OK;
}

double ref_int8_dot(const ref_weight *w, int64_t n, const ref_numbers *x)
{
    const int64_t cols = w->head.cols, groups = int8_groups(cols);
    const int8_t *number = w->numbers.number + n * cols;
    double sum = 0;
    for (int64_t g = 0; g < groups; g++) {
        int32_t exact = 0;
        for (int64_t k = g * INT8_GROUP; k < i64_min(cols, (g + 1) * INT8_GROUP); k++)
            exact += x->number[k] * number[k];
        sum += (double)(x->scale[g] * w->numbers.scale[n * groups + g]) * exact;
    }
    return sum;
}
