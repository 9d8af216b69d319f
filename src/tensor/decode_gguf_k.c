/* GGUF's types of 256 elements per block: sub-blocks of 16 or 32 elements have small scales, which the block's own
 * scale (f16) multiplies. (ggml: ggml-quants.c, ggml-common.h) */
#include "tensor/decode.h"

#include "base/half.h"

static float load_f16(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* 16 bytes of scale and minimum (4 bits each), 64 bytes, scale, minimum. A run of 32 bytes holds 128 elements: bits 0-1
 * the first 32 of them, bits 2-3 the next. */
void q2_k_block(const unsigned char *p, float *out)
{
    const unsigned char *scales = p, *q = p + 16;
    const float d = load_f16(p + 80), m = load_f16(p + 82);
    for (int i = 0; i < 256; i++) {
        int sub = i / 16;
        float scale = d * (float)(scales[sub] & 15), least = m * (float)(scales[sub] >> 4);
        out[i] = scale * (float)(q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - least;
    }
}

/* 32 bytes of high bits (a set bit means that 4 is not subtracted), 64 bytes as in Q2_K, 16 scales of 6 bits, scale. */
void q3_k_block(const unsigned char *p, float *out)
{
    const unsigned char *high = p, *q = p + 32;
    const float d = load_f16(p + 108);
    for (int i = 0; i < 256; i++) {
        int two = q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3, third = high[i % 32] >> (i / 32) & 1;
        out[i] = d * (float)q3_k_scale(p + 96, i / 16) * (float)(two - (third ? 0 : 4));
    }
}

/* scale, minimum, 12 bytes of sub-blocks' scales, 128 bytes: a run of 32 holds a sub-block in its lower halves, the
 * next one in its upper halves */
void q4_k_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    for (int sub = 0; sub < 8; sub++) {
        const unsigned char *q = p + 16 + sub / 2 * 32;
        int scale, minimum;
        k_scale_and_minimum(p + 4, sub, &scale, &minimum);
        const float ds = d * (float)scale, ms = m * (float)minimum;
        for (int i = 0; i < 32; i++)
            *out++ = ds * (float)(q[i] >> (sub % 2 * 4) & 15) - ms;
    }
}

/* as Q4_K, with 32 bytes of fifth bits in front of the 128 */
void q5_k_block(const unsigned char *p, float *out)
{
    const unsigned char *high = p + 16;
    const float d = load_f16(p), m = load_f16(p + 2);
    for (int sub = 0; sub < 8; sub++) {
        const unsigned char *q = p + 48 + sub / 2 * 32;
        int scale, minimum;
        k_scale_and_minimum(p + 4, sub, &scale, &minimum);
        const float ds = d * (float)scale, ms = m * (float)minimum;
        for (int i = 0; i < 32; i++)
            *out++ = ds * (float)((q[i] >> (sub % 2 * 4) & 15) | (high[i] >> sub & 1) << 4) - ms;
    }
}

/* 128 bytes of low halves (a run of 64 holds 128 elements), 64 bytes of high pairs of bits, 16 signed scales, scale */
void q6_k_block(const unsigned char *p, float *out)
{
    const unsigned char *low = p, *high = p + 128;
    const float d = load_f16(p + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, in = i % 128;
        int four = low[half * 64 + in % 64] >> (in / 64 * 4) & 15, two = high[half * 32 + in % 32] >> (in / 32 * 2) & 3;
        out[i] = d * (float)(int8_t)p[192 + i / 16] * (float)((four | two << 4) - 32);
    }
}

/* scale, 8 high pairs of bits of the sub-blocks' scales, their low halves, 128 bytes of numbers of levels: a run of 16
 * holds a sub-block */
void iq4_xs_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p);
    for (int sub = 0; sub < 8; sub++, out += 32) {
        const unsigned char *q = p + 8 + sub * 16;
        const float ds = d * (float)iq4_xs_scale(p + 2, sub);
        for (int i = 0; i < 16; i++) {
            out[i] = ds * (float)iq4_levels[q[i] & 15];
            out[i + 16] = ds * (float)iq4_levels[q[i] >> 4];
        }
    }
}

DECODE_RUN(q2_k, 256, 84)
DECODE_RUN(q3_k, 256, 110)
DECODE_RUN(q4_k, 256, 144)
DECODE_RUN(q5_k, 256, 176)
DECODE_RUN(q6_k, 256, 210)
DECODE_RUN(iq4_xs, 256, 136)
