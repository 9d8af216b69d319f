/* Numbers of bytes as messages name them: three significant digits, a fitting unit, one way to write each number. */
#include "base/units.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define KIB 1024.0
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define PIB (1024 * TIB)
#define EIB (1024 * PIB)
#define ZIB (1024 * EIB)
#define YIB (1024 * ZIB)

typedef struct row {
    double bytes;
    const char *text;
} row;

static void check(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[BYTES_TEXT];
        assert_ptr_equal(format_bytes(text, sizeof text, rows[i].bytes), text);
        assert_string_equal(text, rows[i].text);
    }
}

#define CHECK(rows) check(rows, sizeof(rows) / sizeof *(rows))

static void whole_bytes_are_exact_below_1024(void **state)
{
    (void)state;
    static const row rows[] = {
        {0, "0 bytes"},       {1, "1 byte"},        {2, "2 bytes"},         {812, "812 bytes"}, {999, "999 bytes"},
        {1000, "1000 bytes"}, {1023, "1023 bytes"}, {0.49, "0 bytes"},      {0.5, "1 byte"},    {1.49, "1 byte"},
        {1.5, "2 bytes"},     {812.4, "812 bytes"}, {1023.4, "1023 bytes"},
    };
    CHECK(rows);
}

static void larger_numbers_have_three_significant_digits(void **state)
{
    (void)state;
    static const row rows[] = {
        {1023.5, "1.00 KiB"},     {1024, "1.00 KiB"},
        {1025, "1.00 KiB"},       {1536, "1.50 KiB"},
        {45.3 * KIB, "45.3 KiB"}, {430 * MIB, "430 MiB"},
        {7.5 * GIB, "7.50 GiB"},  {1.2 * TIB, "1.20 TiB"},
        {3.25 * PIB, "3.25 PiB"}, {(double)UINT64_MAX, "16.0 EiB"},
        {2 * ZIB, "2.00 ZiB"},    {999 * YIB, "999 YiB"},
    };
    CHECK(rows);
}

/* 1000 KiB / 1024 = 0.9766 MiB; 999.95 / 1024 = 0.97651; 1023 / 1024 = 0.99902; 1023.6 / 1024 = 0.99961. */
static void rounding_that_adds_a_digit_moves_the_point_or_the_unit(void **state)
{
    (void)state;
    static const row rows[] = {
        {9.994 * KIB, "9.99 KiB"},    {9.996 * KIB, "10.0 KiB"},   {99.94 * GIB, "99.9 GiB"},
        {99.96 * GIB, "100 GiB"},     {999 * KIB, "999 KiB"},      {999.4 * KIB, "999 KiB"},
        {999.5 * KIB, "0.976 MiB"},   {999.95 * KIB, "0.977 MiB"}, {999.95 * MIB, "0.977 GiB"},
        {1000 * GIB, "0.977 TiB"},    {1023 * MIB, "0.999 GiB"},   {1023.6 * MIB, "1.00 GiB"},
        {1024 * MIB - 1, "1.00 GiB"},
    };
    CHECK(rows);
}

static void every_double_has_a_text_that_fits(void **state)
{
    (void)state;
    static const row rows[] = {
        {999.5 * YIB, "999+ YiB"}, {DBL_MAX, "999+ YiB"},      {INFINITY, "999+ YiB"}, {-DBL_MAX, "-999+ YiB"},
        {NAN, "? bytes"},          {-0.0, "0 bytes"},          {-0.4, "0 bytes"},      {-1, "-1 byte"},
        {-1023, "-1023 bytes"},    {-45.3 * MIB, "-45.3 MiB"}, {DBL_MIN, "0 bytes"},   {-999.95 * MIB, "-0.977 GiB"},
    };
    CHECK(rows);
    for (int exponent = -10; exponent < 1024; exponent++)
        for (int part = 0; part < 64; part++) {
            char wide[64], text[BYTES_TEXT];
            double bytes = -ldexp(1 + part / 64.0, exponent);
            assert_string_equal(format_bytes(text, sizeof text, bytes), format_bytes(wide, sizeof wide, bytes));
            assert_null(strstr(wide, "1000 K"));
        }
}

static void text_is_cut_to_the_room(void **state)
{
    (void)state;
    char text[8] = "#######";
    assert_string_equal(format_bytes(text, 5, 45.3 * KIB), "45.3");
    assert_string_equal(text + 5, "##");
    assert_string_equal(format_bytes(text, 1, 45.3 * KIB), "");
}

static void the_locale_changes_nothing(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8"))
        skip();
    char text[BYTES_TEXT];
    format_bytes(text, sizeof text, 45.3 * KIB);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(text, "45.3 KiB");
}

static void sizes_are_read_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } sizes[] = {{"4096", 4096},
                 {"1K", 1024},
                 {"1.5k", 1536},
                 {"8G", 8ull << 30},
                 {"8GiB", 8ull << 30},
                 {"512MB", 512 << 20},
                 {"2T", 2ull << 40},
                 {"7B", 7},
                 {"8gib", 8ull << 30},
                 {"8Gi", 8ull << 30},
                 {"", 0},
                 {"0", 0},
                 {"-1", 0},
                 {"8X", 0},
                 {"G", 0},
                 {"1.2.3G", 0},
                 {"8 G", 0},
                 {"1e3", 0},
                 {"7iB", 0},
                 {"7i", 0},
                 {"nan", 0},
                 {"inf", 0},
                 {" 8G", 0},
                 {"8GiBs", 0},
                 {"99999999999G", 0},
                 {"8388608T", 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t bytes = 0;
        assert_int_equal(parse_bytes(sizes[i].text, &bytes), sizes[i].bytes != 0);
        assert_int_equal(bytes, sizes[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_bytes_are_exact_below_1024),
        cmocka_unit_test(larger_numbers_have_three_significant_digits),
        cmocka_unit_test(rounding_that_adds_a_digit_moves_the_point_or_the_unit),
        cmocka_unit_test(every_double_has_a_text_that_fits),
        cmocka_unit_test(text_is_cut_to_the_room),
        cmocka_unit_test(the_locale_changes_nothing),
        cmocka_unit_test(sizes_are_read_as_people_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
