/* Base64, by the examples of RFC 4648, section 10. */
#include "server/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *bytes, *text;
} examples[] = {{"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"}};
enum { EXAMPLES = sizeof examples / sizeof *examples };

static void the_rfcs_examples_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < EXAMPLES; i++) {
        builder b = {0};
        uint8_t *bytes;
        size_t count;
        base64_add(&b, (const uint8_t *)examples[i].bytes, strlen(examples[i].bytes));
        assert_string_equal(b.text ? b.text : "", examples[i].text);
        builder_free(&b);
        assert_true(base64_read(examples[i].text, strlen(examples[i].text), &bytes, &count));
        assert_int_equal(count, strlen(examples[i].bytes));
        assert_memory_equal(bytes, examples[i].bytes, count);
        assert_int_equal(bytes[count], 0);
        free(bytes);
    }
}

/* Longer than its inner block, of each length modulo 3. */
static void long_ones_come_back(void **state)
{
    (void)state;
    uint8_t all[10000];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)(i * 37 + i / 251);
    for (size_t n = sizeof all - 3; n <= sizeof all; n++) {
        builder b = {0};
        uint8_t *bytes;
        size_t count;
        base64_add(&b, all, n);
        assert_int_equal(b.length, (n + 2) / 3 * 4);
        assert_true(base64_read(b.text, b.length, &bytes, &count));
        assert_int_equal(count, n);
        assert_memory_equal(bytes, all, n);
        free(bytes);
        builder_free(&b);
    }
}

static void blanks_do_not_count_and_others_are_refused(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t count;
    assert_true(base64_read(" Zm9v\r\nYmFy\n", 12, &bytes, &count));
    assert_int_equal(count, 6);
    free(bytes);
    assert_true(base64_read("_-8", 3, &bytes, &count)); /* the alphabet for URLs, without padding */
    assert_int_equal(bytes[0], 0xff);
    assert_int_equal(bytes[1], 0xef);
    free(bytes);
    static const char *const wrong[] = {"Zm9*", "Z", "Zg==Zg==", "Zm9vY"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(base64_read(wrong[i], strlen(wrong[i]), &bytes, &count));
        assert_null(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rfcs_examples_both_ways),
        cmocka_unit_test(long_ones_come_back),
        cmocka_unit_test(blanks_do_not_count_and_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
