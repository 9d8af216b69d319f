/* 24 independent chains (12 on AVX2's 16 registers) hide the latency; the compiler cannot drop them, as their sum is
 * stored. */
#include "tools/peak.h"

#include "base/clock.h"

#include <stdint.h>
#include <time.h>

double now(void) { return clock_seconds(); }
double now_cpu(void) { return clock_processor(); }

static double now_thread(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#if defined(__x86_64__)
#include <immintrin.h>

static volatile float sink;
enum { TURNS = 100000 };

#define CHAINS_12(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define CHAINS_24(F) CHAINS_12(F) F(12) F(13) F(14) F(15) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23)

__attribute__((target("avx2,fma"))) static void turns_avx2(void)
{
    const __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(1e-9f);
#define START(i) __m256 s##i = _mm256_set1_ps((float)(i));
#define STEP(i) s##i = _mm256_fmadd_ps(s##i, a, b);
#define KEEP(i) __asm__ volatile("" : "+x"(s##i));
    CHAINS_12(START)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_12(STEP)
        CHAINS_12(KEEP)
    }
    sink = _mm256_cvtss_f32(s0);
}
#undef START
#undef STEP
#undef KEEP

#define KEEP(i) __asm__ volatile("" : "+v"(s##i));
__attribute__((target("avx512f"))) static void turns_avx512(void)
{
    const __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1e-9f);
#define START(i) __m512 s##i = _mm512_set1_ps((float)(i));
#define STEP(i) s##i = _mm512_fmadd_ps(s##i, a, b);
    CHAINS_24(START)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_24(STEP)
        CHAINS_24(KEEP)
    }
    sink = _mm512_cvtss_f32(s0);
}
#undef STEP

__attribute__((target("avx512f,avx512bf16"))) static void turns_avx512bf16(void)
{
    const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = a;
#define STEP(i) s##i = _mm512_dpbf16_ps(s##i, a, b);
    CHAINS_24(START)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_24(STEP)
        CHAINS_24(KEEP)
    }
    sink = _mm512_cvtss_f32(s0);
}

#undef STEP

static volatile int sink_int;
#define START_INT(i) __m512i s##i = _mm512_set1_epi32(i);
__attribute__((target("avx512f,avx512vnni"))) static void turns_avx512vnni(void)
{
    const __m512i a = _mm512_set1_epi32(0x01010101), b = a;
#define STEP(i) s##i = _mm512_dpbusd_epi32(s##i, a, b);
    CHAINS_24(START_INT)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_24(STEP)
        CHAINS_24(KEEP)
    }
    sink_int = _mm512_cvtsi512_si32(s0);
}
#undef START_INT
#undef STEP
#undef KEEP

#define START_INT(i) __m256i s##i = _mm256_set1_epi32(i);
#define KEEP(i) __asm__ volatile("" : "+x"(s##i));
__attribute__((target("avx2,avxvnni"))) static void turns_avxvnni(void)
{
    const __m256i a = _mm256_set1_epi32(0x01010101), b = a;
#define STEP(i) s##i = _mm256_dpbusd_avx_epi32(s##i, a, b);
    CHAINS_12(START_INT)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_12(STEP)
        CHAINS_12(KEEP)
    }
    sink_int = _mm256_cvtsi256_si32(s0);
}
#undef STEP

/* The compiler takes a for a new value in each step, else it would multiply once. */
__attribute__((target("avx2"))) static void turns_avx2_int8(void)
{
    __m256i a = _mm256_set1_epi32(0x00010001);
    const __m256i b = a;
#define STEP(i)                                             \
    s##i = _mm256_add_epi32(s##i, _mm256_madd_epi16(a, b)); \
    __asm__ volatile("" : "+x"(a));
    CHAINS_12(START_INT)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_12(STEP)
        CHAINS_12(KEEP)
    }
    sink_int = _mm256_extract_epi32(s0, 0);
}
#undef STEP

