/* Any elements of a tensor, as floats. */
#include "tensor/scale.h"

#include "base/checked.h"

#include <assert.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "file tensors are little-endian and are used where they lie");

bool tensor_decodes(const tensor *t)
{
    const dtype_info *info = dtype_describe(t->type);
    return t->type == DTYPE_COMPUTED || (info->decode && (t->scale || !info->needs_scale));
}

/* The elements [from, to) of the block at p. */
static void decode_part(const dtype_info *info, const unsigned char *p, int64_t from, int64_t to, float *out)
{
    float block[DTYPE_BLOCK_MAX];
    info->decode(p, 1, block);
    memcpy(out, block + from, (size_t)(to - from) * sizeof *out);
}

static void decode_stored(const tensor *t, int64_t first, int64_t count, float *out)
{
    const dtype_info *info = dtype_describe(t->type);
    const int64_t size = info->block_elements, from = first % size;
    const unsigned char *p = (const unsigned char *)t->data + (size_t)(first / size) * (size_t)info->block_bytes;
    if (from > 0) {
        int64_t to = i64_min(size, from + count);
        decode_part(info, p, from, to, out);
        p += info->block_bytes;
        out += to - from;
        count -= to - from;
    }
    info->decode(p, count / size, out);
    if (count % size)
        decode_part(info, p + (size_t)(count / size) * (size_t)info->block_bytes, 0, count % size,
                    out + count / size * size);
}

flux1_status tensor_decode(const tensor *t, int64_t first, int64_t count, float *out, flux1_error *err)
{
    assert(first >= 0 && count >= 0 && first <= tensor_elements(t) - count);
    if (!tensor_decodes(t))
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s values cannot be computed with in this version",
                         dtype_describe(t->type)->name);
    if (count == 0)
        return FLUX1_OK;
    if (t->type == DTYPE_COMPUTED) {
        const tensor_values *values = t->data;
        return values->decode(values, first, count, out, err);
    }
    decode_stored(t, first, count, out);
    if (t->scale)
        tensor_scale_apply(t->scale, first, count, out);
    return FLUX1_OK;
}
