/* int8_avx512vnni.c for a machine without AVX-512: its intrinsics by SIMDe, or as the other kernels' stand-ins have
 * them (simde/immintrin.h), or below. */
#if defined(__x86_64__)
#include "ops/simde/immintrin.h"

#include <math.h>

STAND_IN __m512i emulated_to_integers(__m512 a)
{
    stand_in_lanes v = {.ps = a};
    for (int i = 0; i < 16; i++)
        v.i[i] = (int32_t)lrintf(v.f[i]);
    return v.si;
}

STAND_IN __m128i emulated_to_bytes(__m512i a)
{
    const stand_in_lanes v = {.si = a};
    int8_t to[16];
    for (int i = 0; i < 16; i++)
        to[i] = (int8_t)v.i[i];
    return _mm_loadu_si128((const __m128i *)(const void *)to);
}

#define _mm512_cvtps_epi32(a) emulated_to_integers(a)
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8(a) emulated_to_bytes(a)
#define vw_keep(v) ((void)0)
#define cpu_decoders_avx512 cpu_decoders_avx2
#define cpu_int8_avx512vnni emulated_int8_avx512vnni
#include "ops/cpu/int8_avx512vnni.c"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
