/* int8_avx512vnni.c for a machine without AVX-512: its intrinsics as simde/immintrin.h has them. */
#if defined(__x86_64__)
#include <immintrin.h>

#define vw_keep(v) ((void)0)
#define cpu_decoders_avx512 cpu_decoders_avx2
#define cpu_int8_avx512vnni emulated_int8_avx512vnni
#include "ops/cpu/int8_avx512vnni.c"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
