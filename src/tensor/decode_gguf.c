/* GGUF's types of 32 elements per block: a scale (f16), or a scale and a minimum, and 4, 5 or 8 bits an element. Of a
 * byte with two elements the lower half is element i, the upper one i + 16. (ggml: ggml-quants.c) */
#include "tensor/decode.h"

#include "base/half.h"

const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static float load_f16(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static uint32_t load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* scale, 16 bytes */
void q4_0_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((p[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
    }
}

/* scale, minimum, 16 bytes */
void q4_1_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(p[4 + i] & 15) + m;
        out[i + 16] = d * (float)(p[4 + i] >> 4) + m;
    }
}

/* Element i: four bits, the fifth is bit i of `high`. */
static int five_bits(const unsigned char *low, uint32_t high, int i)
{
    int four = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
    return four | (int)(high >> i & 1) << 4;
}

/* scale, 32 high bits, 16 bytes */
void q5_0_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p);
    const uint32_t high = load_u32(p + 2);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)(five_bits(p + 6, high, i) - 16);
}

/* scale, minimum, 32 high bits, 16 bytes */
void q5_1_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p), m = load_f16(p + 2);
    const uint32_t high = load_u32(p + 4);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)five_bits(p + 8, high, i) + m;
}

/* scale, 32 signed bytes */
void q8_0_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)(int8_t)p[2 + i];
}

/* scale, 16 bytes of numbers of levels */
void iq4_nl_block(const unsigned char *p, float *out)
{
    const float d = load_f16(p);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)iq4_levels[p[2 + i] & 15];
        out[i + 16] = d * (float)iq4_levels[p[2 + i] >> 4];
    }
}

DECODE_RUN(q4_0, 32, 18)
DECODE_RUN(q4_1, 32, 20)
DECODE_RUN(q5_0, 32, 22)
DECODE_RUN(q5_1, 32, 24)
DECODE_RUN(q8_0, 32, 34)
DECODE_RUN(iq4_nl, 32, 18)
