/* simd.h over AVX2, FMA and F16C. */
#ifndef FLUX1_OPS_CPU_SIMD_AVX2_H
#define FLUX1_OPS_CPU_SIMD_AVX2_H

#include <immintrin.h>

#define VW 8
#define TILE_ROWS 6 /* 12 sums, 2 of B, 1 of A: 15 registers of 16 */
#define TILE_VECTORS 2
#define PRODUCT_COLS 96 /* whole tiles, whole vectors */
#define PRODUCT_STEPS 1024
#define PRODUCT_BLOCK 1024
#define PRODUCT_GROUP 16 /* a panel */
#define PRODUCT_FEW 80
#define PRODUCT_FEW_BLOCK 384 /* of so few rows, where k is more than PRODUCT_BLOCK */
#define PRODUCT_SLICE 16      /* steps between two lines of the next panel that are fetched */
typedef __m256 vf;

static inline __m256i vmask(int n)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(ones + 8 - n));
}
static inline vf vzero(void) { return _mm256_setzero_ps(); }
static inline vf vset1(float x) { return _mm256_set1_ps(x); }
static inline vf vload(const void *p) { return _mm256_loadu_ps(p); }
static inline vf vloadn(const void *p, int n) { return _mm256_maskload_ps(p, vmask(n)); }
static inline void vstore(void *p, vf v) { _mm256_storeu_ps(p, v); }
static inline void vstoren(void *p, vf v, int n) { _mm256_maskstore_ps(p, vmask(n), v); }

static inline __m128i vhalves(const void *p, int n)
{
    uint16_t h[8] = {0};
    memcpy(h, p, (size_t)n * 2);
    return _mm_loadu_si128((const __m128i *)h);
}
static inline vf vwiden(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
static inline vf vload_bf16(const void *p) { return vwiden(_mm_loadu_si128((const __m128i *)p)); }
static inline vf vload_bf16n(const void *p, int n) { return vwiden(vhalves(p, n)); }
static inline vf vload_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline vf vload_f16n(const void *p, int n) { return _mm256_cvtph_ps(vhalves(p, n)); }

static inline __m128i vnarrow(vf v)
{
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0xd8));
}
static inline void vstore_bf16(void *p, vf v) { _mm_storeu_si128((__m128i *)p, vnarrow(v)); }
static inline void vstore_bf16n(void *p, vf v, int n)
{
    uint16_t h[8];
    _mm_storeu_si128((__m128i *)h, vnarrow(v));
    memcpy(p, h, (size_t)n * 2);
}

static inline vf vraw(const void *p) { return _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline vf vrawn(const void *p, int n)
{
    uint16_t h[16] = {0};
    memcpy(h, p, (size_t)n * 2);
    return vraw(h);
}
static inline vf vpair_lo(vf v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 16)); }
static inline vf vpair_hi(vf v)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32((int)0xffff0000u)));
}

static inline vf vadd(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vsub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vmul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vdiv(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vselect_lt(vf a, vf b, vf x, vf y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
static inline vf vround(vf v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* v·2^n through the exponent's bits: 0 below 2^−126, infinity at 2^128. */
static inline vf vscale2(vf v, vf n)
{
    __m256i bits = _mm256_slli_epi32(
        _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(128.0f), n)), _mm256_set1_epi32(127)), 23);
    return vselect_lt(n, _mm256_set1_ps(-126.0f), _mm256_setzero_ps(), _mm256_mul_ps(v, _mm256_castsi256_ps(bits)));
}
static inline vf vpower(vf v, vf shifted)
{
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}
static inline float vsum(vf v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vtop(vf v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline bool vfinite(vf v)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_sub_ps(v, v), _mm256_setzero_ps(), _CMP_NEQ_UQ)) == 0;
}

static inline vf vhadamard(vf v)
{
    static const float sign[3][8] = {
        {1, -1, 1, -1, 1, -1, 1, -1}, {1, 1, -1, -1, 1, 1, -1, -1}, {1, 1, 1, 1, -1, -1, -1, -1}};
    v = vfma(v, vload(sign[0]), _mm256_permute_ps(v, 0xb1));
    v = vfma(v, vload(sign[1]), _mm256_permute_ps(v, 0x4e));
    return vfma(v, vload(sign[2]), _mm256_permute2f128_ps(v, v, 1));
}

static inline vf vrotate(vf v, vf r)
{
    return _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(r),
                              _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(r)));
}

static inline void vtranspose(vf r[VW])
{
    vf t[VW];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

static inline vf vmadd(vf acc, vf a, vf b) { return _mm256_fmadd_ps(a, b, acc); }

#endif
