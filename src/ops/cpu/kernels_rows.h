/* Everything that goes row by row: norms, rotation, element-wise operations, moves, group statistics. Bound by memory;
 * included once per instruction set. */
#ifndef FLUX1_OPS_CPU_KERNELS_ROWS_H
#define FLUX1_OPS_CPU_KERNELS_ROWS_H

#include "base/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/simd.h"

#include <math.h>

#define EACH_ROW(j, m) \
    for (int64_t m = index * (j)->chunk, last_ = i64_min((j)->rows, (index + 1) * (j)->chunk); m < last_; m++)
#define EACH_VECTOR(i, n, count) for (int64_t i = 0, n = vcount(count); i < (count); i += VW, n = vcount((count)-i))

/* Σ x, and Σ (x − mean)²: four chains of sums a lane. */
SIMD_INLINE float row_sum(const void *x, bool bf16, int64_t count)
{
    vf s[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t i = 0;
    for (; i + 4 * VW <= count; i += 4 * VW)
        for (int j = 0; j < 4; j++)
            s[j] = vadd(s[j], vld(x, bf16, i + j * VW));
    for (; i < count; i += VW)
        s[0] = vadd(s[0], vldn(x, bf16, i, vcount(count - i)));
    return vsum(vadd(vadd(s[0], s[1]), vadd(s[2], s[3])));
}

SIMD_INLINE float row_squares(const void *x, bool bf16, int64_t count, float mean)
{
    const vf m = vset1(mean);
    vf s[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t i = 0;
    for (; i + 4 * VW <= count; i += 4 * VW)
        for (int j = 0; j < 4; j++) {
            vf d = vsub(vld(x, bf16, i + j * VW), m);
            s[j] = vfma(d, d, s[j]);
        }
    float tail = 0;
    for (; i < count; i += VW) {
        int n = vcount(count - i);
        vf d = vsub(vldn(x, bf16, i, n), m);
        if (n == VW) {
            s[0] = vfma(d, d, s[0]);
        } else { /* lanes beyond hold −mean */
            float lanes[VW];
            vstore(lanes, vmul(d, d));
            for (int l = 0; l < n; l++)
                tail += lanes[l];
        }
    }
    return vsum(vadd(vadd(s[0], s[1]), vadd(s[2], s[3]))) + tail;
}

static void layer_norm(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        const void *x = view_row(&j->in, m);
        void *y = view_row(&j->out, m);
        const bool bf16 = j->in.bf16;
        const int64_t b = m / j->in.rows;
        const float *shift = table_row(&j->shift, b), *scale = table_row(&j->scale, b);
        float mean = row_sum(x, bf16, j->cols) / (float)j->cols;
        vf inverse = vset1(1.0f / sqrtf(row_squares(x, bf16, j->cols, mean) / (float)j->cols + j->eps)),
           middle = vset1(mean);
        EACH_VECTOR(i, n, j->cols)
        {
            vf v = vmul(vsub(vldn(x, bf16, i, (int)n), middle), inverse);
            if (j->w)
                v = vmul(v, vldn(j->w, false, i, (int)n));
            if (j->b)
                v = vadd(v, vldn(j->b, false, i, (int)n));
            if (scale)
                v = vmul(v, vadd(vset1(1.0f), vldn(scale, false, i, (int)n)));
            if (shift)
                v = vadd(v, vldn(shift, false, i, (int)n));
            vstn(y, j->out.bf16, i, v, (int)n);
        }
    }
}

static void rms_norm(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        const void *x = view_row(&j->in, m);
        void *y = view_row(&j->out, m);
        vf inverse = vset1(1.0f / sqrtf(row_squares(x, j->in.bf16, j->cols, 0) / (float)j->cols + j->eps));
        EACH_VECTOR(i, n, j->cols)
        vstn(y, j->out.bf16, i, vmul(vmul(vldn(x, j->in.bf16, i, (int)n), inverse), vldn(j->w, false, i, (int)n)),
             (int)n);
    }
}

static void head_norm_rope(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        unsigned char *row = view_row(&j->out, m);
        const bool bf16 = j->out.bf16;
        const void *turn = j->rope.data ? view_row(&j->rope, m % j->out.rows) : NULL;
        for (int64_t h = 0; h < j->heads; h++) {
            unsigned char *x = row + (size_t)(h * j->dim) * (bf16 ? 2 : 4);
            vf inverse =
                j->w ? vset1(1.0f / sqrtf(row_squares(x, bf16, j->dim, 0) / (float)j->dim + j->eps)) : vset1(1.0f);
            EACH_VECTOR(i, n, j->dim)
            {
                vf v = vldn(x, bf16, i, (int)n);
                if (j->w)
                    v = vmul(vmul(v, inverse), vldn(j->w, false, i, (int)n));
                if (turn)
                    v = vrotate(v, vldn(turn, j->rope.bf16, i, (int)n));
                vstn(x, bf16, i, v, (int)n);
            }
        }
    }
}

