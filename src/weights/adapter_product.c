/* Sixteen columns of `right` are copied together, and four rows of `out` have their sums over them in registers. */
#include "weights/adapter_product.h"

#include "base/checked.h"

#include <string.h>

enum { LANES = 8, WIDE = 2 * LANES, TALL = 4, DEEP = 256 };

#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* panel[inner][WIDE]; behind the matrix's columns are zeros. */
INLINE void copy_columns(adapter_matrix right, int64_t inner, int64_t cols, float *panel)
{
    for (int64_t k = 0; k < inner; k++, panel += WIDE) {
        if (cols == WIDE) {
            memcpy(panel, right.at + k * right.ld, WIDE * sizeof *panel);
            continue;
        }
        memset(panel, 0, WIDE * sizeof *panel);
        memcpy(panel, right.at + k * right.ld, (size_t)cols * sizeof *panel);
    }
}

/* `tall` is known to the compiler. */
INLINE void add_rows(adapter_matrix left, const float *panel, int tall, int64_t inner, int64_t cols, float *out,
                     int64_t ld)
{
    lanes sum[TALL][2] = {{{0}}};
    float done[WIDE];
    for (int64_t k = 0; k < inner; k++, panel += WIDE) {
        lanes first, second;
        memcpy(&first, panel, sizeof first);
        memcpy(&second, panel + LANES, sizeof second);
        for (int r = 0; r < tall; r++) {
            const float f = left.at[r * left.ld + k];
            sum[r][0] += f * first;
            sum[r][1] += f * second;
        }
    }
    for (int r = 0; r < tall; r++) {
        memcpy(done, sum[r], sizeof done);
        for (int64_t i = 0; i < cols; i++)
            out[r * ld + i] += done[i];
    }
}

INLINE adapter_matrix part(adapter_matrix m, int64_t row, int64_t col)
{
    return (adapter_matrix){m.at + row * m.ld + col, m.ld};
}

INLINE void add_columns(adapter_matrix left, const float *panel, int64_t rows, int64_t inner, int64_t cols, float *out,
                        int64_t ld)
{
    int64_t row = 0;
    for (; row + TALL <= rows; row += TALL)
        add_rows(part(left, row, 0), panel, TALL, inner, cols, out + row * ld, ld);
    for (; row < rows; row++)
        add_rows(part(left, row, 0), panel, 1, inner, cols, out + row * ld, ld);
}

INLINE void add(adapter_matrix left, adapter_matrix right, int64_t rows, int64_t inner, int64_t cols, float *out,
                int64_t ld)
{
    float panel[DEEP * WIDE];
    for (int64_t k = 0; k < inner; k += DEEP) {
        const int64_t deep = i64_min(DEEP, inner - k);
        for (int64_t col = 0; col < cols; col += WIDE) {
            const int64_t wide = i64_min(WIDE, cols - col);
            copy_columns(part(right, k, col), deep, wide, panel);
            if (wide == WIDE)
                add_columns(part(left, 0, k), panel, rows, deep, WIDE, out + col, ld);
            else
                add_columns(part(left, 0, k), panel, rows, deep, wide, out + col, ld);
        }
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void add_avx2(adapter_matrix left, adapter_matrix right, int64_t rows,
                                                         int64_t inner, int64_t cols, float *out, int64_t ld)
{
    add(left, right, rows, inner, cols, out, ld);
}
#endif

void adapter_product_add(adapter_matrix left, adapter_matrix right, int64_t rows, int64_t inner, int64_t cols,
                         float *out, int64_t ld)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        add_avx2(left, right, rows, inner, cols, out, ld);
        return;
    }
#endif
    add(left, right, rows, inner, cols, out, ld);
}
