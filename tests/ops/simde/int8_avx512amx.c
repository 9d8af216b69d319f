/* Products in int8 for avx512amx over SIMDe and emulated tiles, under a name of their own. */
#define cpu_int8_avx512amx cpu_int8_avx512amx_simde
#define cpu_decoders_avx512 cpu_decoders_avx512_simde
#include "ops/cpu/int8_avx512amx.c"