/* A piece's columns of a table's row, added to y when `add`. */
static void look_up_piece(const matrix_piece *p, int64_t row, unsigned char *y, bool bf16, bool add)
{
    const size_t bytes = p->type == DTYPE_F32 ? 4 : 2;
    const unsigned char *x = p->data + (size_t)((row - p->row) * p->ld) * bytes;
    EACH_VECTOR(i, n, p->cols)
    {
        const unsigned char *q = x + (size_t)i * bytes;
        vf v = p->type == DTYPE_F32    ? vloadn(q, (int)n)
               : p->type == DTYPE_BF16 ? vload_bf16n(q, (int)n)
                                       : vload_f16n(q, (int)n);
        if (add)
            v = vadd(v, vldn(y, bf16, p->col + i, (int)n));
        vstn(y, bf16, p->col + i, v, (int)n);
    }
}

/* Columns [0, cols) of a table's row. */
static void look_up(const matrix *t, int64_t row, unsigned char *y, bool bf16, bool add)
{
    float values[DECODE_COLS];
    for (int k = 0; k < t->count; k++) {
        const matrix_piece *p = &t->piece[k];
        if (row < p->row || row >= p->row + p->rows)
            continue;
        if (!p->packed)
            look_up_piece(p, row, y, bf16, add);
        for (int64_t c = 0; p->packed && c < p->cols; c += DECODE_COLS) {
            const matrix_piece plain =
                cpu_decode_piece(DECODERS, p, row, 1, p->col + c, i64_min(DECODE_COLS, p->cols - c), values);
            look_up_piece(&plain, row, y, bf16, add);
        }
    }
}

static void embed(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        int32_t id;
        memcpy(&id, view_row(&j->in, m), sizeof id);
        unsigned char *y = view_row(&j->out, m);
        look_up(j->table, id, y, j->out.bf16, false);
        if (j->positions)
            look_up(j->positions, j->first + m % j->out.rows, y, j->out.bf16, true);
    }
}

static void activate(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        const void *x = view_row(&j->in, m);
        void *y = view_row(&j->out, m);
        const void *mul = j->y.data ? view_row(&j->y, m) : NULL;
        EACH_VECTOR(i, n, j->cols)
        {
            vf v = vactivate(j->f, vldn(x, j->in.bf16, i, (int)n));
            vstn(y, j->out.bf16, i, mul ? vmul(v, vldn(mul, j->y.bf16, i, (int)n)) : v, (int)n);
        }
    }
}

/* z = x + s·scale⊙y of one row. Types that are constants where it is inlined cost nothing in the loop. */
SIMD_INLINE void add_vectors(void *z, const bool z_bf16, const void *x, const bool x_bf16, const void *y,
                             const bool y_bf16, float s, const float *scale, int64_t cols)
{
    const vf all = vset1(s);
    int64_t i = 0;
    if (scale)
        for (; i + VW <= cols; i += VW)
            vstn(z, z_bf16, i, vfma(vmul(all, vld(scale, false, i)), vld(y, y_bf16, i), vld(x, x_bf16, i)), VW);
    else
        for (; i + VW <= cols; i += VW)
            vstn(z, z_bf16, i, vfma(all, vld(y, y_bf16, i), vld(x, x_bf16, i)), VW);
    if (i < cols) {
        const int n = (int)(cols - i);
        vf times = scale ? vmul(all, vldn(scale, false, i, n)) : all;
        vstn(z, z_bf16, i, vfma(times, vldn(y, y_bf16, i, n), vldn(x, x_bf16, i, n)), n);
    }
}

static void add_row(void *z, bool z_bf16, const void *x, bool x_bf16, const void *y, bool y_bf16, float s,
                    const float *scale, int64_t cols)
{
    if (z_bf16 || x_bf16)
        add_vectors(z, z_bf16, x, x_bf16, y, y_bf16, s, scale, cols);
    else if (y_bf16) /* the residual stream is float32 */
        add_vectors(z, false, x, false, y, true, s, scale, cols);
    else
        add_vectors(z, false, x, false, y, false, s, scale, cols);
}

/* out = in + s·factor·scale⊙y; a y of one row meets every row of its batch item. */
static void add(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        const int64_t b = m / j->in.rows;
        const float *factor = table_row(&j->factor, b);
        add_row(view_row(&j->out, m), j->out.bf16, view_row(&j->in, m), j->in.bf16,
                view_row(&j->y, j->y.rows == j->in.rows ? m : b), j->y.bf16, factor ? j->s * *factor : j->s,
                table_row(&j->scale, b), j->cols);
    }
}

/* Rows of a batch item from row `first` of the same item on, between any two types. */
static void copy(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        int64_t b = m / j->out.rows;
        const void *x = view_row(&j->in, b * j->in.rows + j->first + (m - b * j->out.rows));
        void *y = view_row(&j->out, m);
        if (j->in.bf16 == j->out.bf16) {
            memcpy(y, x, (size_t)j->cols * (j->in.bf16 ? 2 : 4));
            continue;
        }
        EACH_VECTOR(i, n, j->cols)
        vstn(y, j->out.bf16, i, vldn(x, j->in.bf16, i, (int)n), (int)n);
    }
}

