/* Recipes on a matrix small enough to read: element (r, c) of a source is 10·r + c, of the second 100 more. */
#include "weights/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static float values_a[4 * 6], values_b[4 * 6], values_conv[2 * 3 * 9];
static store_tensor a = {
    .name = "a", .file = "m.safetensors", .view = {.type = DTYPE_F32, .dims = 2, .shape = {4, 6}, .data = values_a}};
static store_tensor b = {
    .name = "b", .file = "m.safetensors", .view = {.type = DTYPE_F32, .dims = 2, .shape = {4, 6}, .data = values_b}};
static store_tensor conv = {.name = "c",
                            .file = "m.safetensors",
                            .view = {.type = DTYPE_F32, .dims = 4, .shape = {2, 3, 3, 3}, .data = values_conv}};

static int fill(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i++) {
        values_a[i] = (float)(i / 6 * 10 + i % 6);
        values_b[i] = 100 + values_a[i];
    }
    for (int i = 0; i < 54; i++)
        values_conv[i] = (float)i;
    return 0;
}

static void expect_row(const weight_recipe *r, int64_t row, int64_t col, int64_t count, const float *expected)
{
    float x[32];
    flux1_error err = {0};
    if (recipe_decode(r, row, col, count, x, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    for (int64_t i = 0; i < count; i++)
        assert_true(x[i] == expected[i]);
}

#define ROW(r, row, col, ...) \
    expect_row(r, row, col, sizeof((float[]){__VA_ARGS__}) / sizeof(float), (float[]){__VA_ARGS__})

static void whole_is_the_tensor(void **state)
{
    (void)state;
    weight_recipe r = recipe_whole(WEIGHT_LINEAR, &a);
    assert_true(r.rows == 4 && r.cols == 6 && r.kernel == 0 && r.count == 1);
    ROW(&r, 0, 0, 0, 1, 2, 3, 4, 5);
    ROW(&r, 3, 2, 32, 33);
    assert_int_equal(recipe_bytes(&r), 96);
    weight_recipe c = recipe_whole(WEIGHT_CONV, &conv);
    assert_true(c.rows == 2 && c.cols == 27 && c.kernel == 3);
    ROW(&c, 1, 25, 52, 53);
    store_tensor dense = {.name = "d", .file = "m", .view = {.type = DTYPE_F32, .dims = 2, .shape = {2, 27}}};
    assert_int_equal(recipe_whole(WEIGHT_CONV, &dense).kernel, 1);
}

static void vector_is_a_column(void **state)
{
    (void)state;
    store_tensor v = {.name = "v", .file = "m", .view = {.type = DTYPE_F32, .dims = 1, .shape = {5}, .data = values_a}};
    weight_recipe r = recipe_whole(WEIGHT_VECTOR, &v);
    assert_true(r.rows == 5 && r.cols == 1);
    ROW(&r, 4, 0, 4);
    store_tensor scalar = {.name = "s", .file = "m", .view = {.type = DTYPE_F32, .dims = 0, .data = values_b}};
    r = recipe_whole(WEIGHT_VECTOR, &scalar);
    assert_true(r.rows == 1 && r.cols == 1);
    ROW(&r, 0, 0, 100);
}

static void rows_and_columns_are_cut(void **state)
{
    (void)state;
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, &a), rows = recipe_rows(&whole, 1, 2),
                  cell = recipe_cols(&rows, 3, 2);
    assert_true(cell.rows == 2 && cell.cols == 2);
    ROW(&cell, 0, 0, 13, 14);
    ROW(&cell, 1, 0, 23, 24);
    assert_int_equal(recipe_bytes(&cell), 16);
    weight_recipe again = recipe_cols(&cell, 1, 1), last = recipe_rows(&again, 1, 1); /* cuts of cuts */
    ROW(&last, 0, 0, 24);
    /* 2 rows of 16 are a block of 32 elements, 3 of them two */
    store_tensor q8 = {.name = "q", .file = "m", .view = {.type = DTYPE_Q8_0, .dims = 2, .shape = {4, 16}}};
    whole = recipe_whole(WEIGHT_LINEAR, &q8);
    rows = recipe_rows(&whole, 0, 2);
    assert_int_equal(recipe_bytes(&rows), 34);
    rows = recipe_rows(&whole, 0, 3);
    assert_int_equal(recipe_bytes(&rows), 68);
}

static void stack_and_beside_place_the_second(void **state)
{
    (void)state;
    weight_recipe ra = recipe_whole(WEIGHT_LINEAR, &a), rb = recipe_whole(WEIGHT_LINEAR, &b), r, square;
    assert_int_equal(recipe_stack(&ra, &rb, &r, NULL), FLUX1_OK);
    assert_true(r.rows == 8 && r.cols == 6);
    ROW(&r, 3, 5, 35);
    ROW(&r, 4, 0, 100, 101);
    assert_int_equal(recipe_beside(&ra, &rb, &r, NULL), FLUX1_OK);
    assert_true(r.rows == 4 && r.cols == 12);
    ROW(&r, 2, 4, 24, 25, 120, 121);
    assert_int_equal(recipe_stack(&r, &r, &square, NULL), FLUX1_OK);
    assert_true(square.rows == 8 && square.count == 4);
    ROW(&square, 7, 5, 35, 130);
}

/* Columns 3 to 8 of two matrices beside each other, then all but the first of these. */
static void columns_are_cut_across_the_seam(void **state)
{
    (void)state;
    weight_recipe ra = recipe_whole(WEIGHT_LINEAR, &a), rb = recipe_whole(WEIGHT_LINEAR, &b), both, cut;
    assert_int_equal(recipe_beside(&ra, &rb, &both, NULL), FLUX1_OK);
    cut = recipe_cols(&both, 3, 6);
    assert_true(cut.rows == 4 && cut.cols == 6 && cut.count == 2);
    ROW(&cut, 1, 0, 13, 14, 15, 110, 111, 112);
    cut = recipe_cols(&cut, 1, 5);
    ROW(&cut, 3, 0, 34, 35, 130, 131, 132);
    cut = recipe_cols(&both, 6, 6); /* the second alone */
    assert_int_equal(cut.count, 1);
    ROW(&cut, 0, 5, 105);
}

/* ---- rows together ---- */

typedef struct computed {
    tensor_values head;
    const float *values; /* [4, 6] */
    int calls;
} computed;

static flux1_status compute(const tensor_values *v, int64_t first, int64_t count, float *out, flux1_error *err)
{
    (void)err;
    memcpy(out, ((const computed *)v)->values + first, (size_t)count * sizeof *out);
    return FLUX1_OK;
}

static flux1_status compute_rows(const tensor_values *v, int64_t row, int64_t rows, int64_t col, int64_t count,
                                 float *out, flux1_error *err)
{
    (void)err;
    ((computed *)(uintptr_t)v)->calls++;
    for (int64_t i = 0; i < rows; i++)
        memcpy(out + i * count, ((const computed *)v)->values + (row + i) * 6 + col, (size_t)count * sizeof *out);
    return FLUX1_OK;
}

enum { LAYOUTS = 5 };

/* All of one, some rows on top of another, both beside each other, columns of both on top of and beside each other. */
static void lay_out(const store_tensor *first, const store_tensor *second, weight_recipe r[LAYOUTS])
{
    const weight_recipe ra = recipe_whole(WEIGHT_LINEAR, first), rb = recipe_whole(WEIGHT_LINEAR, second),
                        low = recipe_rows(&ra, 1, 2), left = recipe_cols(&ra, 0, 4), right = recipe_cols(&rb, 2, 4);
    r[0] = ra;
    assert_int_equal(recipe_stack(&low, &rb, &r[1], NULL), FLUX1_OK);
    assert_int_equal(recipe_beside(&ra, &rb, &r[2], NULL), FLUX1_OK);
    assert_int_equal(recipe_stack(&left, &right, &r[3], NULL), FLUX1_OK);
    assert_int_equal(recipe_beside(&right, &left, &r[4], NULL), FLUX1_OK);
}

/* Every window of `r`, whose values are those of `plain`. */
static void expect_windows(const weight_recipe *r, const weight_recipe *plain)
{
    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t rows = 1; rows <= r->rows - row; rows++)
            for (int64_t col = 0; col < r->cols; col++)
                for (int64_t count = 1; count <= r->cols - col; count++) {
                    float x[100];
                    x[rows * count] = -1;
                    assert_int_equal(recipe_decode_rows(r, row, rows, col, count, x, NULL), FLUX1_OK);
                    for (int64_t k = 0; k < rows; k++)
                        expect_row(plain, row + k, col, count, x + k * count);
                    assert_true(x[rows * count] == -1);
                }
}

