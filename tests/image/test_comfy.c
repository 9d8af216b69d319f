/* ComfyUI's graphs: what is found behind nodes of other kinds, what is said to be missing, and graphs that are none.
 * Whole graphs as ComfyUI writes them are read in tests/cli/pictures.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/builder.h"
#include "image/comfy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static comfy_facts read_prompt(const char *prompt)
{
    comfy_facts f;
    memset(&f, 0xAA, sizeof f);
    assert_int_equal(comfy_read(prompt, NULL, &f, NULL), FLUX1_OK);
    return f;
}

#define LATENT "\"5\": {\"class_type\": \"EmptyLatentImage\", \"inputs\": {\"width\": 32, \"height\": 48}}"
#define SAMPLER(more)                                                                                                 \
    "\"3\": {\"class_type\": \"KSampler\", \"inputs\": {\"seed\": 5, \"steps\": 2, \"latent_image\": [\"5\", 0]" more \
    "}}, " LATENT

/* Guidance on the way to the text, the text from a node that only holds one, true CFG with a negative text. */
static void texts_are_found_behind_other_nodes(void **state)
{
    (void)state;
    comfy_facts f = read_prompt("{" SAMPLER(
        ", \"cfg\": 2, \"positive\": [\"9\", 0], \"negative\": [\"8\", 0]") ", "
                                                                            "\"9\": {\"class_type\": "
                                                                            "\"ControlOfSomeKind\", \"inputs\": "
                                                                            "{\"positive\": [\"10\", 0], \"strength\": "
                                                                            "1}}, "
                                                                            "\"10\": {\"class_type\": "
                                                                            "\"FluxGuidance\", \"inputs\": "
                                                                            "{\"guidance\": 3, \"conditioning\": "
                                                                            "[\"11\", 0]}}, "
                                                                            "\"11\": {\"class_type\": "
                                                                            "\"CLIPTextEncode\", \"inputs\": "
                                                                            "{\"text\": [\"12\", 0]}}, "
                                                                            "\"12\": {\"class_type\": \"TextBox\", "
                                                                            "\"inputs\": {\"string\": \"an owl\"}}, "
                                                                            "\"8\": {\"class_type\": "
                                                                            "\"CLIPTextEncode\", \"inputs\": "
                                                                            "{\"text\": \"a dog\"}}}");
    assert_null(f.problem);
    assert_string_equal(f.prompt, "an owl");
    assert_string_equal(f.negative_prompt, "a dog");
    assert_true(json_number_value(f.guidance) == 3 && json_number_value(f.cfg) == 2);
    assert_true(json_integer_value(f.seed) == 5 && json_integer_value(f.height) == 48);
    assert_string_equal(f.missing, "");
    comfy_free(&f);
}

static void both_texts_of_flux_count(void **state)
{
    (void)state;
    comfy_facts f =
        read_prompt("{" SAMPLER(", \"positive\": [\"9\", 0]") ", \"9\": {\"class_type\": \"CLIPTextEncodeFlux\", "
                                                              "\"inputs\": {\"clip_l\": \"an owl\", \"t5xxl\": \"an "
                                                              "owl at night\", \"guidance\": 4}}}");
    assert_string_equal(f.prompt, "an owl at night");
    assert_string_equal(f.clip_prompt, "an owl");
    assert_true(json_number_value(f.guidance) == 4);
    comfy_free(&f);
}