__attribute__((target("avx2"))) static void turns_avx2_quads(void)
{
    __m256i a = _mm256_set1_epi32(0x01010101);
    const __m256i b = a, ones = _mm256_set1_epi16(1);
#define STEP(i)                                                                    \
    {                                                                              \
        const __m256i first = _mm256_maddubs_epi16(a, b);                          \
        __asm__ volatile("" : "+x"(a));                                            \
        const __m256i quads = _mm256_add_epi16(first, _mm256_maddubs_epi16(a, b)); \
        s##i = _mm256_add_epi32(s##i, _mm256_madd_epi16(quads, ones));             \
        __asm__ volatile("" : "+x"(a));                                            \
    }
    CHAINS_12(START_INT)
    for (int t = 0; t < TURNS; t++) {
        CHAINS_12(STEP)
        CHAINS_12(KEEP)
    }
    sink_int = _mm256_extract_epi32(s0, 0);
}

/* All eight tiles are whole. */
static const struct {
    uint8_t palette, zeros[15];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shape = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* Zeros: the unit takes the same time for all values. */
#define TURNS_OF_TILES(product)       \
    _tile_loadconfig(&tile_shape);    \
    for (int t = 0; t < TURNS; t++) { \
        product(0, 4, 6);             \
        product(1, 4, 7);             \
        product(2, 5, 6);             \
        product(3, 5, 7);             \
    }                                 \
    _tile_release()
__attribute__((target("amx-tile,amx-bf16"))) static void turns_amx_bf16(void) { TURNS_OF_TILES(_tile_dpbf16ps); }
__attribute__((target("amx-tile,amx-int8"))) static void turns_amx_int8(void) { TURNS_OF_TILES(_tile_dpbssd); }

static double rate(void (*turns)(void), double flops_a_turn, double seconds)
{
    double begin = now_thread(), end;
    int64_t count = 0;
    do {
        turns();
        count++;
        end = now_thread();
    } while (end - begin < seconds);
    return (double)count * TURNS * flops_a_turn / (end - begin);
}

double peak_avx2(double seconds)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? rate(turns_avx2, 12 * 8 * 2, seconds) : 0;
}
double peak_avx512(double seconds)
{
    return __builtin_cpu_supports("avx512f") ? rate(turns_avx512, 24 * 16 * 2, seconds) : 0;
}
double peak_avx512bf16(double seconds)
{
    return __builtin_cpu_supports("avx512bf16") ? rate(turns_avx512bf16, 24 * 32 * 2, seconds) : 0;
}
double peak_avx2_int8(double seconds)
{
    return __builtin_cpu_supports("avx2") ? rate(turns_avx2_int8, 12 * 16 * 2, seconds) : 0;
}
double peak_avx2_quads(double seconds)
{
    return __builtin_cpu_supports("avx2") ? rate(turns_avx2_quads, 12 * 64 * 2, seconds) : 0;
}
double peak_avx512amx(double seconds) { return rate(turns_amx_bf16, 4 * 16 * 16 * 32 * 2, seconds); }
double peak_avx512amx_int8(double seconds) { return rate(turns_amx_int8, 4 * 16 * 16 * 64 * 2, seconds); }
double peak_avxvnni(double seconds) { return rate(turns_avxvnni, 12 * 32 * 2, seconds); }
double peak_avx512vnni(double seconds)
{
    return __builtin_cpu_supports("avx512vnni") ? rate(turns_avx512vnni, 24 * 64 * 2, seconds) : 0;
}
#else
double peak_avx2_int8(double seconds) { return (void)seconds, 0; }
double peak_avx2_quads(double seconds) { return (void)seconds, 0; }
double peak_avxvnni(double seconds) { return (void)seconds, 0; }
double peak_avx512vnni(double seconds) { return (void)seconds, 0; }
double peak_avx2(double seconds) { return (void)seconds, 0; }
double peak_avx512(double seconds) { return (void)seconds, 0; }
double peak_avx512bf16(double seconds) { return (void)seconds, 0; }
double peak_avx512amx(double seconds) { return (void)seconds, 0; }
double peak_avx512amx_int8(double seconds) { return (void)seconds, 0; }
#endif
