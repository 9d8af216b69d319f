/* Products in int8 by AMX (kernels_int8.h): tdpbssd makes the exact sums of 16 outputs and 16 tokens, which are stored,
 * scaled and added to float32 sums while the next ones are multiplied.
 *
 * A fine group is 32 numbers, half of what a row of a tile holds, so tiles of weights have rows of 32 bytes and those
 * of the input 8 rows. Bounded by the scales: three vector operations, two loads and a store for each 512 products,
 * which take a tile's unit one cycle.
 *
 * Rotated groups are four whole tiles long, and two tiles of weights meet two of the input: 32 bytes of each a cycle,
 * and an eighth of the scales' work. The weights are read as their form has them, the input from the L1 cache. */
#ifndef FLUX1_OPS_CPU_INT8_UNITS_AMX_H
#define FLUX1_OPS_CPU_INT8_UNITS_AMX_H

#include "ops/cpu/units_amx.h"

/* 0 and 1: sums; 4 and 5: weights; 6 and 7: the input; of even groups and of odd ones. */
static const unit_shapes int8_shapes = {.palette = 1,
                                        .row_bytes = {64, 64, 64, 64, INT8_GROUP, INT8_GROUP, 64, 64},
                                        .rows = {UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, GROUP_WORDS, GROUP_WORDS}};

SIMD_INLINE void unit_group(bool odd, const int32_t *a, const int32_t *b, int32_t sums[2][UNIT][UNIT])
{
    if (odd) {
        _tile_zero(1);
        _tile_loadd(7, b, TOKENS * 4);
        _tile_loadd(5, a, LDA * 4);
        _tile_dpbssd(1, 5, 7);
        _tile_stored(1, sums[1], UNIT * 4);
    } else {
        _tile_zero(0);
        _tile_loadd(6, b, TOKENS * 4);
        _tile_loadd(4, a, LDA * 4);
        _tile_dpbssd(0, 4, 6);
        _tile_stored(0, sums[0], UNIT * 4);
    }
}

/* c[rows, 16] += Σ over groups of scales · exact sums, for weights from `row` on; c's rows lie TOKENS apart. */
static void int8_unit(int64_t rows, int64_t groups, const int8_scratch *s, int64_t row, const int32_t *b,
                      const float *scales, float *c)
{
    _Alignas(64) int32_t sums[2][UNIT][UNIT];
    const int32_t *a = s->weights + row * LDA;
    const float *weight_scales = s->scales + row * INT8_BLOCK_GROUPS;
    vf all[UNIT];
    SIMD_UNROLL
    for (int i = 0; i < UNIT; i++)
        all[i] = i < rows ? vload(c + i * TOKENS) : vzero();
    unit_group(false, a, b, sums);
    for (int64_t g = 0; g < groups; g++, scales += TOKENS) {
        a += GROUP_WORDS, b += GROUP_WORDS * TOKENS;
        if (g + 1 < groups)
            unit_group(g % 2 == 0, a, b, sums);
        const vf x = vload(scales);
        SIMD_UNROLL
        for (int i = 0; i < UNIT; i++)
            all[i] = vfma(vw_float(vw_load(sums[g % 2][i])), vmul(vset1(weight_scales[i * INT8_BLOCK_GROUPS + g]), x),
                          all[i]);
    }
    SIMD_UNROLL
    for (int i = 0; i < UNIT; i++)
        if (i < rows)
            vstore(c + i * TOKENS, all[i]);
}

/* As kernels_int8.h has it. Rows behind the last are multiplied and dropped: the scratch has them. */
static void multiply_fine(int64_t cols, int64_t count, const int8_scratch *s, const panel_block *panel, float *c,
                          int8_coming *next)
{
    const int64_t groups = count / INT8_GROUP;
    _Static_assert(INT8_MOST_COLS % UNIT == 0, "a task's rows of weights are whole tiles");
    units_ready();
    for (int64_t row = 0; row < cols; row += UNIT) {
        touch_coming(next);
        for (int half = 0; half < TOKENS; half += UNIT)
            int8_unit(cols - row, groups, s, row, panel->words + half, panel->scales + half, c + row * TOKENS + half);
    }
}

