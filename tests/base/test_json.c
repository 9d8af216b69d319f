#include "base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static json_value *parse(const char *text)
{
    json_value *root;
    flux1_error err = {0};
    if (json_parse(text, strlen(text), "c.json", &root, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return root;
}

static void expect_fault_bytes(const char *bytes, size_t length, const char *words)
{
    json_value *root;
    flux1_error err = {0};
    assert_int_equal(json_parse(bytes, length, "c.json", &root, &err), FLUX1_ERR_FORMAT);
    assert_null(root);
    if (strncmp(err.message, "c.json:", 7) != 0 || !strstr(err.message, words) || strchr(err.message, '\n'))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

static void expect_fault(const char *text, const char *words) { expect_fault_bytes(text, strlen(text), words); }

static void faults_name_line_and_column(void **state)
{
    (void)state;
    expect_fault("{\n  \"a\": nope\n}", "c.json:2:");
    expect_fault("{\"a\": 1,}", "not valid JSON");
    expect_fault("{\"a\": [1, 2", "cut short");
    expect_fault("{\"a\": \"text", "c.json:1:");
    expect_fault("", "empty");
    expect_fault("   ", "c.json:1:4: the JSON is cut short");
    expect_fault("{} {}", "c.json:1:");
    expect_fault("12", "c.json:1:");
    expect_fault("{\"a\": 1e999}", "too large");
    expect_fault("{\"a\": \"\\u0000\"}", "c.json:1:8: not valid JSON: a NUL");
    static const char *const bad[] = {"[01]",
                                      "[1.]",
                                      "[.5]",
                                      "[-]",
                                      "[+1]",
                                      "[1e]",
                                      "[1e+]",
                                      "[0x10]",
                                      "[NaN]",
                                      "[Infinity]",
                                      "[tru]",
                                      "[nul",
                                      "[1 2]",
                                      "[,1]",
                                      "[1,]",
                                      "[1,,2]",
                                      "{,}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\" 1}",
                                      "{a:1}",
                                      "{\"a\":1 \"b\":2}",
                                      "[}",
                                      "{]",
                                      "[\"\\x\"]",
                                      "[\"\\u12g4\"]",
                                      "[\"\\u12",
                                      "[\"a\nb\"]",
                                      "[\"\\\"]",
                                      "[1]]",
                                      "['a']",
                                      "[1] // x",
                                      "\xef\xbb\xbf[]",
                                      "[1",
                                      "[",
                                      "{",
                                      "{\"a",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_fault(bad[i], "c.json:1:");
}

static void values_are_what_was_written(void **state)
{
    (void)state;
    json_value *root =
        parse(" [ \"\\u00e9\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\tx\" , -0 , 9223372036854775807 , -1.5e-2 "
              ", true , false , null , [ ] , { } , "
              "9223372036854775808 , 18446744073709551615, 18446744073709551616, -9223372036854775808, "
              "-9223372036854775809 ]\r\n\t ");
    assert_int_equal(json_array_size(root), 14);
    assert_string_equal(json_string_value(json_array_get(root, 0)), "\xc3\xa9\xf0\x9f\x98\x80\"\\/\b\f\n\r\tx");
    assert_int_equal(json_integer_value(json_array_get(root, 1)), 0);
    assert_true(json_integer_value(json_array_get(root, 2)) == INT64_MAX);
    assert_true(json_number_value(json_array_get(root, 3)) == -1.5e-2);
    assert_true(json_is_true(json_array_get(root, 4)) && json_is(json_array_get(root, 5), JSON_FALSE) &&
                json_is_null(json_array_get(root, 6)));
    assert_true(json_is_array(json_array_get(root, 7)) && json_is_object(json_array_get(root, 8)));
    assert_true(json_is(json_array_get(root, 9), JSON_UNSIGNED) && json_array_get(root, 9)->large == (uint64_t)1 << 63);
    assert_true(json_is(json_array_get(root, 10), JSON_UNSIGNED) && json_array_get(root, 10)->large == UINT64_MAX);
    assert_true(json_is_real(json_array_get(root, 11)) && json_number_value(json_array_get(root, 11)) == 0x1p64);
    assert_true(json_integer_value(json_array_get(root, 12)) == INT64_MIN);
    assert_true(json_is_real(json_array_get(root, 13)) && json_number_value(json_array_get(root, 13)) == -0x1p63);
    json_free(root);
}

static void invalid_text_is_refused(void **state)
{
    (void)state;
    expect_fault_bytes("{\"a\": \"\xff\"}", 11, "UTF-8");
    expect_fault_bytes("{\"a\": \"\xc0\x80\"}", 12, "UTF-8");
    expect_fault_bytes("{\"a\": 1\0}", 10, "c.json:1:");
    expect_fault("{\"a\": \"\\ud800\"}", "c.json:1:");
}

static void duplicate_keys_are_named(void **state)
{
    (void)state;
    expect_fault("{\"width\": 1, \"width\": 2}", "the key \"width\" is given twice");
    expect_fault("{\"transformer_blocks.0.attn.to_q.weight\": 1,\n \"transformer_blocks.0.attn.to_q.weight\": 2}",
                 "c.json:2:2: the key \"transformer_blocks.0.attn.to_q.weight\"");
    expect_fault("{\"a\": {\"b\\\"c\": 1, \"b\\\"c\": 1}}", "twice");
}

/* json.loads of Python 3.11 gives {"a": 3, "b": {"c": 5}, "d": nan, "e": inf, "f": -inf, "g": inf}. */
static void python_rules_take_what_python_writes(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": 1, \"b\": 1, \"a\": 2, \"d\": NaN, \"b\": {\"c\": 4, \"c\": 5}, \"a\": 3,"
                               " \"e\": Infinity, \"f\": -Infinity, \"g\": 1e999}";
    static const char *const keys[] = {"a", "b", "d", "e", "f", "g"};
    json_value *root;
    const char *key;
    assert_int_equal(json_parse_python(text, sizeof text - 1, "c.json", &root, NULL), FLUX1_OK);
    assert_int_equal(json_object_size(root), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_ptr_equal(json_object_get(root, keys[i]), json_object_at(root, i, &key));
        assert_string_equal(key, keys[i]);
    }
    assert_int_equal(json_integer_value(json_object_get(root, "a")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "b"), "c")), 5);
    assert_true(isnan(json_number_value(json_object_get(root, "d"))));
    assert_true(json_number_value(json_object_get(root, "e")) == INFINITY);
    assert_true(json_number_value(json_object_get(root, "f")) == -INFINITY);
    assert_true(json_number_value(json_object_get(root, "g")) == INFINITY);
    double x = 0.5;
    flux1_error err = {0};
    assert_int_equal(json_get_real(root, "c.json", "d", &x, &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"d\" is NaN, it should be a number");
    json_free(root);
    static const char *const bad[] = {"[nan]", "[+Infinity]", "[-NaN]", "[\"\\ud800\"]", "[01]", "[1,]", "12"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(json_parse_python(bad[i], strlen(bad[i]), "c.json", &root, NULL), FLUX1_ERR_FORMAT);
}

/* Every key of a large object is found, whatever the order; other keys are not. */
static void members_are_found_by_key_and_kept_in_order(void **state)
{
    (void)state;
    char *text = malloc(1 << 16), key[16];
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "{");
    for (int i = 0; i < 1000; i++)
        n += (size_t)sprintf(text + n, "%s\"k%d\": %d", i ? ", " : "", i * 7919 % 1000, i);
    sprintf(text + n, "}");
    json_value *root = parse(text);
    const char *name;
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i * 7919 % 1000);
        assert_int_equal(json_integer_value(json_object_get(root, key)), i);
        assert_int_equal(json_integer_value(json_object_at(root, (size_t)i, &name)), i);
        assert_string_equal(name, key);
    }
    assert_null(json_object_get(root, "k1000"));
    assert_null(json_object_get(root, ""));
    assert_null(json_object_at(root, 1000, &name));
    json_free(root);
    free(text);
}

static void numbers_are_the_nearest_doubles(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"[0.1]", 0.1},
                 {"[2.2250738585072011e-308]", 2.2250738585072011e-308},
                 {"[1e-400]", 0},
                 {"[123456789012345678901234567890]", 123456789012345678901234567890.0},
                 {"[0.00000000000000000000000001]", 1e-26},
                 {"[9007199254740993.0]", 9007199254740992.0},
                 {"[1.7976931348623157e308]", 1.7976931348623157e308},
                 {"[-12.5E+1]", -125},
                 {"[1e-99999999999]", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_value *root = parse(cases[i].text);
        if (json_number_value(json_array_get(root, 0)) != cases[i].value)
            fail_msg("%s is read as %.17g", cases[i].text, json_number_value(json_array_get(root, 0)));
        json_free(root);
    }
}

