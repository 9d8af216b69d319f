/* Convolutions, linear layers of a few rows, and the parts that all matrix products share (kernels_product.h,
 * kernels_attention.h). Included once per instruction set, over simd.h. DECODERS: those of packed weights (decode.h),
 * or NULL.
 *
 * Idea: a convolution's task owns a block of the output, up to GEMM_ROWS × GEMM_COLS, summed in float32 in its worker's
 * scratch over k blocks of GEMM_STEPS words. A "word" is one float, or two neighbouring bf16 along k where the machine
 * multiplies those (SIMD_BF16): everything but vmadd is the same. A  rows of LDA words, copied (converted, gathered
 * from an image) as they lie: the tile broadcasts its words. Stays in the L2 cache. B  panels of TILE_COLS columns × k,
 * transposed on the way from the file's rows. One panel stays in the L1 cache while all of A passes. tile TILE_ROWS ×
 * TILE_VECTORS sums in registers; rows are dealt out so that tiles differ by one row at most. Each output is one chain
 * of multiply-adds a k block, added block by block: the same for every way of cutting the output. The last step of a
 * task is the epilogue, row by row, while the sums are still in cache. */
#ifndef FLUX1_OPS_CPU_KERNELS_GEMM_H
#define FLUX1_OPS_CPU_KERNELS_GEMM_H

#include "base/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/simd.h"

#include <assert.h>
#if defined(SIMD_MATRIX)
#include "ops/cpu/tile_matrix.h"
#endif

enum { TILE_COLS = TILE_VECTORS * VW };
#if defined(SIMD_BF16)
enum { PER_WORD = 2 };
#else
enum { PER_WORD = 1 };
#endif
enum { BLOCK_K = GEMM_STEPS * PER_WORD, PANEL = TILE_COLS * GEMM_STEPS };

/* ---- the tile: c[rows, TILE_COLS] (+)= a[rows, steps]·b[steps, TILE_COLS], of which `vectors` are made ---- */

/* Its sums. Word k of a's row i is a[i·row + k·step]; one of `row` and `step` is 1. */
#if defined(SIMD_MATRIX)
SIMD_INLINE void tile_sums(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, int64_t steps,
                           const float *a, const int64_t row, const int64_t step, const float *b)
{
    uint32x4_t words[TILE_ROWS][TILE_VECTORS];
    const matrix_side side = {(const unsigned char *)a, row, step};
    matrix_sums(words, rows, vectors, steps, &side, b, TILE_COLS);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < vectors; j++)
        sum[i][j] = vof(words[i][j]);
}
#else
SIMD_INLINE void tile_sums(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, int64_t steps,
                           const float *a, const int64_t row, const int64_t step, const float *b)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < vectors; j++)
        sum[i][j] = vzero();
    for (int64_t k = 0; k < steps; k++, b += TILE_COLS) {
        vf bj[TILE_VECTORS];
        SIMD_UNROLL
        for (int j = 0; j < vectors; j++)
            bj[j] = vload(b + j * VW);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++) {
            vf ai = vset1(a[i * row + k * step]);
            SIMD_UNROLL
            for (int j = 0; j < vectors; j++)
                sum[i][j] = vmadd(sum[i][j], ai, bj[j]);
        }
    }
}
#endif

SIMD_INLINE void tile_body(const int rows, const int vectors, int64_t steps, const float *a, const int64_t lda,
                           const float *b, float *c, int64_t ldc, bool add)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    tile_sums(sum, rows, vectors, steps, a, lda, 1, b);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < vectors; j++) {
        float *p = c + i * ldc + j * VW;
        vstore(p, add ? vadd(vload(p), sum[i][j]) : sum[i][j]);
    }
}

typedef void tile_fn(int64_t steps, const float *a, const float *b, float *c, int64_t ldc, bool add);
/* One of each height up to TILE_ROWS. */
#if TILE_ROWS == 4
#define EACH_TILE(T) T(1) T(2) T(3) T(4)
#elif TILE_ROWS == 6
#define EACH_TILE(T) T(1) T(2) T(3) T(4) T(5) T(6)
#else
#define EACH_TILE(T) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12) T(13) T(14)
#endif

