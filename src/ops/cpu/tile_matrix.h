/* The sums of a tile by instructions that multiply small matrices (bfmmla, smmla), which do twice the multiply-adds of
 * those that broadcast a word. The including file defines matrix_multiply(c, a, b): two rows of two 32-bit words of a
 * by two such rows of b, added to two rows of two sums.
 *
 * Idea: the operands lie as for a tile that broadcasts: a's words in rows, b's as [word][column]. Two rows of a by two
 * words are two loads of 64 bits; two words of four columns of b become two operands by two zips, which all rows use.
 * Sums of two rows and two columns share a register; behind the last step they are sorted into rows. Every sum is one
 * chain, whatever the tile around it: results do not depend on how rows are dealt out. */
#ifndef FLUX1_OPS_CPU_TILE_MATRIX_H
#define FLUX1_OPS_CPU_TILE_MATRIX_H

#include "ops/cpu/simd.h"

enum { MATRIX_PAIRS = (TILE_ROWS + 1) / 2 };

/* Word k of row i of a lies at data + i·row + k·step words; one of `row` and `step` is 1. */
typedef struct matrix_side {
    const unsigned char *data;
    int64_t row, step;
} matrix_side;

SIMD_INLINE uint32_t matrix_word(const matrix_side *a, int64_t i, int64_t k)
{
    uint32_t word;
    memcpy(&word, a->data + (i * a->row + k * a->step) * 4, sizeof word);
    return word;
}

/* This word and the one behind it in memory. */
SIMD_INLINE uint32x2_t matrix_two(const matrix_side *a, int64_t i, int64_t k)
{
    uint32x2_t words;
    memcpy(&words, a->data + (i * a->row + k * a->step) * 4, sizeof words);
    return words;
}

/* Words k and k + 1 of rows i and j, which is i or i + 1; the second word is 0 if it is not `whole`. */
SIMD_INLINE uint32x4_t matrix_rows(const matrix_side *a, int64_t i, int64_t j, int64_t k, const bool whole)
{
    if (!whole)
        return (uint32x4_t){matrix_word(a, i, k), 0, matrix_word(a, j, k), 0};
    if (a->step == 1)
        return vcombine_u32(matrix_two(a, i, k), matrix_two(a, j, k));
    if (i == j)
        return (uint32x4_t){matrix_word(a, i, k), matrix_word(a, i, k + 1), 0, 0};
    const uint32x2_t first = matrix_two(a, i, k), second = matrix_two(a, i, k + 1);
    return vcombine_u32(vzip1_u32(first, second), vzip2_u32(first, second));
}

SIMD_INLINE uint32x4_t matrix_load(const unsigned char *p)
{
    uint32x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Words k and k + 1 of all. b: its words k, `columns` a step. */
SIMD_INLINE void matrix_step(uint32x4_t sum[MATRIX_PAIRS][2 * TILE_VECTORS], const int rows, const int vectors,
                             const matrix_side *a, int64_t k, const unsigned char *b, const int columns,
                             const bool whole)
{
    uint32x4_t pair[MATRIX_PAIRS];
    SIMD_UNROLL
    for (int i = 0; i < rows; i += 2)
        pair[i / 2] = matrix_rows(a, i, i + 1 < rows ? i + 1 : i, k, whole);
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) {
        const uint32x4_t first = matrix_load(b + v * 16),
                         second = whole ? matrix_load(b + (columns + v * 4) * 4) : vdupq_n_u32(0),
                         low = vzip1q_u32(first, second), high = vzip2q_u32(first, second);
        SIMD_UNROLL
        for (int i = 0; i < rows; i += 2) {
            sum[i / 2][2 * v] = matrix_multiply(sum[i / 2][2 * v], pair[i / 2], low);
            sum[i / 2][2 * v + 1] = matrix_multiply(sum[i / 2][2 * v + 1], pair[i / 2], high);
            /* nothing of the next columns is loaded before: gcc would spill sums */
            __asm__ volatile("" : "+w"(sum[i / 2][2 * v]), "+w"(sum[i / 2][2 * v + 1])::"memory");
        }
    }
}

/* out[rows][vectors] = a[rows, steps]·b[steps, columns]. */
SIMD_INLINE void matrix_sums(uint32x4_t out[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, int64_t steps,
                             const matrix_side *a, const void *b, const int columns)
{
    const unsigned char *words = b;
    uint32x4_t sum[MATRIX_PAIRS][2 * TILE_VECTORS];
    SIMD_UNROLL
    for (int i = 0; i < MATRIX_PAIRS; i++)
        SIMD_UNROLL
    for (int v = 0; v < 2 * TILE_VECTORS; v++)
        sum[i][v] = vdupq_n_u32(0);
    int64_t k = 0;
    for (; k + 2 <= steps; k += 2, words += 2 * columns * 4)
        matrix_step(sum, rows, vectors, a, k, words, columns, true);
    if (k < steps)
        matrix_step(sum, rows, vectors, a, k, words, columns, false);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < vectors; v++) {
        const uint64x2_t left = vreinterpretq_u64_u32(sum[i / 2][2 * v]),
                         right = vreinterpretq_u64_u32(sum[i / 2][2 * v + 1]);
        out[i][v] = vreinterpretq_u32_u64(i % 2 ? vtrn2q_u64(left, right) : vtrn1q_u64(left, right));
    }
}

#endif
