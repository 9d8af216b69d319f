/* int8_avxvnni.c for a machine that has AVX2 only: its one instruction by SIMDe. */
#if defined(__x86_64__)
#include <simde/x86/avx512/dpbusd.h>

#include <immintrin.h>

#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define cpu_int8_avxvnni emulated_int8_avxvnni
#include "ops/cpu/int8_avxvnni.c"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
