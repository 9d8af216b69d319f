#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* Every code point there is, against the definition: 7, 11, 16 and 21 bits; surrogates are none. */
static void every_code_point_goes_there_and_back(void **state)
{
    (void)state;
    for (int32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[UTF8_BYTES_MAX + 1] = {0};
        int32_t back = -1;
        size_t n = utf8_encode(c, bytes), expected = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (c >= 0xD800 && c < 0xE000) {
            assert_int_equal(utf8_decode(bytes, n, &back), 0);
            continue;
        }
        if (n != expected || utf8_decode(bytes, n, &back) != n || back != c || utf8_last(bytes, n) != 0)
            fail_msg("U+%04X: %zu bytes, read back as U+%04X", (unsigned)c, n, (unsigned)back);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_decode(bytes, cut, &back), 0);
    }
}

static void only_utf8_is_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xE2\x82",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[8] = "xy";
        strcat(text, bad[i]);
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
        assert_int_equal(utf8_valid_prefix(text, strlen(text)), 2);
    }
    assert_true(utf8_valid("a\0b", 3));
}

/* Unicode's table: C0 up to U+001F, DEL and C1 up to U+009F. */
static void control_characters_are_of_three_kinds(void **state)
{
    (void)state;
    bool control;
    for (int32_t c = 1; c < 0x3000; c++) {
        char text[8] = {0};
        const size_t n = utf8_encode(c, text);
        strcat(text, "x");
        assert_int_equal(utf8_next(text, &control), n);
        assert_int_equal(control, c < 0x20 || (c >= 0x7F && c <= 0x9F));
    }
    assert_int_equal(utf8_next("", &control), 0);
    assert_false(control);
    assert_int_equal(utf8_next("\x9B", &control), 1); /* no character; for a terminal of 8-bit characters it is one */
    assert_true(control);
    assert_int_equal(utf8_next("\xA0", &control), 1);
    assert_false(control);
    assert_int_equal(utf8_next("\xC2", &control), 1); /* cut short */
    assert_false(control);
}

static void control_characters_are_blanked(void **state)
{
    (void)state;
    char text[] = "\x1B[2J\xC2\x9B"
                  "31m\xE4\xB8\x80\n\t\x9B\x7F\xC3\x9B\xC2";
    utf8_blank_controls(text, '?', "\n");
    assert_string_equal(text, "?[2J?31m\xE4\xB8\x80\n???\xC3\x9B\xC2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_goes_there_and_back),
        cmocka_unit_test(only_utf8_is_utf8),
        cmocka_unit_test(control_characters_are_of_three_kinds),
        cmocka_unit_test(control_characters_are_blanked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
