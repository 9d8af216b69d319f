/* Products in int8 for arm64 with dot products: sdot adds four products of bytes to each 32-bit sum. */
#if defined(__aarch64__)
#define SIMD_NEON
#include "ops/cpu/int8_words_neon.h"

SIMD_INLINE vw vw_dot(vw sum, vw w, vw x) { return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x)); }

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_neondot)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
