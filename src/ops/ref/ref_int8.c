/* Products in int8 (ops/int8.h), as they are defined. */
#include "ops/ref/ref.h"

#include <stdlib.h>

flux1_status ref_int8_weight(int8_kind kind, const weight_recipe *r, ref_weight *out, flux1_error *err)
{
    const int64_t groups = int8_groups(kind, r->cols), all = int8_numbers(kind, r->cols), group = int8_group(kind);
    ref_numbers *w = &out->numbers;
    w->number = malloc((size_t)(r->rows * all) + 1);
    w->scale = malloc((size_t)(r->rows * groups + 1) * sizeof *w->scale);
    if (!w->number || !w->scale)
        return error_oom(err, (size_t)(r->rows * all), "a weight matrix");
    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t col = g * group, count = i64_min(group, r->cols - col);
            TRY(int8_recipe_group(kind, r, row, col, count, w->number + row * all + col, w->scale + row * groups + g,
                                  err));
        }
    return FLUX1_OK;
}

static size_t number_bytes(int8_kind kind, int64_t cols)
{
    return size_round_up((size_t)int8_numbers(kind, cols), ARENA_ALIGN);
}

size_t ref_int8_scratch(int8_kind kind, int64_t cols)
{
    return number_bytes(kind, cols) + size_round_up((size_t)int8_groups(kind, cols) * sizeof(float), ARENA_ALIGN);
}

flux1_status ref_int8_row(ref_ops *o, const float *x, int64_t cols, ref_numbers *out)
{
    const int8_kind kind = o->int8;
    const int64_t group = int8_group(kind);
    void *bytes;
    TRY(arena_alloc(&o->memory, ref_int8_scratch(kind, cols), &bytes, o->head.err));
    *out = (ref_numbers){bytes, (float *)(void *)((char *)bytes + number_bytes(kind, cols))};
    for (int64_t k = 0; k < cols; k += group)
        int8_input_group(kind, o->int8_quads, x + k, i64_min(group, cols - k), out->number + k, out->scale + k / group);
    return FLUX1_OK;
}

double ref_int8_dot(const ref_ops *o, const ref_weight *w, int64_t n, const ref_numbers *x)
{
    const int64_t cols = w->head.cols, groups = int8_groups(o->int8, cols), all = int8_numbers(o->int8, cols),
                  group = int8_group(o->int8);
    const int8_t *number = w->numbers.number + n * all;
    double sum = 0;
    for (int64_t g = 0; g < groups; g++) {
        int32_t exact = 0;
        for (int64_t k = g * group; k < i64_min(all, (g + 1) * group); k++)
            exact += x->number[k] * number[k];
        sum += (double)(x->scale[g] * w->numbers.scale[n * groups + g]) * exact;
    }
    return sum;
}
