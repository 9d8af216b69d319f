/* 3×3 convolutions without im2col. Included once per instruction set, over kernels_product.h, whose copies of weights,
 * tiles and epilogue it uses.
 *
 * Idea: as in a product, the weights are broadcast and the input is laid once for all threads, here as lines of words,
 * [input row][channel word][pixel], with zeros around the image. A neighbour's pixel is then an unaligned load, so each
 * value is laid once and not nine times. A task owns PRODUCT_COLS outputs of some panels of TILE_COLS pixels. It copies
 * the weights of CONV_WORDS words of channels, whose window of the lines stays in the L1 cache while all these outputs
 * pass. Each output is one chain of multiply-adds a block of channels, added block by block: the same for every way of
 * cutting the output. With stride 2 a line has its even columns first, then the odd ones.
 *
 * A group norm and SiLU in front are applied as the lines are laid: the normalised plane is never made.
 *
 * A nearest ×2 upsampling in front is never made: each of the four pixels that come of one sees the input through a 2×2
 * kernel, sums of the 3×3 one's taps. */
#ifndef FLUX1_OPS_CPU_KERNELS_CONV_H
#define FLUX1_OPS_CPU_KERNELS_CONV_H

#include "ops/cpu/kernels_product.h"

#include <assert.h>

enum { CONV_WORDS = 32, CONV_TAPS = 9, CONV_CHANNELS = CONV_WORDS * PER_WORD };
_Static_assert(CONV_TAPS *CONV_WORDS <= PRODUCT_STEPS, "weights of a block of channels fit where a product's do");

/* ---- lines ---- */

/* Channels [c, c + n) of a pixel, as they enter the convolution. */
SIMD_INLINE vf pixel_values(const conv_job *j, const void *pixel, int64_t c, int n)
{
    const vf x = vldn(pixel, j->in.bf16, c, n);
    return j->norm ? vnormalise(x, j->mean, j->scale, j->shift, j->norm->silu, c, n) : x;
}

/* A vector of words from channel c on; n channels are left. */
SIMD_INLINE vf line_words(const conv_job *j, const void *pixel, int64_t c, int64_t n)
{
#if defined(SIMD_BF16)
    if (j->in.bf16 && !j->norm)
        return n >= 2 * VW ? vraw((const uint16_t *)pixel + c) : vrawn((const uint16_t *)pixel + c, (int)n);
    return vpairs(pixel_values(j, pixel, c, vcount(n)),
                  n > VW ? pixel_values(j, pixel, c + VW, vcount(n - VW)) : vzero());
#else
    return pixel_values(j, pixel, c, vcount(n));
#endif
}

/* Pixels from column x on, `parts` apart, `count` of them, to the line's columns at `to`. */
static void lay_columns(const conv_job *j, const view *from, int64_t row, int64_t x, int64_t count, float *to)
{
    const int64_t step = VW * PER_WORD;
    for (int64_t i = 0; i < count; i += VW) {
        const void *pixels[VW];
        const int lanes = vcount(count - i);
        for (int p = 0; p < VW; p++)
            pixels[p] = view_row(from, row + x + (i + (p < lanes ? p : lanes - 1)) * j->parts);
        for (int64_t c = 0; c < j->channels; c += step) {
            const int words = vcount(i64_ceil_div(j->channels - c, PER_WORD));
            vf r[VW];
            for (int p = 0; p < VW; p++)
                r[p] = line_words(j, pixels[p], c, j->channels - c);
            vtranspose(r);
            for (int k = 0; k < words; k++)
                vstn(to + (c / PER_WORD + k) * j->ldx + i, false, 0, r[k], lanes);
        }
    }
}

/* Task: line `index` of the strip. */
static void lay_line(void *arg, int64_t index, int worker)
{
    const conv_job *j = arg;
    const int64_t words = i64_ceil_div(j->channels, PER_WORD), y = j->first * j->stride + index - j->before;
    const view *from = y < 0 ? &j->top : y >= j->height ? &j->bottom : &j->in;
    const int64_t row = (from == &j->in ? j->item * j->height + y : j->item) * j->width;
    float *to = j->lines + index * words * j->ldx;
    (void)worker;
    if (stopped(j->g.cancel))
        return;
    if (!from->data) {
        memset(to, 0, (size_t)(words * j->ldx) * sizeof *to);
        return;
    }
    const int64_t length = j->ldx / j->parts;
    for (int64_t part = 0; part < j->parts; part++) {
        const int64_t zeros = part < j->before, first = part + zeros * j->parts - j->before,
                      count = i64_ceil_div(j->width - first, j->parts), behind = zeros + count;
        lay_columns(j, from, row, first, count, to + part * length + zeros);
        for (int64_t k = 0; k < words; k++) {
            float *line = to + k * j->ldx + part * length;
            memset(line, 0, (size_t)zeros * sizeof *line);
            memset(line + behind, 0, (size_t)(length - behind) * sizeof *line);
        }
    }
}

