/* Host tensors: the contents of files, and what passes between stages. A stage's activations belong to the backend
 * (ops/ops.h). */
#ifndef FLUX1_TENSOR_TENSOR_H
#define FLUX1_TENSOR_TENSOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* One row per storage type: the name in messages, which is safetensors' where that format has the type (yes or no);
 * ggml's number (GGUF), -1 where it has none; elements per block, bytes per block; the decoder of decode.h (see
 * dtype_decoder), none: the type has a row so that a file with it can be described, and refused by name. Of the types
 * marked `scaled` the stored numbers mean nothing without a scale beside them (scale.h). COMPUTED is no storage type: a
 * function gives the values (tensor_values), which are floats. */
#define DTYPE_MAP(X)                                              \
    /* id       name       st  ggml block bytes decode  scaled */ \
    X(F32, "F32", 1, 0, 1, 4, decode_f32, 0)                      \
    X(F16, "F16", 1, 1, 1, 2, decode_f16, 0)                      \
    X(BF16, "BF16", 1, 30, 1, 2, decode_bf16, 0)                  \
    X(F64, "F64", 1, 28, 1, 8, decode_f64, 0)                     \
    X(I64, "I64", 1, 27, 1, 8, NULL, 0)                           \
    X(I32, "I32", 1, 26, 1, 4, NULL, 0)                           \
    X(I16, "I16", 1, 25, 1, 2, NULL, 0)                           \
    X(I8, "I8", 1, 24, 1, 1, decode_i8, 1)                        \
    X(U64, "U64", 1, -1, 1, 8, NULL, 0)                           \
    X(U32, "U32", 1, -1, 1, 4, NULL, 0)                           \
    X(U16, "U16", 1, -1, 1, 2, NULL, 0)                           \
    X(U8, "U8", 1, -1, 1, 1, NULL, 0)                             \
    X(BOOL, "BOOL", 1, -1, 1, 1, NULL, 0)                         \
    X(C64, "C64", 1, -1, 1, 8, NULL, 0)                           \
    X(F8_E4M3, "F8_E4M3", 1, -1, 1, 1, decode_e4m3, 0)            \
    X(F8_E5M2, "F8_E5M2", 1, -1, 1, 1, decode_e5m2, 0)            \
    X(F8_E8M0, "F8_E8M0", 1, -1, 1, 1, NULL, 0)                   \
    X(F4, "F4", 1, -1, 2, 1, NULL, 0)                             \
    X(F6_E2M3, "F6_E2M3", 1, -1, 4, 3, NULL, 0)                   \
    X(F6_E3M2, "F6_E3M2", 1, -1, 4, 3, NULL, 0)                   \
    X(BNB4, "bitsandbytes 4-bit", 0, -1, 2, 1, decode_bnb4, 1)    \
    X(Q4_0, "Q4_0", 0, 2, 32, 18, decode_q4_0, 0)                 \
    X(Q4_1, "Q4_1", 0, 3, 32, 20, decode_q4_1, 0)                 \
    X(Q5_0, "Q5_0", 0, 6, 32, 22, decode_q5_0, 0)                 \
    X(Q5_1, "Q5_1", 0, 7, 32, 24, decode_q5_1, 0)                 \
    X(Q8_0, "Q8_0", 0, 8, 32, 34, decode_q8_0, 0)                 \
    X(Q8_1, "Q8_1", 0, 9, 32, 40, NULL, 0)                        \
    X(Q2_K, "Q2_K", 0, 10, 256, 84, decode_q2_k, 0)               \
    X(Q3_K, "Q3_K", 0, 11, 256, 110, decode_q3_k, 0)              \
    X(Q4_K, "Q4_K", 0, 12, 256, 144, decode_q4_k, 0)              \
    X(Q5_K, "Q5_K", 0, 13, 256, 176, decode_q5_k, 0)              \
    X(Q6_K, "Q6_K", 0, 14, 256, 210, decode_q6_k, 0)              \
    X(Q8_K, "Q8_K", 0, 15, 256, 292, NULL, 0)                     \
    X(IQ2_XXS, "IQ2_XXS", 0, 16, 256, 66, NULL, 0)                \
    X(IQ2_XS, "IQ2_XS", 0, 17, 256, 74, NULL, 0)                  \
    X(IQ3_XXS, "IQ3_XXS", 0, 18, 256, 98, NULL, 0)                \
    X(IQ1_S, "IQ1_S", 0, 19, 256, 50, NULL, 0)                    \
    X(IQ4_NL, "IQ4_NL", 0, 20, 32, 18, decode_iq4_nl, 0)          \
    X(IQ3_S, "IQ3_S", 0, 21, 256, 110, NULL, 0)                   \
    X(IQ2_S, "IQ2_S", 0, 22, 256, 82, NULL, 0)                    \
    X(IQ4_XS, "IQ4_XS", 0, 23, 256, 136, decode_iq4_xs, 0)        \
    X(IQ1_M, "IQ1_M", 0, 29, 256, 56, NULL, 0)                    \
    X(TQ1_0, "TQ1_0", 0, 34, 256, 54, NULL, 0)                    \
    X(TQ2_0, "TQ2_0", 0, 35, 256, 66, NULL, 0)                    \
    X(MXFP4, "MXFP4", 0, 39, 32, 17, NULL, 0)                     \
    X(NVFP4, "NVFP4", 0, 40, 64, 36, NULL, 0)                     \
    X(Q1_0, "Q1_0", 0, 41, 128, 18, NULL, 0)                      \
    X(COMPUTED, "computed", 0, -1, 1, 4, NULL, 0)

