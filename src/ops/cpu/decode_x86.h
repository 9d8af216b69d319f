/* The decoders of decode.h. Included once per instruction set, DECODE_AVX512 defined for vectors of 512 bits.
 *
 * Idea: the codes of a unit become signed bytes in a register (masks, shifts, and a table look-up for levels), then
 * floats that are multiplied by the scale of their sub-block: about a quarter of a cycle an element. The last step is
 * all that is wider with AVX-512. Sums and products are rounded one by one, as the definition rounds them: these files
 * are compiled without contraction. */
#ifndef FLUX1_OPS_CPU_DECODE_X86_H
#define FLUX1_OPS_CPU_DECODE_X86_H

#include "ops/cpu/decode.h"
#include "tensor/decode.h"

#include <immintrin.h>
#include <string.h>

/* ---- 16 signed codes become 16 floats ---- */

#if defined(DECODE_AVX512)
static inline __m512 widen(__m128i codes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)); }

static inline void put(float *out, __m128i codes, float scale)
{
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(scale), widen(codes)));
}

static inline void put_sum(float *out, __m128i codes, float scale, float offset)
{
    _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(scale), widen(codes)), _mm512_set1_ps(offset)));
}
#else
static inline __m256 widen(__m128i codes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)); }

static inline void put(float *out, __m128i codes, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    _mm256_storeu_ps(out, _mm256_mul_ps(s, widen(codes)));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(s, widen(_mm_srli_si128(codes, 8))));
}

static inline void put_sum(float *out, __m128i codes, float scale, float offset)
{
    const __m256 s = _mm256_set1_ps(scale), o = _mm256_set1_ps(offset);
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(s, widen(codes)), o));
    _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_mul_ps(s, widen(_mm_srli_si128(codes, 8))), o));
}
#endif

static inline __m128i lower(__m256i v) { return _mm256_castsi256_si128(v); }
static inline __m128i upper(__m256i v) { return _mm256_extracti128_si256(v, 1); }

static inline void put_32(float *out, __m256i codes, float scale)
{
    put(out, lower(codes), scale);
    put(out + 16, upper(codes), scale);
}

static inline void put_sum_32(float *out, __m256i codes, float scale, float offset)
{
    put_sum(out, lower(codes), scale, offset);
    put_sum(out + 16, upper(codes), scale, offset);
}

/* ---- what blocks are made of ---- */

static inline float load_f16(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}
static inline __m128i load_16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
static inline __m256i load_32(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* Of each byte, the bits from `shift` on that `mask` has. */
static inline __m256i bits_of(__m256i v, int shift, char mask)
{
    return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm256_set1_epi8(mask));
}

/* 16 bytes with two codes each: all lower halves, then all upper ones. */
static inline __m256i halves(const unsigned char *p)
{
    const __m128i q = load_16(p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), _mm256_set1_epi8(15));
}

/* Byte i: 16 where bit i is set. */
static inline __m256i fifth_bits(const unsigned char *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    const __m256i from = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303),
                  one = _mm256_set1_epi64x((long long)0x8040201008040201ull),
                  spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), from);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, one), one), _mm256_set1_epi8(16));
}

static inline __m256i minus(__m256i v, char n) { return _mm256_sub_epi8(v, _mm256_set1_epi8(n)); }

static inline __m256i levels_of(__m256i codes)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16((const unsigned char *)iq4_levels)), codes);
}

/* ---- blocks of 32 ---- */

static inline void q4_0_unit(const unsigned char *p, float *out) { put_32(out, minus(halves(p + 2), 8), load_f16(p)); }

static inline void q4_1_unit(const unsigned char *p, float *out)
{
    put_sum_32(out, halves(p + 4), load_f16(p), load_f16(p + 2));
}

static inline void q5_0_unit(const unsigned char *p, float *out)
{
    put_32(out, minus(_mm256_or_si256(halves(p + 6), fifth_bits(p + 2)), 16), load_f16(p));
}

static inline void q5_1_unit(const unsigned char *p, float *out)
{
    put_sum_32(out, _mm256_or_si256(halves(p + 8), fifth_bits(p + 4)), load_f16(p), load_f16(p + 2));
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
    const __m256i q = load_32(p + 16 + quarter / 2 * 32);
    const unsigned char *s = p + quarter * 4;
    for (int g = 0; g < 2; g++, s += 2, out += 32) {
        const __m256i codes = bits_of(q, quarter % 2 * 4 + g * 2, 3);
        put_sum(out, lower(codes), d * (float)(s[0] & 15), -(m * (float)(s[0] >> 4)));
        put_sum(out + 16, upper(codes), d * (float)(s[1] & 15), -(m * (float)(s[1] >> 4)));
    }
}

static inline void q3_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p + 108);
    const __m256i high = load_32(p), q = load_32(p + 32 + quarter / 2 * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        const int group = quarter * 2 + g;
        const __m256i third = _mm256_slli_epi16(bits_of(high, group, 1), 2),
                      codes = minus(_mm256_or_si256(bits_of(q, quarter % 2 * 4 + g * 2, 3), third), 4);
        put(out, lower(codes), d * (float)q3_k_scale(p + 96, group * 2));
        put(out + 16, upper(codes), d * (float)q3_k_scale(p + 96, group * 2 + 1));
    }
}

static inline void q4_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    const __m256i q = load_32(p + 16 + quarter * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        int scale, minimum;
        k_scale_and_minimum(p + 4, quarter * 2 + g, &scale, &minimum);
        put_sum_32(out, bits_of(q, g * 4, 15), d * (float)scale, -(m * (float)minimum));
    }
}

