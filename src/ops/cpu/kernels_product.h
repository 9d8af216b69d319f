/* Linear layers of more than a few rows. Included once per instruction set, over kernels_gemm.h, whose words and tile
 * it uses.
 *
 * Idea: the weights are the side that is broadcast, so they are copied (converted, decoded) as they lie and never
 * transposed. The inputs are transposed once a product into panels [k word][TILE_COLS rows], which all threads read. A
 * task owns PRODUCT_COLS outputs of a block of rows: it copies PRODUCT_STEPS words of their weights, which stay in the
 * L2 cache while all panels pass, and each tile sums all of these words in registers. So the sums of a panel are
 * written once, or once a k block where k is longer, side by side. Behind the last k block they are transposed, panel
 * by panel, into rows of outputs, which take the epilogue. Each output is one chain of multiply-adds a k block, added
 * block by block: the same for every way of cutting the output. */
#ifndef FLUX1_OPS_CPU_KERNELS_PRODUCT_H
#define FLUX1_OPS_CPU_KERNELS_PRODUCT_H

#include "ops/cpu/kernels_gemm.h"

/* Of a worker's scratch: weights [PRODUCT_COLS][PRODUCT_LDA], lines [TILE_COLS][PRODUCT_LINE], sums [panels][row of
 * the weights][TILE_COLS]. A row of weights is padded, so that a tile's rows do not share cache sets. */
enum {
    PRODUCT_LDA = PRODUCT_STEPS + 16,
    PRODUCT_LINE = PRODUCT_COLS + VW,
    PRODUCT_K = PRODUCT_STEPS * PER_WORD,
    PRODUCT_PIECE = 256 /* elements of each row that are transposed at once */
};
_Static_assert(PRODUCT_COLS *PRODUCT_LDA + TILE_COLS * PRODUCT_LINE + PRODUCT_COLS * (PRODUCT_ROWS + TILE_COLS) <=
                   GEMM_SCRATCH,
               "a task of a product fits a worker's scratch");

/* ---- inputs ---- */

/* Rows [row, row + count) of the input, at most a panel's, elements [k, k + length), to words of the panel. */
static void lay_tokens(const view *in, int64_t row, int64_t count, int64_t k, int64_t length, float *to)
{
    const dtype type = in->bf16 ? DTYPE_BF16 : DTYPE_F32;
    for (int64_t r = 0; r < count; r += VW) {
        const unsigned char *rows[VW];
        const int lanes = vcount(count - r);
        for (int i = 0; i < VW; i++)
            rows[i] = (const unsigned char *)view_row(in, row + r + (i < lanes ? i : lanes - 1)) +
                      (size_t)k * type_bytes(type);
        transpose_rows(rows, type, lanes, length, to + r);
    }
}

/* All `k` elements of them. Rows that are missing are 0, and so is half a pair. */
static void lay_panel(const view *in, int64_t row, int64_t count, int64_t k, float *to)
{
    const int64_t steps = i64_ceil_div(k, PER_WORD);
    if (count < TILE_COLS)
        memset(to, 0, (size_t)(steps * TILE_COLS) * sizeof *to);
    else if (k % PER_WORD)
        memset(to + (steps - 1) * TILE_COLS, 0, TILE_COLS * sizeof *to);
    for (int64_t at = 0; at < k; at += PRODUCT_PIECE)
        lay_tokens(in, row, count, at, i64_min(PRODUCT_PIECE, k - at), to + at / PER_WORD * TILE_COLS);
}

/* Task: panel `index` of the rows under way. */
static void lay(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    const int64_t row = index * TILE_COLS;
    (void)worker;
    if (!stopped(g->cancel))
        lay_panel(&g->in, g->first + row, i64_min(TILE_COLS, g->rows - row), g->k,
                  g->panels + row * i64_ceil_div(g->k, PER_WORD));
}

/* ---- weights ---- */

/* count elements to word row `to` from element `at` on, and nothing beyond. */
static void copy_weights(float *to, int64_t at, const unsigned char *p, dtype type, int64_t count)
{
#if defined(SIMD_BF16)
    uint16_t *h = (uint16_t *)to + at;
    if (type == DTYPE_BF16) {
        memcpy(h, p, (size_t)count * sizeof *h);
        return;
    }
    for (int64_t i = 0; i < count; i += VW)
        vstn(h, true, i, load_weight(p + (size_t)i * type_bytes(type), type, vcount(count - i)), vcount(count - i));
#else
    for (int64_t i = 0; i < count; i += VW)
        vstn(to + at, false, i, load_weight(p + (size_t)i * type_bytes(type), type, vcount(count - i)),
             vcount(count - i));
#endif
}

/* The same for a piece that has to be decoded first. */
static void copy_packed(float *to, int64_t at, const matrix_piece *p, int64_t row, int64_t col, int64_t count)
{
    float values[DECODE_COLS];
    for (int64_t c = 0; c < count; c += DECODE_COLS) {
        const int64_t n = i64_min(DECODE_COLS, count - c);
        const matrix_piece plain = cpu_decode_piece(DECODERS, p, row, 1, col + c, n, values);
        copy_weights(to, at + c, plain.data, DTYPE_F32, n);
    }
}

static void copy_piece(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t at,
                       float *a)
{
    const size_t bytes = type_bytes(p->type), row_bytes = (size_t)p->ld * bytes;
    for (int64_t i = 0; i < rows; i++) {
        if (p->packed) {
            copy_packed(a + i * PRODUCT_LDA, at, p, row + i, col, cols);
            continue;
        }
        const unsigned char *data = p->data + (size_t)(row + i - p->row) * row_bytes + (size_t)(col - p->col) * bytes;
        touch(data + ROWS_AHEAD * row_bytes, (size_t)cols * bytes);
        copy_weights(a + i * PRODUCT_LDA, at, data, p->type, cols);
    }
}