/* ---- weights ---- */

/* Rows [n, n + cols) of the weights, channels [c, c + count) of each tap, as rows of words. */
static void copy_taps(const conv_job *j, int64_t n, int64_t cols, int64_t c, int64_t count, float *a)
{
    for (int64_t tap = 0; tap < CONV_TAPS; tap++)
        copy_rows(j->g.w, n, cols, tap * j->channels + c, count, a + tap * i64_ceil_div(count, PER_WORD), WEIGHT_ROWS);
}

/* Taps of a 3×3 kernel, along one axis, that fall onto the same pixel: the two taps of the pixel before or behind. */
static int64_t folded_begin(int64_t tap, int64_t behind) { return tap ? 1 + behind : 0; }
static int64_t folded_end(int64_t tap, int64_t behind) { return tap ? 3 : 1 + behind; }

/* count sums of the row's taps that fall onto tap (ty, tx), to words from `to` on. */
static void fold_row(const conv_job *j, const unsigned char *row, dtype type, int phase, int64_t tap, int64_t count,
                     float *to)
{
    const int64_t py = phase / 2, px = phase % 2, ty = tap / 2, tx = tap % 2;
    for (int64_t i = 0; i < count; i += VW) {
        const int n = vcount(count - i);
        vf sum = vzero();
        for (int64_t ky = folded_begin(ty, py); ky < folded_end(ty, py); ky++)
            for (int64_t kx = folded_begin(tx, px); kx < folded_end(tx, px); kx++)
                sum =
                    vadd(sum, load_weight(row + (size_t)((ky * 3 + kx) * j->channels + i) * type_bytes(type), type, n));
        vstn(to, PER_WORD == 2, i, sum, n);
    }
    if (count % PER_WORD)
        ((uint16_t *)to)[count] = 0;
}

/* As copy_taps, for the 2×2 kernel of one of the four pixels. 3×3 filters lie densely in their prepared form. */
static void fold_taps(const conv_job *j, int phase, int64_t n, int64_t cols, int64_t c, int64_t count, float *a)
{
    const matrix_piece *p = &j->g.w->piece[0];
    const size_t bytes = type_bytes(p->type);
    assert(j->g.w->count == 1 && !p->packed);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t tap = 0; tap < 4; tap++)
            fold_row(j, p->data + (size_t)((n + i) * p->ld + c) * bytes, p->type, phase, tap, count,
                     a + i * PRODUCT_LDA + tap * i64_ceil_div(count, PER_WORD));
}

/* ---- the tile ---- */

/* Where a panel's words lie for each tap. */
typedef struct conv_window {
    int64_t words, ldx;
    const float *at[CONV_TAPS];
} conv_window;

#if defined(SIMD_AMX)
SIMD_INLINE void conv_units(const bool tall, const int taps, const conv_window *x, const float *a, float *c, bool add)
{
    unit_sums(tall, true, c, TILE_COLS, add);
    for (int tap = 0; tap < taps; tap++, a += x->words) {
        int64_t k = 0;
        for (; k + UNIT <= x->words; k += UNIT)
            unit_step(tall, true, a + k, units_in_rows(PRODUCT_LDA), x->at[tap] + k * x->ldx, x->ldx);
        if (k < x->words)
            unit_rest(tall, true, x->words - k, a + k, units_in_rows(PRODUCT_LDA), x->at[tap] + k * x->ldx, x->ldx);
    }
    unit_store(tall, true, c, TILE_COLS);
}

static void conv_panel(const conv_window *x, int64_t cols, const float *a, bool folded, float *sums, bool add)
{
    const int taps = folded ? 4 : CONV_TAPS;
    units_ready();
    for (int64_t n = 0; n < cols; n += TOGETHER)
        if (cols - n > UNIT)
            conv_units(true, taps, x, a + n * PRODUCT_LDA, sums + n * TILE_COLS, add);
        else
            conv_units(false, taps, x, a + n * PRODUCT_LDA, sums + n * TILE_COLS, add);
}
#else
SIMD_INLINE void conv_body(const int rows, const int side, const conv_window *x, const float *a, float *c, bool add)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = vzero();
    const int64_t words = x->words, ldx = x->ldx;
    for (int ty = 0; ty < side; ty++, a += side * words)
        for (int64_t k = 0; k < words; k++)
            SIMD_UNROLL
    for (int tx = 0; tx < side; tx++) {
        const float *b = x->at[ty * side + tx] + k * ldx;
        vf bv[TILE_VECTORS];
        SIMD_UNROLL
        for (int v = 0; v < TILE_VECTORS; v++)
            bv[v] = vload(b + v * VW);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++) {
            const vf ai = vset1(a[i * PRODUCT_LDA + tx * words + k]);
            SIMD_UNROLL
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] = vmadd(sum[i][v], ai, bv[v]);
        }
    }
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++) {
        float *p = c + i * TILE_COLS + v * VW;
        vstore(p, add ? vadd(vload(p), sum[i][v]) : sum[i][v]);
    }
}

