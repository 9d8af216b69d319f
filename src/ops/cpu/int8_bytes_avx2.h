/* v_bytes of kernels_int8.h over AVX2. */
#ifndef FLUX1_OPS_CPU_INT8_BYTES_AVX2_H
#define FLUX1_OPS_CPU_INT8_BYTES_AVX2_H

#include "ops/cpu/simd.h"

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    const __m256i n = _mm256_cvtps_epi32(v);
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(half, half));
}

#endif
