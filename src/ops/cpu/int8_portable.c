/* Products in int8 for any machine: the compiler's baseline. */
#include "ops/cpu/simd.h"

#define DECODERS NULL
#define INT8_PAIRS 0
#define INT8_OFFSET 0
#define vw_keep(v) ((void)0)

typedef vi vw;
SIMD_INLINE vw vw_word(int32_t w) { return (vw){w, w, w, w}; }
SIMD_INLINE vw vw_load(const int32_t *p)
{
    vw v;
    memcpy(&v, p, sizeof v);
    return v;
}
SIMD_INLINE void vw_store(int32_t *p, vw v) { memcpy(p, &v, sizeof v); }
SIMD_INLINE vw vw_round(vf v) { return (vi)(v + vset1(POWER_SHIFT)) - (vi)vset1(POWER_SHIFT); } /* below 2^22 */
SIMD_INLINE vw vw_or(vw a, vw b) { return a | b; }
SIMD_INLINE vw vw_and(vw a, vw b) { return a & b; }
#define vw_left(v, bits) ((v) << (bits))
SIMD_INLINE vf vw_float(vw v) { return __builtin_convertvector(v, vf); }

/* Byte `at` of each word, with its sign. */
SIMD_INLINE vw number_at(vw v, int at) { return (v << (24 - 8 * at)) >> 24; }
SIMD_INLINE vw vw_dot(vw sum, vw w, vw x)
{
    for (int i = 0; i < 4; i++)
        sum += number_at(w, i) * number_at(x, i);
    return sum;
}

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    for (int i = 0; i < VW; i++)
        to[i] = (int8_t)v[i];
}

#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_portable)
