/* What kernels_int8.h wants of 16 words of four int8, but their products, over AVX-512. */
#ifndef FLUX1_OPS_CPU_INT8_BYTES_AVX512_H
#define FLUX1_OPS_CPU_INT8_BYTES_AVX512_H

#include "ops/cpu/simd.h"

#define DECODERS &cpu_decoders_avx512
#define INT8_PAIRS 0

typedef __m512i vw;
SIMD_INLINE vw vw_load(const int32_t *p) { return _mm512_loadu_si512(p); }
SIMD_INLINE void vw_store(int32_t *p, vw v) { _mm512_storeu_si512(p, v); }
SIMD_INLINE vf vw_float(vw v) { return _mm512_cvtepi32_ps(v); }

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

SIMD_INLINE vw vw_round(vf v) { return _mm512_cvtps_epi32(v); }
SIMD_INLINE vw vw_or(vw a, vw b) { return _mm512_or_si512(a, b); }
SIMD_INLINE vw vw_and(vw a, vw b) { return _mm512_and_si512(a, b); }
#define vw_left(v, bits) _mm512_slli_epi32(v, bits)

#endif
