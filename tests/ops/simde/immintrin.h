/* <immintrin.h> of a machine that has AVX-512 and its bf16 products, for one that may have AVX2 only: SIMDe's portable
 * forms, and below what SIMDe 0.7 lacks of what the kernels use. Found in front of the compiler's own header by the
 * test variants of the kernels (tests/simde.cmake). Products of pairs are not rounded as the instruction rounds
 * them: the order of its two additions and denormals differ. */
#ifndef FLUX1_TESTS_SIMDE_IMMINTRIN_H
#define FLUX1_TESTS_SIMDE_IMMINTRIN_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <string.h>

/* A vector as an array. */
typedef union stand_in_lanes {
    __m512 ps;
    __m512i si;
    __m256i half[2];
    float f[16];
    uint32_t u[16];
    int32_t i[16];
    uint16_t h[32];
} stand_in_lanes;

#define STAND_IN static inline __attribute__((always_inline))

STAND_IN __m512 lacking_loadu(uint16_t mask, const void *p)
{
    stand_in_lanes v = {.u = {0}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(&v.f[i], (const float *)p + i, 4);
    return v.ps;
}

STAND_IN void lacking_storeu(void *p, uint16_t mask, __m512 a)
{
    const stand_in_lanes v = {.ps = a};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((float *)p + i, &v.f[i], 4);
}

STAND_IN __m512i lacking_loadu_16(uint32_t mask, const void *p)
{
    stand_in_lanes v = {.u = {0}};
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1)
            memcpy(&v.h[i], (const uint16_t *)p + i, 2);
    return v.si;
}

STAND_IN void lacking_storeu_16(void *p, uint16_t mask, __m256i a)
{
    const stand_in_lanes v = {.half = {a}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((uint16_t *)p + i, &v.h[i], 2);
}

/* The two halves by AVX2's instruction. */
#define LACKING_HALVES(low, high)                   \
    const stand_in_lanes v = {.half = {low, high}}; \
    return v

STAND_IN __m512i lacking_widen_u16(__m256i a)
{
    LACKING_HALVES(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                   _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)))
        .si;
}

STAND_IN __m512i lacking_widen_i8(__m128i a)
{
    LACKING_HALVES(_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8))).si;
}

STAND_IN __m512 lacking_floats_of(__m512i a)
{
    const stand_in_lanes w = {.si = a};
    LACKING_HALVES(_mm256_castps_si256(_mm256_cvtepi32_ps(w.half[0])),
                   _mm256_castps_si256(_mm256_cvtepi32_ps(w.half[1])))
        .ps;
}

STAND_IN __m512 lacking_floats_of_f16(__m256i a)
{
    LACKING_HALVES(_mm256_castps_si256(_mm256_cvtph_ps(_mm256_castsi256_si128(a))),
                   _mm256_castps_si256(_mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))))
        .ps;
}

STAND_IN __m256i lacking_narrow(__m512i a)
{
    const stand_in_lanes w = {.si = a};
    stand_in_lanes v = {.u = {0}};
    for (int i = 0; i < 16; i++)
        v.h[i] = (uint16_t)w.u[i];
    return v.half[0];
}

