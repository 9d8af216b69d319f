/* AUTOMATIC1111's parameters, read as its own rule reads them (tools/oracle/picture_goldens.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "image/infotext.h"

#include <stdlib.h>
#include <string.h>

static const char *member(const json_value *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

static void expect_row(const json_value *row)
{
    infotext t;
    const json_value *pairs = json_object_get(row, "pairs");
    const char *text = member(row, "text"), *negative = member(row, "negative_prompt");
    assert_int_equal(infotext_read(text, &t, NULL), FLUX1_OK);
    /* fewer than three pairs are none: the line is the prompt's */
    if (t.count != json_array_size(pairs))
        fail_msg("%zu pairs, the web UI finds %zu in:\n%s", t.count, json_array_size(pairs), text);
    assert_string_equal(t.prompt, member(row, "prompt"));
    assert_string_equal(t.negative_prompt ? t.negative_prompt : "", negative);
    for (size_t i = 0; i < t.count; i++) {
        const json_value *pair = json_array_get(pairs, i);
        assert_string_equal(t.pairs[i].key, json_string_value(json_array_get(pair, 0)));
        assert_string_equal(t.pairs[i].value, json_string_value(json_array_get(pair, 1)));
    }
    infotext_free(&t);
}

static void every_text_is_read_as_the_web_ui_reads_it(void **state)
{
    (void)state;
    json_value *rows;
    const json_value *row;
    size_t n = 0;
    assert_int_equal(json_parse_file(TEST_DATA "/pictures/infotexts.json", &rows, NULL), FLUX1_OK);
    for (; (row = json_array_get(rows, n)); n++)
        expect_row(row);
    assert_int_equal(n, 305);
    json_free(rows);
}

static void of_equal_keys_the_last_counts(void **state)
{
    (void)state;
    infotext t;
    assert_int_equal(infotext_read("x\nSteps: 1, Seed: 2, Steps: 3", &t, NULL), FLUX1_OK);
    assert_string_equal(infotext_value(&t, "Steps"), "3");
    assert_null(infotext_value(&t, "Size"));
    assert_null(t.negative_prompt);
    infotext_free(&t);
}

/* By the rule in infotext.c, which is the web UI's: keys of \w, blanks, '-' and '/', and \\. within quotes. */
static void keys_and_quotes_are_those_of_the_rule(void **state)
{
    (void)state;
    infotext t;
    assert_int_equal(infotext_read("x\nHires-a/b: 1, Model: \"a\\\" , b\", Seed: 3", &t, NULL), FLUX1_OK);
    assert_int_equal(t.count, 3);
    assert_string_equal(infotext_value(&t, "Hires-a/b"), "1");
    assert_string_equal(infotext_value(&t, "Model"), "a\" , b");
    assert_string_equal(infotext_value(&t, "Seed"), "3");
    infotext_free(&t);
}

/* Quotes that never close would take minutes in a text of megabytes. */
static void an_endless_line_is_no_line_of_pairs(void **state)
{
    (void)state;
    const size_t bytes = 8 << 20;
    char *text = malloc(bytes + 1);
    infotext t;
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = "ab:\"\\\","[i % 7];
    text[bytes] = '\0';
    assert_int_equal(infotext_read(text, &t, NULL), FLUX1_OK);
    assert_int_equal(t.count, 0);
    assert_int_equal(strlen(t.prompt), bytes);
    infotext_free(&t);
    text[60000] = '\0';
    assert_int_equal(infotext_read(text, &t, NULL), FLUX1_OK);
    assert_true(t.count > 1000);
    infotext_free(&t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_is_read_as_the_web_ui_reads_it),
        cmocka_unit_test(of_equal_keys_the_last_counts),
        cmocka_unit_test(keys_and_quotes_are_those_of_the_rule),
        cmocka_unit_test(an_endless_line_is_no_line_of_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
