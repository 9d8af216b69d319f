/* Tiles of Tenstorrent's cards against those of the vendor's library (goldens/tiles.safetensors), bit for bit. */
#include "weights/recipe_tiles.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static store *goldens;
static weight_recipe values; /* [45, 70] */

static int open_goldens(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (store_open_file(TEST_DATA "/goldens/tiles.safetensors", &goldens, &err) != FLUX1_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    values = recipe_whole(WEIGHT_LINEAR, store_find(goldens, "values"));
    return 0;
}

static int close_goldens(void **state)
{
    (void)state;
    store_close(goldens);
    return 0;
}

static unsigned char *packed(const weight_recipe *r, tile_format f, tile_turn turn, size_t *bytes)
{
    flux1_error err = {0};
    assert_true(tiles_bytes(f, r->rows, r->cols, bytes));
    unsigned char *out = malloc(*bytes + 1);
    memset(out, 0xff, *bytes + 1);
    for (int64_t band = recipe_bands(r); band-- > 0;) /* the order does not matter */
        if (recipe_tiles(r, f, turn, band, 1, out, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
    assert_int_equal(out[*bytes], 0xff);
    return out;
}

static void expect_golden(tile_format f, tile_turn turn, const char *name)
{
    size_t bytes;
    unsigned char *out = packed(&values, f, turn, &bytes);
    const tensor *golden = &store_find(goldens, name)->view;
    assert_int_equal(bytes, tensor_bytes(golden));
    for (size_t i = 0; i < bytes; i++)
        if (out[i] != ((const unsigned char *)golden->data)[i])
            fail_msg("%s: byte %zu is %d, it should be %d", name, i, out[i], ((const unsigned char *)golden->data)[i]);
    free(out);
}

static void tiles_have_the_vendor_s_bits(void **state)
{
    (void)state;
    expect_golden(TILE_BF16, TILES_PLAIN, "bf16");
    expect_golden(TILE_BFP8, TILES_PLAIN, "bfp8");
    expect_golden(TILE_BFP8, TILES_TURNED, "bfp8.turned");
}

/* Rows 32 to 45 are the second row of three tiles; what is left of 32 rows and 96 columns is zeros. */
static void a_slice_is_packed_as_a_matrix_of_its_own(void **state)
{
    (void)state;
    size_t bytes;
    const weight_recipe slice = recipe_rows(&values, 32, 13), column = recipe_cols(&values, 64, 6);
    unsigned char *out = packed(&slice, TILE_BFP8, TILES_PLAIN, &bytes);
    assert_int_equal(bytes, 3 * 1088);
    assert_memory_equal(out, (const unsigned char *)store_find(goldens, "bfp8")->view.data + 3 * 1088, bytes);
    free(out);
    out = packed(&column, TILE_BFP8, TILES_TURNED, &bytes);
    assert_int_equal(bytes, 2 * 1088);
    assert_memory_equal(out, (const unsigned char *)store_find(goldens, "bfp8.turned")->view.data + 4 * 1088, bytes);
    free(out);
    const weight_recipe nothing = recipe_rows(&values, 7, 0);
    free(packed(&nothing, TILE_BF16, TILES_PLAIN, &bytes));
    assert_int_equal(bytes, 0);
}

/* Below 2^-120 the vendor's unpacking leaves the range of normal values and is not followed. */
static void rounded_values_are_those_of_the_numbers(void **state)
{
    (void)state;
    const float *golden = store_find(goldens, "bfp8.values")->view.data;
    float row[70];
    int checked = 0;
    for (int64_t r = 0; r < values.rows; r++) {
        assert_int_equal(recipe_decode(&values, r, 0, 70, row, NULL), FLUX1_OK);
        for (int c = 0; c < 70; c += BFP8_GROUP) /* one column whose rows follow each other */
            bfp8_round_columns(row + c, 1, c + BFP8_GROUP > 70 ? 70 - c : BFP8_GROUP, 1);
        for (int c = 0; c < 70; c++) {
            const float x = golden[r * 70 + c];
            if (x != 0 && fabsf(x) < 0x1p-120f)
                continue;
            checked++;
            if (row[c] != x && !(isnan(row[c]) && isnan(x)))
                fail_msg("row %d, column %d is %a, it should be %a", (int)r, c, (double)row[c], (double)x);
        }
    }
    assert_true(checked > 2500);
}

/* By hand: the exponent is that of 1.5; steps are 2^-6. 3/128 is a tie, 1.5 steps, and becomes 2; 1/128 becomes 0. The
 * second and fourth of each pair are not asked for. */
static void values_apart_are_rounded_in_place(void **state)
{
    (void)state;
    float x[] = {1.5f, 9, 3 / 128.0f, 9, -1 / 128.0f, 9, -1.999f, 9};
    const float expected[] = {1.5f, 9, 2 / 64.0f, 9, 0, 9, -127 / 64.0f, 9};
    bfp8_round_columns(x, 2, 4, 1);
    assert_memory_equal(x, expected, sizeof x);
    assert_false(signbit(x[4]));
}

static void sizes_beyond_counting_are_refused(void **state)
{
    (void)state;
    size_t bytes = 7;
    assert_false(tiles_bytes(TILE_BF16, INT64_MAX, 1, &bytes));
    assert_false(tiles_bytes(TILE_BF16, (int64_t)1 << 40, (int64_t)1 << 30, &bytes));
    assert_int_equal(bytes, 7);
    assert_true(tiles_bytes(TILE_BFP8, 33, 32, &bytes));
    assert_int_equal(bytes, 2 * 1088);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_have_the_vendor_s_bits),
        cmocka_unit_test(a_slice_is_packed_as_a_matrix_of_its_own),
        cmocka_unit_test(rounded_values_are_those_of_the_numbers),
        cmocka_unit_test(values_apart_are_rounded_in_place),
        cmocka_unit_test(sizes_beyond_counting_are_refused),
    };
    return cmocka_run_group_tests(tests, open_goldens, close_goldens);
}
