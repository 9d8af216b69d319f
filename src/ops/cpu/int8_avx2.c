/* Products in int8 for AVX2, which multiplies int8 only with sums that saturate: the numbers are widened to int16 on
 * their way into the L1 cache, and vpmaddwd is exact. (vpmaddubsw with absolute values and moved signs needs the same
 * number of instructions and is slower: docs/performance.md.) Rotated groups of the input are in quads, so that
 * vpmaddubsw and a sum in 16 bits are exact too. */
#if defined(__x86_64__)
#define SIMD_AVX2
#include "ops/cpu/simd.h"
#include "ops/int8.h"

#define DECODERS &cpu_decoders_avx2
#define INT8_PAIRS 1
#define INT8_QUADS 1
#define INT8_OFFSET 0
#define vw_keep(v) (void)(v) /* vw_dot does */

typedef __m256i vw;
SIMD_INLINE vw vw_word(int32_t w) { return _mm256_set1_epi32(w); }
SIMD_INLINE vw vw_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
SIMD_INLINE void vw_store(int32_t *p, vw v) { _mm256_storeu_si256((__m256i *)p, v); }
SIMD_INLINE vw vw_sub(vw a, vw b) { return _mm256_sub_epi32(a, b); }
SIMD_INLINE vf vw_float(vw v) { return _mm256_cvtepi32_ps(v); }
/* The sum's own register is added to: gcc would add into another, and move it there after each. */
SIMD_INLINE vw vw_dot(vw sum, vw w, vw x)
{
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(_mm256_madd_epi16(w, x)));
    return sum;
}

/* Nothing of it saturates: ops/int8.h says why. */
SIMD_INLINE vw vw_quads(vw sum, vw w, vw x, vw more_w, vw more_x)
{
    const vw quads = _mm256_add_epi16(_mm256_maddubs_epi16(w, x), _mm256_maddubs_epi16(more_w, more_x));
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(_mm256_madd_epi16(quads, _mm256_set1_epi16(1))));
    return sum;
}

SIMD_INLINE __m128 vquads_of(vf v)
{
    const __m128 halves = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    return _mm_hadd_ps(halves, halves);
}
SIMD_INLINE vf vw_quads_of(vf v)
{
    const vf sign = vset1(-0.0f);
    const __m128 sum = _mm_andnot_ps(_mm256_castps256_ps128(sign), vquads_of(v)),
                 size = vquads_of(_mm256_andnot_ps(sign, v));
    const __m128 quads = _mm_mul_ps(_mm_add_ps(size, sum), _mm_set1_ps(INT8_QUAD_SHARE));
    return _mm256_set_m128(quads, quads);
}

/* A row's numbers as pairs. */
static void vw_widen(const int8_t *numbers, int64_t count, int32_t *words)
{
    for (int64_t k = 0; k < count; k += 16)
        _mm256_storeu_si256((__m256i *)(void *)(words + k / 2),
                            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(numbers + k))));
}

/* Rows of 16 words of four numbers: of each, a row of words with the first pair and one with the second. */
static void vw_widen_panel(const int32_t *from, int64_t rows, int32_t *to)
{
    const __m256i low = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4,
                                         -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    const __m256i high = _mm256_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1, 2, -1, 3, -1,
                                          6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
    for (int64_t i = 0; i < rows; i++, from += 16, to += 32)
        for (int v = 0; v < 16; v += 8) {
            const __m256i words = vw_load(from + v);
            _mm256_storeu_si256((__m256i *)(void *)(to + v), _mm256_srai_epi16(_mm256_shuffle_epi8(words, low), 8));
            _mm256_storeu_si256((__m256i *)(void *)(to + 16 + v),
                                _mm256_srai_epi16(_mm256_shuffle_epi8(words, high), 8));
        }
}

#include "ops/cpu/int8_bytes_avx2.h"
#include "ops/cpu/kernels_int8.h"
INT8_KERNELS(cpu_int8_avx2)
#else
typedef int no_such_machine; /* a C file may not be empty */
#endif
