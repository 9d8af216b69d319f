/* The kernels for avx512bf16 over SIMDe, under a name of their own. */
#define cpu_kernels_avx512bf16 cpu_kernels_avx512bf16_simde
#define cpu_decoders_avx512 cpu_decoders_avx512_simde
#include "ops/cpu/kernels_avx512bf16.c"
