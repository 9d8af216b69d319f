/* 3×3 convolutions with fewer products, in float32 (Winograd; Lavin, Gray, arXiv:1509.09308). Included once per
 * instruction set, over kernels_conv.h, whose lines it reads; not where products are of bf16 pairs.
 *
 * Idea: a tile of 2×2 outputs sees 4×4 inputs. Along each axis sums of the inputs, times sums of the taps, are 4
 * products, of which the 2 outputs are sums again: 16 products a tile and channel where the taps make 36. Behind a
 * nearest ×2 upsampling the tile is what one pixel becomes, and 3×3 inputs make 9 products. For each of these points
 * it is a product of matrices: weights [outputs][channels] times inputs [channels][tiles].
 *
 * A task owns PRODUCT_COLS outputs of some panels of TILE_COLS tiles. For a block of channels it makes the weights'
 * points once, which stay in the L2 cache while its panels pass; a panel's points are made from the lines and are in
 * the L1 cache, point by point, while all outputs pass. Tiles begin at the strip's first row, which is even, so that
 * results are the same for any number of threads. */
#ifndef FLUX1_OPS_CPU_KERNELS_WINOGRAD_H
#define FLUX1_OPS_CPU_KERNELS_WINOGRAD_H

#include "ops/cpu/kernels_conv.h"

#if !defined(SIMD_BF16)

/* Of a worker's scratch: weights [PRODUCT_COLS][point][WINOGRAD_WORDS], lines as a product's, inputs
 * [point][WINOGRAD_WORDS][TILE_COLS], sums [panel][point][PRODUCT_COLS][TILE_COLS]. */
enum {
    WINOGRAD_WORDS = 64,
    WINOGRAD_POINTS = 16,
    WINOGRAD_LDA = WINOGRAD_POINTS * WINOGRAD_WORDS + 16,
    WINOGRAD_INPUTS = WINOGRAD_POINTS * WINOGRAD_WORDS * TILE_COLS,
    WINOGRAD_SUMS = PRODUCT_COLS * TILE_COLS, /* of a point */
    WINOGRAD_PANELS = (GEMM_SCRATCH - PRODUCT_COLS * WINOGRAD_LDA - TILE_COLS * PRODUCT_LINE - WINOGRAD_INPUTS) /
                      (WINOGRAD_POINTS * WINOGRAD_SUMS)
};
_Static_assert(WINOGRAD_PANELS >= 8, "a task of some size fits a worker's scratch");

/* ---- the points along one axis: 4, or 3 behind an upsampling ---- */

SIMD_INLINE void weight_points(const int side, const vf tap[3], vf to[4])
{
    const vf ends = vadd(tap[0], tap[2]);
    to[0] = tap[0];
    to[side - 1] = tap[2];
    if (side == 3) {
        to[1] = vadd(ends, tap[1]);
        return;
    }
    to[1] = vmul(vset1(0.5f), vadd(ends, tap[1]));
    to[2] = vmul(vset1(0.5f), vsub(ends, tap[1]));
}

SIMD_INLINE void input_points(const int side, const vf x[4], vf to[4])
{
    if (side == 3) {
        to[0] = vsub(x[0], x[1]);
        to[1] = x[1];
        to[2] = vsub(x[1], x[2]);
        return;
    }
    to[0] = vsub(x[0], x[2]);
    to[1] = vadd(x[1], x[2]);
    to[2] = vsub(x[2], x[1]);
    to[3] = vsub(x[1], x[3]);
}

SIMD_INLINE void output_points(const int side, const vf sum[4], vf to[2])
{
    if (side == 3) {
        to[0] = vadd(sum[0], sum[1]);
        to[1] = vsub(sum[1], sum[2]);
        return;
    }
    to[0] = vadd(vadd(sum[0], sum[1]), sum[2]);
    to[1] = vsub(vsub(sum[1], sum[2]), sum[3]);
}

/* ---- weights ---- */