/* ---- rotated groups ---- */

/* 0 to 3: sums; 4 and 5: weights; 6 and 7: the input. */
static const unit_shapes rotated_shapes = {.palette = 1,
                                           .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                           .rows = {UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT}};
_Static_assert((int)INT8_FORM_ROWS == UNIT && (int)INT8_FORM_COLS == 4 * UNIT, "a form's block is a tile");
_Static_assert((int)TOKENS == 2 * UNIT, "and a panel two of the input");

/* Exact sums of 32 outputs and 32 tokens, and what becomes of them. */
typedef struct rotated_sums {
    _Alignas(64) int32_t sum[2][UNIT][TOKENS];
    int64_t rows; /* that there are */
    const float *weights, *tokens;
    float *c;
} rotated_sums;

/* One group: a0 and a1 are its blocks of weights, b the panel's words. */
SIMD_INLINE void rotated_group(const int8_t *a0, const int8_t *a1, const int32_t *b, int64_t count, rotated_sums *to)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < count; k += INT8_FORM_COLS, a0 += INT8_FORM, a1 += INT8_FORM, b += UNIT * TOKENS) {
        _tile_loadd(6, b, TOKENS * 4);
        _tile_loadd(4, a0, INT8_FORM_COLS);
        _tile_loadd(7, b + UNIT, TOKENS * 4);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(5, a1, INT8_FORM_COLS);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, to->sum[0], TOKENS * 4);
    _tile_stored(1, to->sum[0][0] + UNIT, TOKENS * 4);
    _tile_stored(2, to->sum[1], TOKENS * 4);
    _tile_stored(3, to->sum[1][0] + UNIT, TOKENS * 4);
}

SIMD_INLINE void rotated_scale(const rotated_sums *s)
{
    const vf first = vload(s->tokens), second = vload(s->tokens + UNIT);
    const int32_t *sum = s->sum[0][0];
    for (int64_t i = 0; i < s->rows; i++, sum += TOKENS) {
        const vf w = vset1(s->weights[i * INT8_BLOCK_GROUPS]);
        float *c = s->c + i * TOKENS;
        vstore(c, vfma(vw_float(vw_load(sum)), vmul(w, first), vload(c)));
        vstore(c + UNIT, vfma(vw_float(vw_load(sum + UNIT)), vmul(w, second), vload(c + UNIT)));
    }
}

/* As kernels_int8.h has it. Sums are scaled behind the tiles of the next ones, so that both units work. */
static void multiply_rotated(const int8_job *j, int64_t n, int64_t cols, int64_t k, int64_t count,
                             const int8_scratch *s, const panel_block *panel, float *c, int8_coming *next)
{
    rotated_sums sums[2];
    int now = 0;
    units_ready();
    for (int64_t row = 0; row < cols; row += 2 * UNIT) {
        const int64_t rows = i64_min(2 * UNIT, cols - row);
        touch_coming(next);
        const int8_t *a0 = form_block(j, n + row, k), *a1 = rows > UNIT ? form_block(j, n + row + UNIT, k) : a0;
        for (int64_t at = 0; at < count; at += INT8_LONG, now = 1 - now) {
            const int64_t g = at / INT8_LONG, here = at * UNIT;
            rotated_group(a0 + here, a1 + here, panel->words + at / 4 * TOKENS, i64_min(INT8_LONG, count - at),
                          &sums[now]);
            if (row + at > 0)
                rotated_scale(&sums[1 - now]);
            sums[now].rows = rows;
            sums[now].weights = s->scales + row * INT8_BLOCK_GROUPS + g;
            sums[now].tokens = panel->scales + g * TOKENS;
            sums[now].c = c + row * TOKENS;
        }
    }
    rotated_scale(&sums[1 - now]);
}

#endif
