/* The kernels for avx512 over SIMDe, under a name of their own. */
#define cpu_kernels_avx512 cpu_kernels_avx512_simde
#define cpu_decoders_avx512 cpu_decoders_avx512_simde
#include "ops/cpu/kernels_avx512.c"
