/* Small pictures: each pixel is the mean of those that it covers, computed by hand. */
#include "server/thumbnail.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* Red is the column's last byte, green the row's, blue is 7. */
static flux1_image plain(int width, int height)
{
    flux1_image p = {.width = width, .height = height, .pixels = malloc(3 * (size_t)width * (size_t)height)};
    assert_non_null(p.pixels);
    for (int i = 0; i < width * height; i++) {
        p.pixels[3 * i] = (uint8_t)(i % width);
        p.pixels[3 * i + 1] = (uint8_t)(i / width);
        p.pixels[3 * i + 2] = 7;
    }
    return p;
}

static void small_ones_stay(void **state)
{
    (void)state;
    assert_false(thumbnail_pays(&(flux1_image){.width = 384, .height = 384}));
    assert_false(thumbnail_pays(&(flux1_image){.width = 16, .height = 384}));
    assert_true(thumbnail_pays(&(flux1_image){.width = 385, .height = 16}));
    assert_true(thumbnail_pays(&(flux1_image){.width = 16, .height = 400}));
}

static void sides_keep_their_proportion(void **state)
{
    (void)state;
    static const int cases[][4] = {{768, 768, 384, 384}, {1024, 768, 384, 288}, {400, 16, 384, 15},
                                   {16, 65536, 1, 384},  {1600, 2, 384, 1},     {385, 16, 384, 16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        flux1_image p = plain(cases[i][0], cases[i][1]), small;
        assert_true(thumbnail_draw(&p, &small));
        assert_int_equal(small.width, cases[i][2]);
        assert_int_equal(small.height, cases[i][3]);
        for (int k = 0; k < small.width * small.height; k++)
            assert_int_equal(small.pixels[3 * k + 2], 7);
        free(small.pixels);
        free(p.pixels);
    }
}

/* Halved: columns 2x and 2x + 1, so the mean is 2x + 1/2, rounded up; but where the byte turns over. */
static void a_pixel_is_a_mean(void **state)
{
    (void)state;
    flux1_image p = plain(768, 16), small;
    assert_true(thumbnail_draw(&p, &small));
    assert_int_equal(small.height, 8);
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++) {
            const uint8_t *at = small.pixels + 3 * (y * small.width + x);
            assert_int_equal(at[0], 2 * (x % 128) + 1);
            assert_int_equal(at[1], 2 * y + 1);
        }
    free(small.pixels);
    free(p.pixels);
    /* 385 columns on 384: number 0 covers columns 0 and a part of 1, the last one 383 and 384 (127 and 128) */
    p = plain(385, 1);
    assert_true(thumbnail_draw(&p, &small));
    assert_int_equal(small.pixels[0], 1);
    assert_int_equal(small.pixels[3 * 383], 128);
    free(small.pixels);
    free(p.pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_stay),
        cmocka_unit_test(sides_keep_their_proportion),
        cmocka_unit_test(a_pixel_is_a_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
