/* Products in int8 for arm64 with products of int8 matrices: smmla adds two rows of eight bytes times two rows of eight
 * bytes to four 32-bit sums. */
#if defined(__aarch64__)
#define SIMD_NEON
#define INT8_MATRIX
#include "ops/cpu/int8_words_neon.h"

SIMD_INLINE vw vw_dot(vw sum, vw w, vw x) { return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x)); }

SIMD_INLINE uint32x4_t matrix_multiply(uint32x4_t c, uint32x4_t a, uint32x4_t b)
{
    return vreinterpretq_u32_s32(
        vmmlaq_s32(vreinterpretq_s32_u32(c), vreinterpretq_s8_u32(a), vreinterpretq_s8_u32(b)));
}

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_neoni8mm)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