#define TILE(rows)                                                                                          \
    static void tile_##rows(int64_t steps, const float *a, const float *b, float *c, int64_t ldc, bool add) \
    {                                                                                                       \
        tile_body(rows, TILE_VECTORS, steps, a, GEMM_LDA, b, c, ldc, add);                                  \
    }
EACH_TILE(TILE)
#define TILE_NAME(rows) tile_##rows,
static tile_fn *const tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(TILE_NAME)};

/* c[rows, cols] (+)= a·b; cols rounded up to whole panels. */
static void multiply(int64_t rows, int64_t cols, int64_t steps, const float *a, const float *b, float *c, int64_t ldc,
                     bool add)
{
    int64_t count = i64_ceil_div(rows, TILE_ROWS), width = count ? rows / count : 0, wider = count ? rows % count : 0;
    for (int64_t n = 0; n < cols; n += TILE_COLS, b += PANEL)
        for (int64_t t = 0, m = 0; t < count; t++) {
            int64_t height = width + (t < wider);
            tiles[height](steps, a + m * GEMM_LDA, b, c + m * ldc + n, ldc, add);
            m += height;
        }
}

/* ---- A ---- */

/* count elements to word row `to` from element `at` on; p NULL: zeros. May write up to a vector of zeros beyond; pairs
 * come out whole. */
static void lay_row(float *to, int64_t at, const void *p, bool bf16, int64_t count)
{
#if defined(SIMD_BF16)
    uint16_t *h = (uint16_t *)to + at;
    for (int64_t i = 0; i < count; i += 2 * VW) {
        int n = (int)i64_min(count - i, 2 * VW);
        if (!p)
            vstore(h + i, vzero());
        else if (bf16)
            vstore(h + i, vrawn((const uint16_t *)p + i, n));
        else
            vstore(h + i,
                   vpairs(vldn(p, false, i, n < VW ? n : VW), n > VW ? vldn(p, false, i + VW, n - VW) : vzero()));
    }
#else
    for (int64_t i = 0; i < count; i += VW)
        vstore(to + at + i, p ? vldn(p, bf16, i, vcount(count - i)) : vzero());
#endif
}

/* Rows lie kilobytes apart, where the processor does not look by itself. */
enum { ROWS_AHEAD = 4 };
SIMD_INLINE void touch(const unsigned char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i);
}

static void lay_rows(const view *in, int64_t m, int64_t rows, int64_t k, int64_t count, float *a)
{
    const size_t bytes = in->bf16 ? 2 : 4;
    for (int64_t i = 0; i < rows; i++) {
        const unsigned char *p = (const unsigned char *)view_row(in, m + i) + (size_t)k * bytes;
        if (i + ROWS_AHEAD < rows)
            touch(p + (size_t)(ROWS_AHEAD * in->ld) * bytes,
                  (size_t)count * bytes); /* the next batch item's rows lie elsewhere: no harm */
        lay_row(a + i * GEMM_LDA, 0, p, in->bf16, count);
    }
}

/* The pixel (y, x) of batch item b in the input plane, or NULL where zeros are. */
static const unsigned char *pixel_at(const gemm_job *g, int64_t b, int64_t y, int64_t x)
{
    if (x < 0 || x >= g->width)
        return NULL;
    if (y < 0)
        return g->top.data ? view_row(&g->top, b * g->width + x) : NULL;
    if (y >= g->height)
        return g->bottom.data ? view_row(&g->bottom, b * g->width + x) : NULL;
    return view_row(&g->in, (b * g->height + y) * g->width + x);
}

/* Output pixels [m, m + rows) as rows of A: their neighbourhoods in the order (ky, kx, channel), elements [k, k +
 * count). */
static void lay_pixels(const gemm_job *g, int64_t m, int64_t rows, int64_t k, int64_t count, float *a)
{
    const int64_t before = g->kernel == 3 && g->stride == 1 ? 1 : 0, plane = g->out_height * g->out_width;
    for (int64_t i = 0; i < rows; i++) {
        int64_t b = (m + i) / plane, rest = (m + i) - b * plane, y = rest / g->out_width, x = rest - y * g->out_width;
        int64_t tap = k / g->channels, channel = k - tap * g->channels;
        for (int64_t at = 0; at < count; tap++, channel = 0) {
            int64_t n = i64_min(g->channels - channel, count - at), ky = tap / g->kernel, kx = tap - ky * g->kernel;
            const unsigned char *p = pixel_at(g, b, y * g->stride + ky - before, x * g->stride + kx - before);
            lay_row(a + i * GEMM_LDA, at, p ? p + (size_t)channel * (g->in.bf16 ? 2 : 4) : NULL, g->in.bf16, n);
            at += n;
        }
    }
}

