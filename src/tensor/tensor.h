/* Host tensors: the contents of files, and what passes between stages. A stage's activations belong to the backend
 * (ops/ops.h). */
#ifndef FLUX1_TENSOR_TENSOR_H
#define FLUX1_TENSOR_TENSOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* One row per storage type: name, safetensors' name, elements per block, bytes per block, and whether tensor_decode
 * supports it. Types that do not decode have a row so that a file with them can be described, and refused by name. */
#define DTYPE_MAP(X)               \
    X(F32, "F32", 1, 4, 1)         \
    X(F16, "F16", 1, 2, 1)         \
    X(BF16, "BF16", 1, 2, 1)       \
    X(F64, "F64", 1, 8, 1)         \
    X(I64, "I64", 1, 8, 0)         \
    X(I32, "I32", 1, 4, 0)         \
    X(I16, "I16", 1, 2, 0)         \
    X(I8, "I8", 1, 1, 0)           \
    X(U64, "U64", 1, 8, 0)         \
    X(U32, "U32", 1, 4, 0)         \
    X(U16, "U16", 1, 2, 0)         \
    X(U8, "U8", 1, 1, 0)           \
    X(BOOL, "BOOL", 1, 1, 0)       \
    X(C64, "C64", 1, 8, 0)         \
    X(F8_E4M3, "F8_E4M3", 1, 1, 0) \
    X(F8_E5M2, "F8_E5M2", 1, 1, 0) \
    X(F8_E8M0, "F8_E8M0", 1, 1, 0)

typedef enum dtype {
#define DTYPE_ENUM(name, file_name, block, bytes, decodes) DTYPE_##name,
    DTYPE_MAP(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
} dtype;

typedef struct dtype_info {
    const char *name;
    int block_elements;
    int block_bytes;
    bool decodes;
} dtype_info;

const dtype_info *dtype_describe(dtype type);
bool dtype_from_name(const char *name, size_t length, dtype *out); /* safetensors' spelling */

#define TENSOR_DIMS 8

/* A view: dense, row-major (last dimension fastest). Owns nothing. */
typedef struct tensor {
    dtype type;
    int dims;
    int64_t shape[TENSOR_DIMS];
    void *data; /* const when it lies in a mapped file */
} tensor;

int64_t tensor_elements(const tensor *t);
size_t tensor_bytes(const tensor *t); /* the shape must have been checked: no overflow here */

/* Decodes elements [first, first + count) to float. FLUX1_ERR_UNSUPPORTED for a type that does not decode. */
flux1_status tensor_decode(const tensor *t, int64_t first, int64_t count, float *out, flux1_error *err);

/* A malloc'd dense tensor (zeroed); shapes checked for overflow and non-negative. Free with tensor_free. */
flux1_status tensor_create(dtype type, int dims, const int64_t *shape, tensor *out, flux1_error *err);
void tensor_free(tensor *t);

/* "[3, 64]" into buffer; returns buffer. */
const char *tensor_shape_text(int dims, const int64_t *shape, char *buffer, size_t size);

#endif