static void depth_is_limited_to_64(void **state)
{
    (void)state;
    char text[400];
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    json_value *root;
    assert_int_equal(json_parse(text, 128, "c.json", &root, NULL), FLUX1_OK);
    json_free(root);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    expect_fault_bytes(text, 130, "c.json:1:65: JSON nested more than 64 levels deep");
    for (int i = 0; i < 50; i++) /* brackets in strings count for nothing */
        memcpy(text + 7 * i, "\"\\\"[[\",", 7);
    text[0] = '[';
    text[1] = text[2] = text[3] = text[4] = ' ';
    text[5] = '0';
    text[349] = ']';
    assert_int_equal(json_parse(text, 350, "c.json", &root, NULL), FLUX1_OK);
    json_free(root);
}

static void enormous_depth_does_not_reach_the_stack(void **state)
{
    (void)state;
    size_t n = 10000000;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, '[', n);
    expect_fault_bytes(text, n, "64 levels");
    for (size_t i = 0; i + 5 <= n; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    expect_fault_bytes(text, n, "64 levels");
    free(text);
}

static void absent_and_null_keep_the_default(void **state)
{
    (void)state;
    json_value *root = parse("{\"n\": null}");
    int64_t i = 7, list[2] = {1, 2};
    double x = 0.5;
    bool b = true;
    const char *s = "d";
    size_t count = 2;
    for (int round = 0; round < 2; round++) {
        const char *key = round ? "n" : "absent";
        assert_int_equal(json_get_int(root, "c.json", key, 8, 9, &i, NULL), FLUX1_OK);
        assert_int_equal(json_get_real(root, "c.json", key, &x, NULL), FLUX1_OK);
        assert_int_equal(json_get_bool(root, "c.json", key, &b, NULL), FLUX1_OK);
        assert_int_equal(json_get_string(root, "c.json", key, &s, NULL), FLUX1_OK);
        assert_int_equal(json_get_ints(root, "c.json", key, 0, 1, list, 2, &count, NULL), FLUX1_OK);
        assert_int_equal(json_require(root, "c.json", key, NULL), FLUX1_ERR_FORMAT);
    }
    assert_true(i == 7 && x == 0.5 && b && strcmp(s, "d") == 0 && count == 2 && list[1] == 2);
    json_free(root);
}

