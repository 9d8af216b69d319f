/* Sums that lie token by token become lines that lie output by output. */
#ifndef FLUX1_OPS_CPU_LINES_H
#define FLUX1_OPS_CPU_LINES_H

#include "ops/cpu/simd.h"

/* The first `rows` columns of sums [cols, apart] become the first `cols` values of lines, which lie `line` apart. Whole
 * blocks of VW × VW are read and written: `apart` and `line` are multiples of VW, or have room behind them. */
static inline void turn_to_lines(const float *sums, int64_t apart, int64_t rows, int64_t cols, float *lines,
                                 int64_t line)
{
    for (int64_t t = 0; t < rows; t += VW)
        for (int64_t i = 0; i < cols; i += VW) {
            vf r[VW];
            const int64_t last = (cols - i < VW ? cols - i : VW) - 1;
            const float *from = sums + i * apart + t;
            for (int j = 0; j < VW; j++)
                r[j] = vload(from + (j < last ? j : last) * apart);
            vtranspose(r);
            for (int j = 0; j < VW; j++)
                vstore(lines + (t + j) * line + i, r[j]);
        }
}

#endif
