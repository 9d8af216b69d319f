/* The vectors the kernels are written in. One of SIMD_AVX512, SIMD_AVX2 and SIMD_NEON may be defined by the including
 * file, SIMD_BF16 beside the first and the last; none: plain C.
 *   VW             floats in a vector `vf`
 *   vload, vstore  any address; the forms with n touch only the first n (0..VW) elements, the others load as 0
 *   *_bf16, *_f16  convert from and to float
 *   vraw, vrawn    2·VW 16-bit values as they are: VW pairs; vpair_lo, vpair_hi widen a pair's bf16 halves to float
 *   vmax, vmin     the second operand when either is NaN
 *   vhadamard      the Walsh-Hadamard transform of the lanes: sums and differences of lanes 1, 2, 4 … apart
 *   vpower         v·2^n, both normal and v near 1; n is what is left of x + POWER_SHIFT, whose rounding made it whole
 *   vmadd          acc + a·b: of floats, or (SIMD_BF16) of pairs of bf16
 *   SIMD_MATRIX    is defined where products of small matrices of bf16 are in its place (tile_matrix.h) */
#ifndef FLUX1_OPS_CPU_SIMD_H
#define FLUX1_OPS_CPU_SIMD_H

#include "base/half.h"
#include "ops/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define POWER_SHIFT 0x1.8p23f

#if defined(SIMD_AVX512)
#include "ops/cpu/simd_avx512.h"
#elif defined(SIMD_AVX2)
#include "ops/cpu/simd_avx2.h"
#elif defined(SIMD_NEON)
#include "ops/cpu/simd_neon.h"
#else
#include "ops/cpu/simd_portable.h"
#endif

/* T of each height of a tile, up to TILE_ROWS. */
#if TILE_ROWS == 4
#define EACH_TILE(T) T(1) T(2) T(3) T(4)
#elif TILE_ROWS == 6
#define EACH_TILE(T) T(1) T(2) T(3) T(4) T(5) T(6)
#else
#define EACH_TILE(T) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12) T(13) T(14)
#endif

#if defined(__clang__)
#define SIMD_UNROLL _Pragma("unroll")
#else
#define SIMD_UNROLL _Pragma("GCC unroll 32")
#endif
#define SIMD_INLINE static inline __attribute__((always_inline))

SIMD_INLINE int vcount(int64_t left) { return left < VW ? (int)left : VW; }

/* Elements [i, i + VW) of a float or bf16 row. */
SIMD_INLINE vf vld(const void *p, bool bf16, int64_t i)
{
    return bf16 ? vload_bf16((const uint16_t *)p + i) : vload((const float *)p + i);
}
SIMD_INLINE vf vldn(const void *p, bool bf16, int64_t i, int n)
{
    if (n == VW)
        return vld(p, bf16, i);
    return bf16 ? vload_bf16n((const uint16_t *)p + i, n) : vloadn((const float *)p + i, n);
}
SIMD_INLINE void vstn(void *p, bool bf16, int64_t i, vf v, int n)
{
    if (bf16 && n == VW)
        vstore_bf16((uint16_t *)p + i, v);
    else if (bf16)
        vstore_bf16n((uint16_t *)p + i, v, n);
    else if (n == VW)
        vstore((float *)p + i, v);
    else
        vstoren((float *)p + i, v, n);
}

/* 2^x, relative error below 2e-7 with the argument's own rounding aside; 0 below the normal range, infinity above it;
 * NaN stays. Minimax on [−½, ½]. */
SIMD_INLINE vf vexp2(vf x)
{
    x = vmin(vset1(129.0f), vmax(vset1(-160.0f), x));
    vf n = vround(x), r = vsub(x, n);
    vf p = vset1(1.53533615924923e-4f);
    p = vfma(p, r, vset1(1.3398874519524595e-3f));
    p = vfma(p, r, vset1(9.618437359782923e-3f));
    p = vfma(p, r, vset1(5.5503324707926155e-2f));
    p = vfma(p, r, vset1(2.40226479135979e-1f));
    p = vfma(p, r, vset1(6.931472028552769e-1f));
    p = vfma(p, r, vset1(1.0f));
    return vscale2(p, n);
}

