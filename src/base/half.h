/* 16- and 8-bit floats (bf16, f16, e4m3) by bits: portable, exact, rounded to nearest even. Hot loops have their own
 * SIMD versions. */
#ifndef FLUX1_BASE_HALF_H
#define FLUX1_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float bf16_to_f32(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }

static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) /* NaN stays NaN when its low bits go */
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float bf16_round(float f) { return bf16_to_f32(bf16_from_f32(f)); }

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | (mantissa << 13));
    if (exponent)
        return f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    float subnormal = (float)mantissa * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

uint16_t f16_from_f32(float f);

/* e4m3 (OCP 8-bit floating point, 2023; "e4m3fn"): 4 bits of exponent, 3 of mantissa, no infinity. Values larger than
 * 448 become 448. */
#define E4M3_MAX 448.0f

static inline uint8_t e4m3_from_f32(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 24) & 0x80u, size = u & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (size >= 0x43e00000u) /* 448 */
        return (uint8_t)(sign | 0x7eu);
    if (size < 0x3c800000u) /* below 2^-6 steps are 2^-9: those of a float at 2^14 */
        return (uint8_t)(sign | (f32_bits(f32_from_bits(size) + 0x1p14f) - f32_bits(0x1p14f)));
    return (uint8_t)(sign | (((size + 0x7ffffu + ((size >> 20) & 1u)) >> 20) - (120u << 3)));
}

static inline float e4m3_to_f32(uint8_t q)
{
    uint32_t size = q & 0x7fu;
    float f = size == 0x7fu ? f32_from_bits(0x7fc00000u)
              : size < 8    ? (float)size * 0x1p-9f
                            : f32_from_bits((size << 20) + (120u << 23));
    return q & 0x80u ? -f : f;
}

/* The divisor of a row before it is rounded to e4m3; `largest`: its largest magnitude. A row of zeros has a scale
 * too. */
static inline float e4m3_scale(float largest) { return (largest > 1e-12f ? largest : 1e-12f) / E4M3_MAX; }

#endif