/* However rows lie in their tensors, and where tensors compute them together. */
static void rows_together_are_those_one_by_one(void **state)
{
    (void)state;
    computed values[2] = {{{compute, compute_rows}, values_a, 0}, {{compute, compute_rows}, values_b, 0}};
    store_tensor made[2] = {a, b};
    weight_recipe plain[LAYOUTS], of_made[LAYOUTS], mixed[LAYOUTS];
    for (int i = 0; i < 2; i++) {
        made[i].view.type = DTYPE_COMPUTED;
        made[i].view.data = &values[i];
    }
    lay_out(&a, &b, plain);
    lay_out(&made[0], &made[1], of_made);
    lay_out(&a, &made[1], mixed);
    for (int i = 0; i < LAYOUTS; i++) {
        expect_windows(&plain[i], &plain[i]);
        expect_windows(&of_made[i], &plain[i]);
        expect_windows(&mixed[i], &plain[i]);
    }
    assert_true(values[0].calls > 0 && values[1].calls > 0);
}

/* Halves swapped (final layer's adaLN) and a rank's slice across the seam. */
static void halves_swap_and_slices_cross_the_seam(void **state)
{
    (void)state;
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, &a), low = recipe_rows(&whole, 0, 2),
                  high = recipe_rows(&whole, 2, 2), swapped;
    assert_int_equal(recipe_stack(&high, &low, &swapped, NULL), FLUX1_OK);
    ROW(&swapped, 0, 0, 20);
    ROW(&swapped, 3, 0, 10);
    weight_recipe slice = recipe_rows(&swapped, 1, 2);
    ROW(&slice, 0, 4, 34, 35);
    ROW(&slice, 1, 4, 4, 5);
    slice = recipe_rows(&swapped, 2, 2);
    assert_int_equal(slice.count, 1);
}

