/* torch's CPU random numbers: mt19937, and normals made from it as torch does (formula:
 * ATen/native/cpu/DistributionTemplates.h; measured: fewer than 16 values bit-equal, otherwise within 1e-7 relative L2
 * of torch 2.13). */
#ifndef FLUX1_BASE_RNG_H
#define FLUX1_BASE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rng {
    uint32_t state[624];
    int next;
    bool has_spare; /* the second normal of a pair, kept across calls of fewer than 16 values */
    double spare;
} rng;

/* As torch.Generator().manual_seed(seed): the low 32 bits seed the twister. */
void rng_seed(rng *r, uint64_t seed);
uint32_t rng_u32(rng *r);

/* torch.randn(count, generator=r, dtype=float32). */
void rng_normal(rng *r, float *out, size_t count);

#endif
