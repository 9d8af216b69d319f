/* Types of one element per block. */
#include "tensor/encode.h"

#include "base/half.h"

static void store_u16(unsigned char *p, uint16_t v) { memcpy(p, &v, sizeof v); }

void encode_f32(const float *from, int64_t blocks, unsigned char *out)
{
    memcpy(out, from, (size_t)blocks * sizeof *from);
}

void encode_f16(const float *from, int64_t blocks, unsigned char *out)
{
    for (int64_t i = 0; i < blocks; i++)
        store_u16(out + 2 * i, f16_from_f32(from[i]));
}

void encode_bf16(const float *from, int64_t blocks, unsigned char *out)
{
    for (int64_t i = 0; i < blocks; i++)
        store_u16(out + 2 * i, bf16_from_f32(from[i]));
}

void encode_e4m3(const float *from, int64_t blocks, unsigned char *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = e4m3_from_f32(from[i]);
}

/* 5 bits of exponent, 2 of mantissa: the upper byte of an f16, but rounded once. */
static uint8_t e5m2_from_f32(float f)
{
    const uint32_t u = f32_bits(f), sign = (u >> 24) & 0x80u, size = u & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (size >= 0x47700000u) /* 61440: halfway to what would be 65536 */
        return (uint8_t)(sign | 0x7cu);
    if (size < 0x38800000u) /* below 2^-14 steps are 2^-16: those of a float at 2^7 */
        return (uint8_t)(sign | (f32_bits(f32_from_bits(size) + 0x1p7f) - f32_bits(0x1p7f)));
    return (uint8_t)(sign | (((size + 0xfffffu + ((size >> 21) & 1u)) >> 21) - (112u << 2)));
}

void encode_e5m2(const float *from, int64_t blocks, unsigned char *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = e5m2_from_f32(from[i]);
}