/* Named with the kind of node that should have said it. A ring of nodes ends. */
static void what_is_missing_is_named(void **state)
{
    (void)state;
    comfy_facts f = read_prompt(
        "{\"1\": {\"class_type\": \"SamplerCustomAdvanced\", \"inputs\": {\"noise\": [\"2\", 0], \"guider\": [\"4\", "
        "0], "
        "\"sigmas\": [\"77\", 0], \"latent_image\": [\"6\", 0]}}, "
        "\"2\": {\"class_type\": \"NoiseOfSomeKind\", \"inputs\": {}}, "
        "\"4\": {\"class_type\": \"BasicGuider\", \"inputs\": {\"conditioning\": [\"7\", 0], \"model\": [\"8\", 0]}}, "
        "\"6\": {\"class_type\": \"VAEEncode\", \"inputs\": {}}, "
        "\"7\": {\"class_type\": \"Ring\", \"inputs\": {\"conditioning\": [\"7\", 0]}}, "
        "\"8\": {\"class_type\": \"Ring\", \"inputs\": {\"model\": [\"8\", 0]}}}");
    assert_null(f.problem);
    assert_string_equal(f.missing,
                        "seed (from NoiseOfSomeKind), steps, prompt (from Ring), an empty latent (from VAEEncode)");
    assert_true(!f.prompt && !f.seed && !f.steps && f.loras == 0);
    comfy_free(&f);
}

/* Also those of a node that holds several, if they are on; at most 16. */
static void loras_are_collected(void **state)
{
    (void)state;
    builder b = {0};
    char *text;
    builder_add(&b, "{" SAMPLER(", \"model\": [\"100\", 0]"));
    for (int i = 0; i < 14; i++)
        builder_format(&b,
                       ", \"%d\": {\"class_type\": \"LoraLoaderModelOnly\", \"inputs\": {\"lora_name\": \"l%d\", "
                       "\"strength_model\": 0.5, \"model\": [\"%d\", 0]}}",
                       100 + i, i, 101 + i);
    builder_add(&b, ", \"114\": {\"class_type\": \"Power Lora Loader\", \"inputs\": {\"model\": [\"115\", 0]");
    for (int i = 0; i < 4; i++)
        builder_format(&b, ", \"lora_%d\": {\"on\": %s, \"lora\": \"p%d\", \"strength\": 2}", i, i ? "true" : "false",
                       i);
    builder_add(&b, "}}, \"115\": {\"class_type\": \"UnetLoaderGGUF\", \"inputs\": {\"unet_name\": \"dev-Q4.gguf\"}}}");
    assert_int_equal(builder_take(&b, "a graph", &text, NULL), FLUX1_OK);
    comfy_facts f = read_prompt(text);
    assert_int_equal(f.loras, COMFY_LORAS);
    assert_string_equal(f.lora[13].name, "l13");
    assert_true(f.lora[13].strength == 0.5 && f.lora[14].strength == 2);
    assert_string_equal(f.lora[14].name, "p1");
    assert_non_null(strstr(f.missing, "further LoRAs"));
    assert_string_equal(f.model, "dev-Q4.gguf");
    comfy_free(&f);
    free(text);
}

/* In what the user saw, a node that is bypassed (mode 4) does nothing. */
static void bypassed_nodes_do_not_count(void **state)
{
    (void)state;
    comfy_facts f;
    const char *workflow = "{\"nodes\": [{\"id\": 1, \"type\": \"KSampler\", \"mode\": 4, \"widgets_values\": [1]}, "
                           "{\"id\": 2, \"type\": \"KSampler\", \"mode\": 0, \"widgets_values\": [7, \"fixed\", 3], "
                           "\"inputs\": [{\"name\": \"model\", \"link\": 20}]}, "
                           "{\"id\": 3, \"type\": \"LoraLoader\", \"mode\": 4, \"widgets_values\": [\"off\", 1, 1], "
                           "\"inputs\": [{\"name\": \"model\", \"link\": 21}]}, "
                           "{\"id\": 4, \"type\": \"LoraLoader\", \"mode\": 0, \"widgets_values\": [\"on\", 0.25, 1], "
                           "\"inputs\": [{\"name\": \"model\", \"link\": null}]}], "
                           "\"links\": [[20, 3, 0, 2, 0, \"MODEL\"], [21, 4, 0, 3, 0, \"MODEL\"]]}";
    assert_int_equal(comfy_read(NULL, workflow, &f, NULL), FLUX1_OK);
    assert_null(f.problem);
    assert_true(json_integer_value(f.seed) == 7 && json_integer_value(f.steps) == 3 && f.loras == 1);
    assert_string_equal(f.lora[0].name, "on");
    assert_true(f.lora[0].strength == 0.25 && f.lora[0].clip_strength == 1);
    comfy_free(&f);
}

