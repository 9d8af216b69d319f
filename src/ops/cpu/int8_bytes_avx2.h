/* v_bytes and words of kernels_int8.h over AVX2. */
#ifndef FLUX1_OPS_CPU_INT8_BYTES_AVX2_H
#define FLUX1_OPS_CPU_INT8_BYTES_AVX2_H

#include "ops/cpu/simd.h"

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    const __m256i n = _mm256_cvtps_epi32(v);
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(half, half));
}

SIMD_INLINE __m256i vw_round(vf v) { return _mm256_cvtps_epi32(v); }
SIMD_INLINE __m256i vw_or(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }
SIMD_INLINE __m256i vw_and(__m256i a, __m256i b) { return _mm256_and_si256(a, b); }
#define vw_left(v, bits) _mm256_slli_epi32(v, bits)

#endif
