/* Encoders of the storage types that flux1 writes: the way back of decode.h. */
#ifndef FLUX1_TENSOR_ENCODE_H
#define FLUX1_TENSOR_ENCODE_H

#include "tensor/tensor.h"

/* Encodes `blocks` whole blocks of finite values; `out` may lie at any address. */
typedef void dtype_encoder(const float *from, int64_t blocks, unsigned char *out);

/* One row per type that can be written: the encoder, and the largest magnitude that the type holds (what rounds to it
 * counts); a value beyond it would become infinite or NaN. Of a GGUF type its scale, an f16, is the limit. */
#define ENCODE_MAP(X)                      \
    X(F32, encode_f32, 0x1.fffffep+127f)   \
    X(F16, encode_f16, 65519.996f)         \
    X(BF16, encode_bf16, 0x1.fefffep+127f) \
    X(F8_E4M3, encode_e4m3, 464.0f)        \
    X(F8_E5M2, encode_e5m2, 61439.996f)    \
    X(Q4_0, encode_q4_0, 65504.0f)         \
    X(Q4_1, encode_q4_1, 65504.0f)         \
    X(Q5_0, encode_q5_0, 65504.0f)         \
    X(Q5_1, encode_q5_1, 65504.0f)         \
    X(Q8_0, encode_q8_0, 65504.0f)         \
    X(Q2_K, encode_q2_k, 65504.0f)         \
    X(Q3_K, encode_q3_k, 65504.0f)         \
    X(Q4_K, encode_q4_k, 65504.0f)         \
    X(Q5_K, encode_q5_k, 65504.0f)         \
    X(Q6_K, encode_q6_k, 65504.0f)

/* NULL: the type is not written. *limit: the largest magnitude; may be NULL. */
dtype_encoder *dtype_encoder_of(dtype type, float *limit);

/* The largest finite value of a type: what a scale per tensor maps the tensor's largest magnitude to. */
#define E5M2_MAX 57344.0f

/* encode_float.c: rounded to nearest even, with torch's bits */
dtype_encoder encode_f32, encode_f16, encode_bf16, encode_e4m3, encode_e5m2;

/* encode_gguf.c: 32 elements per block, with the bits of the gguf package's quantize */
dtype_encoder encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1, encode_q8_0;

/* encode_gguf_k.c: 256 elements per block; scales found by a search for the least squared error */
dtype_encoder encode_q2_k, encode_q3_k, encode_q4_k, encode_q5_k, encode_q6_k;

#endif
