/* Weights of types that the kernels do not read: they stay packed, and a panel's values are decoded on the way into it.
 */
#include "ops/cpu/cpu.h"

matrix_piece cpu_decode_piece(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, float *out)
{
    for (int64_t r = 0; r < rows; r++) /* cannot fail: what does not decode is never mapped */
        (void)tensor_decode(p->packed, p->first + (row + r - p->row) * p->ld + col - p->col, cols, out + r * cols,
                            NULL);
    return (matrix_piece){.data = (const unsigned char *)out,
                          .type = DTYPE_F32,
                          .ld = cols,
                          .row = row,
                          .col = col,
                          .rows = rows,
                          .cols = cols};
}
