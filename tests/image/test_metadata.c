/* The texts in a PNG: the web UI's `parameters` text as its own rule reads it back, and the JSON object.
 * Rule (AUTOMATIC1111, infotext): the last line is parsed with  \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)
 * and needs three pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "image/metadata.h"

#include <ctype.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const image_metadata schnell = {.prompt = "a red fox",
                                       .model = "FLUX.1-schnell",
                                       .version = "0.1.0",
                                       .width = 1024,
                                       .height = 512,
                                       .steps = 4,
                                       .seed = 1};

static char *parameters(const image_metadata *m)
{
    flux1_error err = {0};
    char *text;
    assert_int_equal(metadata_parameters(m, &text, &err), FLUX1_OK);
    return text;
}

static bool key_byte(char c) { return isalnum((unsigned char)c) || c == '_' || c == ' ' || c == '-' || c == '/'; }

/* One match of the rule at `line`: its end, or NULL. */
static const char *match_pair(const char *line, char key[64], char value[256])
{
    size_t n = 0;
    while (isspace((unsigned char)*line))
        line++;
    while (key_byte(*line) && n < 63)
        key[n++] = *line++;
    key[n] = '\0';
    if (n < 2 || *line++ != ':')
        return NULL;
    while (isspace((unsigned char)*line))
        line++;
    n = 0;
    if (*line == '"') {
        for (value[n++] = *line++; *line && *line != '"'; line++) {
            if (*line == '\\')
                value[n++] = *line++;
            value[n++] = *line;
        }
        value[n++] = *line ? *line++ : '?';
    } else
        while (*line && *line != ',')
            value[n++] = *line++;
    value[n] = '\0';
    return *line == ',' ? line + 1 : *line == '\0' ? line : NULL;
}

/* The value of a key in the last line, unquoted; fails if the line is not pairs from end to end. */
static char *value_of(const char *text, const char *wanted)
{
    char key[64], value[256], *found = NULL;
    const char *line = strrchr(text, '\n') + 1;
    int pairs = 0;
    while (*line) {
        line = match_pair(line, key, value);
        assert_non_null(line);
        pairs++;
        if (strcmp(key, wanted) == 0) {
            assert_null(found);
            found = strdup(value);
        }
    }
    assert_true(pairs >= 3);
    if (found && found[0] == '"') {
        char list[sizeof value + 2];
        json_value *plain = NULL;
        snprintf(list, sizeof list, "[%s]", found);
        assert_int_equal(json_parse(list, strlen(list), "a value", &plain, NULL), FLUX1_OK);
        free(found);
        found = strdup(json_string_value(json_array_get(plain, 0)));
        json_free(plain);
    }
    return found;
}

static void expect(const char *text, const char *key, const char *expected)
{
    char *value = value_of(text, key);
    if (expected)
        assert_string_equal(value, expected);
    else
        assert_null(value);
    free(value);
}

static void schnell_text_is_exactly_this(void **state)
{
    (void)state;
    char *text = parameters(&schnell);
    assert_string_equal(text, "a red fox\nSteps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Seed: 1, "
                              "Size: 1024x512, Model: FLUX.1-schnell, Version: flux1 0.1.0");
    free(text);
}

static void every_value_reads_back_by_the_rule(void **state)
{
    (void)state;
    image_metadata m = schnell;
    m.has_guidance = true;
    m.guidance = 3.5f;
    m.seed = UINT64_MAX;
    char *text = parameters(&m);
    expect(text, "Steps", "4");
    expect(text, "Sampler", "Euler");
    expect(text, "Distilled CFG Scale", "3.5");
    expect(text, "Seed", "18446744073709551615");
    expect(text, "Size", "1024x512");
    expect(text, "Model", "FLUX.1-schnell");
    expect(text, "Version", "flux1 0.1.0");
    free(text);
}

static void guidance_stands_only_where_it_was_used(void **state)
{
    (void)state;
    char *text = parameters(&schnell);
    expect(text, "Distilled CFG Scale", NULL);
    free(text);
}

