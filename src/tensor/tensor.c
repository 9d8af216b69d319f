#include "tensor/tensor.h"

#include "base/checked.h"
#include "base/half.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "file tensors are little-endian and are used where they lie");

int64_t tensor_elements(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->dims; i++)
        n *= t->shape[i];
    return n;
}

size_t tensor_bytes(const tensor *t)
{
    const dtype_info *info = dtype_describe(t->type);
    return (size_t)tensor_elements(t) / (size_t)info->block_elements * (size_t)info->block_bytes;
}

/* File tensors may start at any byte: loads go through memcpy. */
static uint16_t load_u16(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

flux1_status tensor_decode(const tensor *t, int64_t first, int64_t count, float *out, flux1_error *err)
{
    assert(first >= 0 && count >= 0 && first <= tensor_elements(t) - count);
    if (!dtype_describe(t->type)->decodes)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s values cannot be computed with in this version",
                         dtype_describe(t->type)->name);
    if (count == 0)
        return FLUX1_OK;
    const unsigned char *p =
        (const unsigned char *)t->data + (size_t)first * (size_t)dtype_describe(t->type)->block_bytes;
    switch (t->type) {
    case DTYPE_F32: memcpy(out, p, (size_t)count * sizeof *out); break;
    case DTYPE_BF16:
        for (int64_t i = 0; i < count; i++)
            out[i] = bf16_to_f32(load_u16(p + 2 * i));
        break;
    case DTYPE_F16:
        for (int64_t i = 0; i < count; i++)
            out[i] = f16_to_f32(load_u16(p + 2 * i));
        break;
    case DTYPE_F64:
        for (int64_t i = 0; i < count; i++) {
            double v;
            memcpy(&v, p + 8 * i, sizeof v);
            out[i] = (float)v;
        }
        break;
    default: return error_set(err, FLUX1_ERR_INTERNAL, "no decoder for %s", dtype_describe(t->type)->name);
    }
    return FLUX1_OK;
}

flux1_status tensor_create(dtype type, int dims, const int64_t *shape, tensor *out, flux1_error *err)
{
    const dtype_info *info = dtype_describe(type);
    char text[256];
    size_t bytes;
    int64_t elements = 1;
    *out = (tensor){.type = type};
    if (dims < 0 || dims > TENSOR_DIMS)
        return error_set(err, FLUX1_ERR_ARGUMENT, "a tensor cannot have %d dimensions (0 to %d)", dims, TENSOR_DIMS);
    for (int i = 0; i < dims; i++)
        if (shape[i] < 0 || !i64_mul(elements, shape[i], &elements))
            return error_set(err, FLUX1_ERR_ARGUMENT, "a tensor cannot have the shape %s",
                             tensor_shape_text(dims, shape, text, sizeof text));
    if (elements % info->block_elements != 0 ||
        !size_mul((size_t)(elements / info->block_elements), (size_t)info->block_bytes, &bytes))
        return error_set(err, FLUX1_ERR_ARGUMENT, "a tensor of %s cannot have the shape %s", info->name,
                         tensor_shape_text(dims, shape, text, sizeof text));
    /* one byte for an empty one: its data is not NULL either */
    void *data = calloc(bytes ? bytes : 1, 1);
    if (!data)
        return error_oom(err, bytes, "a tensor");
    out->dims = dims;
    for (int i = 0; i < dims; i++)
        out->shape[i] = shape[i];
    out->data = data;
    return FLUX1_OK;
}

void tensor_free(tensor *t)
{
    free(t->data);
    *t = (tensor){0};
}

const char *tensor_shape_text(int dims, const int64_t *shape, char *buffer, size_t size)
{
    size_t used = 0;
    int n = snprintf(buffer, size, "[");
    for (int i = 0; i < dims; i++) {
        used += (size_t)n;
        if (used >= size)
            return buffer;
        n = snprintf(buffer + used, size - used, "%s%" PRId64, i ? ", " : "", shape[i]);
    }
    used += (size_t)n;
    if (used < size)
        snprintf(buffer + used, size - used, "]");
    return buffer;
}
