#include "tensor/tensor.h"

#include "base/checked.h"
#include "base/large.h"

#include <inttypes.h>
#include <stdio.h>

int64_t tensor_elements(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->dims; i++)
        n *= t->shape[i];
    return n;
}

int64_t tensor_row_elements(const tensor *t)
{
    int64_t n = 1;
    for (int i = 1; i < t->dims; i++)
        n *= t->shape[i];
    return n;
}

size_t tensor_bytes(const tensor *t)
{
    const dtype_info *info = dtype_describe(t->type);
    return (size_t)tensor_elements(t) / (size_t)info->block_elements * (size_t)info->block_bytes;
}

bool tensor_size(dtype type, int dims, const int64_t *shape, int64_t *elements, size_t *bytes)
{
    const dtype_info *info = dtype_describe(type);
    int64_t n = 1;
    for (int i = 0; i < dims; i++)
        if (shape[i] < 0 || !i64_mul(n, shape[i], &n))
            return false;
    *elements = n;
    return n % info->block_elements == 0 &&
           size_mul((size_t)(n / info->block_elements), (size_t)info->block_bytes, bytes);
}

flux1_status tensor_create(dtype type, int dims, const int64_t *shape, tensor *out, flux1_error *err)
{
    const dtype_info *info = dtype_describe(type);
    char text[256];
    size_t bytes;
    int64_t elements;
    *out = (tensor){.type = type};
    if (dims < 0 || dims > TENSOR_DIMS)
        return error_set(err, FLUX1_ERR_ARGUMENT, "a tensor cannot have %d dimensions (0 to %d)", dims, TENSOR_DIMS);
    if (!tensor_size(type, dims, shape, &elements, &bytes))
        return error_set(err, FLUX1_ERR_ARGUMENT, "a tensor of %s cannot have the shape %s", info->name,
                         tensor_shape_text(dims, shape, text, sizeof text));
    void *data = large_alloc(bytes); /* not NULL for an empty one either */
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
    if (t->data)
        large_free(t->data, tensor_bytes(t));
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
