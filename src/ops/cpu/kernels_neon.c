/* The kernels for arm64's NEON. */
#if defined(__aarch64__)
#define SIMD_NEON
#define DECODERS &cpu_decoders_neon
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/kernels_product.h"
#include "ops/cpu/kernels_rows.h"
#include "ops/cpu/kernels_winograd.h"

#define KERNELS cpu_kernels_neon
#include "ops/cpu/kernels_table.h"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
