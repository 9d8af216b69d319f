/* All kernels as one module. kernels.h says what each is for. */
#include "ops/cuda/kernels_norm.cu"
#include "ops/cuda/kernels_attention.cu"
#include "ops/cuda/kernels_attention_tensor.cu"
#include "ops/cuda/kernels_plane.cu"
#include "ops/cuda/kernels_rows.cu"
#include "ops/cuda/kernels_gemm.cu"
#include "ops/cuda/kernels_decode.cu"