/* `count` channels of the nine taps of one output, which lie tap by tap from `row` on. */
SIMD_INLINE void weight_row(const int side, const conv_job *j, const unsigned char *row, dtype type, int64_t count,
                            float *to)
{
    for (int64_t i = 0; i < count; i += VW) {
        const int n = vcount(count - i);
        vf across[4][3], down[3][4];
        for (int kx = 0; kx < 3; kx++) {
            vf tap[3];
            for (int ky = 0; ky < 3; ky++)
                tap[ky] = load_weight(row + (size_t)((ky * 3 + kx) * j->channels + i) * type_bytes(type), type, n);
            weight_points(side, tap, down[kx]);
        }
        for (int y = 0; y < side; y++) {
            vf point[4];
            for (int kx = 0; kx < 3; kx++)
                across[y][kx] = down[kx][y];
            weight_points(side, across[y], point);
            for (int x = 0; x < side; x++)
                vstn(to + (y * side + x) * WINOGRAD_WORDS, false, i, point[x], n);
        }
    }
}

/* Outputs [n, n + cols), channels [c, c + count). 3×3 filters lie densely in their prepared form. */
SIMD_INLINE void weights_of(const int side, const conv_job *j, int64_t n, int64_t cols, int64_t c, int64_t count,
                            float *a)
{
    const matrix_piece *p = &j->g.w->piece[0];
    assert(j->g.w->count == 1 && !p->packed);
    for (int64_t i = 0; i < cols; i++)
        weight_row(side, j, p->data + (size_t)((n + i) * p->ld + c) * type_bytes(p->type), p->type, count,
                   a + i * WINOGRAD_LDA);
}

/* ---- inputs ---- */

/* Points of the TILE_COLS tiles from tile q of the strip's tile row y on, channels [word, word + words). Tiles of 2×2
 * outputs are two columns apart: those lie apart by even and odd. */
SIMD_INLINE void inputs_of(const int side, const conv_job *j, int64_t y, int64_t q, int64_t word, int64_t words,
                           float *to)
{
    const int step = side == 3 ? 1 : 2;
    const int64_t line = j->channels * j->ldx, part = j->ldx / step;
    const float *from = j->lines + y * step * line + word * j->ldx + q;
    for (int64_t k = 0; k < words; k++, from += j->ldx, to += TILE_COLS)
        for (int v = 0; v < TILE_VECTORS; v++) {
            vf down[4][4];
            SIMD_UNROLL
            for (int x = 0; x < side; x++) {
                vf pixel[4];
                SIMD_UNROLL
                for (int r = 0; r < side; r++)
                    pixel[r] = vload(from + r * line + x % step * part + x / step + v * VW);
                input_points(side, pixel, down[x]);
            }
            SIMD_UNROLL
            for (int r = 0; r < side; r++) {
                vf across[4], point[4];
                SIMD_UNROLL
                for (int x = 0; x < side; x++)
                    across[x] = down[x][r];
                input_points(side, across, point);
                SIMD_UNROLL
                for (int x = 0; x < side; x++)
                    vstore(to + (r * side + x) * WINOGRAD_WORDS * TILE_COLS + v * VW, point[x]);
            }
        }
}

/* ---- products ---- */

#define WINOGRAD_TILE(rows)                                                                     \
    static void point_##rows(int64_t steps, const float *a, const float *b, float *c, bool add) \
    {                                                                                           \
        tile_body(rows, TILE_VECTORS, steps, a, WINOGRAD_LDA, b, c, TILE_COLS, add);            \
    }
EACH_TILE(WINOGRAD_TILE)
#define WINOGRAD_ROW(rows) point_##rows,
static tile_fn *const point_tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(WINOGRAD_ROW)};

