/* AUTOMATIC1111's tags of adapters, by its own rule (modules/extra_networks.py: the tag is split at colons, and a word
 * with one "=" is named; extensions-builtin/Lora: positions 1 and 2 are the scales of the text encoders and the
 * transformer, "te" and "unet" the same by name). */
#include "base/lora_tag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void scales_are_those_of_the_rule(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        double text, transformer;
    } good[] = {{"<lora:a>", 1, 1},
                {"<lora:a:0.8>", 0.8, 0.8},
                {"<lora:a:0.8:0.5>", 0.8, 0.5},
                {"<lora:a:0.8:0.5:16>", 0.8, 0.5},
                {"<lora:a:unet=0.25>", 1, 0.25},
                {"<lora:a:te=0.25>", 0.25, 0.25},
                {"<lora:a:0.8:unet=0.5:te=-1>", -1, 0.5},
                {"<lora:a:1:2:unet=0.5>", 1, 0.5},
                {"<lora:a:te=0:2:3>", 0, 3},
                {"<lora:a:0.8:lbw=ALL>", 0.8, 0.8},
                {"<lora:a: 1e-1 >", 0.1, 0.1}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        lora_tag t;
        assert_true(lora_tag_find(good[i].tag, &t));
        assert_true(t.is_number);
        assert_int_equal(t.name_bytes, 1);
        assert_int_equal(t.name[0], 'a');
        if (t.text_scale != good[i].text || t.scale != good[i].transformer)
            fail_msg("%s: %g and %g", good[i].tag, t.text_scale, t.scale);
        assert_int_equal(*t.end, '\0');
    }
    static const char *const bad[] = {"<lora:a:>",
                                      "<lora:a:x>",
                                      "<lora:a:1:>",
                                      "<lora:a:0x1>",
                                      "<lora:a:inf>",
                                      "<lora:a:te=>",
                                      "<lora:a:1 2>",
                                      "<lora:a:1e999>",
                                      "<lora:a:unet=y>",
                                      "<lora:a:1:2x:16>",
                                      "<lora:a: :1>",
                                      "<lora:a:1:1:unet=1e>",
                                      "<lora:a:1e39>", /* no float */
                                      "<lora:a:0000000000000000000000000000000000000001>"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lora_tag t;
        assert_true(lora_tag_find(bad[i], &t));
        if (t.is_number)
            fail_msg("%s: has a number", bad[i]);
    }
}

static void tags_are_found_and_cut_in_turn(void **state)
{
    (void)state;
    char text[] = "<lora:x:0.5>a <lora:y> fox<lora:z:1> <lora:open";
    char names[8] = "";
    lora_tag t;
    for (char *at = text; lora_tag_find(at, &t); at = lora_tag_cut(at, &t))
        strncat(names, t.name, t.name_bytes);
    assert_string_equal(names, "xyz");
    assert_string_equal(text, "a  fox <lora:open");
    assert_true(lora_tag_find("<lora:>", &t));
    assert_int_equal(t.name_bytes, 0);
    assert_false(lora_tag_find("a fox > <lora", &t));
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    builder b = {0};
    lora_tag t;
    assert_true(lora_tag_add(&b, "a b-1.5xyz", 7, 0.8f));
    assert_string_equal(b.text, "<lora:a b-1.5:0.8>");
    assert_true(lora_tag_find(b.text, &t));
    assert_int_equal(t.name_bytes, 7);
    assert_float_equal(t.scale, 0.8f, 1e-7);
    assert_false(lora_tag_add(&b, "a:b", 3, 1)); /* would be another name's, or none's, in a tag */
    assert_false(lora_tag_add(&b, "a>", 2, 1));
    assert_false(lora_tag_add(&b, "a=b", 3, 1));
    assert_false(lora_tag_add(&b, "", 0, 1));
    assert_string_equal(b.text, "<lora:a b-1.5:0.8>");
    assert_true(lora_tag_add(&b, "c", 1, -1));
    assert_string_equal(b.text, "<lora:a b-1.5:0.8> <lora:c:-1>");
    builder_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_are_those_of_the_rule),
        cmocka_unit_test(tags_are_found_and_cut_in_turn),
        cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