/* ---- B ---- */

/* n elements of a weight's row as floats. */
SIMD_INLINE vf load_weight(const unsigned char *p, dtype type, int n)
{
    if (type == DTYPE_BF16)
        return n == VW ? vload_bf16(p) : vload_bf16n(p, n);
    if (type == DTYPE_F16)
        return n == VW ? vload_f16(p) : vload_f16n(p, n);
    return n == VW ? vload(p) : vloadn(p, n);
}

SIMD_INLINE size_t type_bytes(dtype type) { return type == DTYPE_F32 ? 4 : 2; }

#if !defined(SIMD_BF16)
/* The first `lanes` of VW rows, `count` elements each, become columns of the panel; `ahead` bytes behind each is what
 * comes next. bf16 rows are transposed as pairs and then widened: half the shuffles. */
static void transpose_rows(const unsigned char *const rows[VW], size_t ahead, dtype type, int lanes, int64_t count,
                           float *b)
{
    const int64_t step = type == DTYPE_BF16 ? 2 * VW : VW;
    vf r[VW];
    for (int64_t k = 0; k < count; k += step) {
        int n = (int)i64_min(step, count - k);
        for (int i = 0; i < VW; i++) {
            const unsigned char *q = rows[i] + (size_t)k * type_bytes(type);
            __builtin_prefetch(q + ahead);
            r[i] = type != DTYPE_BF16 ? load_weight(q, type, n) : n == 2 * VW ? vraw(q) : vrawn(q, n);
        }
        vtranspose(r);
        float *to = b + k * TILE_COLS;
        if (type != DTYPE_BF16) {
            for (int i = 0; i < n; i++)
                vstn(to + i * TILE_COLS, false, 0, r[i], lanes);
        } else {
            for (int i = 0; i < n; i += 2) {
                vstn(to + i * TILE_COLS, false, 0, vpair_lo(r[i / 2]), lanes);
                if (i + 1 < n)
                    vstn(to + (i + 1) * TILE_COLS, false, 0, vpair_hi(r[i / 2]), lanes);
            }
        }
    }
}

#else
static void transpose_rows(const unsigned char *const rows[VW], size_t ahead, dtype type, int lanes, int64_t count,
                           float *b)
{
    vf r[VW];
    for (int64_t k = 0; k < count; k += 2 * VW) {
        int n = (int)i64_min(2 * VW, count - k);
        for (int i = 0; i < VW; i++) {
            const unsigned char *q = rows[i] + (size_t)k * type_bytes(type);
            __builtin_prefetch(q + ahead);
            if (type == DTYPE_BF16)
                r[i] = n == 2 * VW ? vraw(q) : vrawn(q, n);
            else
                r[i] = vpairs(load_weight(q, type, n < VW ? n : VW),
                              n > VW ? load_weight(q + VW * type_bytes(type), type, n - VW) : vzero());
        }
        vtranspose(r);
        for (int i = 0; i < n; i += 2)
            vstn(b + (k + i) / 2 * TILE_COLS, false, 0, r[i / 2], lanes);
    }
}

#endif

/* `lanes` rows of a piece, the first at p; the rows after these are next. */
static void transpose_piece(const unsigned char *p, dtype type, size_t row_bytes, int lanes, int64_t count, float *b)
{
    const unsigned char *rows[VW];
    for (int i = 0; i < VW; i++)
        rows[i] = p + (size_t)(i < lanes ? i : lanes - 1) * row_bytes;
    transpose_rows(rows, VW * row_bytes, type, lanes, count, b);
}

