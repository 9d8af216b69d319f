/* Linear layers of a few rows, and the parts that all matrix products share (kernels_product.h, kernels_conv.h,
 * kernels_attention.h). Included once per instruction set, over simd.h. DECODERS: those of packed weights (decoders.h),
 * or NULL.
 *
 * A "word" is one float, or two neighbouring bf16 along k where the machine multiplies those (SIMD_BF16): everything
 * but vmadd is the same. A  rows of words, copied (converted) as they lie: the tile broadcasts its words. B  panels of
 * TILE_COLS columns × k, transposed on the way. tile  TILE_ROWS × TILE_VECTORS sums in registers; rows are dealt out so
 * that tiles differ by one row at most. Each output is one chain of multiply-adds a k block, added block by block: the
 * same for every way of cutting the output. The last step of a task is the epilogue, row by row, while the sums are
 * still in cache. */
#ifndef FLUX1_OPS_CPU_KERNELS_GEMM_H
#define FLUX1_OPS_CPU_KERNELS_GEMM_H

#include "base/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/simd.h"

#if defined(SIMD_AMX)
#include "ops/cpu/tile_amx.h"
#endif
#if defined(SIMD_MATRIX)
#include "ops/cpu/tile_matrix.h"
#endif

enum { TILE_COLS = TILE_VECTORS * VW };
#if defined(SIMD_BF16)
enum { PER_WORD = 2 };
#else
enum { PER_WORD = 1 };
#endif
enum { BLOCK_K = GEMM_STEPS * PER_WORD };

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
SIMD_INLINE void tile_add(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, int64_t steps,
                          const float *a, const int64_t row, const int64_t step, const float *b)
{
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

SIMD_INLINE void tile_zero(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < vectors; j++)
        sum[i][j] = vzero();
}

SIMD_INLINE void tile_sums(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, int64_t steps,
                           const float *a, const int64_t row, const int64_t step, const float *b)
{
    tile_zero(sum, rows, vectors);
    tile_add(sum, rows, vectors, steps, a, row, step, b);
}
#endif

SIMD_INLINE void tile_store(vf sum[TILE_ROWS][TILE_VECTORS], const int rows, const int vectors, float *c, int64_t ldc,
                            bool add)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < vectors; j++) {
        float *p = c + i * ldc + j * VW;
        vstore(p, add ? vadd(vload(p), sum[i][j]) : sum[i][j]);
    }
}

SIMD_INLINE void tile_body(const int rows, const int vectors, int64_t steps, const float *a, const int64_t lda,
                           const float *b, float *c, int64_t ldc, bool add)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    tile_sums(sum, rows, vectors, steps, a, lda, 1, b);
    tile_store(sum, rows, vectors, c, ldc, add);
}

/* c[rows, TILE_COLS] (+)= a·b. */
#if defined(SIMD_AMX)
static void multiply(int64_t rows, int64_t steps, const float *a, const float *b, float *c, bool add)
{
    units_multiply(rows, steps, a, GEMM_LDA, b, TILE_COLS, c, TILE_COLS, add);
}
#else
typedef void tile_fn(int64_t steps, const float *a, const float *b, float *c, bool add);
#define TILE(rows)                                                                             \
    static void tile_##rows(int64_t steps, const float *a, const float *b, float *c, bool add) \
    {                                                                                          \
        tile_body(rows, TILE_VECTORS, steps, a, GEMM_LDA, b, c, TILE_COLS, add);               \
    }
EACH_TILE(TILE)
#define TILE_NAME(rows) tile_##rows,
static tile_fn *const tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(TILE_NAME)};

static void multiply(int64_t rows, int64_t steps, const float *a, const float *b, float *c, bool add)
{
    const int64_t count = i64_ceil_div(rows, TILE_ROWS), width = count ? rows / count : 0,
                  wider = count ? rows % count : 0;
    for (int64_t t = 0, m = 0; t < count; t++) {
        const int64_t height = width + (t < wider);
        tiles[height](steps, a + m * GEMM_LDA, b, c + m * TILE_COLS, add);
        m += height;
    }
}
#endif

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
/* The first `lanes` of VW rows, `count` elements each, become columns of the panel. bf16 rows are transposed as pairs
 * and then widened: half the shuffles. */