#define CONV_TILE(rows)                                                                 \
    static void conv_##rows(const conv_window *x, const float *a, float *c, bool add)   \
    {                                                                                   \
        conv_body(rows, 3, x, a, c, add);                                               \
    }                                                                                   \
    static void folded_##rows(const conv_window *x, const float *a, float *c, bool add) \
    {                                                                                   \
        conv_body(rows, 2, x, a, c, add);                                               \
    }
EACH_TILE(CONV_TILE)

typedef void conv_fn(const conv_window *x, const float *a, float *c, bool add);
#define CONV_ROW(rows) {conv_##rows, folded_##rows},
static conv_fn *const conv_tiles[TILE_ROWS + 1][2] = {{NULL, NULL}, EACH_TILE(CONV_ROW)};

static void conv_panel(const conv_window *x, int64_t cols, const float *a, bool folded, float *sums, bool add)
{
    const int64_t count = i64_ceil_div(cols, TILE_ROWS), width = cols / count, wider = cols % count;
    for (int64_t t = 0, n = 0; t < count; t++) {
        const int64_t height = width + (t < wider);
        conv_tiles[height][folded](x, a + n * PRODUCT_LDA, sums + n * TILE_COLS, add);
        n += height;
    }
}
#endif

/* The window of pixels [q, q + TILE_COLS) of the strip's output row y, words from `word` on. */
static conv_window window_of(const conv_job *j, int phase, int64_t y, int64_t q, int64_t word, int64_t words)
{
    const int side = j->upsample ? 2 : 3;
    const int64_t line = i64_ceil_div(j->channels, PER_WORD) * j->ldx, length = j->ldx / j->parts;
    conv_window x = {.words = words, .ldx = j->ldx};
    for (int tap = 0; tap < side * side; tap++) {
        const int64_t dy = tap / side + phase / 2, dx = tap % side + phase % 2;
        x.at[tap] = j->lines + (y * j->stride + dy) * line + word * j->ldx + dx % j->parts * length + dx / j->parts + q;
    }
    return x;
}

/* ---- the task ---- */

/* Sums of pixels [q, q + count) of the strip's row y become outputs. */
static void finish_pixels(const conv_job *j, int phase, int64_t y, int64_t q, int64_t count, int64_t n, int64_t cols,
                          const float *sums, float *lines)
{
    const int64_t times = j->upsample ? 2 : 1, row = (j->item * j->out_height + j->first + y) * times + phase / 2;
    finish_panel(&j->g, row * j->out_width * times + q * times + phase % 2, times, count, n, cols, sums, lines);
}

/* Task: a block of outputs (of one of the four kernels) for some of the strip's panels. */
static void conv(void *arg, int64_t index, int worker)
{
    const conv_job *j = arg;
    const gemm_job *g = &j->g;
    float *a = g->scratch + (int64_t)worker * GEMM_SCRATCH, *lines = a + PRODUCT_COLS * PRODUCT_LDA,
          *sums = lines + TILE_COLS * PRODUCT_LINE;
    const int64_t phases = j->upsample ? 4 : 1, outputs = index / g->blocks_m, first = index % g->blocks_m * g->block_m,
                  last = i64_min(first + g->block_m, j->panels), n = outputs / phases * g->block_n,
                  cols = i64_min(g->block_n, g->n - n);
    const int phase = (int)(outputs % phases);
    int64_t c = 0;
    do {
        const int64_t count = i64_min(CONV_CHANNELS, j->channels - c), words = i64_ceil_div(count, PER_WORD);
        if (stopped(g->cancel))
            return;
        if (j->upsample)
            fold_taps(j, phase, n, cols, c, count, a);
        else
            copy_taps(j, n, cols, c, count, a);
        for (int64_t p = first; p < last; p++) {
            const int64_t y = p / j->wide, q = p % j->wide * TILE_COLS, here = i64_min(TILE_COLS, j->out_width - q);
            const conv_window x = window_of(j, phase, y, q, c / PER_WORD, words);
            float *s = sums + (p - first) * PRODUCT_COLS * TILE_COLS;
            conv_panel(&x, cols, a, j->upsample, s, c > 0);
            if (c + count == j->channels)
                finish_pixels(j, phase, y, q, here, n, cols, s, lines);
        }
        c += count;
    } while (c < j->channels);
}

#endif
