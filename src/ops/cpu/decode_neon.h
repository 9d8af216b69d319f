/* What decode_blocks.h asks for, over arm64's NEON. */
#ifndef FLUX1_OPS_CPU_DECODE_NEON_H
#define FLUX1_OPS_CPU_DECODE_NEON_H

#include "ops/cpu/decoders.h"
#include "tensor/decode.h"

#include <arm_neon.h>
#include <string.h>

typedef int8x16_t codes_16;
typedef struct codes_32 {
    codes_16 low, high;
} codes_32;

/* ---- 16 signed codes become 16 floats ---- */

static inline void widen(float32x4_t out[4], codes_16 codes)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_high_s8(codes);
    out[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    out[1] = vcvtq_f32_s32(vmovl_high_s16(low));
    out[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    out[3] = vcvtq_f32_s32(vmovl_high_s16(high));
}

static inline void put(float *out, codes_16 codes, float scale)
{
    float32x4_t v[4];
    widen(v, codes);
    for (int i = 0; i < 4; i++)
        vst1q_f32(out + i * 4, vmulq_f32(vdupq_n_f32(scale), v[i]));
}

static inline void put_sum(float *out, codes_16 codes, float scale, float offset)
{
    float32x4_t v[4];
    widen(v, codes);
    for (int i = 0; i < 4; i++)
        vst1q_f32(out + i * 4, vaddq_f32(vmulq_f32(vdupq_n_f32(scale), v[i]), vdupq_n_f32(offset)));
}

static inline codes_16 lower(codes_32 v) { return v.low; }
static inline codes_16 upper(codes_32 v) { return v.high; }

static inline void put_32(float *out, codes_32 codes, float scale)
{
    put(out, codes.low, scale);
    put(out + 16, codes.high, scale);
}

static inline void put_sum_32(float *out, codes_32 codes, float scale, float offset)
{
    put_sum(out, codes.low, scale, offset);
    put_sum(out + 16, codes.high, scale, offset);
}

/* ---- what blocks are made of ---- */

static inline float load_f16(const unsigned char *p)
{
    __fp16 h;
    memcpy(&h, p, sizeof h);
    return (float)h;
}
static inline codes_16 load_16(const unsigned char *p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
static inline codes_32 load_32(const unsigned char *p) { return (codes_32){load_16(p), load_16(p + 16)}; }

static inline codes_16 bits_of_16(codes_16 v, int shift, int mask)
{
    const uint8x16_t bits = vshlq_u8(vreinterpretq_u8_s8(v), vdupq_n_s8((int8_t)-shift));
    return vreinterpretq_s8_u8(vandq_u8(bits, vdupq_n_u8((uint8_t)mask)));
}
static inline codes_32 bits_of(codes_32 v, int shift, int mask)
{
    return (codes_32){bits_of_16(v.low, shift, mask), bits_of_16(v.high, shift, mask)};
}

static inline codes_32 halves(const unsigned char *p)
{
    const codes_16 q = load_16(p);
    return (codes_32){bits_of_16(q, 0, 15), bits_of_16(q, 4, 15)};
}

static inline codes_16 fifth_bits_16(const unsigned char *p)
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t spread = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
    return vreinterpretq_s8_u8(vandq_u8(vtstq_u8(spread, vld1q_u8(bits)), vdupq_n_u8(16)));
}
static inline codes_32 fifth_bits(const unsigned char *p) { return (codes_32){fifth_bits_16(p), fifth_bits_16(p + 2)}; }

static inline codes_32 both(codes_32 a, codes_32 b)
{
    return (codes_32){vorrq_s8(a.low, b.low), vorrq_s8(a.high, b.high)};
}
static inline codes_32 times_power(codes_32 v, int n)
{
    const int8x16_t by = vdupq_n_s8((int8_t)n);
    return (codes_32){vshlq_s8(v.low, by), vshlq_s8(v.high, by)};
}
static inline codes_32 minus(codes_32 v, int n)
{
    const int8x16_t less = vdupq_n_s8((int8_t)n);
    return (codes_32){vsubq_s8(v.low, less), vsubq_s8(v.high, less)};
}

static inline codes_32 levels_of(codes_32 codes)
{
    const codes_16 levels = load_16((const unsigned char *)iq4_levels);
    return (codes_32){vqtbl1q_s8(levels, vreinterpretq_u8_s8(codes.low)),
                      vqtbl1q_s8(levels, vreinterpretq_u8_s8(codes.high))};
}

/* ---- a byte an element, and two elements a byte ---- */

/* To 8 values. e4m3 and e5m2 go by way of f16, which has all their values, subnormal ones too: e5m2 is its upper byte,
 * an e4m3's exponent and mantissa one bit further down are the value / 256. */
static inline void put_f16(float *out, uint16x8_t h, float factor)
{
    const float16x8_t f = vreinterpretq_f16_u16(h);
    vst1q_f32(out, vmulq_f32(vcvt_f32_f16(vget_low_f16(f)), vdupq_n_f32(factor)));
    vst1q_f32(out + 4, vmulq_f32(vcvt_high_f32_f16(f), vdupq_n_f32(factor)));
}

static inline void e4m3_8(int16x8_t bytes, float *out)
{
    const uint16x8_t w = vreinterpretq_u16_s16(bytes), sign = vandq_u16(w, vdupq_n_u16(0x8000)),
                     most = vdupq_n_u16(0x3f80), size = vandq_u16(vshlq_n_u16(w, 7), most);
    put_f16(out, vorrq_u16(sign, vbslq_u16(vceqq_u16(size, most), vdupq_n_u16(0x7e00), size)), 256);
}

static inline void e4m3_16(codes_16 bytes, float *out)
{
    e4m3_8(vmovl_s8(vget_low_s8(bytes)), out);
    e4m3_8(vmovl_high_s8(bytes), out + 8);
}

static inline void e5m2_16(codes_16 bytes, float *out)
{
    const uint8x16_t zero = vdupq_n_u8(0), b = vreinterpretq_u8_s8(bytes);
    put_f16(out, vreinterpretq_u16_u8(vzip1q_u8(zero, b)), 1);
    put_f16(out + 8, vreinterpretq_u16_u8(vzip2q_u8(zero, b)), 1);
}

static inline void i8_16(codes_16 bytes, float *out) { put(out, bytes, 1); }

static inline void bnb4_16(codes_16 bytes, float *out)
{
    const codes_16 high = bits_of_16(bytes, 4, 15), low = bits_of_16(bytes, 0, 15);
    put(out, vzip1q_s8(high, low), 1);
    put(out + 16, vzip2q_s8(high, low), 1);
}

/* ---- halves ---- */

static inline void f16_8(codes_16 bytes, float *out)
{
    const float16x8_t h = vreinterpretq_f16_s8(bytes);
    vst1q_f32(out, vcvt_f32_f16(vget_low_f16(h)));
    vst1q_f32(out + 4, vcvt_high_f32_f16(h));
}

static inline void bf16_8(codes_16 bytes, float *out)
{
    const uint16x8_t h = vreinterpretq_u16_s8(bytes);
    vst1q_f32(out, vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)));
    vst1q_f32(out + 4, vreinterpretq_f32_u32(vshll_high_n_u16(h, 16)));
}