#if !defined(SIMD_BF16)
static void lay_piece(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t at, float *b)
{
    size_t row_bytes = (size_t)p->ld * type_bytes(p->type);
    const unsigned char *data =
        p->data + (size_t)(row - p->row) * row_bytes + (size_t)(col - p->col) * type_bytes(p->type);
    for (int64_t r = 0; r < rows; r += VW)
        transpose_piece(data + (size_t)r * row_bytes, p->type, row_bytes, vcount(rows - r), cols,
                        b + at * TILE_COLS + r);
}
#else
/* Column pieces may meet inside a pair: what is not a whole pair goes element by element. */
static void lay_element(const unsigned char *p, dtype type, int64_t k, int64_t lane, float *b)
{
    float x[VW];
    vstore(x, load_weight(p, type, 1));
    ((uint16_t *)(b + k / 2 * TILE_COLS + lane))[k & 1] = bf16_from_f32(x[0]);
}

static void lay_piece(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t at, float *b)
{
    size_t bytes = type_bytes(p->type), row_bytes = (size_t)p->ld * bytes;
    const unsigned char *data = p->data + (size_t)(row - p->row) * row_bytes + (size_t)(col - p->col) * bytes;
    int64_t whole = at & 1 ? 0 : cols & ~(int64_t)1;
    for (int64_t r = 0; r < rows; r += VW)
        transpose_piece(data + (size_t)r * row_bytes, p->type, row_bytes, vcount(rows - r), whole,
                        b + at / 2 * TILE_COLS + r);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = whole; k < cols; k++)
            lay_element(data + (size_t)r * row_bytes + (size_t)k * bytes, p->type, at + k, r, b);
}
#endif

/* The same for a piece that has to be decoded first: by so many rows and columns that the values stay in the L1
 * cache. */
static void lay_packed(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t at,
                       float *b)
{
    float values[VW * DECODE_COLS];
    for (int64_t r = 0; r < rows; r += VW)
        for (int64_t c = 0; c < cols; c += DECODE_COLS) {
            int64_t n = i64_min(DECODE_COLS, cols - c), here = vcount(rows - r);
            const matrix_piece plain = cpu_decode_piece(DECODERS, p, row + r, here, col + c, n, values);
            lay_piece(&plain, row + r, here, col + c, n, at + c, b + r);
        }
}

/* Rows [row, row + rows) of the matrix, elements [k, k + count), as panels; missing columns and half a pair are 0. */
static void lay_panels(const matrix *w, int64_t row, int64_t rows, int64_t k, int64_t count, float *b)
{
    int64_t steps = (count + PER_WORD - 1) / PER_WORD;
    for (int64_t n = 0; n < rows; n += TILE_COLS, b += PANEL) {
        int64_t here = i64_min(TILE_COLS, rows - n);
        if (here < TILE_COLS)
            memset(b, 0, (size_t)(steps * TILE_COLS) * sizeof *b);
        else if (count % PER_WORD)
            memset(b + (steps - 1) * TILE_COLS, 0, TILE_COLS * sizeof *b);
        for (int i = 0; i < w->count; i++) {
            const matrix_piece *p = &w->piece[i];
            int64_t r0 = i64_max(row + n, p->row), r1 = i64_min(row + n + here, p->row + p->rows);
            int64_t c0 = i64_max(k, p->col), c1 = i64_min(k + count, p->col + p->cols);
            if (r0 < r1 && c0 < c1)
                (p->packed ? lay_packed : lay_piece)(p, r0, r1 - r0, c0, c1 - c0, c0 - k, b + (r0 - row - n));
        }
    }
}

/* ---- epilogue and tasks ---- */

/* Sums of output row m, columns [n, n + count), become outputs. */
static void finish_row(const gemm_job *g, int64_t m, int64_t n, int64_t count, const float *sum)
{
    unsigned char *out = view_row(&g->out, m);
    const float *gate = table_row(&g->gate, m / g->out.rows);
    const void *addend = g->addend.data ? view_row(&g->addend, m) : NULL,
               *mul = g->mul.data ? view_row(&g->mul, m) : NULL,
               *residual = g->residual.data ? view_row(&g->residual, m) : NULL;
    for (int64_t i = 0; i < count; i += VW) {
        int lanes = vcount(count - i);
        vf y = vldn(sum, false, i, lanes);
        if (g->bias)
            y = vadd(y, vldn(g->bias, false, n + i, lanes));
        if (addend)
            y = vadd(y, vldn(addend, g->addend.bf16, n + i, lanes));
        y = vactivate(g->f, y);
        if (mul)
            y = vmul(y, vldn(mul, g->mul.bf16, n + i, lanes));
        if (gate)
            y = vmul(y, vldn(gate, false, n + i, lanes));
        if (residual)
            y = vadd(y, vldn(residual, g->residual.bf16, n + i, lanes));
        vstn(out, g->out.bf16, n + i, y, lanes);
    }
}

