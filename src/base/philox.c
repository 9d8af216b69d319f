#include "base/philox.h"

#include <math.h>

#define TWO_POW_32_INVERSE 2.3283064e-10f      /* curand_normal.h's constants, as floats */
#define TWO_POW_32_INVERSE_2PI 1.46291807e-09f /* 2π·2⁻³² */

enum { ROUNDS = 10, PER_BLOCK = 4 };

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x = counter[0], y = counter[1], z = counter[2], w = counter[3], a = key[0], b = key[1];
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t p = (uint64_t)0xD2511F53u * x, q = (uint64_t)0xCD9E8D57u * z;
        x = (uint32_t)(q >> 32) ^ y ^ a;
        z = (uint32_t)(p >> 32) ^ w ^ b;
        y = (uint32_t)q;
        w = (uint32_t)p;
        a += 0x9E3779B9u;
        b += 0xBB67AE85u;
    }
    out[0] = x;
    out[1] = y;
    out[2] = z;
    out[3] = w;
}

/* curand's Box-Muller: the sine comes first. Its products are contracted on the device. */
static void normals_of_pair(uint32_t x, uint32_t y, float *sine, float *cosine)
{
    const float u = fmaf((float)x, TWO_POW_32_INVERSE, TWO_POW_32_INVERSE / 2),
                v = fmaf((float)y, TWO_POW_32_INVERSE_2PI, TWO_POW_32_INVERSE_2PI / 2);
    const double radius = u < 1 ? sqrt(-2 * log((double)u)) : 0;
    *sine = (float)(radius * sin((double)v));
    *cosine = (float)(radius * cos((double)v));
}

void philox_normal(uint64_t seed, int64_t threads, float *out, size_t count)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const size_t block = PHILOX_THREADS_LEAST, most = (size_t)threads / block, wanted = (count + block - 1) / block;
    const size_t stride = block * (most < wanted ? most : wanted);
    for (size_t first = 0, round = 0; first < count; first += PER_BLOCK * stride, round++)
        for (size_t thread = 0; thread < stride && first + thread < count; thread++) {
            const uint32_t counter[4] = {(uint32_t)round, 0, (uint32_t)thread, 0};
            uint32_t bits[4];
            float normal[PER_BLOCK];
            philox_block(counter, key, bits);
            normals_of_pair(bits[0], bits[1], &normal[0], &normal[1]);
            normals_of_pair(bits[2], bits[3], &normal[2], &normal[3]);
            for (size_t k = 0; k < PER_BLOCK && first + thread + k * stride < count; k++)
                out[first + thread + k * stride] = normal[k];
        }
}
