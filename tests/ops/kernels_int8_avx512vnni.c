/* int8_avx512vnni.c for a machine without AVX-512: its intrinsics by SIMDe, or below where that has none. */
#if defined(__x86_64__)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline __m512 emulated_loadu(simde__mmask16 mask, const void *p)
{
    float lane[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(lane + i, (const char *)p + 4 * i, 4);
    return simde_mm512_loadu_ps(lane);
}

static inline void emulated_storeu(void *p, simde__mmask16 mask, __m512 v)
{
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)p + 4 * i, (const char *)&v + 4 * i, 4);
}

static inline __m512i emulated_widen(__m256i v)
{
    uint16_t from[16];
    uint32_t to[16];
    memcpy(from, &v, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = from[i];
    return simde_mm512_loadu_si512(to);
}

static inline __m256i emulated_loadu_halves(simde__mmask16 mask, const void *p)
{
    uint16_t lane[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(lane + i, (const char *)p + 2 * i, 2);
    return simde_mm256_loadu_si256((const __m256i *)(const void *)lane);
}

static inline __m512 emulated_round(__m512 v, int how)
{
    float lane[16];
    (void)how; /* to nearest */
    memcpy(lane, &v, sizeof lane);
    for (int i = 0; i < 16; i++)
        lane[i] = nearbyintf(lane[i]);
    return simde_mm512_loadu_ps(lane);
}

static inline __m512i emulated_to_integers(__m512 v)
{
    float lane[16];
    int32_t to[16];
    memcpy(lane, &v, sizeof lane);
    for (int i = 0; i < 16; i++)
        to[i] = (int32_t)lrintf(lane[i]);
    return simde_mm512_loadu_si512(to);
}

static inline __m512 emulated_to_floats(__m512i v)
{
    int32_t lane[16];
    float to[16];
    memcpy(lane, &v, sizeof lane);
    for (int i = 0; i < 16; i++)
        to[i] = (float)lane[i];
    return simde_mm512_loadu_ps(to);
}

static inline __m128i emulated_to_bytes(__m512i v)
{
    int32_t lane[16];
    int8_t to[16];
    memcpy(lane, &v, sizeof lane);
    for (int i = 0; i < 16; i++)
        to[i] = (int8_t)lane[i];
    return simde_mm_loadu_si128((const __m128i *)(const void *)to);
}

static inline __m512 emulated_permute(__m512 v, int how)
{
    float from[16], to[16];
    memcpy(from, &v, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = from[(i & ~3) + (how >> 2 * (i & 3) & 3)];
    return simde_mm512_loadu_ps(to);
}

static inline float emulated_top(__m512 v)
{
    float lane[16], top;
    memcpy(lane, &v, sizeof lane);
    top = lane[0];
    for (int i = 1; i < 16; i++)
        top = lane[i] > top ? lane[i] : top;
    return top;
}

#define _mm512_maskz_loadu_ps emulated_loadu
#define _mm512_mask_storeu_ps emulated_storeu
#define _mm256_maskz_loadu_epi16 emulated_loadu_halves
#define _mm512_cvtepu16_epi32 emulated_widen
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps emulated_round
#define _mm512_cvtps_epi32 emulated_to_integers
#define _mm512_cvtepi32_ps emulated_to_floats
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8 emulated_to_bytes
#define _mm512_reduce_max_ps emulated_top
#undef _mm512_permute_ps
#define _mm512_permute_ps emulated_permute
#undef _mm512_shuffle_f32x4 /* SIMDe has it, and no alias */
#define _mm512_shuffle_f32x4(a, b, how) simde_mm512_shuffle_f32x4(a, b, how)
#define vw_keep(v) ((void)0)
#define cpu_decoders_avx512 cpu_decoders_avx2
#define cpu_int8_avx512vnni emulated_int8_avx512vnni
#include "ops/cpu/int8_avx512vnni.c"
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