static void a_rank_may_hold_nothing(void **state)
{
    (void)state;
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, &a), none = recipe_rows(&whole, 4, 0), r;
    assert_true(none.rows == 0 && none.cols == 6 && none.count == 0 && recipe_bytes(&none) == 0);
    assert_int_equal(recipe_stack(&none, &whole, &r, NULL), FLUX1_OK);
    ROW(&r, 0, 0, 0, 1);
    none = recipe_cols(&whole, 0, 0);
    assert_true(none.rows == 4 && none.cols == 0);
    expect_row(&whole, 0, 6, 0, NULL); /* no columns of a row: nothing */
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    weight_recipe ra = recipe_whole(WEIGHT_LINEAR, &a), cut = recipe_cols(&ra, 0, 5),
                  table = recipe_whole(WEIGHT_TABLE, &a), r = ra;
    float x;
    flux1_error err = {0};
    assert_int_equal(recipe_stack(&ra, &cut, &r, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_stack(&ra, &table, &r, &err), FLUX1_ERR_INTERNAL);
    weight_recipe rows = recipe_rows(&ra, 0, 3);
    assert_int_equal(recipe_beside(&ra, &rows, &r, &err), FLUX1_ERR_INTERNAL);
    for (int i = 1; i < RECIPE_PIECES; i++)
        assert_int_equal(recipe_stack(&r, &ra, &r, &err), FLUX1_OK); /* out may be an operand */
    assert_int_equal(r.rows, 4 * RECIPE_PIECES);
    assert_int_equal(recipe_stack(&r, &ra, &r, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, 4, 0, 1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, 0, 6, 1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, -1, 0, 1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, 0, -1, 1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, 0, 0, -1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode(&ra, 0, 5, 2, &x, &err), FLUX1_ERR_INTERNAL);
    assert_int_equal(recipe_decode_rows(&ra, 3, 2, 0, 6, (float[12]){0}, &err), FLUX1_ERR_INTERNAL);
    store_tensor one = {.name = "o", .file = "m", .view = {.type = DTYPE_F32, .dims = 4, .shape = {2, 27, 1, 1}}};
    weight_recipe wide = recipe_whole(WEIGHT_CONV, &conv), narrow = recipe_whole(WEIGHT_CONV, &one);
    assert_int_equal(recipe_stack(&wide, &narrow, &wide, &err), FLUX1_ERR_INTERNAL); /* kernels of 3 and 1 */
    store_tensor dry = {.name = "dry.w", .file = "m.safetensors", .view = {.type = DTYPE_F32, .dims = 1, .shape = {5}}};
    weight_recipe none = recipe_whole(WEIGHT_VECTOR, &dry);
    assert_int_equal(recipe_decode(&none, 0, 0, 1, &x, &err), FLUX1_ERR_INTERNAL);
    assert_non_null(strstr(err.message, "dry.w"));
    unsigned char byte = 0;
    store_tensor fp8 = {.name = "f.w",
                        .file = "m.safetensors",
                        .view = {.type = DTYPE_F8_E8M0, .dims = 1, .shape = {1}, .data = &byte}};
    none = recipe_whole(WEIGHT_VECTOR, &fp8);
    assert_int_equal(recipe_decode(&none, 0, 0, 1, &x, &err), FLUX1_ERR_UNSUPPORTED);
    assert_string_equal(err.message,
                        "m.safetensors: tensor \"f.w\": F8_E8M0 values cannot be computed with in this version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_is_the_tensor),
        cmocka_unit_test(vector_is_a_column),
        cmocka_unit_test(rows_and_columns_are_cut),
        cmocka_unit_test(stack_and_beside_place_the_second),
        cmocka_unit_test(columns_are_cut_across_the_seam),
        cmocka_unit_test(rows_together_are_those_one_by_one),
        cmocka_unit_test(halves_swap_and_slices_cross_the_seam),
        cmocka_unit_test(a_rank_may_hold_nothing),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