/* A sampler that makes a part of the steps, or begins without noise: by what. */
static void a_part_of_the_steps_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *inputs, *ignored;
    } cases[] = {
        {"KSamplerAdvanced", "\"add_noise\": \"enable\", \"start_at_step\": 0, \"end_at_step\": 10000", ""},
        {"KSamplerAdvanced", "\"add_noise\": \"enable\", \"start_at_step\": 0, \"end_at_step\": 4", ""},
        {"KSamplerAdvanced", "\"add_noise\": \"enable\", \"start_at_step\": 0, \"end_at_step\": 3", "end_at_step"},
        {"KSamplerAdvanced", "\"add_noise\": \"disable\", \"start_at_step\": 1, \"end_at_step\": 2",
         "add_noise, start_at_step, end_at_step"},
        {"KSamplerAdvanced", "\"start_at_step\": [\"9\", 0]", "start_at_step"},
        {"SamplerCustom", "\"add_noise\": true", ""},
        {"SamplerCustom", "\"add_noise\": false", "add_noise"},
        {"KSampler", "\"start_at_step\": 1", ""}, /* it has no such input */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"3\": {\"class_type\": \"%s\", \"inputs\": {\"noise_seed\": 5, \"steps\": 4, %s}}, "
                 "\"9\": {\"class_type\": \"PrimitiveInt\", \"inputs\": {\"value\": 2}}}",
                 cases[i].kind, cases[i].inputs);
        comfy_facts f = read_prompt(text);
        assert_null(f.problem);
        assert_string_equal(f.ignored, cases[i].ignored);
        comfy_free(&f);
    }
    comfy_facts f; /* as its user saw it */
    const char *seen = "{\"nodes\": [{\"id\": 1, \"type\": \"KSamplerAdvanced\", \"mode\": 0, \"widgets_values\": "
                       "[\"enable\", 7, \"fixed\", 20, 1, \"euler\", \"simple\", 5, 15, \"enable\"]}], \"links\": []}";
    assert_int_equal(comfy_read(NULL, seen, &f, NULL), FLUX1_OK);
    assert_string_equal(f.ignored, "start_at_step, end_at_step");
    comfy_free(&f);
}

static void other_texts_are_problems(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *says;
    } bad[] = {{"", "not readable"},
               {"an owl", "not readable"},
               {"[1]", "not readable"},
               {"{}", "no sampler"},
               {"{\"1\": 3, \"2\": {\"class_type\": 4}}", "no sampler"},
               {"{" SAMPLER("") ", \"4\": {\"class_type\": \"KSamplerAdvanced\"}}", "several samplers"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        comfy_facts f = read_prompt(bad[i].prompt);
        if (!f.problem || !strstr(f.problem, bad[i].says))
            fail_msg("%s: %s, it should say \"%s\"", bad[i].prompt, f.problem ? f.problem : "no problem", bad[i].says);
        comfy_free(&f);
    }
    comfy_facts f = read_prompt("{" SAMPLER(", \"cfg\": NaN") "}");
    assert_true(!f.problem && !f.cfg); /* as Python writes it; no number for a request */
    comfy_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_found_behind_other_nodes), cmocka_unit_test(both_texts_of_flux_count),
        cmocka_unit_test(what_is_missing_is_named),           cmocka_unit_test(loras_are_collected),
        cmocka_unit_test(bypassed_nodes_do_not_count),        cmocka_unit_test(a_part_of_the_steps_is_named),
        cmocka_unit_test(other_texts_are_problems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
