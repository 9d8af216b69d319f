#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void a_message_too_long_is_cut_at_a_character(void **state)
{
    (void)state;
    char text[2 * FLUX1_MESSAGE_MAX];
    flux1_error err;
    for (int shift = 0; shift < 4; shift++) {
        memset(text, 'x', (size_t)shift);
        for (size_t i = (size_t)shift; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x99\x82", 5);
        assert_int_equal(error_set(&err, FLUX1_ERR_IO, "%s", text), FLUX1_ERR_IO);
        size_t n = strlen(err.message);
        assert_in_range(n, FLUX1_MESSAGE_MAX - 4, FLUX1_MESSAGE_MAX - 1);
        assert_int_equal((n - (size_t)shift) % 4, 0);
    }
}

static void a_message_holds_no_control_characters(void **state)
{
    (void)state;
    flux1_error err;
    error_set(&err, FLUX1_ERR_IO, "a%sb", "\x1b[2J\x7f\r\n");
    assert_string_equal(err.message, "a [2J   b");
    error_set(&err, FLUX1_ERR_IO,
              "fox \xC2\x9B"
              "31m \xC3\x9B");
    assert_string_equal(err.message, "fox  31m \xC3\x9B");
}

static void a_prefix_keeps_status_and_sentence(void **state)
{
    (void)state;
    flux1_error err;
    error_set(&err, FLUX1_ERR_FORMAT, "bad");
    assert_int_equal(error_prefix(&err, "file %d", 1), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "file 1: bad");
    error_clear(&err);
    assert_int_equal(err.status, FLUX1_OK);
    assert_string_equal(err.message, "");
    assert_int_equal(error_set(NULL, FLUX1_ERR_IO, "x"), FLUX1_ERR_IO);
}

static void every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
    assert_string_equal(status_name(FLUX1_OK), "FLUX1_OK");
    assert_string_equal(status_name(FLUX1_ERR_INTERNAL), "FLUX1_ERR_INTERNAL");
    assert_string_equal(status_name((flux1_status)99), "FLUX1_ERR_?");
    for (int i = FLUX1_OK; i <= FLUX1_ERR_INTERNAL; i++)
        assert_true(strlen(status_text((flux1_status)i)) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_too_long_is_cut_at_a_character),
        cmocka_unit_test(a_message_holds_no_control_characters),
        cmocka_unit_test(a_prefix_keeps_status_and_sentence),
        cmocka_unit_test(every_status_has_a_name_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