/* Rows [row, row + rows) of the matrix, elements [k, k + count), as rows of words; half a pair is 0. */
static void copy_rows(const matrix *w, int64_t row, int64_t rows, int64_t k, int64_t count, float *a)
{
    if (count % PER_WORD)
        for (int64_t i = 0; i < rows; i++)
            a[i * PRODUCT_LDA + count / PER_WORD] = 0;
    for (int i = 0; i < w->count; i++) {
        const matrix_piece *p = &w->piece[i];
        const int64_t r0 = i64_max(row, p->row), r1 = i64_min(row + rows, p->row + p->rows), c0 = i64_max(k, p->col),
                      c1 = i64_min(k + count, p->col + p->cols);
        if (r0 < r1 && c0 < c1)
            copy_piece(p, r0, r1 - r0, c0, c1 - c0, c0 - k, a + (r0 - row) * PRODUCT_LDA);
    }
}

/* ---- the product ---- */

#if defined(SIMD_AMX)
enum { TOGETHER = 2 * UNIT }; /* rows of weights */

/* As below. A block of the panel's words is multiplied by all rows before the next. */
static void multiply_panel(int64_t rows, int64_t steps, const float *a, const float *panel, bool narrow, float *sums,
                           bool add)
{
    int64_t k = 0;
    do { /* without steps the sums are zeros */
        units_multiply(rows, i64_min(UNIT_STEPS, steps - k), a + k, PRODUCT_LDA, panel + k * TILE_COLS, TILE_COLS,
                       narrow, sums, TILE_COLS, add || k > 0);
        k += UNIT_STEPS;
    } while (k < steps);
}
#else
enum { TOGETHER = TILE_ROWS };

#define PRODUCT_TILE(rows)                                                                        \
    static void product_##rows(int64_t steps, const float *a, const float *b, float *c, bool add) \
    {                                                                                             \
        tile_body(rows, TILE_VECTORS, steps, a, PRODUCT_LDA, b, c, TILE_COLS, add);               \
    }                                                                                             \
    static void narrow_##rows(int64_t steps, const float *a, const float *b, float *c, bool add)  \
    {                                                                                             \
        tile_body(rows, 1, steps, a, PRODUCT_LDA, b, c, TILE_COLS, add);                          \
    }
EACH_TILE(PRODUCT_TILE)

typedef void product_fn(int64_t steps, const float *a, const float *b, float *c, bool add);
#define PRODUCT_ROW(rows) {product_##rows, narrow_##rows},
static product_fn *const products[TILE_ROWS + 1][2] = {{NULL, NULL}, EACH_TILE(PRODUCT_ROW)};

/* sums[rows, TILE_COLS] (+)= a·panel; `narrow`: all of the panel's rows are in its first vector. */
static void multiply_panel(int64_t rows, int64_t steps, const float *a, const float *panel, bool narrow, float *sums,
                           bool add)
{
    const int64_t count = i64_ceil_div(rows, TILE_ROWS), width = rows / count, wider = rows % count;
    for (int64_t t = 0, n = 0; t < count; t++) {
        const int64_t height = width + (t < wider);
        products[height][narrow](steps, a + n * PRODUCT_LDA, panel, sums + n * TILE_COLS, add);
        n += height;
    }
}
#endif

/* Sums [cols, TILE_COLS] of `rows` rows become columns [n, n + cols) of the output rows m, m + step, … */
static void finish_panel(const gemm_job *g, int64_t m, int64_t step, int64_t rows, int64_t n, int64_t cols,
                         const float *sums, float *lines)
{
    for (int64_t t = 0; t < rows; t += VW)
        for (int64_t i = 0; i < cols; i += VW) {
            vf r[VW];
            for (int j = 0; j < VW; j++)
                r[j] = vload(sums + i64_min(i + j, cols - 1) * TILE_COLS + t);
            vtranspose(r);
            for (int j = 0; j < VW; j++)
                vstore(lines + (t + j) * PRODUCT_LINE + i, r[j]);
        }
    for (int64_t t = 0; t < rows; t++)
        finish_row(g, m + t * step, n, cols, lines + t * PRODUCT_LINE);
}

static void product(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    float *a = g->scratch + (int64_t)worker * GEMM_SCRATCH, *lines = a + PRODUCT_COLS * PRODUCT_LDA,
          *sums = lines + TILE_COLS * PRODUCT_LINE;
    /* blocks of rows pass under one block of columns: its weights are read from the file once */
    const int64_t n = index / g->blocks_m * g->block_n, m = index % g->blocks_m * g->block_m,
                  cols = i64_min(g->block_n, g->n - n), rows = i64_min(g->block_m, g->rows - m),
                  all = i64_ceil_div(g->k, PER_WORD);
    int64_t k = 0;
    do {
        const int64_t count = i64_min(PRODUCT_K, g->k - k), steps = i64_ceil_div(count, PER_WORD);
        if (stopped(g->cancel))
            return;
        copy_rows(g->w, n, cols, k, count, a);
        for (int64_t t = 0; t < rows; t += TILE_COLS) {
            const float *panel = g->panels + (m + t) * all + k / PER_WORD * TILE_COLS;
            const int64_t here = i64_min(TILE_COLS, rows - t);
            float *c = sums + t * PRODUCT_COLS;
            multiply_panel(cols, steps, a, panel, here <= VW, c, k > 0);
            if (k + count == g->k)
                finish_panel(g, g->first + m + t, 1, here, n, cols, c, lines);
        }
        k += count;
    } while (k < g->k);
}

#endif
