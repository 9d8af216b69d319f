/* Types of one element per block, and packed code numbers. */
#include "tensor/decode.h"

#include "base/half.h"

static uint16_t load_u16(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

void decode_f32(const unsigned char *from, int64_t blocks, float *out)
{
    memcpy(out, from, (size_t)blocks * sizeof *out);
}

void decode_f16(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = f16_to_f32(load_u16(from + 2 * i));
}

void decode_bf16(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = bf16_to_f32(load_u16(from + 2 * i));
}

void decode_f64(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++) {
        double v;
        memcpy(&v, from + 8 * i, sizeof v);
        out[i] = (float)v;
    }
}

void decode_i8(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = (float)(int8_t)from[i];
}

void decode_e4m3(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = e4m3_to_f32(from[i]);
}

/* The upper byte of an f16. */
void decode_e5m2(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++)
        out[i] = f16_to_f32((uint16_t)(from[i] << 8));
}

void decode_bnb4(const unsigned char *from, int64_t blocks, float *out)
{
    for (int64_t i = 0; i < blocks; i++) {
        out[2 * i] = (float)(from[i] >> 4);
        out[2 * i + 1] = (float)(from[i] & 15);
    }
}
