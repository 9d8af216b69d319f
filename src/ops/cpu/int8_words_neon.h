/* What all int8_neon*.c share. */
#ifndef FLUX1_OPS_CPU_INT8_WORDS_NEON_H
#define FLUX1_OPS_CPU_INT8_WORDS_NEON_H

#include "ops/cpu/simd.h"

#define DECODERS &cpu_decoders_neon
#define INT8_PAIRS 0
#define INT8_OFFSET 0
#define vw_keep(v) __asm__ volatile("" : "+w"(v))

typedef int32x4_t vw;
SIMD_INLINE vf vw_float(vw v) { return vcvtq_f32_s32(v); }
SIMD_INLINE vw vw_word(int32_t w) { return vdupq_n_s32(w); }
SIMD_INLINE vw vw_load(const int32_t *p) { return vld1q_s32(p); }
SIMD_INLINE void vw_store(int32_t *p, vw v) { vst1q_s32(p, v); }
SIMD_INLINE vw vw_round(vf v) { return vcvtnq_s32_f32(v); }
SIMD_INLINE vw vw_or(vw a, vw b) { return vorrq_s32(a, b); }
SIMD_INLINE vw vw_and(vw a, vw b) { return vandq_s32(a, b); }
#define vw_left(v, bits) vshlq_n_s32(v, bits)

SIMD_INLINE void v_bytes(int8_t *to, vf v)
{
    const int16x4_t n = vmovn_s32(vcvtnq_s32_f32(v));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(n, n));
    memcpy(to, &bytes, VW);
}

#endif
