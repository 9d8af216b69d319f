/* Rounded tensors against the vendor's values (goldens/tiles.safetensors), however they are read. */
#include "weights/recipe.h"
#include "weights/rounded.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 45, COLS = 70 };

static store *goldens;
static rounded_weight *once, *twice;
static const float *expected; /* turned: [COLS, ROWS] */

static int begin(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (store_open_file(TEST_DATA "/goldens/tiles.safetensors", &goldens, &err) != FLUX1_OK ||
        rounded_add(&once, store_find(goldens, "values"), &err) != FLUX1_OK ||
        rounded_add(&twice, rounded_tensor(once), &err) != FLUX1_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    expected = store_find(goldens, "bfp8.turned.values")->view.data;
    return 0;
}

static int end(void **state)
{
    (void)state;
    rounded_free(twice);
    rounded_free(once);
    rounded_free(NULL);
    store_close(goldens);
    return 0;
}

/* Elements [first, first + count) as the golden has them; below 2^-120 it is not followed. */
static void expect_elements(const store_tensor *t, int64_t first, int64_t count)
{
    float *x = malloc((size_t)(count + 1) * sizeof *x);
    memset(x, 0xff, (size_t)(count + 1) * sizeof *x);
    assert_int_equal(tensor_decode(&t->view, first, count, x, NULL), FLUX1_OK);
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = (first + i) / COLS, col = (first + i) % COLS;
        const float y = expected[col * ROWS + row];
        if ((y == 0 || fabsf(y) >= 0x1p-120f || isnan(y)) && x[i] != y && !(isnan(x[i]) && isnan(y)))
            fail_msg("row %d, column %d is %a, it should be %a", (int)row, (int)col, (double)x[i], (double)y);
    }
    assert_true(isnan(x[count]));
    free(x);
}

static void values_are_the_vendor_s_however_they_are_read(void **state)
{
    (void)state;
    const store_tensor *t = rounded_tensor(once);
    assert_int_equal(t->view.type, DTYPE_COMPUTED);
    assert_true(t->view.shape[0] == ROWS && t->view.shape[1] == COLS);
    expect_elements(t, 0, ROWS * COLS);
    expect_elements(t, 17 * COLS, 3 * COLS);
    expect_elements(t, 15 * COLS + 40, COLS + 60); /* ends of rows of two groups */
    expect_elements(t, 44 * COLS + 69, 1);
    expect_elements(t, 5, 0);
    for (int64_t first = 0; first < ROWS * COLS; first += 97)
        expect_elements(t, first, first + 131 < ROWS * COLS ? 131 : ROWS * COLS - first);
}

/* Rows of two groups, some of their columns; rows of two pieces. */
static void rows_of_a_recipe_are_rounded_together(void **state)
{
    (void)state;
    const weight_recipe half = recipe_whole(WEIGHT_LINEAR, rounded_tensor(once)), upper = recipe_rows(&half, 0, 8),
                        lower = recipe_rows(&half, 20, 25), part = recipe_cols(&lower, 30, 40);
    weight_recipe stack;
    float x[10 * 33 + 1];
    assert_int_equal(recipe_decode_rows(&part, 5, 10, 3, 33, x, NULL), FLUX1_OK); /* rows 25 to 34, columns 33 to 65 */
    for (int i = 0; i < 10 * 33; i++)
        assert_true(x[i] == expected[(33 + i % 33) * ROWS + 25 + i / 33]);
    assert_int_equal(recipe_stack(&upper, &lower, &stack, NULL), FLUX1_OK);
    assert_int_equal(recipe_decode_rows(&stack, 6, 4, 10, 33, x, NULL), FLUX1_OK); /* of both pieces */
    for (int i = 0; i < 4 * 33; i++) {
        const int row = i / 33 < 2 ? 6 + i / 33 : 18 + i / 33;
        assert_true(x[i] == expected[(10 + i % 33) * ROWS + row]);
    }
}

/* Rows 0 to 7 are ordinary ones. */
static void a_rounded_tensor_may_be_rounded_again(void **state)
{
    (void)state;
    float x[16 * COLS], y[16 * COLS];
    const store_tensor *a = rounded_tensor(once), *b = rounded_tensor(twice);
    assert_int_equal(tensor_decode(&a->view, 0, 8 * COLS, x, NULL), FLUX1_OK);
    assert_int_equal(tensor_decode(&b->view, 0, 8 * COLS, y, NULL), FLUX1_OK);
    for (int i = 0; i < 8 * COLS; i++)
        assert_true(x[i] == y[i] || (isnan(x[i]) && isnan(y[i])));
    assert_int_equal(b->computed_from->count, 1);
    assert_ptr_equal(b->computed_from->tensor[0], store_find(goldens, "values"));
    assert_true(a->computed_from->hash != b->computed_from->hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_the_vendor_s_however_they_are_read),
        cmocka_unit_test(rows_of_a_recipe_are_rounded_together),
        cmocka_unit_test(a_rounded_tensor_may_be_rounded_again),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
