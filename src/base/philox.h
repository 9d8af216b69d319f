/* The normals that torch draws on a CUDA device: Philox4x32-10 (Salmon et al., Random123) and Box-Muller, in the order
 * of torch's kernel (ATen/native/cuda/DistributionTemplates.h), which depends on the GPU. Where a GPU computes sine and
 * cosine with less care, values differ by about 1e-6. */
#ifndef FLUX1_BASE_PHILOX_H
#define FLUX1_BASE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

/* Threads that an H100 or H200 has resident: 132 multiprocessors of 2048. */
#define PHILOX_THREADS_DEFAULT 270336
#define PHILOX_THREADS_LEAST 256 /* one block of torch's kernel */

/* Ten rounds on a counter; out may be counter. */
void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* torch.randn(count, generator=torch.Generator("cuda").manual_seed(seed), dtype=float32), the generator's first call.
 * threads: multiprocessors times threads of each, at least PHILOX_THREADS_LEAST. Values do not depend on it up to that
 * count. */
void philox_normal(uint64_t seed, int64_t threads, float *out, size_t count);

#endif
