/* Products in int8 for any arm64: smull makes 16-bit products, of which the sum of two still fits (one of the two
 * operands is at least -127); addp adds neighbours, sadalp adds pairs of these to 32-bit sums. Four instructions for 16
 * products, as many as float32 has. */
#if defined(__aarch64__)
#define SIMD_NEON
#include "ops/cpu/int8_words_neon.h"

SIMD_INLINE vw vw_dot(vw sum, vw w, vw x)
{
    const int8x16_t p = vreinterpretq_s8_s32(w), q = vreinterpretq_s8_s32(x);
    return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(p), vget_low_s8(q)), vmull_high_s8(p, q)));
}

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_neon)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
