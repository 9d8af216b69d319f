/* The kernels themselves, compiled for this processor. */
#include "ops/cuda/kernels.cu"

#define BODY(name, args) \
    static void run_##name(const void *a) { flux1_##name(*(const args *)a); }
CUDA_KERNELS(BODY)

#define ROW(name, args) {"flux1_" #name, sizeof(args), threads_of_##name, run_##name},
const emulated_kernel emulated_kernels[] = {CUDA_KERNELS(ROW){nullptr, 0, 0, nullptr}};
