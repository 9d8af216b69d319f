/* Products in int8 for AVX-512 with AMX: tdpbssd multiplies tiles of bytes with a sign on both sides. */
#if defined(__x86_64__)
#define SIMD_AVX512
#define INT8_UNITS
#define INT8_OFFSET 0
#include "ops/cpu/int8_bytes_avx512.h"

#include "ops/cpu/kernels_int8.h"

UNIT_TASK(int8_gemm_fine, int8_shapes)
UNIT_TASK(int8_gemm_rotated, rotated_shapes)
INT8_KERNELS(cpu_int8_avx512amx)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
