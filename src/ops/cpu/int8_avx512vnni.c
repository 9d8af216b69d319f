/* Products in int8 for AVX-512 with VNNI: vpdpbusd multiplies bytes without a sign by bytes with one, and does not
 * saturate. A tile's 28 sums, 2 of the input and 1 weight are 31 of 32 registers. */
#if defined(__x86_64__)
#define SIMD_AVX512
#define INT8_OFFSET 1
#include "ops/cpu/int8_bytes_avx512.h"

#if !defined(vw_keep) /* where the registers are emulated there is nothing to keep */
#define vw_keep(v) __asm__ volatile("" : "+v"(v))
#endif
SIMD_INLINE vw vw_sub(vw a, vw b) { return _mm512_sub_epi32(a, b); }
SIMD_INLINE vw vw_word(int32_t w) { return _mm512_set1_epi32(w); }
SIMD_INLINE vw vw_dot(vw sum, vw w, vw x) { return _mm512_dpbusd_epi32(sum, w, x); }

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_avx512vnni)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