static void not_finite(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    bool good = true;
    (void)worker;
    EACH_ROW(j, m)
    {
        const void *x = view_row(&j->in, m);
        EACH_VECTOR(i, n, j->cols)
        good = good && vfinite(vldn(x, j->in.bf16, i, (int)n));
    }
    if (!good)
        atomic_store_explicit(j->flag, 1, memory_order_relaxed);
}

/* ---- group norm ---- */

/* A channel's Σ x, or Σ (x − mean)², over `rows` rows of vectors·VW channels from channel i. */
SIMD_INLINE void channel_sums(const rows_job *j, int64_t m, int64_t rows, int64_t i, const int vectors, int n,
                              const float *mean, float *sum)
{
    vf s[4], middle[4];
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) {
        s[v] = vzero();
        middle[v] = mean ? vldn(mean, false, i + v * VW, n) : vzero();
    }
    const unsigned char *x = view_row(&j->in, m);
    for (int64_t r = 0; r < rows; r++, x += (size_t)j->in.ld * (j->in.bf16 ? 2 : 4)) {
        SIMD_UNROLL
        for (int v = 0; v < vectors; v++) {
            vf d = vsub(vldn(x, j->in.bf16, i + v * VW, n), middle[v]);
            s[v] = mean ? vfma(d, d, s[v]) : vadd(s[v], d);
        }
    }
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++)
        vstn(sum, false, i + v * VW, s[v], n);
}

static void all_channel_sums(const rows_job *j, int64_t m, int64_t rows, const float *mean, float *sum)
{
    int64_t i = 0;
    for (; i + 4 * VW <= j->cols; i += 4 * VW)
        channel_sums(j, m, rows, i, 4, VW, mean, sum);
    for (; i < j->cols; i += VW)
        channel_sums(j, m, rows, i, 1, vcount(j->cols - i), mean, sum);
}

static double group_total(const float *sum, int64_t width)
{
    double s = 0;
    for (int64_t i = 0; i < width; i++)
        s += sum[i];
    return s;
}

/* Moments of `rows` rows of one batch item, at most STATS_ROWS, still in cache for the second pass: float sums a
 * channel, doubles a group. */
static void block_moments(const rows_job *j, int64_t m, int64_t rows, float *sum, float *mean, moments *group)
{
    const int64_t width = j->cols / j->heads;
    const double count = (double)(rows * width);
    all_channel_sums(j, m, rows, NULL, sum);
    for (int64_t g = 0; g < j->heads; g++) {
        float middle = (float)(group_total(sum + g * width, width) / count);
        for (int64_t i = 0; i < width; i++)
            mean[g * width + i] = middle;
    }
    all_channel_sums(j, m, rows, mean, sum);
    for (int64_t g = 0; g < j->heads; g++) /* around the rounded mean: its error counts squared */
        moments_merge(&group[g], count, mean[g * width], group_total(sum + g * width, width));
}

/* Chunk `index` of the rows: moments of each of the `heads` groups. The chunks are the same for any number of threads.
 */
static void group_stats(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    float *sum = j->scratch + (int64_t)worker * GEMM_SCRATCH, *mean = sum + j->cols;
    moments *group = j->partial + index * j->heads;
    memset(group, 0, (size_t)j->heads * sizeof *group);
    int64_t end = i64_min(j->rows, (index + 1) * j->chunk);
    for (int64_t m = index * j->chunk; m < end; m += STATS_ROWS)
        block_moments(j, j->first + m, i64_min(STATS_ROWS, end - m), sum, mean, group);
}

/* out = (in − shift)·scale + b a channel, then SiLU if asked, for one batch item's rows from `first`. */
static void group_apply(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    EACH_ROW(j, m)
    {
        const void *x = view_row(&j->in, j->first + m);
        void *y = view_row(&j->out, j->first + m);
        EACH_VECTOR(i, n, j->cols)
        vstn(y, j->out.bf16, i,
             vnormalise(vldn(x, j->in.bf16, i, (int)n), j->shift.row, j->scale.row, j->b, j->silu, i, (int)n), (int)n);
    }
}

/* Line `index` of the output planes, counted over all batch items. */
static void upsample(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    const size_t element = j->out.bf16 ? 2 : 4, bytes = (size_t)j->cols * element, stride = (size_t)j->out.ld * element;
    const int64_t b = index / (2 * j->height), y = index - b * 2 * j->height;
    const unsigned char *in = view_row(&j->in, (b * j->height + y / 2) * j->width);
    unsigned char *out = view_row(&j->out, index * 2 * j->width);
    (void)worker;
    for (int64_t x = 0; x < j->width; x++, in += (size_t)j->in.ld * element, out += 2 * stride) {
        memcpy(out, in, bytes);
        memcpy(out + stride, in, bytes);
    }
}

#endif