static void awkward_model_names_survive(void **state)
{
    (void)state;
    const char *names[] = {"a, b",       "C: drive", "two\nlines",         "say \"yes\", twice",
                           "\"quoted\"", " spaced ", "back\\slash, comma", "лиса: \xF0\x9F\xA6\x8A"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        image_metadata m = schnell;
        m.model = names[i];
        char *text = parameters(&m);
        expect(text, "Model", names[i]);
        expect(text, "Version", "flux1 0.1.0");
        free(text);
    }
}

/* The web UI strips what is not quoted. */
static void a_blank_at_the_end_of_a_value_is_quoted(void **state)
{
    (void)state;
    image_metadata m = schnell;
    m.model = "fox ";
    char *text = parameters(&m);
    assert_non_null(strstr(text, "Model: \"fox \", Version"));
    free(text);
}

static void a_prompt_of_many_lines_stays_in_front(void **state)
{
    (void)state;
    image_metadata m = schnell;
    m.prompt = "Steps: none, just a fox\nsecond: line";
    char *text = parameters(&m);
    assert_memory_equal(text, m.prompt, strlen(m.prompt));
    expect(text, "Steps", "4");
    free(text);
}

static void true_cfg_has_its_prompt_and_scale(void **state)
{
    (void)state;
    image_metadata m = schnell;
    m.negative_prompt = "ugly";
    m.true_cfg_scale = 2.5f;
    char *text = parameters(&m);
    assert_memory_equal(text, "a red fox\nNegative prompt: ugly\nSteps: 4", 39);
    expect(text, "CFG scale", "2.5");
    free(text);
}

static void adapters_stand_in_json_as_the_option_takes_them(void **state)
{
    (void)state;
    image_metadata m = schnell;
    const image_lora loras[] = {{"a b.safetensors", 0.8f}, {"org/name", 1}};
    m.loras = loras;
    m.lora_count = 2;
    char *text;
    json_value *root = NULL;
    assert_int_equal(metadata_json(&m, &text, NULL), FLUX1_OK);
    assert_int_equal(json_parse(text, strlen(text), "json", &root, NULL), FLUX1_OK);
    const json_value *list = json_object_get(root, "lora");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_array_get(list, 0)), "a b.safetensors:0.8");
    assert_string_equal(json_string_value(json_array_get(list, 1)), "org/name:1");
    json_free(root);
    free(text);
}

static void adapters_are_tags_behind_the_prompt_or_where_they_were_written(void **state)
{
    (void)state;
    image_metadata m = schnell;
    const image_lora loras[] = {{"/l/a b.safetensors", 0.8f}, {"org/name", 1}, {"a:b", 1}, {".safetensors", -2}};
    m.loras = loras;
    m.lora_count = 4;
    char *text = parameters(&m);
    assert_non_null(strstr(text, "a red fox <lora:a b:0.8> <lora:name:1> <lora:.safetensors:-2>\nSteps: 4"));
    free(text);
    m.written = "a <lora:x:1>red fox";
    text = parameters(&m);
    assert_non_null(strstr(text, "a <lora:x:1>red fox\nSteps: 4"));
    free(text);
}

