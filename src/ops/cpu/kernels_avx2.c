/* The kernels for AVX2 with FMA and F16C. */
#if defined(__x86_64__)
#define SIMD_AVX2
#define DECODERS &cpu_decoders_avx2
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_conv.h"
#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/kernels_product.h"
#include "ops/cpu/kernels_rows.h"
#include "ops/cpu/kernels_winograd.h"

#define KERNELS cpu_kernels_avx2
#include "ops/cpu/kernels_table.h"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
