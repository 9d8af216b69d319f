/* Products of small matrices, by whole numbers, whose sums are exact in any order. */
#include "weights/adapter_product.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROWS = 9, INNER = 300, COLS = 37, GAP = 3 };

static float left[ROWS * (INNER + GAP)], right[INNER * (COLS + GAP)], out[ROWS * (COLS + GAP)];

static float whole(int64_t i) { return (float)(i * 7919 % 23 - 11); }

static void check(int64_t rows, int64_t inner, int64_t cols)
{
    const adapter_matrix a = {left, inner + GAP}, b = {right, cols + GAP};
    const int64_t ld = cols + GAP;
    for (int64_t i = 0; i < rows * ld; i++)
        out[i] = whole(i + 5);
    adapter_product_add(a, b, rows, inner, cols, out, ld);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < ld; i++) {
            float want = whole(r * ld + i + 5);
            for (int64_t k = 0; k < inner && i < cols; k++)
                want += a.at[r * a.ld + k] * b.at[k * b.ld + i];
            if (out[r * ld + i] != want)
                fail_msg("%d x %d x %d: [%d][%d] is %g, not %g", (int)rows, (int)inner, (int)cols, (int)r, (int)i,
                         (double)out[r * ld + i], (double)want);
        }
}

/* Around the sizes of its tiles: 4 rows, 16 columns, 256 summands. What lies between rows stays. */
static void any_size_is_multiplied(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 3, 4, 9}, inner[] = {0, 1, 31, 256, 257, 300}, cols[] = {1, 15, 16, 17, 37};
    for (int64_t i = 0; i < ROWS * (INNER + GAP); i++)
        left[i] = whole(i);
    for (int64_t i = 0; i < INNER * (COLS + GAP); i++)
        right[i] = whole(i + 3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof inner / sizeof *inner; k++)
            for (size_t n = 0; n < sizeof cols / sizeof *cols; n++)
                check(rows[i], inner[k], cols[n]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_size_is_multiplied)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
