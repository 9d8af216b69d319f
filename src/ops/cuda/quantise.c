/* Matrices in e4m3: inputs of products (linear.c) and weights (upload.c). */
#include "ops/cuda/cuda.h"

flux1_status cuda_quantise(cuda_ops *o, CUstream stream, const cuda_view *in, int64_t batch, CUdeviceptr to,
                           CUdeviceptr scales, CUdeviceptr spare)
{
    cuda_quantise_args a = {.in = *in, .out = (uint8_t *)(uintptr_t)to, .scales = (float *)(uintptr_t)scales};
    int64_t rows = in->cols ? in->rows : 0;
    if (!o->scales_rows) {
        a.largest = (float *)(uintptr_t)spare;
        TRY(cuda_check(&o->head, o->lib->cuMemsetD8Async(spare, 0, sizeof(float), stream), "cannot clear a scale"));
        TRY(cuda_launch_on(o, stream, CUDA_KERNEL_largest, rows, batch, 1, CUDA_NORM_THREADS, &a));
    }
    return cuda_launch_on(o, stream, CUDA_KERNEL_quantise, rows, batch, 1, CUDA_NORM_THREADS, &a);
}
