#include "tensor/scale.h"

#include "base/checked.h"
#include "base/half.h"
#include "tensor/decode.h"

/* One element of a tensor of floats. */
static float element(const tensor *t, int64_t i)
{
    const dtype_info *info = dtype_describe(t->type);
    float x;
    info->decode((const unsigned char *)t->data + i * info->block_bytes, 1, &x);
    return x;
}

static void apply_rows(const tensor_scale *s, int64_t at, int64_t count, float *values)
{
    while (count > 0) {
        int64_t n = i64_min(count, s->row - at % s->row);
        const float factor = element(&s->factor, at / s->row);
        for (int64_t i = 0; i < n; i++) /* in this order: so does the oracle */
            values[i] = values[i] * factor * s->constant;
        at += n, count -= n, values += n;
    }
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

static void apply_codes(const tensor_scale *s, int64_t at, int64_t count, float *values)
{
    while (count > 0) {
        int64_t n = i64_min(count, s->block - at % s->block);
        const float absmax = absmax_of(s, at / s->block);
        for (int64_t i = 0; i < n; i++)
            values[i] = round_to(s->rounded, s->code[(int)values[i] & 15] * absmax);
        at += n, count -= n, values += n;
    }
}

void tensor_scale_apply(const tensor_scale *s, int64_t first, int64_t count, float *values)
{
    if (s->kind == SCALE_ROWS) {
        apply_rows(s, s->first + first, count, values);
    } else if (s->kind == SCALE_CODES) {
        apply_codes(s, s->first + first, count, values);
    } else {
        const float factor = element(&s->factor, 0);
        for (int64_t i = 0; i < count; i++)
            values[i] *= factor;
    }
}
