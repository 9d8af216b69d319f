/* What decode_blocks.h asks for, over AVX2, and vectors of 512 bits where DECODE_AVX512 is defined: the last step is
 * all that is wider. */
#ifndef FLUX1_OPS_CPU_DECODE_X86_H
#define FLUX1_OPS_CPU_DECODE_X86_H

#include "ops/cpu/decoders.h"
#include "tensor/decode.h"

#include <immintrin.h>
#include <string.h>

typedef __m128i codes_16;
typedef __m256i codes_32;

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

static inline __m256i bits_of(__m256i v, int shift, char mask)
{
    return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm256_set1_epi8(mask));
}

static inline __m256i halves(const unsigned char *p)
{
    const __m128i q = load_16(p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), _mm256_set1_epi8(15));
}

static inline __m256i fifth_bits(const unsigned char *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    const __m256i from = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303),
                  one = _mm256_set1_epi64x((long long)0x8040201008040201ull),
                  spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), from);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, one), one), _mm256_set1_epi8(16));
}

static inline __m256i both(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }
static inline __m256i times_power(__m256i v, int n) { return _mm256_slli_epi16(v, n); }
static inline __m256i minus(__m256i v, char n) { return _mm256_sub_epi8(v, _mm256_set1_epi8(n)); }

static inline __m256i levels_of(__m256i codes)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16((const unsigned char *)iq4_levels)), codes);
}

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

/* ---- halves ---- */

static inline void f16_8(__m128i h, float *out) { _mm256_storeu_ps(out, _mm256_cvtph_ps(h)); }

static inline void bf16_8(__m128i h, float *out)
{
    _mm256_storeu_ps(out, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)));
}

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

#endif
