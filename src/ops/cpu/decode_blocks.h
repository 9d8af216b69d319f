/* The decoders of decoders.h, over what decode_x86.h and decode_neon.h, one of which the including file includes first,
 * make of registers:
 *   codes_16, codes_32  that many bytes; load_16, load_32, lower, upper
 *   bits_of(v, shift, mask)  of each byte, the bits from `shift` on that `mask` has
 *   halves(p)           16 bytes with two codes each: all lower halves, then all upper ones
 *   fifth_bits(p)       byte i: 16 where bit i is set
 *   both, minus, times_power (a byte times a power of two, which fits it), levels_of (iq4_levels)
 *   put, put_sum        16 signed codes, times a scale, plus an offset, to floats; put_32, put_sum_32
 *   e4m3_16, e5m2_16, i8_16, bnb4_16  16 bytes to floats
 *   f16_8, bf16_8       8 halves to floats
 *
 * Idea: the codes of a unit become signed bytes in a register (masks, shifts, and a table look-up for levels), then
 * floats that are multiplied by the scale of their sub-block: about a quarter of a cycle an element (x86). Sums and
 * products are rounded one by one, as the definition rounds them: the including files are compiled without
 * contraction. */
#ifndef FLUX1_OPS_CPU_DECODE_BLOCKS_H
#define FLUX1_OPS_CPU_DECODE_BLOCKS_H

#include "ops/cpu/decoders.h"
#include "tensor/decode.h"

/* ---- blocks of 32 ---- */

static inline void q4_0_unit(const unsigned char *p, float *out) { put_32(out, minus(halves(p + 2), 8), load_f16(p)); }

static inline void q4_1_unit(const unsigned char *p, float *out)
{
    put_sum_32(out, halves(p + 4), load_f16(p), load_f16(p + 2));
}

static inline void q5_0_unit(const unsigned char *p, float *out)
{
    put_32(out, minus(both(halves(p + 6), fifth_bits(p + 2)), 16), load_f16(p));
}

static inline void q5_1_unit(const unsigned char *p, float *out)
{
    put_sum_32(out, both(halves(p + 8), fifth_bits(p + 4)), load_f16(p), load_f16(p + 2));
}

static inline void q8_0_unit(const unsigned char *p, float *out) { put_32(out, load_32(p + 2), load_f16(p)); }

static inline void iq4_nl_unit(const unsigned char *p, float *out)
{
    put_32(out, levels_of(halves(p + 2)), load_f16(p));
}

/* ---- a quarter (64 elements) of a block of 256: two groups of 32 ---- */

static inline void q2_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p + 80), m = load_f16(p + 82);
    const codes_32 q = load_32(p + 16 + quarter / 2 * 32);
    const unsigned char *s = p + quarter * 4;
    for (int g = 0; g < 2; g++, s += 2, out += 32) {
        const codes_32 codes = bits_of(q, quarter % 2 * 4 + g * 2, 3);
        put_sum(out, lower(codes), d * (float)(s[0] & 15), -(m * (float)(s[0] >> 4)));
        put_sum(out + 16, upper(codes), d * (float)(s[1] & 15), -(m * (float)(s[1] >> 4)));
    }
}

static inline void q3_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p + 108);
    const codes_32 high = load_32(p), q = load_32(p + 32 + quarter / 2 * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        const int group = quarter * 2 + g;
        const codes_32 third = times_power(bits_of(high, group, 1), 2),
                       codes = minus(both(bits_of(q, quarter % 2 * 4 + g * 2, 3), third), 4);
        put(out, lower(codes), d * (float)q3_k_scale(p + 96, group * 2));
        put(out + 16, upper(codes), d * (float)q3_k_scale(p + 96, group * 2 + 1));
    }
}

static inline void q4_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    const codes_32 q = load_32(p + 16 + quarter * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        int scale, minimum;
        k_scale_and_minimum(p + 4, quarter * 2 + g, &scale, &minimum);
        put_sum_32(out, bits_of(q, g * 4, 15), d * (float)scale, -(m * (float)minimum));
    }
}

static inline void q5_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    const codes_32 high = load_32(p + 16), q = load_32(p + 48 + quarter * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        const codes_32 fifth = times_power(bits_of(high, quarter * 2 + g, 1), 4);
        int scale, minimum;
        k_scale_and_minimum(p + 4, quarter * 2 + g, &scale, &minimum);
        put_sum_32(out, both(bits_of(q, g * 4, 15), fifth), d * (float)scale, -(m * (float)minimum));
    }
}

static inline void q6_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p + 208);
    const unsigned char *low = p + quarter / 2 * 64, *scales = p + 192 + quarter * 4;
    const codes_32 high = load_32(p + 128 + quarter / 2 * 32);
    for (int g = 0; g < 2; g++, out += 32, scales += 2) {
        const codes_32 two = times_power(bits_of(high, quarter % 2 * 4 + g * 2, 3), 4),
                       four = bits_of(load_32(low + g * 32), quarter % 2 * 4, 15), codes = minus(both(four, two), 32);
        put(out, lower(codes), d * (float)(int8_t)scales[0]);
        put(out + 16, upper(codes), d * (float)(int8_t)scales[1]);
    }
}