static void getters_give_values(void **state)
{
    (void)state;
    json_value *root = parse("{\"i\": 64, \"r\": 0.25, \"w\": 3.0, \"b\": false, \"s\": \"x\", \"l\": [16, 56, 56]}");
    int64_t i = 0, list[3];
    double x = 0;
    bool b = true;
    const char *s = NULL;
    size_t count = 0;
    assert_int_equal(json_get_int(root, "c.json", "i", 1, 64, &i, NULL), FLUX1_OK);
    assert_int_equal(i, 64);
    assert_int_equal(json_get_int(root, "c.json", "w", 1, 64, &i, NULL), FLUX1_OK);
    assert_int_equal(i, 3);
    assert_int_equal(json_get_real(root, "c.json", "r", &x, NULL), FLUX1_OK);
    assert_true(x == 0.25);
    assert_int_equal(json_get_real(root, "c.json", "i", &x, NULL), FLUX1_OK);
    assert_true(x == 64);
    assert_int_equal(json_get_bool(root, "c.json", "b", &b, NULL), FLUX1_OK);
    assert_false(b);
    assert_int_equal(json_get_string(root, "c.json", "s", &s, NULL), FLUX1_OK);
    assert_string_equal(s, "x");
    assert_int_equal(json_get_ints(root, "c.json", "l", 0, 128, list, 3, &count, NULL), FLUX1_OK);
    assert_true(count == 3 && list[0] == 16 && list[2] == 56);
    assert_int_equal(json_require(root, "c.json", "l", NULL), FLUX1_OK);
    json_free(root);
}

