#include "ops/int8.h"

#include "base/half.h"
#include "tensor/scale.h"

#include <math.h>
#include <string.h>

/* most: what becomes INT8_MOST, if no value is larger. */
static void quantise_from(float most, const float *values, int64_t count, int8_t *numbers, float *scale)
{
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        finite = finite && isfinite(values[i]);
        most = fmaxf(most, fabsf(values[i]));
    }
    finite = finite && isfinite(most);
    const float inverse = finite && most >= INT8_LEAST ? (float)INT8_MOST / most : 0;
    *scale = !finite ? NAN : inverse > 0 ? most / (float)INT8_MOST : 0;
    for (int64_t i = 0; i < count; i++)
        numbers[i] = inverse > 0 ? (int8_t)nearbyintf(values[i] * inverse) : 0;
}

void int8_quantise(const float *values, int64_t count, int8_t *numbers, float *scale)
{
    quantise_from(0, values, count, numbers, scale);
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

/* ---- rotated groups ---- */

_Static_assert(INT8_LONG == 256, "two halves of four bits");
#define ODD(i) ((i) ^ (i) >> 1 ^ (i) >> 2 ^ (i) >> 3)
#define SIGN(i) ((ODD((i) & (i) >> 4 & 15) & 1) ? -1.0f : 1.0f)
#define SIGNS4(i) SIGN(i), SIGN((i) + 1), SIGN((i) + 2), SIGN((i) + 3)
#define SIGNS16(i) SIGNS4(i), SIGNS4((i) + 4), SIGNS4((i) + 8), SIGNS4((i) + 12)
#define SIGNS64(i) SIGNS16(i), SIGNS16((i) + 16), SIGNS16((i) + 32), SIGNS16((i) + 48)
const float int8_signs[INT8_LONG] = {SIGNS64(0), SIGNS64(64), SIGNS64(128), SIGNS64(192)};

#define BIT(i, from, to) (((i) >> (from)&1) << (to))
#define REVERSED(i)                                                                                           \
    (BIT(i, 0, 7) | BIT(i, 1, 6) | BIT(i, 2, 5) | BIT(i, 3, 4) | BIT(i, 4, 3) | BIT(i, 5, 2) | BIT(i, 6, 1) | \
     BIT(i, 7, 0))
#define DITHER(i) ((2 * REVERSED(i) + 1 - 256) / 512.0f)
#define DITHER4(i) DITHER(i), DITHER((i) + 1), DITHER((i) + 2), DITHER((i) + 3)
#define DITHER16(i) DITHER4(i), DITHER4((i) + 4), DITHER4((i) + 8), DITHER4((i) + 12)
#define DITHER64(i) DITHER16(i), DITHER16((i) + 16), DITHER16((i) + 32), DITHER16((i) + 48)
const float int8_dither[INT8_KEYS] = {DITHER64(0), DITHER64(64), DITHER64(128)};

void int8_rotate(float *values, int64_t length)
{
    for (int64_t i = 0; i < length; i++)
        values[i] *= int8_signs[i];
    for (int64_t apart = 1; apart < length; apart *= 2)
        for (int64_t i = 0; i < length; i++)
            if (!(i & apart)) {
                const float a = values[i], b = values[i + apart];
                values[i] = a + b;
                values[i + apart] = a - b;
            }
}

int64_t int8_length(int8_kind kind, int64_t count)
{
    int64_t length = INT8_SHORTEST;
    if (kind != INT8_ROTATED)
        return INT8_GROUP;
    while (length < count)
        length *= 2;
    return length;
}

int64_t int8_numbers(int8_kind kind, int64_t cols)
{
    const int64_t group = int8_group(kind), whole = cols / group * group;
    return whole + (cols > whole ? int8_length(kind, cols - whole) : 0);
}

/* ---- a group ---- */

/* What the magnitudes of a rotated group's quads make its largest one. */
static float most_of_quads(const float *x, int64_t length)
{
    float most = 0;
    for (int64_t i = 0; i < length; i += i % 8 == 0 ? 2 : 6) {
        const float sum = (x[i] + x[i + 4]) + (x[i + 1] + x[i + 5]),
                    size = (fabsf(x[i]) + fabsf(x[i + 4])) + (fabsf(x[i + 1]) + fabsf(x[i + 5]));
        most = fmaxf(most, (size + fabsf(sum)) * INT8_QUAD_SHARE);
    }
    return most;
}

void int8_input_group(int8_kind kind, bool quads, const float *values, int64_t count, int8_t *numbers, float *scale)
{
    float turned[INT8_LONG] = {0};
    const int64_t length = int8_length(kind, count);
    memcpy(turned, values, (size_t)count * sizeof *values);
    if (kind == INT8_ROTATED)
        int8_rotate(turned, length);
    quantise_from(kind == INT8_ROTATED && quads ? most_of_quads(turned, length) : 0, turned, length, numbers, scale);
}

flux1_status int8_recipe_group(int8_kind kind, const weight_recipe *r, int64_t row, int64_t col, int64_t count,
                               int8_t *numbers, float *scale, flux1_error *err)
{
    float values[INT8_LONG];
    if (kind == INT8_FINE) {
        memset(numbers + count, 0, (size_t)(INT8_GROUP - count));
        if (int8_recipe_stored(r, row, col, count, numbers, scale))
            return FLUX1_OK;
    }
    TRY(recipe_decode(r, row, col, count, values, err));
    int8_input_group(kind, false, values, count, numbers, scale);
    if (kind == INT8_ROTATED)
        *scale /= (float)int8_length(kind, count);
    return FLUX1_OK;
}
