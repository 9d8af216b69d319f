/* The kernels for AVX-512 with products of bf16 pairs: linear layers, convolutions and attention when the arithmetic is
 * bf16. */
#if defined(__x86_64__)
#define SIMD_AVX512
#define SIMD_BF16
#define DECODERS &cpu_decoders_avx512
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_conv.h"
#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/kernels_product.h"
#include "ops/cpu/kernels_rows.h"
#include "ops/cpu/kernels_winograd.h"

#define KERNELS cpu_kernels_avx512bf16
#include "ops/cpu/kernels_table.h"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