static inline void iq4_xs_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p);
    for (int g = 0; g < 2; g++, out += 32)
        put_32(out, levels_of(halves(p + 8 + (quarter * 2 + g) * 16)), d * (float)iq4_xs_scale(p + 2, quarter * 2 + g));
}

/* ---- runs of them ---- */

#define RUN_32(name, bytes)                                                                     \
    static void name##_run(const unsigned char *data, int64_t first, int64_t count, float *out) \
    {                                                                                           \
        const unsigned char *p = data + first * (bytes);                                        \
        for (int64_t i = 0; i < count; i++)                                                     \
            name##_unit(p + i * (bytes), out + i * 32);                                         \
    }
#define RUN_QUARTERS(name, bytes)                                                               \
    static void name##_run(const unsigned char *data, int64_t first, int64_t count, float *out) \
    {                                                                                           \
        for (int64_t i = first; i < first + count; i++, out += 64)                              \
            name##_quarter(data + i / 4 * (bytes), (int)(i % 4), out);                          \
    }
RUN_32(q4_0, 18)
RUN_32(q4_1, 20)
RUN_32(q5_0, 22)
RUN_32(q5_1, 24)
RUN_32(q8_0, 34)
RUN_32(iq4_nl, 18)
RUN_QUARTERS(q2_k, 84)
RUN_QUARTERS(q3_k, 110)
RUN_QUARTERS(q4_k, 144)
RUN_QUARTERS(q5_k, 176)
RUN_QUARTERS(q6_k, 210)
RUN_QUARTERS(iq4_xs, 136)

/* ---- bytes ---- */

/* 16 bytes at a time, `elements` each; the last ones by way of a copy. */
#define RUN_BYTES(name, elements)                                                               \
    static void name##_run(const unsigned char *data, int64_t first, int64_t count, float *out) \
    {                                                                                           \
        const unsigned char *p = data + first;                                                  \
        for (; count >= 16; count -= 16, p += 16, out += 16 * (elements))                       \
            name##_16(load_16(p), out);                                                         \
        if (count > 0) {                                                                        \
            unsigned char bytes[16] = {0};                                                      \
            float values[16 * (elements)];                                                      \
            memcpy(bytes, p, (size_t)count);                                                    \
            name##_16(load_16(bytes), values);                                                  \
            memcpy(out, values, (size_t)(count * (elements)) * sizeof *out);                    \
        }                                                                                       \
    }
RUN_BYTES(e4m3, 1)
RUN_BYTES(e5m2, 1)
RUN_BYTES(i8, 1)
RUN_BYTES(bnb4, 2)

/* ---- halves ---- */

#define RUN_HALVES(name)                                                                        \
    static void name##_run(const unsigned char *data, int64_t first, int64_t count, float *out) \
    {                                                                                           \
        const unsigned char *p = data + first * 2;                                              \
        for (; count >= 8; count -= 8, p += 16, out += 8)                                       \
            name##_8(load_16(p), out);                                                          \
        if (count > 0) {                                                                        \
            unsigned char bytes[16] = {0};                                                      \
            float values[8];                                                                    \
            memcpy(bytes, p, (size_t)count * 2);                                                \
            name##_8(load_16(bytes), values);                                                   \
            memcpy(out, values, (size_t)count * sizeof *out);                                   \
        }                                                                                       \
    }
RUN_HALVES(f16)
RUN_HALVES(bf16)

#define DECODERS                                                                                                   \
    {                                                                                                              \
        .of = {[DTYPE_F16] = {1, f16_run},      [DTYPE_BF16] = {1, bf16_run},  [DTYPE_F8_E4M3] = {1, e4m3_run},    \
               [DTYPE_F8_E5M2] = {1, e5m2_run}, [DTYPE_I8] = {1, i8_run},      [DTYPE_BNB4] = {2, bnb4_run},       \
               [DTYPE_Q4_0] = {32, q4_0_run},   [DTYPE_Q4_1] = {32, q4_1_run}, [DTYPE_Q5_0] = {32, q5_0_run},      \
               [DTYPE_Q5_1] = {32, q5_1_run},   [DTYPE_Q8_0] = {32, q8_0_run}, [DTYPE_IQ4_NL] = {32, iq4_nl_run},  \
               [DTYPE_Q2_K] = {64, q2_k_run},   [DTYPE_Q3_K] = {64, q3_k_run}, [DTYPE_Q4_K] = {64, q4_k_run},      \
               [DTYPE_Q5_K] = {64, q5_k_run},   [DTYPE_Q6_K] = {64, q6_k_run}, [DTYPE_IQ4_XS] = {64, iq4_xs_run}}, \
        .multiply = multiply, .look_up = look_up                                                                   \
    }

#endif
