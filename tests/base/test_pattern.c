/* Python's regular expressions over names of layers; what re.match(r"(.*\.)?(…)$", name) says of each was asked of
 * Python 3.11 (peft.utils.other.get_pattern_key). */
#include "base/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TO_Q "transformer_blocks.12.attn.to_q"
#define SINGLE "single_transformer_blocks.3.proj_out"

static void names_match_as_in_python(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
        bool matches;
    } rows[] = {
        {"to_q", TO_Q, true},
        {"attn.to_q", TO_Q, true},
        {"o_q", TO_Q, false},
        {"attn", TO_Q, false},
        {"attn.to.q", TO_Q, true},
        {"blocks.12.attn.to_q", TO_Q, false},
        {TO_Q, TO_Q, true},
        {"x" TO_Q, TO_Q, false},
        {"^to_q", TO_Q, false},
        {"^transformer_blocks.12.attn.to_q", TO_Q, true},
        {"^transformer_blocks.3.proj_out", SINGLE, false},
        {"transformer_blocks\\.\\d+\\.attn\\.to_(q|k)", TO_Q, true},
        {"transformer_blocks\\.\\d\\.attn\\.to_(q|k)", TO_Q, false},
        {"transformer_blocks\\.\\d{2}\\.attn\\.to_q", TO_Q, true},
        {"transformer_blocks\\.\\d{3,}\\.attn\\.to_q", TO_Q, false},
        {"transformer_blocks\\.\\d{1,2}\\.attn\\.to_q", TO_Q, true},
        {"transformer_blocks\\.\\d{,2}\\.attn\\.to_q", TO_Q, true},
        {"single_.*\\.proj_out", SINGLE, true},
        {"single_.*?\\.proj_out", SINGLE, true},
        {"(?:single_)??transformer_blocks\\.[0-9]+\\..+", TO_Q, true},
        {".*transformer_blocks.*", SINGLE, true},
        {"transformer_blocks.*", SINGLE, false},
        {"\\w+\\.[^.]*\\.attn\\.\\S+", TO_Q, true},
        {"\\w+\\.\\W\\w+", TO_Q, false},
        {"blocks\\.\\D+\\.attn.*", TO_Q, false},
        {"[a-z_]+\\.[\\d]+\\.attn\\.to_[qkv]", TO_Q, true},
        {"to_[]q]", TO_Q, true},
        {"to_[^]q]", TO_Q, false},
        {"to_[\\-\\]^q]", TO_Q, true},
        {"to[_\\[-]q", TO_Q, true},
        {"to[^-q]q", TO_Q, true},
        {"a{b", "a{b", true},
        {"a{,b}", "a{,b}", true},
        {"a]b", "a]b", true},
        {"a\\{1\\}", "a{1}", true},
        {"a{1}", "a{1}", false},
        {"to_k|to_q", TO_Q, true},
        {"to_q$", TO_Q, true},
        {"x[\\^]y", "x^y", true},
        {"x[\\^]y", "xy", false},
        {"x[\\^-]y", "x^y", true},
        {"x[\\^-]y", "x-y", true},
        {"x[\\^-]y", "xay", false},
        {"a\\sb", "a b", true},
        {"", TO_Q, false},
        {"", "x.", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pattern *p;
        flux1_error err = {0};
        if (pattern_compile(rows[i].text, &p, &err) != FLUX1_OK)
            fail_msg("%s: %s", rows[i].text, err.message);
        if (pattern_matches(p, rows[i].name) != rows[i].matches)
            fail_msg("\"%s\" %s \"%s\"", rows[i].text, rows[i].matches ? "misses" : "matches", rows[i].name);
        pattern_free(p);
    }
}

static void refused(const char *text, const char *words)
{
    pattern *p;
    flux1_error err = {0};
    assert_int_equal(pattern_compile(text, &p, &err), FLUX1_ERR_FORMAT);
    assert_null(p);
    if (!strstr(err.message, words) || err.message[0] != '"' || err.message[1] != text[0])
        fail_msg("\"%s\": \"%s\" does not have \"%s\"", text, err.message, words);
}

static void what_cannot_be_translated_is_named(void **state)
{
    (void)state;
    char deep[200] = "", end[100] = "";
    refused("a(?!b)", "lookaround");
    refused("(?i)a", "a flag");
    refused("(?P<x>a)", "named group");
    refused("(a)\\1", "an escape");
    refused("a\\b", "an escape");
    refused("a\\", "an escape");
    refused("[\\b]", "an escape in a set");
    refused("[a", "without an end");
    refused("[z-a]", "whose end comes first");
    refused("[\xc3\xa4]", "ASCII");
    refused("a*+", "possessive");
    refused("a{3,2}", "whose end comes first");
    refused("a{20000}", "too large a count");
    refused("(a", "no regular expression");
    refused("a)|(b", "ends before it begins");
    refused("a{100}{100}{100}", "too much repetition");
    refused("(aaaaaaaaaaaaaaaaaaaaaaaa){1000}", "too much repetition");
    for (int i = 0; i < 51; i++)
        strcat(deep, "("), strcat(end, ")");
    refused(strcat(deep, end), "too many groups");
    char *lengthy = malloc(1010);
    assert_non_null(lengthy);
    memset(lengthy, '*', 1009);
    lengthy[0] = 'a';
    lengthy[1009] = '\0';
    refused(lengthy, "1000 bytes");
    free(lengthy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_match_as_in_python),
                                       cmocka_unit_test(what_cannot_be_translated_is_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
