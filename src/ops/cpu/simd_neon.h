/* simd.h over arm64's NEON, and its bf16 instructions where SIMD_BF16 is defined. */
#ifndef FLUX1_OPS_CPU_SIMD_NEON_H
#define FLUX1_OPS_CPU_SIMD_NEON_H

#include <arm_neon.h>

#define VW 4
#define TILE_ROWS 6 /* 24 sums, 4 of B, 1 of A: 29 registers of 32; with bfmmla 3 of A, 4 at most of B */
#define TILE_VECTORS 4
#define PRODUCT_COLS 96 /* whole tiles, whole vectors */
#define PRODUCT_STEPS 512
#define PRODUCT_BLOCK 512
#define PRODUCT_GROUP 96
#define PRODUCT_FEW PRODUCT_GROUP
typedef float32x4_t vf;

static inline uint32x4_t vbits(vf v) { return vreinterpretq_u32_f32(v); }
static inline vf vof(uint32x4_t v) { return vreinterpretq_f32_u32(v); }

static inline vf vzero(void) { return vdupq_n_f32(0.0f); }
static inline vf vset1(float x) { return vdupq_n_f32(x); }
/* By memcpy, since a file's values may lie at any address: one instruction each. */
static inline vf vload(const void *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline vf vloadn(const void *p, int n)
{
    vf v = vzero();
    memcpy(&v, p, (size_t)n * 4);
    return v;
}
static inline void vstore(void *p, vf v) { memcpy(p, &v, sizeof v); }
static inline void vstoren(void *p, vf v, int n) { memcpy(p, &v, (size_t)n * 4); }

static inline uint16x4_t vhalves(const void *p, int n)
{
    uint16x4_t h = vdup_n_u16(0);
    memcpy(&h, p, (size_t)n * 2);
    return h;
}
static inline vf vwiden(uint16x4_t h) { return vof(vshll_n_u16(h, 16)); }
static inline vf vload_bf16(const void *p) { return vwiden(vhalves(p, 4)); }
static inline vf vload_bf16n(const void *p, int n) { return vwiden(vhalves(p, n)); }
static inline vf vload_f16(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vhalves(p, 4))); }
static inline vf vload_f16n(const void *p, int n) { return vcvt_f32_f16(vreinterpret_f16_u16(vhalves(p, n))); }

static inline uint16x4_t vnarrow(vf v)
{
#if defined(SIMD_BF16)
    return vreinterpret_u16_bf16(vcvt_bf16_f32(v));
#else
    const uint32x4_t u = vbits(v), high = vshrq_n_u32(u, 16), odd = vandq_u32(high, vdupq_n_u32(1)),
                     r = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    return vmovn_u32(vbslq_u32(vceqq_f32(v, v), r, vorrq_u32(high, vdupq_n_u32(0x40))));
#endif
}
static inline void vstore_bf16n(void *p, vf v, int n)
{
    const uint16x4_t h = vnarrow(v);
    memcpy(p, &h, (size_t)n * 2);
}
static inline void vstore_bf16(void *p, vf v) { vstore_bf16n(p, v, 4); }

static inline vf vraw(const void *p) { return vload(p); }
static inline vf vrawn(const void *p, int n)
{
    vf v = vzero();
    memcpy(&v, p, (size_t)n * 2);
    return v;
}
static inline vf vpair_lo(vf v) { return vof(vshlq_n_u32(vbits(v), 16)); }
static inline vf vpair_hi(vf v) { return vof(vandq_u32(vbits(v), vdupq_n_u32(0xffff0000u))); }

static inline vf vadd(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vsub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vmul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vdiv(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vfma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vselect_lt(vf a, vf b, vf x, vf y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
static inline vf vmax(vf a, vf b) { return vselect_lt(b, a, a, b); } /* fmax keeps the other operand's NaN too */
static inline vf vmin(vf a, vf b) { return vselect_lt(a, b, a, b); }
static inline vf vround(vf v) { return vrndnq_f32(v); }
/* v·2^n through the exponent's bits: 0 below 2^−126, infinity at 2^128. */
static inline vf vscale2(vf v, vf n)
{
    const int32x4_t power = vcvtnq_s32_f32(vmin(vset1(128.0f), n)); /* of a NaN: 0, and v, NaN too, stays */
    const vf factor = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(power, vdupq_n_s32(127)), 23));
    return vselect_lt(n, vset1(-126.0f), vzero(), vmulq_f32(v, factor));
}
static inline vf vpower(vf v, vf shifted) { return vof(vaddq_u32(vbits(v), vshlq_n_u32(vbits(shifted), 23))); }
static inline float vsum(vf v) { return vaddvq_f32(v); }
static inline float vtop(vf v) { return vmaxvq_f32(v); }
static inline bool vfinite(vf v) { return vminvq_u32(vceqq_f32(vsubq_f32(v, v), vzero())) != 0; }

static inline vf vhadamard(vf v)
{
    static const float sign[2][4] = {{1, -1, 1, -1}, {1, 1, -1, -1}};
    v = vfmaq_f32(vrev64q_f32(v), v, vld1q_f32(sign[0]));
    return vfmaq_f32(vextq_f32(v, v, 2), v, vld1q_f32(sign[1]));
}

static inline vf vrotate(vf v, vf r)
{
    static const uint32_t signs[4] = {0x80000000u, 0, 0x80000000u, 0};
    const vf sine = vof(veorq_u32(vbits(vtrn2q_f32(r, r)), vld1q_u32(signs)));
    return vfmaq_f32(vmulq_f32(vrev64q_f32(v), sine), v, vtrn1q_f32(r, r));
}

/* Both lower halves, both upper ones. */
static inline vf vlower(vf a, vf b)
{
    return vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
static inline vf vupper(vf a, vf b)
{
    return vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
static inline void vtranspose(vf r[VW])
{
    const vf a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]), c = vtrn1q_f32(r[2], r[3]),
             d = vtrn2q_f32(r[2], r[3]);
    r[0] = vlower(a, c), r[1] = vlower(b, d), r[2] = vupper(a, c), r[3] = vupper(b, d);
}

#if defined(SIMD_BF16)
/* 8 floats in order, as 4 pairs of bf16. */
static inline vf vpairs(vf first, vf second)
{
    return vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(first), second));
}
/* pairs (lo[i], hi[i]). */
static inline vf vinterleave(vf lo, vf hi)
{
    const uint16x4_t l = vnarrow(lo), h = vnarrow(hi);
    return vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(l, h), vzip2_u16(l, h)));
}

/* Where a small matrix does not fit (3×3 convolutions). */
static inline vf vmadd(vf acc, vf a, vf b)
{
    return vbfdotq_f32(acc, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b));
}

#define SIMD_MATRIX
static inline uint32x4_t matrix_multiply(uint32x4_t c, uint32x4_t a, uint32x4_t b)
{
    return vbits(vbfmmlaq_f32(vof(c), vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b)));
}
#else
static inline vf vmadd(vf acc, vf a, vf b) { return vfmaq_f32(acc, a, b); }
#endif

#endif