/* To nearest even; denormals become zeros, a NaN stays one. */
STAND_IN uint16_t lacking_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f)
        return (uint16_t)(u >> 16 | 0x40);
    if ((u & 0x7f800000u) == 0)
        return (uint16_t)(u >> 16 & 0x8000u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

STAND_IN __m256i lacking_narrow_bf16(__m512 a)
{
    const stand_in_lanes w = {.ps = a};
    stand_in_lanes v = {.u = {0}};
    for (int i = 0; i < 16; i++)
        v.h[i] = lacking_bf16(w.f[i]);
    return v.half[0];
}

STAND_IN __m512i lacking_narrow_two(__m512 high, __m512 low)
{
    const stand_in_lanes v = {.half = {lacking_narrow_bf16(low), lacking_narrow_bf16(high)}};
    return v.si;
}

STAND_IN __m512i lacking_whole(__m512 a)
{
    const stand_in_lanes w = {.ps = a};
    stand_in_lanes v;
    for (int i = 0; i < 16; i++)
        v.i[i] = (int32_t)__builtin_lrintf(w.f[i]);
    return v.si;
}

STAND_IN __m128i lacking_narrow_i8(__m512i a)
{
    const stand_in_lanes w = {.si = a};
    int8_t to[16];
    for (int i = 0; i < 16; i++)
        to[i] = (int8_t)w.i[i];
    return _mm_loadu_si128((const __m128i *)(const void *)to);
}

/* Lanes of pairs: (0, 0, 2, 2, …), (1, 1, 3, 3, …). */
STAND_IN __m512 lacking_shuffle(__m512 a, int even, int odd)
{
    const stand_in_lanes w = {.ps = a};
    stand_in_lanes v;
    for (int i = 0; i < 16; i += 2)
        v.f[i] = w.f[i + even], v.f[i + 1] = w.f[i + odd];
    return v.ps;
}

STAND_IN __m512 lacking_permute(__m512 a, int how)
{
    const stand_in_lanes w = {.ps = a};
    stand_in_lanes v;
    for (int i = 0; i < 16; i++)
        v.f[i] = w.f[(i & ~3) + (how >> 2 * (i & 3) & 3)];
    return v.ps;
}

STAND_IN __m512 lacking_fmaddsub(__m512 a, __m512 b, __m512 c)
{
    stand_in_lanes x = {.ps = a}, y = {.ps = b}, z = {.ps = c};
    for (int i = 0; i < 16; i++)
        x.f[i] = __builtin_fmaf(x.f[i], y.f[i], i % 2 ? z.f[i] : -z.f[i]);
    return x.ps;
}

/* Halves onto each other, as the compiler's own form does it. */
#define LACKING_REDUCE(name, step)                      \
    STAND_IN float name(__m512 a)                       \
    {                                                   \
        stand_in_lanes v = {.ps = a};                   \
        for (int n = 8; n > 0; n /= 2)                  \
            for (int i = 0; i < n; i++) {               \
                const float x = v.f[i], y = v.f[i + n]; \
                v.f[i] = step;                          \
            }                                           \
        return v.f[0];                                  \
    }
LACKING_REDUCE(lacking_sum, x + y)
LACKING_REDUCE(lacking_highest, x > y ? x : y)

#undef _mm512_shuffle_f32x4 /* SIMDe has it, and no alias */
#define _mm512_shuffle_f32x4(a, b, how) simde_mm512_shuffle_f32x4(a, b, how)
#define _mm512_maskz_loadu_ps(mask, p) lacking_loadu(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) lacking_storeu(p, mask, a)
#define _mm512_maskz_loadu_epi16(mask, p) lacking_loadu_16(mask, p)
#define _mm256_maskz_loadu_epi16(mask, p) (((stand_in_lanes){.si = lacking_loadu_16((uint16_t)(mask), p)}).half[0])
#define _mm256_mask_storeu_epi16(p, mask, a) lacking_storeu_16(p, mask, a)
#define _mm512_cvtepu16_epi32(a) lacking_widen_u16(a)
#define _mm512_cvtepi8_epi32(a) lacking_widen_i8(a)
#define _mm512_cvtepi32_ps(a) lacking_floats_of(a)
#define _mm512_cvtph_ps(a) lacking_floats_of_f16(a)
#define _mm512_cvtepi32_epi16(a) lacking_narrow(a)
#define _mm512_cvtps_epi32(a) lacking_whole(a)
#define _mm512_cvtepi32_epi8(a) lacking_narrow_i8(a)
#define _mm512_cvtneps_pbh(a) lacking_narrow_bf16(a)
#define _mm512_cvtne2ps_pbh(a, b) lacking_narrow_two(a, b)
#define _mm512_moveldup_ps(a) lacking_shuffle(a, 0, 0)
#define _mm512_movehdup_ps(a) lacking_shuffle(a, 1, 1)
#define _mm512_permute_ps(a, how) lacking_permute(a, how)
#define _mm512_fmaddsub_ps(a, b, c) lacking_fmaddsub(a, b, c)
#define _mm512_reduce_add_ps(a) lacking_sum(a)
#define _mm512_reduce_max_ps(a) lacking_highest(a)

#include "tiles.h"

#endif