static void a_gpus_noise_is_named_as_the_option_takes_it(void **state)
{
    (void)state;
    static const struct {
        int threads;
        const char *json, *key;
    } cases[] = {{0, NULL, NULL}, {270336, "cuda", "NV"}, {196608, "cuda:196608", "NV"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        image_metadata m = schnell;
        char *text, *line;
        json_value *root = NULL;
        m.rng_threads = cases[i].threads;
        assert_int_equal(metadata_json(&m, &text, NULL), FLUX1_OK);
        assert_int_equal(json_parse(text, strlen(text), "json", &root, NULL), FLUX1_OK);
        const json_value *rng = json_object_get(root, "rng");
        assert_true(cases[i].json ? rng && strcmp(json_string_value(rng), cases[i].json) == 0 : !rng);
        line = parameters(&m);
        if (cases[i].key)
            expect(line, "RNG", cases[i].key);
        else
            assert_null(strstr(line, "RNG"));
        json_free(root);
        free(text);
        free(line);
    }
}

static void json_holds_every_parameter(void **state)
{
    (void)state;
    image_metadata m = schnell;
    m.prompt = "a \"fox\"\n\x01 лиса";
    m.has_guidance = true;
    m.guidance = 2.25f;
    m.seed = UINT64_MAX;
    m.max_sequence_length = 256;
    m.dtype = "f32";
    m.device = "cpu";
    m.mesh = "2x4";
    flux1_error err = {0};
    char *text;
    assert_int_equal(metadata_json(&m, &text, &err), FLUX1_OK);
    json_value *root;
    assert_int_equal(json_parse(text, strlen(text), "metadata", &root, &err), FLUX1_OK);
    assert_string_equal(json_string_value(json_object_get(root, "prompt")), m.prompt);
    assert_int_equal(json_integer_value(json_object_get(root, "width")), 1024);
    assert_int_equal(json_integer_value(json_object_get(root, "height")), 512);
    assert_int_equal(json_integer_value(json_object_get(root, "steps")), 4);
    assert_true(json_number_value(json_object_get(root, "guidance")) == 2.25);
    assert_true(json_object_get(root, "seed")->large == UINT64_MAX);
    assert_int_equal(json_integer_value(json_object_get(root, "max_sequence_length")), 256);
    assert_string_equal(json_string_value(json_object_get(root, "model")), "FLUX.1-schnell");
    assert_string_equal(json_string_value(json_object_get(root, "dtype")), "f32");
    assert_string_equal(json_string_value(json_object_get(root, "device")), "cpu");
    assert_string_equal(json_string_value(json_object_get(root, "mesh")), "2x4");
    assert_string_equal(json_string_value(json_object_get(root, "version")), "0.1.0");
    json_free(root);
    free(text);
}

static void assert_json(const image_metadata *m, const char *expected)
{
    char *text;
    assert_int_equal(metadata_json(m, &text, NULL), FLUX1_OK);
    assert_string_equal(text, expected);
    free(text);
}

/* Whoever repeats a picture gives what stands there, and nothing else. */
static void json_has_what_was_used_alone(void **state)
{
    (void)state;
    image_metadata m = schnell;
    assert_json(&m, "{\"prompt\": \"a red fox\", \"width\": 1024, \"height\": 512, \"steps\": 4, \"seed\": 1, "
                    "\"model\": \"FLUX.1-schnell\", \"version\": \"0.1.0\"}");
    m.negative_prompt = "";
    m.true_cfg_scale = 2.5f;
    m.step_cache = 0.12f;
    m.given_noise = true;
    assert_json(&m, "{\"prompt\": \"a red fox\", \"width\": 1024, \"height\": 512, \"steps\": 4, \"seed\": 1, "
                    "\"latents\": \"given\", \"negative_prompt\": \"\", \"true_cfg_scale\": 2.5, \"step_cache\": "
                    "\"fb:0.12\", \"model\": \"FLUX.1-schnell\", \"version\": \"0.1.0\"}");
}

static void numbers_have_a_point_in_every_locale(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8"))
        print_message("note: locale de_DE.UTF-8 is not installed, tested in the C locale\n");
    image_metadata m = schnell;
    m.has_guidance = true;
    m.guidance = 0.1f;
    char *text = parameters(&m);
    expect(text, "Distilled CFG Scale", "0.1");
    free(text);
    setlocale(LC_NUMERIC, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schnell_text_is_exactly_this),
        cmocka_unit_test(every_value_reads_back_by_the_rule),
        cmocka_unit_test(guidance_stands_only_where_it_was_used),
        cmocka_unit_test(awkward_model_names_survive),
        cmocka_unit_test(a_blank_at_the_end_of_a_value_is_quoted),
        cmocka_unit_test(a_prompt_of_many_lines_stays_in_front),
        cmocka_unit_test(a_gpus_noise_is_named_as_the_option_takes_it),
        cmocka_unit_test(json_holds_every_parameter),
        cmocka_unit_test(json_has_what_was_used_alone),
        cmocka_unit_test(true_cfg_has_its_prompt_and_scale),
        cmocka_unit_test(adapters_stand_in_json_as_the_option_takes_them),
        cmocka_unit_test(adapters_are_tags_behind_the_prompt_or_where_they_were_written),
        cmocka_unit_test(numbers_have_a_point_in_every_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