static bool stopped(const atomic_int *cancel) { return cancel && atomic_load_explicit(cancel, memory_order_relaxed); }

static void gemm(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    if (stopped(g->cancel))
        return;
    float *a = g->scratch + (int64_t)worker * GEMM_SCRATCH, *b = a + GEMM_ROWS * GEMM_LDA,
          *c = b + GEMM_COLS * GEMM_STEPS;
    /* blocks of rows pass under one block of columns: its weights are read from the file once */
    const int64_t ldc = g->ldc;
    int64_t n = index / g->blocks_m * g->block_n, m = index % g->blocks_m * g->block_m;
    int64_t cols = i64_min(g->block_n, g->n - n), rows = i64_min(g->block_m, g->m - m);
    if (g->k == 0)
        memset(c, 0, (size_t)(rows * ldc) * sizeof *c);
    const int64_t chunks = i64_ceil_div(rows, GEMM_ROWS), chunk = chunks ? i64_ceil_div(rows, chunks) : 1;
    for (int64_t k = 0; k < g->k; k += BLOCK_K) {
        int64_t count = i64_min(BLOCK_K, g->k - k);
        if (stopped(g->cancel))
            return;
        lay_panels(g->w, n, cols, k, count, b);
        for (int64_t i = 0; i < rows; i += chunk) {
            const int64_t here = i64_min(chunk, rows - i);
            lay_pixels(g, m + i, here, k, count, a);
            multiply(here, cols, (count + PER_WORD - 1) / PER_WORD, a, b, c + i * ldc, ldc, k > 0);
        }
    }
    for (int64_t i = 0; i < rows; i++)
        finish_row(g, m + i, n, cols, c + i * ldc);
}

/* ---- few rows: each weight is read once and meets every row; bound by memory ---- */

enum { FEW_OUTPUTS = 4, FEW_ROWS = TILE_ROWS > 6 ? 4 : 2 };

typedef vf few_sums[FEW_OUTPUTS][FEW_ROWS];

/* One vector of each weight row and each input row, n elements of it. */
SIMD_INLINE void dot_step(few_sums acc, const unsigned char *const *w, const dtype type, const unsigned char *const *x,
                          bool bf16, int64_t k, const int rows, int n)
{
    vf xs[FEW_ROWS];
    SIMD_UNROLL
    for (int j = 0; j < rows; j++)
        xs[j] = vldn(x[j], bf16, k, n);
    SIMD_UNROLL
    for (int i = 0; i < FEW_OUTPUTS; i++) {
        vf wi = load_weight(w[i] + (size_t)k * type_bytes(type), type, n);
        SIMD_UNROLL
        for (int j = 0; j < rows; j++)
            acc[i][j] = vfma(wi, xs[j], acc[i][j]);
    }
}

/* sum[j, i] += piece row (row + i)·input row (m + j), over the piece's columns. */
SIMD_INLINE void dot_body(const gemm_job *g, const matrix_piece *p, const dtype type, int64_t row, int outputs,
                          int64_t m, const int rows, float *sum)
{
    const unsigned char *w[FEW_OUTPUTS], *x[FEW_ROWS];
    const size_t row_bytes = (size_t)p->ld * type_bytes(type);
    const bool bf16 = g->in.bf16;
    few_sums acc;
    SIMD_UNROLL
    for (int i = 0; i < FEW_OUTPUTS; i++)
        w[i] = p->data + (size_t)(row - p->row + (i < outputs ? i : outputs - 1)) * row_bytes;
    SIMD_UNROLL
    for (int j = 0; j < rows; j++)
        x[j] = (const unsigned char *)view_row(&g->in, m + j) + (size_t)p->col * (bf16 ? 2 : 4);
    SIMD_UNROLL
    for (int i = 0; i < FEW_OUTPUTS; i++)
        SIMD_UNROLL
    for (int j = 0; j < rows; j++)
        acc[i][j] = vzero();
    int64_t k = 0;
    for (; k + VW <= p->cols; k += VW) {
        SIMD_UNROLL
        for (int i = 0; i < FEW_OUTPUTS; i++) /* the rows after these are next */
            __builtin_prefetch(w[i] + FEW_OUTPUTS * row_bytes + (size_t)k * type_bytes(type));
        dot_step(acc, w, type, x, bf16, k, rows, VW);
    }
    if (k < p->cols)
        dot_step(acc, w, type, x, bf16, k, rows, (int)(p->cols - k));
    SIMD_UNROLL
    for (int i = 0; i < FEW_OUTPUTS; i++)
        SIMD_UNROLL
    for (int j = 0; j < rows; j++)
        if (i < outputs)
            sum[j * FEW_OUTPUTS + i] += vsum(acc[i][j]);
}

