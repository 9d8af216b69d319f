/* The decoders for AVX-512 over SIMDe. */
#define cpu_decoders_avx512 cpu_decoders_avx512_simde
#include "ops/cpu/decode_avx512.c"