/* ---- scales beside the values ---- */

static void multiply(float factor, float constant, int64_t count, float *values)
{
    const float32x4_t f = vdupq_n_f32(factor), c = vdupq_n_f32(constant);
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        vst1q_f32(values + i, vmulq_f32(vmulq_f32(vld1q_f32(values + i), f), c));
    for (; i < count; i++)
        values[i] = values[i] * factor * constant;
}

static inline float32x4_t rounded_bf16(float32x4_t v)
{
    const uint32x4_t u = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1)),
                     up = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    return vbslq_f32(vceqq_f32(v, v), vreinterpretq_f32_u32(vandq_u32(up, vdupq_n_u32(0xffff0000u))), v);
}

static inline float32x4_t rounded_to(dtype type, float32x4_t v)
{
    return type == DTYPE_BF16 ? rounded_bf16(v) : type == DTYPE_F16 ? vcvt_f32_f16(vcvt_f16_f32(v)) : v;
}

static void look_up(const float code[16], float absmax, dtype rounded, int64_t count, float *values)
{
    const uint8_t *bytes = (const uint8_t *)code;
    const uint8x16x4_t table = {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
    for (int64_t i = 0; i < count; i += 4) {
        float last[4] = {0}, *at = values + i;
        if (count - i < 4)
            at = memcpy(last, values + i, (size_t)(count - i) * sizeof *values);
        const uint32x4_t n = vcvtq_u32_f32(vld1q_f32(at)), /* bytes 4n to 4n + 3 of the table */
            place = vmlaq_n_u32(vdupq_n_u32(0x03020100u), n, 0x04040404u);
        const float32x4_t v = vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(place)));
        vst1q_f32(at, rounded_to(rounded, vmulq_f32(v, vdupq_n_f32(absmax))));
        if (count - i < 4)
            memcpy(values + i, last, (size_t)(count - i) * sizeof *values);
    }
}

#endif
