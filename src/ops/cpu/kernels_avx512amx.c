/* The kernels for AVX-512 with AMX: linear layers, convolutions and attention by tiles (tile_amx.h) when the arithmetic
 * is bf16, all else as avx512bf16 does it. */
#if defined(__x86_64__)
#define SIMD_AVX512
#define SIMD_BF16
#define SIMD_AMX
#define DECODERS &cpu_decoders_avx512
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_conv.h"
#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/kernels_product.h"
#include "ops/cpu/kernels_rows.h"
#include "ops/cpu/kernels_winograd.h"

UNIT_TASK(product, whole_units)
UNIT_TASK(conv, whole_units)
UNIT_TASK(attention, whole_units)

#define KERNELS cpu_kernels_avx512amx
#include "ops/cpu/kernels_table.h"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
