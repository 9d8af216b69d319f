/* Products in int8 for AVX2 with AVX-VNNI: vpdpbusd multiplies bytes without a sign by bytes with one, and does not
 * saturate. */
#if defined(__x86_64__)
#define SIMD_AVX2
#include "ops/cpu/simd.h"

#define DECODERS &cpu_decoders_avx2
#define INT8_PAIRS 0
#define INT8_OFFSET 1
#define vw_keep(v) __asm__ volatile("" : "+x"(v))

typedef __m256i vw;
SIMD_INLINE vw vw_word(int32_t w) { return _mm256_set1_epi32(w); }
SIMD_INLINE vw vw_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
SIMD_INLINE void vw_store(int32_t *p, vw v) { _mm256_storeu_si256((__m256i *)p, v); }
SIMD_INLINE vw vw_sub(vw a, vw b) { return _mm256_sub_epi32(a, b); }
SIMD_INLINE vf vw_float(vw v) { return _mm256_cvtepi32_ps(v); }
SIMD_INLINE vw vw_dot(vw sum, vw w, vw x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }

#include "ops/cpu/int8_bytes_avx2.h"
#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_avxvnni)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
