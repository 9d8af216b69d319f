/* GGUF's types of 256 elements per block: sub-blocks of 16 or 32 elements, each with a small scale (and minimum), which
 * the block's own scale multiplies. Sub-blocks are fitted one by one (encode_search.h), their scales are rounded to the
 * few bits that the block has for them, and the levels are chosen for what the decoder will multiply with. */
#include "tensor/encode.h"

#include "base/half.h"
#include "tensor/encode_search.h"

static float store_f16(unsigned char *p, float v)
{
    const uint16_t h = f16_from_f32(v);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
    return f16_to_f32(h);
}

/* To the nearest whole number, halves to even; |x| < 2^22. */
static inline float nearest(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static inline float clamp(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static float inverse(float d) { return d > 0 || d < 0 ? 1 / d : 0; }

/* ---- levels 0 to `top`, a scale and a minimum: value = scale·level - minimum, both at least 0 ---- */

/* The levels that the decoder's own scale and minimum want. */
static void span_levels(const float *x, int n, float scale, float minimum, float top, uint8_t *out)
{
    const float factor = inverse(scale);
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)(int)clamp(nearest(clamp((x[i] + minimum) * factor, -1, 64)), 0, top);
}

/* Scales and minimums in steps of a common one, `steps` at most; returns both common steps, as they are stored. */
static void share_steps(const encode_fit *f, int count, float steps, unsigned char *scale_at, unsigned char *minimum_at,
                        encode_fit *common, uint8_t *scales, uint8_t *minimums)
{
    float scale = 0, minimum = 0;
    for (int i = 0; i < count; i++) {
        scale = f[i].scale > scale ? f[i].scale : scale;
        minimum = f[i].minimum > minimum ? f[i].minimum : minimum;
    }
    common->scale = store_f16(scale_at, scale / steps);
    common->minimum = store_f16(minimum_at, minimum / steps);
    for (int i = 0; i < count; i++) {
        scales[i] = (uint8_t)clamp(nearest(clamp(f[i].scale * inverse(common->scale), 0, 64)), 0, steps);
        minimums[i] = (uint8_t)clamp(nearest(clamp(f[i].minimum * inverse(common->minimum), 0, 64)), 0, steps);
    }
}

/* Fits a block: `count` sub-blocks of n. */
static void span_block(const float *x, int count, int n, float top, float steps, unsigned char *scale_at,
                       unsigned char *minimum_at, uint8_t *scales, uint8_t *minimums, uint8_t level[256])
{
    const encode_search *search = encode_search_best();
    encode_fit f[16], common;
    for (int i = 0; i < count; i++)
        f[i] = search->span(x + i * n, n, top);
    share_steps(f, count, steps, scale_at, minimum_at, &common, scales, minimums);
    for (int i = 0; i < count; i++)
        span_levels(x + i * n, n, common.scale * (float)scales[i], common.minimum * (float)minimums[i], top,
                    level + i * n);
}

/* Two bits an element: a run of 32 bytes holds 128 elements. */
static void pack_pairs(const uint8_t level[256], unsigned char out[64])
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *l = level + i / 32 * 128 + i % 32;
        out[i] = (unsigned char)((l[0] & 3) | (l[32] & 3) << 2 | (l[64] & 3) << 4 | (l[96] & 3) << 6);
    }
}

static void q2_k_encode(const float *x, unsigned char *out)
{
    uint8_t scales[16], minimums[16], level[256];
    span_block(x, 16, 16, 3, 15, out + 80, out + 82, scales, minimums, level);
    for (int i = 0; i < 16; i++)
        out[i] = (unsigned char)(scales[i] | minimums[i] << 4);
    pack_pairs(level, out + 16);
}

/* Scale and minimum of 8 sub-blocks, 6 bits each, in 12 bytes. */
static void pack_sixes(const uint8_t scales[8], const uint8_t minimums[8], unsigned char out[12])
{
    for (int i = 0; i < 4; i++) {
        out[i] = (unsigned char)(scales[i] | (scales[i + 4] >> 4) << 6);
        out[i + 4] = (unsigned char)(minimums[i] | (minimums[i + 4] >> 4) << 6);
        out[i + 8] = (unsigned char)((scales[i + 4] & 15) | (minimums[i + 4] & 15) << 4);
    }
}

/* Four bits an element: a run of 32 bytes holds a sub-block in its lower halves, the next one in its upper halves. */
static void pack_fours(const uint8_t level[256], unsigned char out[128])
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *l = level + i / 32 * 64 + i % 32;
        out[i] = (unsigned char)((l[0] & 15) | (l[32] & 15) << 4);
    }
}

