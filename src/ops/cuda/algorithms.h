/* cuBLASLt's algorithms that were found to be the fastest, by product: remembered by the device, and between runs in a
 * file in its folder. Under the device's plans_lock. */
#ifndef FLUX1_OPS_CUDA_ALGORITHMS_H
#define FLUX1_OPS_CUDA_ALGORITHMS_H

#include "ops/cuda/gpu.h"

/* What an algorithm depends on. */
typedef struct cuda_product_shape {
    int64_t m, n, k, ld_in, ld_w, ld_out;
    int64_t across;            /* 1: by a matrix [k][n], 0: by [n][k] */
    int32_t type_in, bf16_out; /* type_in: cuda_input_type */
    int32_t tail, align;       /* align: bytes that all operands' addresses and rows are multiples of, at most 256 */
} cuda_product_shape;

bool cuda_product_same(const cuda_product_shape *a, const cuda_product_shape *b);

/* NULL if it is not known. The file is read at the first call. */
const cublasLtMatmulAlgo_t *cuda_algorithm_find(cuda_device *d, const cuda_product_shape *shape);
void cuda_algorithm_note(cuda_device *d, const cuda_product_shape *shape, const cublasLtMatmulAlgo_t *algorithm);
/* Writes what was noted since the last time. Whatever fails here costs the next run a search, nothing else. */
void cuda_algorithms_save(cuda_device *d);
void cuda_algorithms_free(cuda_device *d);

#endif
