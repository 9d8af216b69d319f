/* Decoders of the storage types (DTYPE_MAP). Each *_block function decodes one block, so that a backend can decode on
 * the way into its own form; decode_* decodes a run of blocks. Blocks lie at any address. Results have the bits that
 * the `gguf` package's dequantize gives (ggml's dequantize_row_* in float), torch's for the floats. */
#ifndef FLUX1_TENSOR_DECODE_H
#define FLUX1_TENSOR_DECODE_H

#include "tensor/tensor.h"

/* decode_float.c */
dtype_decoder decode_f32, decode_f16, decode_bf16, decode_f64, decode_i8, decode_e4m3, decode_e5m2;
dtype_decoder decode_bnb4; /* to the numbers of the codes: 0 to 15, the upper half of a byte first */

/* decode_gguf.c: 32 elements per block */
void q4_0_block(const unsigned char *p, float *out);
void q4_1_block(const unsigned char *p, float *out);
void q5_0_block(const unsigned char *p, float *out);
void q5_1_block(const unsigned char *p, float *out);
void q8_0_block(const unsigned char *p, float *out);
void iq4_nl_block(const unsigned char *p, float *out);
dtype_decoder decode_q4_0, decode_q4_1, decode_q5_0, decode_q5_1, decode_q8_0, decode_iq4_nl;

/* decode_gguf_k.c: 256 elements per block */
void q2_k_block(const unsigned char *p, float *out);
void q3_k_block(const unsigned char *p, float *out);
void q4_k_block(const unsigned char *p, float *out);
void q5_k_block(const unsigned char *p, float *out);
void q6_k_block(const unsigned char *p, float *out);
void iq4_xs_block(const unsigned char *p, float *out);
dtype_decoder decode_q2_k, decode_q3_k, decode_q4_k, decode_q5_k, decode_q6_k, decode_iq4_xs;

/* The 16 levels of IQ4_NL and IQ4_XS (ggml-common.h, kvalues_iq4nl). */
extern const int8_t iq4_levels[16];

/* Scale and minimum of sub-block i (0 to 7) of Q4_K and Q5_K: 6 bits each, in 12 bytes. */
static inline void k_scale_and_minimum(const unsigned char *s, int i, int *scale, int *minimum)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *minimum = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
        *minimum = s[i + 4] >> 4 | (s[i] >> 6) << 4;
    }
}

/* Scale of sub-block i (0 to 15) of Q3_K: 6 bits, less 32, in 12 bytes. */
static inline int q3_k_scale(const unsigned char *s, int i)
{
    int low4 = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high2 = s[8 + i % 4] >> (i / 4 * 2) & 3;
    return (low4 | high2 << 4) - 32;
}

/* Scale of sub-block i (0 to 7) of IQ4_XS: 8 high pairs of bits, then the low halves; less 32. */
static inline int iq4_xs_scale(const unsigned char *s, int i)
{
    int low4 = s[2 + i / 2] >> (i % 2 * 4) & 15, high2 = (s[0] | s[1] << 8) >> (2 * i) & 3;
    return (low4 | high2 << 4) - 32;
}

/* decode_<name>, of `elements` and `bytes` per block, from <name>_block. */
#define DECODE_RUN(name, elements, bytes)                                        \
    void decode_##name(const unsigned char *from, int64_t blocks, float *out)    \
    {                                                                            \
        for (int64_t i = 0; i < blocks; i++, from += (bytes), out += (elements)) \
            name##_block(from, out);                                             \
    }

#endif
