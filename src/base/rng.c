#include "base/rng.h"

#include <math.h>

#define MT_N 624
#define MT_M 397
#define TWO_PI 6.283185307179586476925286766559
#define BLOCK 16 /* torch's vectors: values come in blocks of 16, pairs lie 8 apart */

void rng_seed(rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT_N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->next = MT_N;
    r->has_spare = false;
    r->spare = 0;
}

static uint32_t twist(uint32_t upper, uint32_t lower, uint32_t far)
{
    uint32_t y = (upper & 0x80000000u) | (lower & 0x7fffffffu);
    return far ^ (y >> 1) ^ (lower & 1u ? 0x9908b0dfu : 0u);
}

static void next_state(uint32_t *s)
{
    for (int i = 0; i < MT_N; i++)
        s[i] = twist(s[i], s[(i + 1) % MT_N], s[(i + MT_M) % MT_N]);
}

uint32_t rng_u32(rng *r)
{
    if (r->next >= MT_N) {
        next_state(r->state);
        r->next = 0;
    }
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static double uniform_53(rng *r)
{
    uint64_t high = rng_u32(r);
    uint64_t bits = (high << 32) | rng_u32(r);
    return (double)(bits & ((1ull << 53) - 1)) * 0x1p-53;
}

/* Fewer than 16 values: one at a time, in double; the sine half of a pair waits in the generator. */
static float normal_single(rng *r)
{
    if (r->has_spare) {
        r->has_spare = false;
        return (float)r->spare;
    }
    double u1 = uniform_53(r), u2 = uniform_53(r);
    double radius = sqrt(-2.0 * log1p(-u2)), theta = TWO_PI * u1;
    r->spare = radius * sin(theta);
    r->has_spare = true;
    return (float)(radius * cos(theta));
}

static void uniforms(rng *r, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

/* Box-Muller over a block of 16 uniforms, in place. The angle is torch's fp32 product; a double one would be another
 * number (1.4e-7 off). */
static void normals_from_uniforms(float *d)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        double radius = sqrt(-2.0 * log((double)(1.0f - d[j])));
        float theta = (float)TWO_PI * d[j + 8];
        d[j] = (float)(radius * cos((double)theta));
        d[j + 8] = (float)(radius * sin((double)theta));
    }
}

void rng_normal(rng *r, float *out, size_t count)
{
    if (count < BLOCK) {
        for (size_t i = 0; i < count; i++)
            out[i] = normal_single(r);
        return;
    }
    uniforms(r, out, count);
    for (size_t i = 0; i + BLOCK <= count; i += BLOCK)
        normals_from_uniforms(out + i);
    if (count % BLOCK) { /* the last 16, partly done already, are drawn again */
        uniforms(r, out + count - BLOCK, BLOCK);
        normals_from_uniforms(out + count - BLOCK);
    }
}
