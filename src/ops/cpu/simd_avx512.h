/* simd.h over AVX-512 F, BW, DQ, VL, and BF16 where SIMD_BF16 is defined. */
#ifndef FLUX1_OPS_CPU_SIMD_AVX512_H
#define FLUX1_OPS_CPU_SIMD_AVX512_H

#include <immintrin.h>

#define VW 16
#define TILE_ROWS 14 /* 28 sums, 2 of B, 1 of A: 31 registers of 32 */
#define TILE_VECTORS 2
#if defined(SIMD_AMX)
#define PRODUCT_COLS 192 /* whole tiles of tile_amx.h */
#define PRODUCT_STEPS 768
#define PRODUCT_BLOCK 768
#else
#define PRODUCT_COLS 112 /* whole tiles, whole vectors */
#define PRODUCT_STEPS 1536
#define PRODUCT_BLOCK 512
#define PRODUCT_GROUP 256
#define PRODUCT_FEW PRODUCT_GROUP
#endif
typedef __m512 vf;

static inline __mmask16 vmask(int n) { return (__mmask16)((1u << n) - 1u); }
static inline vf vzero(void) { return _mm512_setzero_ps(); }
static inline vf vset1(float x) { return _mm512_set1_ps(x); }
static inline vf vload(const void *p) { return _mm512_loadu_ps(p); }
static inline vf vloadn(const void *p, int n) { return _mm512_maskz_loadu_ps(vmask(n), p); }
static inline void vstore(void *p, vf v) { _mm512_storeu_ps(p, v); }
static inline void vstoren(void *p, vf v, int n) { _mm512_mask_storeu_ps(p, vmask(n), v); }

static inline vf vwiden(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
static inline vf vload_bf16(const void *p) { return vwiden(_mm256_loadu_si256((const __m256i *)p)); }
static inline vf vload_bf16n(const void *p, int n) { return vwiden(_mm256_maskz_loadu_epi16(vmask(n), p)); }
static inline vf vload_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline vf vload_f16n(const void *p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vmask(n), p)); }

static inline __m256i vnarrow(vf v)
{
#if defined(SIMD_BF16)
    return (__m256i)_mm512_cvtneps_pbh(v);
#else
    __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
#endif
}
static inline void vstore_bf16(void *p, vf v) { _mm256_storeu_si256((__m256i *)p, vnarrow(v)); }
static inline void vstore_bf16n(void *p, vf v, int n) { _mm256_mask_storeu_epi16(p, vmask(n), vnarrow(v)); }

static inline vf vraw(const void *p) { return _mm512_castsi512_ps(_mm512_loadu_si512(p)); }
static inline vf vrawn(const void *p, int n)
{
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), p));
}
static inline vf vpair_lo(vf v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 16)); }
static inline vf vpair_hi(vf v)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32((int)0xffff0000u)));
}

static inline vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vselect_lt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static inline vf vround(vf v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vscale2(vf v, vf n) { return _mm512_scalef_ps(v, n); }
static inline vf vpower(vf v, vf shifted)
{
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}
static inline float vsum(vf v) { return _mm512_reduce_add_ps(v); }
static inline float vtop(vf v) { return _mm512_reduce_max_ps(v); }
static inline bool vfinite(vf v)
{
    return _mm512_cmp_ps_mask(_mm512_sub_ps(v, v), _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0;
}

static inline vf vhadamard(vf v)
{
    static const float sign[4][16] = {{1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
                                      {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
                                      {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
                                      {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};
    v = vfma(v, vload(sign[0]), _mm512_permute_ps(v, 0xb1));
    v = vfma(v, vload(sign[1]), _mm512_permute_ps(v, 0x4e));
    v = vfma(v, vload(sign[2]), _mm512_shuffle_f32x4(v, v, 0xb1));
    return vfma(v, vload(sign[3]), _mm512_shuffle_f32x4(v, v, 0x4e));
}

/* pairs (a, b) turned by (cos, sin): (a·cos − b·sin, b·cos + a·sin) */
static inline vf vrotate(vf v, vf r)
{
    return _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(r),
                              _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), _mm512_movehdup_ps(r)));
}

/* 16×16 words in place. */
static inline void vtranspose(vf r[VW])
{
    vf t[VW];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

#if defined(SIMD_BF16)
static inline vf vmadd(vf acc, vf a, vf b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
/* 32 floats in order, as 16 pairs of bf16. */
static inline vf vpairs(vf first, vf second) { return (vf)_mm512_cvtne2ps_pbh(second, first); }
/* pairs (lo[i], hi[i]). */
static inline vf vinterleave(vf lo, vf hi)
{
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (vf)_mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
}
#else
static inline vf vmadd(vf acc, vf a, vf b) { return _mm512_fmadd_ps(a, b, acc); }
#endif

#endif
