/* simd.h in C: vectors of four by the compiler's vector type, so that any machine's baseline unit (SSE2, NEON) is used.
 */
#ifndef FLUX1_OPS_CPU_SIMD_PORTABLE_H
#define FLUX1_OPS_CPU_SIMD_PORTABLE_H

#define VW 4
#define TILE_ROWS 4 /* 8 sums, 2 of B, 1 of A */
#define TILE_VECTORS 2
#define PRODUCT_COLS 96 /* whole tiles, whole vectors */
#define PRODUCT_STEPS 512
#define PRODUCT_BLOCK 512
#define PRODUCT_GROUP 96
#define PRODUCT_FEW PRODUCT_GROUP
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf vset1(float x) { return (vf){x, x, x, x}; }
static inline vf vzero(void) { return vset1(0.0f); }
static inline vf vloadn(const void *p, int n)
{
    vf v = {0};
    memcpy(&v, p, (size_t)n * 4);
    return v;
}
static inline vf vload(const void *p) { return vloadn(p, 4); }
static inline void vstoren(void *p, vf v, int n) { memcpy(p, &v, (size_t)n * 4); }
static inline void vstore(void *p, vf v) { memcpy(p, &v, 16); }

static inline vf vload_bf16n(const void *p, int n)
{
    uint16_t h[4] = {0};
    memcpy(h, p, (size_t)n * 2);
    return (vf){bf16_to_f32(h[0]), bf16_to_f32(h[1]), bf16_to_f32(h[2]), bf16_to_f32(h[3])};
}
static inline vf vload_bf16(const void *p) { return vload_bf16n(p, 4); }
static inline vf vload_f16n(const void *p, int n)
{
    uint16_t h[4] = {0};
    memcpy(h, p, (size_t)n * 2);
    return (vf){f16_to_f32(h[0]), f16_to_f32(h[1]), f16_to_f32(h[2]), f16_to_f32(h[3])};
}
static inline vf vload_f16(const void *p) { return vload_f16n(p, 4); }
static inline void vstore_bf16n(void *p, vf v, int n)
{
    uint16_t h[4] = {bf16_from_f32(v[0]), bf16_from_f32(v[1]), bf16_from_f32(v[2]), bf16_from_f32(v[3])};
    memcpy(p, h, (size_t)n * 2);
}
static inline void vstore_bf16(void *p, vf v) { vstore_bf16n(p, v, 4); }

/* A pair is a word whose low half comes first in memory. */
static inline vf vrawn(const void *p, int n)
{
    uint16_t h[8] = {0};
    memcpy(h, p, (size_t)n * 2);
    uint32_t w[4];
    for (int i = 0; i < 4; i++)
        w[i] = (uint32_t)h[2 * i] | (uint32_t)h[2 * i + 1] << 16;
    return vload(w);
}
static inline vf vraw(const void *p) { return vrawn(p, 8); }
static inline vf vpair_lo(vf v) { return (vf)((vi)v << 16); }
static inline vf vpair_hi(vf v) { return (vf)((vi)v & (vi){-65536, -65536, -65536, -65536}); }

static inline vf vadd(vf a, vf b) { return a + b; }
static inline vf vsub(vf a, vf b) { return a - b; }
static inline vf vmul(vf a, vf b) { return a * b; }
static inline vf vdiv(vf a, vf b) { return a / b; }
static inline vf vfma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vchoose(vi mask, vf x, vf y) { return (vf)((mask & (vi)x) | (~mask & (vi)y)); }
static inline vf vmax(vf a, vf b) { return vchoose((vi)(a > b), a, b); }
static inline vf vmin(vf a, vf b) { return vchoose((vi)(a < b), a, b); }
static inline vf vselect_lt(vf a, vf b, vf x, vf y) { return vchoose((vi)(a < b), x, y); }
/* Adding 1.5·2^23 leaves no bits for a fraction; |v| < 2^22. */
static inline vf vround(vf v) { return (v + vset1(12582912.0f)) - vset1(12582912.0f); }
static inline vf vscale2(vf v, vf n)
{
    vf within = vmin(vset1(128.0f), vmax(n, vset1(-127.0f))); /* a NaN becomes a number here and v, NaN too, keeps it */
    vi bits = (__builtin_convertvector(within, vi) + 127) << 23;
    return vselect_lt(n, vset1(-126.0f), vzero(), v * (vf)bits);
}
static inline vf vpower(vf v, vf shifted)
{
    typedef uint32_t words __attribute__((vector_size(16)));
    return (vf)((words)v + ((words)shifted << 23));
}
static inline float vsum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline float vtop(vf v)
{
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}
static inline bool vfinite(vf v)
{
    vi same = (vi)((v - v) == vzero());
    return (same[0] & same[1] & same[2] & same[3]) != 0;
}
static inline vf vhadamard(vf v)
{
    const vf a = {v[0] + v[1], v[0] - v[1], v[2] + v[3], v[2] - v[3]};
    return (vf){a[0] + a[2], a[1] + a[3], a[0] - a[2], a[1] - a[3]};
}
static inline vf vrotate(vf v, vf r)
{
    return (vf){v[0] * r[0] - v[1] * r[1], v[1] * r[0] + v[0] * r[1], v[2] * r[2] - v[3] * r[3],
                v[3] * r[2] + v[2] * r[3]};
}
static inline void vtranspose(vf r[VW])
{
    vf a = r[0], b = r[1], c = r[2], d = r[3];
    r[0] = (vf){a[0], b[0], c[0], d[0]};
    r[1] = (vf){a[1], b[1], c[1], d[1]};
    r[2] = (vf){a[2], b[2], c[2], d[2]};
    r[3] = (vf){a[3], b[3], c[3], d[3]};
}
static inline vf vmadd(vf acc, vf a, vf b) { return acc + a * b; }

#endif
