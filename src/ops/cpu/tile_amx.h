/* Products of bf16 pairs by Intel's AMX: tdpbf16ps multiplies 16 rows of 16 words of one operand by 16 words of 16
 * columns of the other, 16 times what vdpbf16ps does. The operands are what the other kernels have: rows of words (A),
 * and panels of words laid by columns (B).
 *
 * Eight tiles: 0 to 3 are sums of 32 × 32 outputs, 4 and 5 are rows of A, 6 and 7 columns of B: a load for each
 * product, which takes as long as two loads. A step of 16 words is one product of each, 64 cycles for 4 KiB, so one
 * operand should come from the L1 cache: callers pass UNIT_STEPS words at a time. tdpbf16ps adds up a step's products
 * before it adds them to the sums, and takes denormals as 0. */
#ifndef FLUX1_OPS_CPU_TILE_AMX_H
#define FLUX1_OPS_CPU_TILE_AMX_H

#include "ops/cpu/units_amx.h"

/* Words of a block whose B, A and sums fit in the L1 cache: 16, 16 and 4 KiB. */
enum { UNIT_STEPS = 128 };

/* All tiles are whole. */
static const unit_shapes whole_units = {.palette = 1,
                                        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                        .rows = {UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT}};

/* How A lies: words between rows, from 16 words to the next 16, and from 16 rows to the next 16. */
typedef struct unit_side {
    int64_t row, step, next;
} unit_side;
SIMD_INLINE unit_side units_in_rows(int64_t lda) { return (unit_side){lda, UNIT, UNIT * lda}; }

/* Sums of 16 or (`tall`, `wide`) 32 rows and columns: c's, or zeros. */
SIMD_INLINE void unit_sums(const bool tall, const bool wide, const float *c, int64_t ldc, bool add)
{
    const float *low = c + UNIT * ldc;
    if (add) {
        _tile_loadd(0, c, ldc * 4);
        if (wide)
            _tile_loadd(1, c + UNIT, ldc * 4);
        if (tall)
            _tile_loadd(2, low, ldc * 4);
        if (tall && wide)
            _tile_loadd(3, low + UNIT, ldc * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
}

SIMD_INLINE void unit_store(const bool tall, const bool wide, float *c, int64_t ldc)
{
    float *low = c + UNIT * ldc;
    _tile_stored(0, c, ldc * 4);
    if (wide)
        _tile_stored(1, c + UNIT, ldc * 4);
    if (tall)
        _tile_stored(2, low, ldc * 4);
    if (tall && wide)
        _tile_stored(3, low + UNIT, ldc * 4);
}

/* A step of 16 words. */
SIMD_INLINE void unit_step(const bool tall, const bool wide, const float *a, unit_side s, const float *b, int64_t ldb)
{
    _tile_loadd(6, b, ldb * 4);
    _tile_loadd(4, a, s.row * 4);
    _tile_dpbf16ps(0, 4, 6);
    if (wide) {
        _tile_loadd(7, b + UNIT, ldb * 4);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (tall) {
        _tile_loadd(5, a + s.next, s.row * 4);
        _tile_dpbf16ps(2, 5, 6);
    }
    if (tall && wide)
        _tile_dpbf16ps(3, 5, 7);
}

/* Fewer than 16 words: of whole tiles whose other words are zeros. */
static void unit_rest(const bool tall, const bool wide, int64_t words, const float *a, unit_side s, const float *b,
                      int64_t ldb)
{
    _Alignas(64) float rows[2 * UNIT][UNIT] = {{0}}, columns[UNIT][2 * UNIT] = {{0}};
    for (int i = 0; i < (tall ? 2 * UNIT : UNIT); i++)
        memcpy(rows[i], a + i / UNIT * s.next + i % UNIT * s.row, (size_t)words * sizeof *a);
    for (int64_t k = 0; k < words; k++)
        memcpy(columns[k], b + k * ldb, (wide ? 2 * UNIT : UNIT) * sizeof *b);
    __asm__ volatile("" ::"r"(rows), "r"(columns) : "memory"); /* what the tiles load has been written */
    const unit_side dense = units_in_rows(UNIT);
    if (tall && wide)
        unit_step(true, true, &rows[0][0], dense, &columns[0][0], 2 * UNIT);
    else if (tall)
        unit_step(true, false, &rows[0][0], dense, &columns[0][0], 2 * UNIT);
    else if (wide)
        unit_step(false, true, &rows[0][0], dense, &columns[0][0], 2 * UNIT);
    else
        unit_step(false, false, &rows[0][0], dense, &columns[0][0], 2 * UNIT);
}

/* c (+)= a·b in tiles of 16 or 32 rows and columns. */
SIMD_INLINE void unit_block(const bool tall, const bool wide, int64_t steps, const float *a, unit_side s,
                            const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    unit_sums(tall, wide, c, ldc, add);
    for (; steps >= UNIT; steps -= UNIT, a += s.step, b += UNIT * ldb)
        unit_step(tall, wide, a, s, b, ldb);
    if (steps > 0)
        unit_rest(tall, wide, steps, a, s, b, ldb);
    unit_store(tall, wide, c, ldc);
}

/* c[rows, 32] (+)= a[rows, steps]·b[steps, 32]. Rows up to a multiple of 16 are read and written: what the last ones
 * hold concerns nobody. */
static void units_multiply(int64_t rows, int64_t steps, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float *c, int64_t ldc, bool add)
{
    const unit_side s = units_in_rows(lda);
    units_ready();
    for (; rows > 0; rows -= 2 * UNIT, a += 2 * s.next, c += 2 * UNIT * ldc) {
        if (rows > UNIT)
            unit_block(true, true, steps, a, s, b, ldb, c, ldc, add);
        else
            unit_block(false, true, steps, a, s, b, ldb, c, ldc, add);
    }
}

#endif