typedef enum dtype {
#define DTYPE_ENUM(name, text, safetensors, ggml, block, bytes, decode, scaled) DTYPE_##name,
    DTYPE_MAP(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
} dtype;

/* Decodes `blocks` whole blocks that lie at any address. */
typedef void dtype_decoder(const unsigned char *from, int64_t blocks, float *out);

typedef struct dtype_info {
    const char *name;
    bool in_safetensors;
    int ggml;
    int block_elements;
    int block_bytes;
    dtype_decoder *decode;
    bool needs_scale;
} dtype_info;

#define DTYPE_BLOCK_MAX 256 /* elements of a block, at most */

const dtype_info *dtype_describe(dtype type);
bool dtype_from_name(const char *name, size_t length, dtype *out); /* safetensors' spelling */
bool dtype_from_ggml(uint32_t number, dtype *out);

#define TENSOR_DIMS 8

struct tensor_scale; /* scale.h */

/* What `data` of a COMPUTED tensor points at: the first member of something that knows the values. From any thread.
 * decode_rows: columns [col, col + count) of rows that follow each other, where several are cheaper than one by one;
 * may be NULL. */
typedef struct tensor_values {
    flux1_status (*decode)(const struct tensor_values *v, int64_t first, int64_t count, float *out, flux1_error *err);
    flux1_status (*decode_rows)(const struct tensor_values *v, int64_t row, int64_t rows, int64_t col, int64_t count,
                                float *out, flux1_error *err);
} tensor_values;

/* A view: dense, row-major (last dimension fastest), its blocks one after the other. Owns nothing. */
typedef struct tensor {
    dtype type;
    int dims;
    int64_t shape[TENSOR_DIMS];
    void *data;                       /* const when it lies in a mapped file */
    const struct tensor_scale *scale; /* what the stored values are multiplied by; NULL: nothing */
} tensor;

int64_t tensor_elements(const tensor *t);
int64_t tensor_row_elements(const tensor *t); /* of one step along the first dimension: a matrix's columns */
size_t tensor_bytes(const tensor *t);         /* the shape must have been checked: no overflow here */

/* Elements and bytes of a shape from a file. False if a dimension is negative, if either is more than can be counted,
 * or if the elements are not whole blocks. */
bool tensor_size(dtype type, int dims, const int64_t *shape, int64_t *elements, size_t *bytes);

/* Whether its values can be decoded: the type has a decoder, and a scale where it needs one; or they are computed. */
bool tensor_decodes(const tensor *t);

/* Decodes elements [first, first + count), which may begin and end within a block, to float; scaled, where there is a
 * scale. FLUX1_ERR_UNSUPPORTED for a type that does not decode. */
flux1_status tensor_decode(const tensor *t, int64_t first, int64_t count, float *out, flux1_error *err);

/* A malloc'd dense tensor (zeroed); shapes checked for overflow and non-negative. Free with tensor_free. */
flux1_status tensor_create(dtype type, int dims, const int64_t *shape, tensor *out, flux1_error *err);
void tensor_free(tensor *t);

/* "[3, 64]" into buffer; returns buffer. */
const char *tensor_shape_text(int dims, const int64_t *shape, char *buffer, size_t size);

#endif