/* e^x: the argument is reduced by ln 2 in two parts first. Minimax of relative error 3e-9 on [−ln 2/2, ln 2/2]. */
SIMD_INLINE vf vexp(vf x)
{
    x = vmin(vset1(89.5f), vmax(vset1(-110.0f), x));
    vf n = vround(vmul(x, vset1(1.44269504088896341f)));
    vf r = vfma(n, vset1(-0.693359375f), x);
    r = vfma(n, vset1(2.12194440054690583e-4f), r);
    vf p = vset1(1.3814466711089511e-3f);
    p = vfma(p, r, vset1(8.368780433425583e-3f));
    p = vfma(p, r, vset1(4.166839421809043e-2f));
    p = vfma(p, r, vset1(1.6666520107579674e-1f));
    p = vfma(p, r, vset1(4.999999341246595e-1f));
    p = vfma(p, r, vset1(1.0f));
    p = vfma(p, r, vset1(1.0f));
    return vscale2(p, n);
}

SIMD_INLINE vf vsigmoid(vf x) { return vdiv(vset1(1.0f), vadd(vset1(1.0f), vexp(vsub(vset1(0.0f), x)))); }

/* (x − mean)·scale + shift of channels [i, i + n), then SiLU if asked; shift may be NULL. Lanes beyond are 0. */
SIMD_INLINE vf vnormalise(vf x, const float *mean, const float *scale, const float *shift, bool silu, int64_t i, int n)
{
    vf v = vmul(vsub(x, vldn(mean, false, i, n)), vldn(scale, false, i, n));
    if (shift)
        v = vadd(v, vldn(shift, false, i, n));
    return silu ? vmul(v, vsigmoid(v)) : v;
}

/* erfc(z), z >= 0: e^(−z²)·t·P(t), t = 1/(1 + 0.42 z); P fitted by reweighted least squares to relative error 3e-9. */
SIMD_INLINE vf verfc(vf z)
{
    vf t = vdiv(vset1(1.0f), vfma(z, vset1(0.42f), vset1(1.0f)));
    vf p = vset1(-0.041175523411850714f);
    p = vfma(p, t, vset1(0.2309143142602891f));
    p = vfma(p, t, vset1(-0.48713990613823904f));
    p = vfma(p, t, vset1(0.4378203928699927f));
    p = vfma(p, t, vset1(-0.19789303711228456f));
    p = vfma(p, t, vset1(0.21403937362326203f));
    p = vfma(p, t, vset1(0.14993394032352791f));
    p = vfma(p, t, vset1(0.21991755352875536f));
    p = vfma(p, t, vset1(0.23660942401462626f));
    p = vfma(p, t, vset1(0.23697346573225686f));
    return vmul(vmul(p, t), vexp(vsub(vset1(0.0f), vmul(z, z))));
}

/* The activations, each as x·(something in [0, 1]) so that no digits cancel: ½(1 + tanh u) = sigmoid(2u). */
SIMD_INLINE vf vactivate(activation f, vf x)
{
    switch (f) {
    case ACTIVATION_NONE: return x;
    case ACTIVATION_GELU_TANH: { /* 2·√(2/π)·(x + 0.044715 x³) */
        vf u = vmul(vmul(x, vset1(1.5957691216057308f)), vfma(vmul(x, x), vset1(0.044715f), vset1(1.0f)));
        return vmul(x, vsigmoid(u));
    }
    case ACTIVATION_QUICK_GELU: return vmul(x, vsigmoid(vmul(x, vset1(1.702f))));
    case ACTIVATION_SILU: return vmul(x, vsigmoid(x));
    case ACTIVATION_GELU: {
        vf minus = vsub(vset1(0.0f), x);
        vf bf16 = vmul(vset1(0.5f), verfc(vmul(vmax(minus, x), vset1(0.70710678118654752f))));
        return vmul(x, vselect_lt(x, vset1(0.0f), bf16, vsub(vset1(1.0f), bf16)));
    }
    }
    return x;
}

#endif
