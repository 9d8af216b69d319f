/* Plans of cuBLASLt's products: one for each shape, made at its first use and kept by the device. An algorithm is
 * chosen by time where that matters (race.h), and remembered between runs (algorithms.h). */
#ifndef FLUX1_OPS_CUDA_LINEAR_PLANS_H
#define FLUX1_OPS_CUDA_LINEAR_PLANS_H

#include "ops/cuda/algorithms.h"
#include "ops/cuda/cuda.h"

typedef enum cuda_tail { CUDA_TAIL_NONE, CUDA_TAIL_BIAS, CUDA_TAIL_GELU_BIAS } cuda_tail; /* cuBLASLt's epilogue */

/* A shape's type_in: a plan of either kind of scales is one of its own. */
typedef enum cuda_input_type {
    CUDA_INPUT_F32,
    CUDA_INPUT_BF16,
    CUDA_INPUT_E4M3_WHOLE,
    CUDA_INPUT_E4M3_ROWS
} cuda_input_type;

/* The operands of one product. */
typedef struct cuda_operands {
    const void *in, *w, *bias;
    void *out;
    const float *in_scales, *w_scales; /* of e4m3 */
} cuda_operands;

/* Enqueues the product, with its shape's tail behind it. *done: false where the library does not do it, of which the
 * plan takes note. The caller holds the device's plans_lock. FLUX1_ERR_MEMORY, or the library's failure. */
flux1_status cuda_plan_run(cuda_ops *o, const cuda_product_shape *key, const cuda_operands *x, bool *done);
void cuda_plans_save(cuda_device *d); /* the algorithms that were found */
void cuda_plans_free(cuda_device *d);

#endif
