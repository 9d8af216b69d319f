/* GGUF's types of 32 elements per block. The arithmetic is the gguf package's, operation by operation, in floats: a
 * different order would change bits. (gguf-py: gguf/quants.py) */
#include "tensor/encode.h"

#include "base/half.h"

#include <math.h>

#define N 32

static void store_f16(unsigned char *p, float v)
{
    const uint16_t h = f16_from_f32(v);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

static float inverse(float d) { return d == 0 ? 0 : 1 / d; }

static void range(const float *x, float *least, float *most)
{
    float low[8], high[8];
    for (int k = 0; k < 8; k++)
        low[k] = high[k] = x[k];
    for (int i = 8; i < N; i += 8)
        for (int k = 0; k < 8; k++) {
            low[k] = x[i + k] < low[k] ? x[i + k] : low[k];
            high[k] = x[i + k] > high[k] ? x[i + k] : high[k];
        }
    for (int k = 1; k < 8; k++) {
        low[0] = low[k] < low[0] ? low[k] : low[0];
        high[0] = high[k] > high[0] ? high[k] : high[0];
    }
    *least = low[0];
    *most = high[0];
}

/* The first element of the largest magnitude, with its sign. */
static float extreme(const float *x)
{
    float least, most;
    range(x, &least, &most);
    const float size = most > -least ? most : -least;
    int i = 0;
    while (i < N - 1 && x[i] != size && x[i] != -size)
        i++;
    return x[i];
}

/* trunc(x·factor + offset), from 0 to `highest` */
static void levels(const float *x, float subtracted, float factor, float offset, int highest, int out[N])
{
    for (int i = 0; i < N; i++) {
        float v = (x[i] - subtracted) * factor + offset;
        v = v > (float)highest ? (float)highest : v;
        out[i] = (int)(v > 0 ? v : 0);
    }
}

static void pack_low(const int q[N], unsigned char *out)
{
    for (int i = 0; i < 16; i++)
        out[i] = (unsigned char)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void pack_fifth(const int q[N], unsigned char *out)
{
    uint32_t bits = 0;
    for (int i = 0; i < N; i++)
        bits |= (uint32_t)(q[i] >> 4) << i;
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(bits >> 8 * i);
}

static void q4_0_encode(const float *x, unsigned char *out)
{
    int q[N];
    const float d = extreme(x) / -8;
    levels(x, 0, inverse(d), 8.5f, 15, q);
    store_f16(out, d);
    pack_low(q, out + 2);
}

static void q5_0_encode(const float *x, unsigned char *out)
{
    int q[N];
    const float d = extreme(x) / -16;
    levels(x, 0, inverse(d), 16.5f, 31, q);
    store_f16(out, d);
    pack_fifth(q, out + 2);
    pack_low(q, out + 6);
}

static void q4_1_encode(const float *x, unsigned char *out)
{
    int q[N];
    float least, most;
    range(x, &least, &most);
    const float d = (most - least) / 15;
    levels(x, least, inverse(d), 0.5f, 15, q);
    store_f16(out, d);
    store_f16(out + 2, least);
    pack_low(q, out + 4);
}

static void q5_1_encode(const float *x, unsigned char *out)
{
    int q[N];
    float least, most;
    range(x, &least, &most);
    const float d = (most - least) / 31;
    levels(x, least, inverse(d), 0.5f, 31, q);
    store_f16(out, d);
    store_f16(out + 2, least);
    pack_fifth(q, out + 4);
    pack_low(q, out + 8);
}

/* Halves are rounded away from zero. */
static void q8_0_encode(const float *x, unsigned char *out)
{
    float least, most;
    range(x, &least, &most);
    const float d = fabsf(most > -least ? most : least) / 127, factor = inverse(d);
    store_f16(out, d);
    for (int i = 0; i < N; i++) {
        const float v = x[i] * factor, size = v < 0 ? -v : v, held = size < 127 ? size : 127;
        const int whole = (int)held, level = whole + (int)(2 * (held - (float)whole));
        out[2 + i] = (unsigned char)(v < 0 ? -level : level);
    }
}

#define ENCODE_RUN(name, bytes)                                               \
    void encode_##name(const float *from, int64_t blocks, unsigned char *out) \
    {                                                                         \
        for (int64_t i = 0; i < blocks; i++, from += N, out += (bytes))       \
            name##_encode(from, out);                                         \
    }

ENCODE_RUN(q4_0, 18)
ENCODE_RUN(q4_1, 20)
ENCODE_RUN(q5_0, 22)
ENCODE_RUN(q5_1, 24)
ENCODE_RUN(q8_0, 34)
