#include "ops/int8.h"

#include "base/half.h"
#include "tensor/scale.h"

#include <math.h>
#include <string.h>

void int8_quantise(const float *values, int64_t count, int8_t *numbers, float *scale)
{
    float most = 0;
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        finite = finite && isfinite(values[i]);
        most = fmaxf(most, fabsf(values[i]));
    }
    const float inverse = finite && most >= INT8_LEAST ? (float)INT8_MOST / most : 0;
    *scale = !finite ? NAN : inverse > 0 ? most / (float)INT8_MOST : 0;
    for (int64_t i = 0; i < count; i++)
        numbers[i] = inverse > 0 ? (int8_t)nearbyintf(values[i] * inverse) : 0;
}

bool int8_stored(const tensor *t, int64_t first, int64_t count, int8_t *numbers, float *scale)
{
    const unsigned char *data = t->data;
    if (t->type == DTYPE_Q8_0 && !t->scale && first % INT8_GROUP == 0) {
        uint16_t half;
        data += first / INT8_GROUP * dtype_describe(DTYPE_Q8_0)->block_bytes;
        memcpy(&half, data, sizeof half);
        memcpy(numbers, data + sizeof half, (size_t)count);
        *scale = f16_to_f32(half);
        return true;
    }
    if (t->type != DTYPE_I8 || !t->scale || t->scale->kind == SCALE_CODES)
        return false;
    int64_t run;
    const float factor = tensor_scale_factor(t->scale, first, &run);
    if (run < count)
        return false;
    memcpy(numbers, data + first, (size_t)count);
    *scale = t->scale->kind == SCALE_ROWS ? factor * t->scale->constant : factor;
    return true;
}

bool int8_recipe_stored(const weight_recipe *r, int64_t row, int64_t col, int64_t count, int8_t *numbers, float *scale)
{
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const tensor *t = &p->source->view;
        if (row < p->row || row >= p->row + p->rows || col < p->col || col + count > p->col + p->cols)
            continue;
        return int8_stored(t, (p->source_row + row - p->row) * tensor_row_elements(t) + p->source_col + col - p->col,
                           count, numbers, scale);
    }
    return false;
}

flux1_status int8_recipe_group(const weight_recipe *r, int64_t row, int64_t col, int64_t count, int8_t *numbers,
                               float *scale, flux1_error *err)
{
    float values[INT8_GROUP];
    if (int8_recipe_stored(r, row, col, count, numbers, scale))
        return FLUX1_OK;
    TRY(recipe_decode(r, row, col, count, values, err));
    int8_quantise(values, count, numbers, scale);
    return FLUX1_OK;
}
