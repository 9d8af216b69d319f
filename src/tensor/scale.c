#include "tensor/scale.h"

#include "base/checked.h"
#include "base/half.h"

/* One element of a tensor of floats. */
static float element(const tensor *t, int64_t i)
{
    const dtype_info *info = dtype_describe(t->type);
    float x;
    info->decode((const unsigned char *)t->data + i * info->block_bytes, 1, &x);
    return x;
}

static float absmax_of(const tensor_scale *s, int64_t block)
{
    if (!s->nested_code.data)
        return element(&s->absmax, block);
    const float code = element(&s->nested_code, ((const unsigned char *)s->absmax.data)[block]);
    return code * element(&s->nested_absmax, block / s->nested_block) + s->nested_offset;
}

static float round_to(dtype type, float x)
{
    return type == DTYPE_BF16 ? bf16_round(x) : type == DTYPE_F16 ? f16_to_f32(f16_from_f32(x)) : x;
}

float tensor_scale_factor(const tensor_scale *s, int64_t at, int64_t *run)
{
    if (s->kind == SCALE_FACTOR) {
        *run = INT64_MAX;
        return element(&s->factor, 0);
    }
    const int64_t size = s->kind == SCALE_ROWS ? s->row : s->block, number = (s->first + at) / size;
    *run = (number + 1) * size - s->first - at;
    return s->kind == SCALE_ROWS ? element(&s->factor, number) : absmax_of(s, number);
}

void tensor_scale_apply(const tensor_scale *s, int64_t first, int64_t count, float *values)
{
    while (count > 0) {
        int64_t run;
        const float factor = tensor_scale_factor(s, first, &run);
        const int64_t n = i64_min(count, run);
        for (int64_t i = 0; i < n; i++) /* in this order: so does the oracle */
            values[i] = s->kind == SCALE_CODES  ? round_to(s->rounded, s->code[(int)values[i] & 15] * factor)
                        : s->kind == SCALE_ROWS ? values[i] * factor * s->constant
                                                : values[i] * factor;
        first += n, count -= n, values += n;
    }
}

size_t tensor_scale_beside(const tensor_scale *s, int64_t first, int64_t count, const unsigned char **bytes)
{
    *bytes = NULL;
    if (!s || s->kind != SCALE_CODES || count <= 0)
        return 0;
    const size_t element = (size_t)dtype_describe(s->absmax.type)->block_bytes;
    const int64_t begin = (s->first + first) / s->block, end = i64_ceil_div(s->first + first + count, s->block);
    *bytes = (const unsigned char *)s->absmax.data + (size_t)begin * element;
    return (size_t)(end - begin) * element;
}
