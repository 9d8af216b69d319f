/* Products in int8 for AVX-512 with VNNI: vpdpbusd multiplies bytes without a sign by bytes with one, and does not
 * saturate. A tile's 28 sums, 2 of the input and 1 weight are 31 of 32 registers. */
#if defined(__x86_64__)
#define SIMD_AVX512
#include "ops/cpu/simd.h"

#define DECODERS &cpu_decoders_avx512
#define INT8_PAIRS 0
#define INT8_OFFSET 1
#if !defined(vw_keep) /* where the registers are emulated there is nothing to keep */
#define vw_keep(v) __asm__ volatile("" : "+v"(v))
#endif

typedef __m512i vw;
SIMD_INLINE vw vw_word(int32_t w) { return _mm512_set1_epi32(w); }
SIMD_INLINE vw vw_load(const int32_t *p) { return _mm512_loadu_si512(p); }
SIMD_INLINE vf vw_float(vw v) { return _mm512_cvtepi32_ps(v); }
SIMD_INLINE vw vw_dot(vw sum, vw w, vw x) { return _mm512_dpbusd_epi32(sum, x, w); }

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_avx512vnni)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