/* sums[point][cols, TILE_COLS] (+)= weights·inputs, point by point. */
static void multiply_points(int64_t points, int64_t cols, int64_t words, const float *a, const float *inputs,
                            float *sums, bool add)
{
    const int64_t count = i64_ceil_div(cols, TILE_ROWS), width = cols / count, wider = cols % count;
    for (int64_t p = 0; p < points; p++)
        for (int64_t t = 0, n = 0; t < count; t++) {
            const int64_t height = width + (t < wider);
            point_tiles[height](words, a + n * WINOGRAD_LDA + p * WINOGRAD_WORDS,
                                inputs + p * WINOGRAD_WORDS * TILE_COLS, sums + p * WINOGRAD_SUMS + n * TILE_COLS, add);
            n += height;
        }
}

/* ---- outputs ---- */

/* Sums of the points become those of the tile's four outputs, in the places of the first four points. */
SIMD_INLINE void combine_points(const int side, int64_t cols, float *sums)
{
    for (int64_t i = 0; i < cols * TILE_COLS; i += VW) {
        vf across[4][2];
        for (int y = 0; y < side; y++) {
            vf sum[4];
            for (int x = 0; x < side; x++)
                sum[x] = vload(sums + (y * side + x) * WINOGRAD_SUMS + i);
            output_points(side, sum, across[y]);
        }
        for (int x = 0; x < 2; x++) {
            vf sum[4], out[2];
            for (int y = 0; y < side; y++)
                sum[y] = across[y][x];
            output_points(side, sum, out);
            vstore(sums + x * WINOGRAD_SUMS + i, out[0]);
            vstore(sums + (2 + x) * WINOGRAD_SUMS + i, out[1]);
        }
    }
}

/* The four outputs of the tiles from q on of the strip's tile row y. */
static void finish_tiles(const conv_job *j, int64_t y, int64_t q, int64_t n, int64_t cols, const float *sums,
                         float *lines)
{
    const int64_t times = j->upsample ? 2 : 1, width = j->out_width * times, height = j->out_height * times,
                  row = j->first * times + 2 * y;
    for (int64_t dy = 0; dy < 2 && row + dy < height; dy++)
        for (int64_t dx = 0; dx < 2; dx++)
            finish_panel(&j->g, (j->item * height + row + dy) * width + 2 * q + dx, 2,
                         i64_min(TILE_COLS, i64_ceil_div(width - dx - 2 * q, 2)), n, cols,
                         sums + (2 * dy + dx) * WINOGRAD_SUMS, lines);
}

/* ---- the task ---- */

SIMD_INLINE void winograd_task(const int side, const conv_job *j, int64_t index, float *scratch)
{
    const gemm_job *g = &j->g;
    float *a = scratch, *lines = a + PRODUCT_COLS * WINOGRAD_LDA, *inputs = lines + TILE_COLS * PRODUCT_LINE,
          *sums = inputs + WINOGRAD_INPUTS;
    const int64_t first = index % g->blocks_m * g->block_m, last = i64_min(first + g->block_m, j->panels),
                  n = index / g->blocks_m * g->block_n, cols = i64_min(g->block_n, g->n - n);
    for (int64_t c = 0; c < j->channels; c += WINOGRAD_WORDS) {
        const int64_t count = i64_min(WINOGRAD_WORDS, j->channels - c);
        if (stopped(g->cancel))
            return;
        weights_of(side, j, n, cols, c, count, a);
        for (int64_t p = first; p < last; p++) {
            const int64_t y = p / j->wide, q = p % j->wide * TILE_COLS;
            float *s = sums + (p - first) * WINOGRAD_POINTS * WINOGRAD_SUMS;
            inputs_of(side, j, y, q, c, count, inputs);
            multiply_points(side * side, cols, count, a, inputs, s, c > 0);
            if (c + count < j->channels)
                continue;
            combine_points(side, cols, s);
            finish_tiles(j, y, q, n, cols, s, lines);
        }
    }
}

/* Task: a block of outputs for some of the strip's panels of tiles. */
static void winograd(void *arg, int64_t index, int worker)
{
    const conv_job *j = arg;
    float *scratch = j->g.scratch + (int64_t)worker * GEMM_SCRATCH;
    if (j->upsample)
        winograd_task(3, j, index, scratch);
    else
        winograd_task(4, j, index, scratch);
}

#endif
#endif