#define DOT(rows)                                                                                                     \
    static void dot_##rows(const gemm_job *g, const matrix_piece *p, int64_t row, int outputs, int64_t m, float *sum) \
    {                                                                                                                 \
        if (p->type == DTYPE_BF16)                                                                                    \
            dot_body(g, p, DTYPE_BF16, row, outputs, m, rows, sum);                                                   \
        else if (p->type == DTYPE_F16)                                                                                \
            dot_body(g, p, DTYPE_F16, row, outputs, m, rows, sum);                                                    \
        else                                                                                                          \
            dot_body(g, p, DTYPE_F32, row, outputs, m, rows, sum);                                                    \
    }
DOT(1)
DOT(2)
#if TILE_ROWS > 6
DOT(4)
#endif

static void dot(const gemm_job *g, const matrix_piece *p, int64_t row, int outputs, float *sum)
{
    int64_t m = 0;
#if TILE_ROWS > 6
    for (; m + 4 <= g->m; m += 4)
        dot_4(g, p, row, outputs, m, sum + m * FEW_OUTPUTS);
#endif
    for (; m + 2 <= g->m; m += 2)
        dot_2(g, p, row, outputs, m, sum + m * FEW_OUTPUTS);
    if (m < g->m)
        dot_1(g, p, row, outputs, m, sum + m * FEW_OUTPUTS);
}

/* values: for FEW_OUTPUTS rows of FEW_DECODED columns, more than any model has. */
enum { FEW_DECODED = 1 << 14 };
static void dot_packed(const gemm_job *g, const matrix_piece *p, int64_t row, int outputs, float *values, float *sum)
{
    for (int64_t c = 0; c < p->cols; c += FEW_DECODED) {
        const matrix_piece plain =
            cpu_decode_piece(DECODERS, p, row, outputs, p->col + c, i64_min(FEW_DECODED, p->cols - c), values);
        dot(g, &plain, row, outputs, sum);
    }
}

static void gemv(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    if (stopped(g->cancel))
        return;
    float *c = g->scratch + (int64_t)worker * GEMM_SCRATCH, *values = c + GEMM_FEW * GEMM_COLS;
    int64_t n = index * g->block_n, cols = i64_min(g->block_n, g->n - n);
    for (int64_t i = 0; i < cols;) {
        /* as many outputs as lie in the same pieces */
        int outputs = (int)i64_min(FEW_OUTPUTS, cols - i);
        float sum[GEMM_FEW * FEW_OUTPUTS] = {0};
        for (int p = 0; p < g->w->count; p++) {
            const matrix_piece *q = &g->w->piece[p];
            if (n + i >= q->row && n + i < q->row + q->rows)
                outputs = (int)i64_min(outputs, q->row + q->rows - n - i);
            else if (q->row > n + i)
                outputs = (int)i64_min(outputs, q->row - n - i);
        }
        for (int p = 0; p < g->w->count; p++) {
            const matrix_piece *q = &g->w->piece[p];
            if (n + i < q->row || n + i >= q->row + q->rows)
                continue;
            if (q->packed)
                dot_packed(g, q, n + i, outputs, values, sum);
            else
                dot(g, q, n + i, outputs, sum);
        }
        for (int64_t m = 0; m < g->m; m++)
            memcpy(c + m * GEMM_COLS + i, sum + m * FEW_OUTPUTS, (size_t)outputs * sizeof *c);
        i += outputs;
    }
    for (int64_t m = 0; m < g->m; m++)
        finish_row(g, m, n, cols, c + m * GEMM_COLS);
}

#endif