static inline void q5_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    const __m256i high = load_32(p + 16), q = load_32(p + 48 + quarter * 32);
    for (int g = 0; g < 2; g++, out += 32) {
        const __m256i fifth = _mm256_slli_epi16(bits_of(high, quarter * 2 + g, 1), 4);
        int scale, minimum;
        k_scale_and_minimum(p + 4, quarter * 2 + g, &scale, &minimum);
        put_sum_32(out, _mm256_or_si256(bits_of(q, g * 4, 15), fifth), d * (float)scale, -(m * (float)minimum));
    }
}

static inline void q6_k_quarter(const unsigned char *p, int quarter, float *out)
{
    const float d = load_f16(p + 208);
    const unsigned char *low = p + quarter / 2 * 64, *scales = p + 192 + quarter * 4;
    const __m256i high = load_32(p + 128 + quarter / 2 * 32);
    for (int g = 0; g < 2; g++, out += 32, scales += 2) {
        const __m256i two = _mm256_slli_epi16(bits_of(high, quarter % 2 * 4 + g * 2, 3), 4),
                      four = bits_of(load_32(low + g * 32), quarter % 2 * 4, 15),
                      codes = minus(_mm256_or_si256(four, two), 32);
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

/* ---- a byte an element, and two elements a byte ---- */

/* To 16 values. e4m3 and e5m2 go by way of f16, which has all their values, subnormal ones too: e5m2 is its upper byte,
 * an e4m3's exponent and mantissa one bit further down are the value / 256. */
static inline void put_f16(float *out, __m256i h, float factor)
{
#if defined(DECODE_AVX512)
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(factor)));
#else
    const __m256 f = _mm256_set1_ps(factor);
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtph_ps(lower(h)), f));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(_mm256_cvtph_ps(upper(h)), f));
#endif
}

static inline void e4m3_16(__m128i bytes, float *out)
{
    const __m256i w = _mm256_cvtepi8_epi16(bytes), sign = _mm256_and_si256(w, _mm256_set1_epi16((short)0x8000)),
                  size = _mm256_and_si256(_mm256_slli_epi16(w, 7), _mm256_set1_epi16(0x3f80)),
                  nan = _mm256_cmpeq_epi16(size, _mm256_set1_epi16(0x3f80));
    put_f16(out, _mm256_or_si256(sign, _mm256_blendv_epi8(size, _mm256_set1_epi16(0x7e00), nan)), 256);
}

static inline void e5m2_16(__m128i bytes, float *out)
{
    put_f16(out, _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 8), 1);
}

static inline void i8_16(__m128i bytes, float *out) { put(out, bytes, 1); }

static inline void bnb4_16(__m128i bytes, float *out)
{
    const __m128i mask = _mm_set1_epi8(15), high = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask),
                  low = _mm_and_si128(bytes, mask);
    put(out, _mm_unpacklo_epi8(high, low), 1);
    put(out + 16, _mm_unpackhi_epi8(high, low), 1);
}

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

/* ---- scales beside the values ---- */

static void multiply(float factor, float constant, int64_t count, float *values)
{
    const __m256 f = _mm256_set1_ps(factor), c = _mm256_set1_ps(constant);
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(values + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(values + i), f), c));
    for (; i < count; i++)
        values[i] = values[i] * factor * constant;
}

static inline __m256 rounded_bf16(__m256 v)
{
    const __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1)),
                  up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))),
                  high = _mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000u));
    return _mm256_blendv_ps(_mm256_castsi256_ps(high), v, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}

static inline __m256 rounded_to(dtype type, __m256 v)
{
    return type == DTYPE_BF16  ? rounded_bf16(v)
           : type == DTYPE_F16 ? _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))
                               : v;
}

static void look_up(const float code[16], float absmax, dtype rounded, int64_t count, float *values)
{
    const __m256 low = _mm256_loadu_ps(code), high = _mm256_loadu_ps(code + 8), scale = _mm256_set1_ps(absmax);
    for (int64_t i = 0; i < count; i += 8) {
        float last[8] = {0}, *at = values + i;
        if (count - i < 8)
            at = memcpy(last, values + i, (size_t)(count - i) * sizeof *values);
        const __m256i n = _mm256_cvttps_epi32(_mm256_loadu_ps(at));
        const __m256 upper_half = _mm256_castsi256_ps(_mm256_slli_epi32(n, 28)), /* bit 3 of n as the sign */
            v = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, n), _mm256_permutevar8x32_ps(high, n), upper_half);
        _mm256_storeu_ps(at, rounded_to(rounded, _mm256_mul_ps(v, scale)));
        if (count - i < 8)
            memcpy(values + i, last, (size_t)(count - i) * sizeof *values);
    }
}

#define DECODERS_X86                                                                                              \
    {                                                                                                             \
        .of = {[DTYPE_F8_E4M3] = {1, e4m3_run},   [DTYPE_F8_E5M2] = {1, e5m2_run}, [DTYPE_I8] = {1, i8_run},      \
               [DTYPE_BNB4] = {2, bnb4_run},      [DTYPE_Q4_0] = {32, q4_0_run},   [DTYPE_Q4_1] = {32, q4_1_run}, \
               [DTYPE_Q5_0] = {32, q5_0_run},     [DTYPE_Q5_1] = {32, q5_1_run},   [DTYPE_Q8_0] = {32, q8_0_run}, \
               [DTYPE_IQ4_NL] = {32, iq4_nl_run}, [DTYPE_Q2_K] = {64, q2_k_run},   [DTYPE_Q3_K] = {64, q3_k_run}, \
               [DTYPE_Q4_K] = {64, q4_k_run},     [DTYPE_Q5_K] = {64, q5_k_run},   [DTYPE_Q6_K] = {64, q6_k_run}, \
               [DTYPE_IQ4_XS] = {64, iq4_xs_run}},                                                                \
        .multiply = multiply, .look_up = look_up                                                                  \
    }

#endif
