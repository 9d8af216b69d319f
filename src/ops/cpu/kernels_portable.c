/* The kernels for any machine: the compiler's baseline. */
#define DECODERS NULL
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_conv.h"
#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/kernels_product.h"
#include "ops/cpu/kernels_rows.h"
#include "ops/cpu/kernels_winograd.h"

#define KERNELS cpu_kernels_portable
#include "ops/cpu/kernels_table.h"