static void wrong_types_are_explained(void **state)
{
    (void)state;
    json_value *root =
        parse("{\"i\": \"64\", \"f\": 1.5, \"big\": 65, \"o\": {}, \"l\": [1, \"x\"], \"long\": [1, 2, 3]}");
    int64_t i, list[2];
    double x;
    bool b;
    const char *s;
    size_t count;
    flux1_error err = {0};
    assert_int_equal(json_get_int(root, "c.json", "i", 1, 64, &i, &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"i\" is the text \"64\", it should be an integer from 1 to 64");
    assert_int_equal(json_get_int(root, "c.json", "f", 1, 64, &i, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_get_int(root, "c.json", "big", 1, 64, &i, &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"big\" is 65, it should be an integer from 1 to 64");
    assert_int_equal(json_get_real(root, "c.json", "o", &x, &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"o\" is an object, it should be a number");
    assert_int_equal(json_get_bool(root, "c.json", "big", &b, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_get_string(root, "c.json", "big", &s, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_get_ints(root, "c.json", "l", 0, 9, list, 2, &count, &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"l[1]\" is the text \"x\", it should be an integer from 0 to 9");
    assert_int_equal(json_get_ints(root, "c.json", "long", 0, 9, list, 2, &count, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_get_ints(root, "c.json", "big", 0, 9, list, 2, &count, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_require(root, "c.json", "x", &err), FLUX1_ERR_FORMAT);
    assert_string_equal(err.message, "c.json: \"x\" is missing");
    const json_value *array = json_object_get(root, "l");
    assert_int_equal(json_get_int(array, "c.json", "x", 0, 1, &i, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(json_require(NULL, "c.json", "x", &err), FLUX1_ERR_FORMAT);
    json_free(root);
}

/* transformers writes int(1e30) for "no limit". */
static void integers_beyond_64_bits_are_tolerated(void **state)
{
    (void)state;
    json_value *root = parse("{\"model_max_length\": 1000000000000000019884624838656, \"n\": 77}");
    int64_t n = 0;
    double x = 0;
    flux1_error err = {0};
    assert_int_equal(json_get_int(root, "c.json", "n", 1, 512, &n, NULL), FLUX1_OK);
    assert_int_equal(n, 77);
    assert_int_equal(json_get_real(root, "c.json", "model_max_length", &x, NULL), FLUX1_OK);
    assert_true(x == 1e30);
    assert_int_equal(json_get_int(root, "c.json", "model_max_length", 1, INT64_MAX, &n, &err), FLUX1_ERR_FORMAT);
    json_free(root);
}

static void missing_file_is_named(void **state)
{
    (void)state;
    json_value *root;
    flux1_error err = {0};
    assert_int_equal(json_parse_file("/nonexistent/config.json", &root, &err), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/nonexistent/config.json: cannot open: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_name_line_and_column),
        cmocka_unit_test(values_are_what_was_written),
        cmocka_unit_test(invalid_text_is_refused),
        cmocka_unit_test(duplicate_keys_are_named),
        cmocka_unit_test(python_rules_take_what_python_writes),
        cmocka_unit_test(members_are_found_by_key_and_kept_in_order),
        cmocka_unit_test(numbers_are_the_nearest_doubles),
        cmocka_unit_test(depth_is_limited_to_64),
        cmocka_unit_test(enormous_depth_does_not_reach_the_stack),
        cmocka_unit_test(absent_and_null_keep_the_default),
        cmocka_unit_test(getters_give_values),
        cmocka_unit_test(wrong_types_are_explained),
        cmocka_unit_test(integers_beyond_64_bits_are_tolerated),
        cmocka_unit_test(missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
