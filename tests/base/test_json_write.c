#include "base/json_write.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void expect_taken(json_writer *w, const char *expected)
{
    char *text = NULL;
    assert_int_equal(json_take(w, "a text", &text, NULL), FLUX1_OK);
    assert_string_equal(text, expected);
    free(text);
}

/* json.dumps(o), json.dumps(o, separators=(",", ":")) and json.dumps(o, indent=2) of Python 3.11 for
 * o = {"a": [1, [], {}], "b": {"c": None}, "d": True} */
static void styles_are_those_of_python(void **state)
{
    (void)state;
    static const char *const expected[] = {
        [JSON_LINE] = "{\"a\": [1, [], {}], \"b\": {\"c\": null}, \"d\": true}",
        [JSON_COMPACT] = "{\"a\":[1,[],{}],\"b\":{\"c\":null},\"d\":true}",
        [JSON_INDENTED] =
            "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": {\n    \"c\": null\n  },\n  \"d\": true\n}"};
    for (json_style style = JSON_LINE; style <= JSON_INDENTED; style++) {
        json_writer w = {.style = style};
        json_begin_object(&w, NULL);
        json_begin_array(&w, "a");
        json_put_integer(&w, NULL, 1);
        json_begin_array(&w, NULL);
        json_end_array(&w);
        json_begin_object(&w, NULL);
        json_end_object(&w);
        json_end_array(&w);
        json_begin_object(&w, "b");
        json_put_string(&w, "c", NULL);
        json_end_object(&w);
        json_put_bool(&w, "d", true);
        json_end_object(&w);
        expect_taken(&w, expected[style]);
    }
}

/* repr() of Python 3.11 */
static void reals_are_written_as_python_does(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0.0"},
                 {-0.0, "-0.0"},
                 {1, "1.0"},
                 {0.1, "0.1"},
                 {-2.5, "-2.5"},
                 {100, "100.0"},
                 {123456789, "123456789.0"},
                 {0.0001, "0.0001"},
                 {0.00012, "0.00012"},
                 {0.00001, "1e-05"},
                 {1.5e-7, "1.5e-07"},
                 {1e15, "1000000000000000.0"},
                 {1e16, "1e+16"},
                 {1.25e22, "1.25e+22"},
                 {1e100, "1e+100"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {5e-324, "5e-324"},
                 {DBL_MAX, "1.7976931348623157e+308"},
                 {9007199254740993.0, "9007199254740992.0"},
                 {NAN, "NaN"},
                 {INFINITY, "Infinity"},
                 {-INFINITY, "-Infinity"}};
    char text[JSON_NUMBER_ROOM];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(json_real_text(cases[i].value, text), cases[i].text);
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8"))
        assert_string_equal(json_real_text(0.5, text), "0.5");
    setlocale(LC_NUMERIC, "C");
}

static void floats_are_the_shortest_that_read_back(void **state)
{
    (void)state;
    json_writer w = {.style = JSON_LINE};
    json_begin_array(&w, NULL);
    json_put_float(&w, NULL, 3.5f);
    json_put_float(&w, NULL, 0.1f);
    json_put_float(&w, NULL, 16777216.0f);
    json_put_float(&w, NULL, 3.4028235e38f);
    json_put_float(&w, NULL, 4);
    json_end_array(&w);
    expect_taken(&w, "[3.5, 0.1, 16777216.0, 3.4028235e+38, 4.0]");
}

static void strings_are_escaped_as_python_does(void **state)
{
    (void)state;
    builder b = {0};
    static const char all[] = "\"\\/\n\r\t\b\f\x01\x7f \xC2\x9B \xC2\xA0 \xC3\xA9 \xF0\x9F\xA6\x8A",
                      broken[] = "a\xFF"
                                 "b\xC3",
                      nul[] = "a\0b";
    json_quote(&b, all, sizeof all - 1);
    assert_string_equal(b.text,
                        "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u007f \\u009b \xC2\xA0 \xC3\xA9 \xF0\x9F\xA6\x8A\"");
    builder_free(&b);
    json_quote(&b, broken, sizeof broken - 1);
    assert_string_equal(b.text, "\"a\xEF\xBF\xBD"
                                "b\xEF\xBF\xBD\"");
    builder_free(&b);
    json_quote(&b, nul, sizeof nul - 1);
    assert_string_equal(b.text, "\"a\\u0000b\"");
    builder_free(&b);
}

/* What is read and written again is the same text, the largest integers and infinities included. */
static void values_go_there_and_back(void **state)
{
    (void)state;
    static const char text[] =
        "{\"z\": [18446744073709551615, -9223372036854775808, 9223372036854775808, 0, -1.5, 1e-05, "
        "1e+300], \"a\": {\"b\": [], \"\": {}}, \"c\": \"\xC3\xA9\\n\", \"d\": [true, false, null, "
        "NaN, Infinity, -Infinity]}";
    json_value *root;
    json_writer w = {.style = JSON_LINE};
    assert_int_equal(json_parse_python(text, sizeof text - 1, "a.json", &root, NULL), FLUX1_OK);
    json_put_value(&w, NULL, root);
    json_free(root);
    expect_taken(&w, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(styles_are_those_of_python),
        cmocka_unit_test(reals_are_written_as_python_does),
        cmocka_unit_test(floats_are_the_shortest_that_read_back),
        cmocka_unit_test(strings_are_escaped_as_python_does),
        cmocka_unit_test(values_go_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
