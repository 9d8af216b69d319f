/* Growing texts, JSON strings, shortest floats, and which bytes are UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/builder.h"

#include <stdlib.h>
#include <string.h>

static void expect(builder *b, const char *expected)
{
    char *text;
    assert_int_equal(builder_take(b, "a test", &text, NULL), FLUX1_OK);
    assert_string_equal(text, expected);
    free(text);
}

static void texts_grow_and_are_handed_over(void **state)
{
    (void)state;
    builder b = {0};
    expect(&b, "");
    builder_add(&b, "a");
    builder_format(&b, "%d%s", 12, "bc");
    builder_add_bytes(&b, "defg", 2);
    expect(&b, "a12bcde");
    for (int i = 0; i < 1000; i++)
        builder_add(&b, "0123456789");
    assert_int_equal(b.length, 10000);
    assert_int_equal(strlen(b.text), 10000);
    builder_free(&b);
    expect(&b, "");
}

static void floats_are_the_shortest_that_read_back(void **state)
{
    (void)state;
    const struct {
        float value;
        const char *text;
    } cases[] = {{3.5f, "3.5"},           {0.1f, "0.1"}, {0, "0"}, {1e10f, "1e+10"}, {16777216.0f, "16777216"},
                 {1.0f / 3, "0.33333334"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        builder b = {0};
        builder_float(&b, cases[i].value);
        assert_true(strtof(b.text, NULL) == cases[i].value);
        expect(&b, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_grow_and_are_handed_over),
        cmocka_unit_test(floats_are_the_shortest_that_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
