/* Products in int8 by AMX (kernels_int8.h): a group is 32 numbers, half of what a row of a tile holds, so tiles of
 * weights have rows of 32 bytes and those of the input 8 rows. tdpbssd makes the exact sums of 16 outputs and 16
 * tokens; they are stored, scaled and added to float32 sums in 16 registers while the next group is multiplied. Bounded
 * by that: three vector operations, two loads and a store for each 512 products, which take a tile's unit one cycle. */
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
static void multiply_tokens(int64_t cols, int64_t groups, const int8_scratch *s, const int32_t *words,
                            const float *scales, float *c)
{
    _Static_assert(INT8_MOST_COLS % UNIT == 0, "a task's rows of weights are whole tiles");
    units_ready();
    for (int64_t row = 0; row < cols; row += UNIT)
        for (int half = 0; half < TOKENS; half += UNIT)
            int8_unit(cols - row, groups, s, row, words + half, scales + half, c + row * TOKENS + half);
}

#endif