static void transpose_rows(const unsigned char *const rows[VW], dtype type, int lanes, int64_t count, float *b)
{
    const int64_t step = type == DTYPE_BF16 ? 2 * VW : VW;
    vf r[VW];
    for (int64_t k = 0; k < count; k += step) {
        int n = (int)i64_min(step, count - k);
        for (int i = 0; i < VW; i++) {
            const unsigned char *q = rows[i] + (size_t)k * type_bytes(type);
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
static void transpose_rows(const unsigned char *const rows[VW], dtype type, int lanes, int64_t count, float *b)
{
    vf r[VW];
    for (int64_t k = 0; k < count; k += 2 * VW) {
        int n = (int)i64_min(2 * VW, count - k);
        for (int i = 0; i < VW; i++) {
            const unsigned char *q = rows[i] + (size_t)k * type_bytes(type);
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

/* ---- epilogue and tasks ---- */

/* Of one output row: what the epilogue adds and multiplies, NULL where it is left out. */
typedef struct finishing {
    unsigned char *out;
    const float *bias, *gate;
    const unsigned char *addend, *mul, *residual;
} finishing;

/* Sums [i, i + lanes) of the row's become its outputs [n + i, …). */
SIMD_INLINE void finish_vector(const gemm_job *g, const finishing *f, int64_t n, int64_t i, const float *sum,
                               const int lanes)
{
    vf y = vldn(sum, false, i, lanes);
    if (f->bias)
        y = vadd(y, vldn(f->bias, false, n + i, lanes));
    if (f->addend)
        y = vadd(y, vldn(f->addend, g->addend.bf16, n + i, lanes));
    y = vactivate(g->f, y);
    if (f->mul)
        y = vmul(y, vldn(f->mul, g->mul.bf16, n + i, lanes));
    if (f->gate)
        y = vmul(y, vldn(f->gate, false, n + i, lanes));
    if (f->residual)
        y = vadd(y, vldn(f->residual, g->residual.bf16, n + i, lanes));
    vstn(f->out, g->out.bf16, n + i, y, lanes);
}

/* Sums of output row m, columns [n, n + count), become outputs. */
static void finish_row(const gemm_job *g, int64_t m, int64_t n, int64_t count, const float *sum)
{
    const finishing f = {.out = view_row(&g->out, m),
                         .bias = g->bias,
                         .gate = table_row(&g->gate, m / g->out.rows),
                         .addend = g->addend.data ? view_row(&g->addend, m) : NULL,
                         .mul = g->mul.data ? view_row(&g->mul, m) : NULL,
                         .residual = g->residual.data ? view_row(&g->residual, m) : NULL};
    int64_t i = 0;
    for (; i + VW <= count; i += VW)
        finish_vector(g, &f, n, i, sum, VW);
    if (i < count)
        finish_vector(g, &f, n, i, sum, (int)(count - i));
}

static bool stopped(const atomic_int *cancel) { return cancel && atomic_load_explicit(cancel, memory_order_relaxed); }

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
    for (; m + 4 <= g->rows; m += 4)
        dot_4(g, p, row, outputs, g->first + m, sum + m * FEW_OUTPUTS);
#endif
    for (; m + 2 <= g->rows; m += 2)
        dot_2(g, p, row, outputs, g->first + m, sum + m * FEW_OUTPUTS);
    if (m < g->rows)
        dot_1(g, p, row, outputs, g->first + m, sum + m * FEW_OUTPUTS);
}

/* values: for FEW_OUTPUTS rows of FEW_DECODED columns, more than any model has. */
enum { FEW_DECODED = 1 << 14 };
_Static_assert(GEMM_FEW *GEMM_COLS + FEW_OUTPUTS * FEW_DECODED <= GEMM_SCRATCH, "a task's scratch");

static void dot_packed(const gemm_job *g, const matrix_piece *p, int64_t row, int outputs, float *values, float *sum)
{
    for (int64_t c = 0; c < p->cols; c += FEW_DECODED) {
        const matrix_piece plain =
            cpu_decode_piece(DECODERS, p, row, outputs, p->col + c, i64_min(FEW_DECODED, p->cols - c), values);
        dot(g, &plain, row, outputs, sum);
    }
}

/* count elements of a plain piece, from (row, col) on, as floats. */
static void read_plain(const matrix_piece *p, int64_t row, int64_t col, int64_t count, float *to)
{
    const size_t bytes = type_bytes(p->type);
    const unsigned char *data = p->data + (size_t)((row - p->row) * p->ld + col - p->col) * bytes;
    for (int64_t k = 0; k < count; k += VW)
        vstn(to, false, k, load_weight(data + (size_t)k * bytes, p->type, vcount(count - k)), vcount(count - k));
}

/* Columns [k0, k0 + cols) of rows row …, as floats in rows of `cols`; 0 where there is no piece. */
static void gather(const matrix *w, int64_t row, int outputs, int64_t k0, int64_t cols, float *values)
{
    memset(values, 0, (size_t)(outputs * cols) * sizeof *values);
    for (int p = 0; p < w->count; p++) {
        const matrix_piece *q = &w->piece[p];
        const int64_t c0 = i64_max(k0, q->col), c1 = i64_min(k0 + cols, q->col + q->cols);
        if (row < q->row || row >= q->row + q->rows || c0 >= c1)
            continue;
        for (int i = 0; i < outputs; i++)
            if (q->packed)
                (void)cpu_decode_piece(DECODERS, q, row + i, 1, c0, c1 - c0, values + i * cols + c0 - k0);
            else
                read_plain(q, row + i, c0, c1 - c0, values + i * cols + c0 - k0);
    }
}

/* Rows that lie in several pieces side by side, summed as those of one piece: a prepared weight has one. */
static void dot_pieces(const gemm_job *g, int64_t row, int outputs, float *values, float *sum)
{
    for (int64_t k = 0; k < g->k; k += FEW_DECODED) {
        const int64_t cols = i64_min(FEW_DECODED, g->k - k);
        gather(g->w, row, outputs, k, cols, values);
        const matrix_piece plain = {.data = (const unsigned char *)values,
                                    .type = DTYPE_F32,
                                    .ld = cols,
                                    .row = row,
                                    .col = k,
                                    .rows = outputs,
                                    .cols = cols};
        dot(g, &plain, row, outputs, sum);
    }
}

/* The piece that has all of this row, or NULL; *outputs: cut to the rows behind it that lie in the same pieces. */
static const matrix_piece *piece_of(const matrix *w, int64_t row, int *outputs)
{
    const matrix_piece *whole = NULL;
    for (int p = 0; p < w->count; p++) {
        const matrix_piece *q = &w->piece[p];
        if (row >= q->row && row < q->row + q->rows) {
            *outputs = (int)i64_min(*outputs, q->row + q->rows - row);
            if (q->cols == w->cols)
                whole = q;
        } else if (q->row > row) {
            *outputs = (int)i64_min(*outputs, q->row - row);
        }
    }
    return whole;
}

static void gemv(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    if (stopped(g->cancel))
        return;
    float *c = g->scratch + (int64_t)worker * GEMM_SCRATCH, *values = c + GEMM_FEW * GEMM_COLS;
    int64_t n = index * g->block_n, cols = i64_min(g->block_n, g->n - n);
    for (int64_t i = 0; i < cols;) {
        int outputs = (int)i64_min(FEW_OUTPUTS, cols - i);
        float sum[GEMM_FEW * FEW_OUTPUTS] = {0};
        const matrix_piece *whole = piece_of(g->w, n + i, &outputs);
        if (!whole)
            dot_pieces(g, n + i, outputs, values, sum);
        else if (whole->packed)
            dot_packed(g, whole, n + i, outputs, values, sum);
        else
            dot(g, whole, n + i, outputs, sum);
        for (int64_t m = 0; m < g->rows; m++)
            memcpy(c + m * GEMM_COLS + i, sum + m * FEW_OUTPUTS, (size_t)outputs * sizeof *c);
        i += outputs;
    }
    for (int64_t m = 0; m < g->rows; m++)
        finish_row(g, g->first + m, n, cols, c + m * GEMM_COLS);
}

#endif
