/* What attention ends with (kernels_attention.h, int8_attention.h): outputs become rows. */
#ifndef FLUX1_OPS_CPU_ATTENTION_FINISH_H
#define FLUX1_OPS_CPU_ATTENTION_FINISH_H

#include "ops/cpu/cpu.h"
#include "ops/cpu/simd.h"

#include <math.h>

#define LOG2_E 1.44269504088896341

enum { ATTENTION_COLS = TILE_VECTORS * VW }; /* queries of a panel */

/* Rows of outputs from columns [dim, ATTENTION_COLS] of one panel; m: its first row. */
static void finish_queries(const attention_job *t, int64_t m, int64_t rows, int64_t h, const float *sums,
                           const float *columns)
{
    for (int64_t i = 0; i < rows; i += VW) {
        const vf inverse = t->keys ? vdiv(vset1(1.0f), vload(sums + i)) : vzero();
        for (int64_t d = 0; d < t->dim; d += VW) {
            vf r[VW];
            for (int j = 0; j < VW; j++)
                r[j] = vmul(vload(columns + i64_min(d + j, t->dim - 1) * ATTENTION_COLS + i), inverse);
            vtranspose(r);
            for (int j = 0; j < VW && i + j < rows; j++)
                vstn((unsigned char *)view_row(&t->out, m + i + j) + (size_t)(h * t->dim) * (t->out.bf16 ? 2 : 4),
                     t->out.bf16, d, r[j], vcount(t->dim - d));
        }
    }
}

/* Queries [first, first + rows). A query's: top, the highest score in base 2, and sum, Σ 2^(score − top). out: panels
 * [dim][ATTENTION_COLS], not yet divided by the sums. */
static void attention_finish(const attention_job *t, int64_t b, int64_t h, int64_t first, int64_t rows,
                             const float *top, const float *sum, const float *out)
{
    const int64_t m = b * t->queries + first;
    for (int64_t i = 0; i < rows; i += ATTENTION_COLS)
        finish_queries(t, m + i, i64_min(ATTENTION_COLS, rows - i), h, sum + i, out + i * t->dim);
    for (int64_t i = 0; t->lse.data && i < rows; i++)
        ((float *)view_row(&t->lse, m + i))[h] =
            t->keys ? (float)((top[i] + log2((double)sum[i])) / LOG2_E) : -INFINITY;
}

#endif