static void q4_k_encode(const float *x, unsigned char *out)
{
    uint8_t scales[8], minimums[8], level[256];
    span_block(x, 8, 32, 15, 63, out, out + 2, scales, minimums, level);
    pack_sixes(scales, minimums, out + 4);
    pack_fours(level, out + 16);
}

static void q5_k_encode(const float *x, unsigned char *out)
{
    uint8_t scales[8], minimums[8], level[256];
    span_block(x, 8, 32, 31, 63, out, out + 2, scales, minimums, level);
    pack_sixes(scales, minimums, out + 4);
    for (int i = 0; i < 32; i++) {
        unsigned fifth = 0;
        for (int sub = 0; sub < 8; sub++)
            fifth |= (unsigned)(level[sub * 32 + i] >> 4) << sub;
        out[16 + i] = (unsigned char)fifth;
    }
    pack_fours(level, out + 48);
}

/* ---- levels -top to top - 1 and a scale of either sign ---- */

/* The scale of the largest magnitude, with its sign. */
static float extreme(const float f[16])
{
    float most = f[0];
    for (int i = 1; i < 16; i++)
        most = f[i] * f[i] > most * most ? f[i] : most;
    return most;
}

/* 16 sub-blocks of 16 with signed scales in steps of a common one, -steps to steps - 1; levels are stored from 0. */
static void signed_block(const float *x, float top, float steps, unsigned char *scale_at, int8_t scales[16],
                         uint8_t level[256])
{
    const encode_search *search = encode_search_best();
    float f[16];
    for (int i = 0; i < 16; i++)
        f[i] = search->signed_scale(x + 16 * i, top);
    const float common = store_f16(scale_at, -extreme(f) / steps);
    for (int i = 0; i < 16; i++) {
        scales[i] = (int8_t)clamp(nearest(clamp(f[i] * inverse(common), -steps, steps)), -steps, steps - 1);
        const float factor = inverse(common * (float)scales[i]);
        for (int k = 0; k < 16; k++)
            level[16 * i + k] =
                (uint8_t)(int)(clamp(nearest(clamp(x[16 * i + k] * factor, -64, 64)), -top, top - 1) + top);
    }
}

static void q3_k_encode(const float *x, unsigned char *out)
{
    int8_t scales[16];
    uint8_t level[256];
    signed_block(x, 4, 32, out + 108, scales, level);
    for (int i = 0; i < 32; i++) {
        unsigned third = 0;
        for (int k = 0; k < 8; k++)
            third |= (unsigned)(level[32 * k + i] >> 2) << k;
        out[i] = (unsigned char)third;
    }
    pack_pairs(level, out + 32);
    for (int i = 0; i < 8; i++)
        out[96 + i] = (unsigned char)(((scales[i] + 32) & 15) | ((scales[i + 8] + 32) & 15) << 4);
    for (int i = 0; i < 4; i++) {
        unsigned high = 0;
        for (int k = 0; k < 4; k++)
            high |= (unsigned)(scales[4 * k + i] + 32) >> 4 << 2 * k;
        out[104 + i] = (unsigned char)high;
    }
}

static void q6_k_encode(const float *x, unsigned char *out)
{
    int8_t scales[16];
    uint8_t level[256];
    signed_block(x, 32, 128, out + 208, scales, level);
    for (int i = 0; i < 128; i++) {
        const uint8_t *l = level + i / 64 * 128 + i % 64;
        out[i] = (unsigned char)((l[0] & 15) | (l[64] & 15) << 4);
    }
    for (int i = 0; i < 64; i++) {
        const uint8_t *l = level + i / 32 * 128 + i % 32;
        out[128 + i] = (unsigned char)(l[0] >> 4 | l[32] >> 4 << 2 | l[64] >> 4 << 4 | l[96] >> 4 << 6);
    }
    memcpy(out + 192, scales, 16);
}

#define ENCODE_RUN(name, bytes)                                               \
    void encode_##name(const float *from, int64_t blocks, unsigned char *out) \
    {                                                                         \
        for (int64_t i = 0; i < blocks; i++, from += 256, out += (bytes))     \
            name##_encode(from, out);                                         \
    }

ENCODE_RUN(q2_k, 84)
ENCODE_RUN(q3_k, 110)
ENCODE_RUN(q4_k, 144)
ENCODE_RUN(q5_k, 176)
ENCODE_RUN(q6_k, 210)
