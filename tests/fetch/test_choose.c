/* Which files of a repository are fetched: the names that FLUX.1's repositories on the hub have, and what diffusers'
 * from_pretrained takes of them. */
#include "fetch/choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

/* A listing of these names, through the hub's JSON. */
static hub_listing listing_of(const char *const *names, size_t count)
{
    hub_listing l;
    char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"sha\": \"" COMMIT "\", \"siblings\": [");
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s{\"rfilename\": \"%s\"}", i ? ", " : "", names[i]);
    n += (size_t)snprintf(text + n, sizeof text - n, "]}");
    assert_true(n < sizeof text);
    assert_int_equal(hub_listing_parse(text, n, "test", &l, NULL), FLUX1_OK);
    return l;
}

/* The chosen names, each with a blank behind it. */
static void check(const char *const *names, size_t count, const char *variant, const char *pattern,
                  const char *expected)
{
    char text[8192] = "";
    flux1_error err = {0};
    hub_listing l = listing_of(names, count);
    bool *chosen = malloc((l.count + 1) * sizeof *chosen);
    memset(chosen, 0xFF, l.count + 1);
    if (choose_files(&l, "o/n", variant, &pattern, pattern != NULL, chosen, &err) != FLUX1_OK)
        snprintf(text, sizeof text, "%s", err.message);
    for (size_t i = 0; err.status == FLUX1_OK && i < l.count; i++)
        if (chosen[i])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", l.names[i]);
    assert_string_equal(text, expected);
    free(chosen);
    hub_listing_free(&l);
}

#define CHECK(names, ...) check(names, sizeof(names) / sizeof *(names), __VA_ARGS__)

static const char *const pipeline[] = {".gitattributes",
                                       "README.md",
                                       "ae.safetensors",
                                       "flux1-schnell.safetensors",
                                       "model_index.json",
                                       "scheduler/scheduler_config.json",
                                       "text_encoder/config.json",
                                       "text_encoder/model.fp16.safetensors",
                                       "text_encoder/model.safetensors",
                                       "text_encoder/pytorch_model.bin",
                                       "text_encoder_2/config.json",
                                       "text_encoder_2/model-00001-of-00002.fp16.safetensors",
                                       "text_encoder_2/model-00001-of-00002.safetensors",
                                       "text_encoder_2/model-00002-of-00002.fp16.safetensors",
                                       "text_encoder_2/model-00002-of-00002.safetensors",
                                       "text_encoder_2/model.safetensors",
                                       "text_encoder_2/model.safetensors.index.fp16.json",
                                       "text_encoder_2/model.safetensors.index.json",
                                       "tokenizer/merges.txt",
                                       "tokenizer/vocab.json",
                                       "tokenizer_2/spiece.model",
                                       "tokenizer_2/tokenizer.json",
                                       "transformer/config.json",
                                       "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
                                       "transformer/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
                                       "transformer/diffusion_pytorch_model.safetensors",
                                       "transformer/diffusion_pytorch_model.safetensors.index.fp16.json",
                                       "transformer/nested/config.json",
                                       "vae/config.json",
                                       "vae/diffusion_pytorch_model.safetensors",
                                       "vae/other.safetensors"};

static void a_pipeline_is_its_plain_weights_and_what_they_need(void **state)
{
    (void)state;
    CHECK(pipeline, NULL, NULL,
          "model_index.json scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.safetensors "
          "text_encoder_2/config.json text_encoder_2/model-00001-of-00002.safetensors "
          "text_encoder_2/model-00002-of-00002.safetensors text_encoder_2/model.safetensors.index.json "
          "tokenizer/merges.txt tokenizer/vocab.json tokenizer_2/spiece.model tokenizer_2/tokenizer.json "
          "transformer/config.json transformer/diffusion_pytorch_model.safetensors vae/config.json "
          "vae/diffusion_pytorch_model.safetensors ");
}

static void the_only_variant_of_a_folder_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"model_index.json", "text_encoder/model.bf16.safetensors",
                                        "text_encoder/model.fp16.safetensors", "transformer/config.json",
                                        "vae/diffusion_pytorch_model.fp16.safetensors"};
    CHECK(names, NULL, NULL, "model_index.json transformer/config.json vae/diffusion_pytorch_model.fp16.safetensors ");
    CHECK(names, "bf16", NULL,
          "model_index.json text_encoder/model.bf16.safetensors transformer/config.json "
          "vae/diffusion_pytorch_model.fp16.safetensors ");
}

static void a_variant_is_taken_where_a_folder_has_it(void **state)
{
    (void)state;
    CHECK(pipeline, "fp16", NULL,
          "model_index.json scheduler/scheduler_config.json text_encoder/config.json "
          "text_encoder/model.fp16.safetensors text_encoder_2/config.json "
          "text_encoder_2/model-00001-of-00002.fp16.safetensors text_encoder_2/model-00002-of-00002.fp16.safetensors "
          "text_encoder_2/model.safetensors.index.fp16.json tokenizer/merges.txt tokenizer/vocab.json "
          "tokenizer_2/spiece.model tokenizer_2/tokenizer.json transformer/config.json "
          "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors "
          "transformer/diffusion_pytorch_model.fp16-00002-of-00002.safetensors "
          "transformer/diffusion_pytorch_model.safetensors.index.fp16.json vae/config.json "
          "vae/diffusion_pytorch_model.safetensors ");
}

static void patterns_match_as_in_huggingface_hub(void **state)
{
    (void)state;
    CHECK(pipeline, NULL, "*.fp16.safetensors",
          "text_encoder/model.fp16.safetensors text_encoder_2/model-00001-of-00002.fp16.safetensors "
          "text_encoder_2/model-00002-of-00002.fp16.safetensors ");
    CHECK(pipeline, NULL, "vae/", "vae/config.json vae/diffusion_pytorch_model.safetensors vae/other.safetensors ");
    CHECK(pipeline, NULL, "a?.safe[!x]*", "ae.safetensors ");
    CHECK(pipeline, NULL, "*", /* all: a point in front is nothing special */
          ".gitattributes README.md ae.safetensors flux1-schnell.safetensors model_index.json "
          "scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.fp16.safetensors "
          "text_encoder/model.safetensors text_encoder/pytorch_model.bin text_encoder_2/config.json "
          "text_encoder_2/model-00001-of-00002.fp16.safetensors text_encoder_2/model-00001-of-00002.safetensors "
          "text_encoder_2/model-00002-of-00002.fp16.safetensors text_encoder_2/model-00002-of-00002.safetensors "
          "text_encoder_2/model.safetensors text_encoder_2/model.safetensors.index.fp16.json "
          "text_encoder_2/model.safetensors.index.json tokenizer/merges.txt tokenizer/vocab.json "
          "tokenizer_2/spiece.model tokenizer_2/tokenizer.json transformer/config.json "
          "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors "
          "transformer/diffusion_pytorch_model.fp16-00002-of-00002.safetensors "
          "transformer/diffusion_pytorch_model.safetensors "
          "transformer/diffusion_pytorch_model.safetensors.index.fp16.json transformer/nested/config.json "
          "vae/config.json vae/diffusion_pytorch_model.safetensors vae/other.safetensors ");
}

static void one_file_or_one_set_of_shards_needs_no_pattern(void **state)
{
    (void)state;
    static const char *const lora[] = {"README.md", "lora.safetensors", "x.png"};
    static const char *const component[] = {"config.json", "m-00001-of-00002.safetensors",
                                            "m-00002-of-00002.safetensors", "m.safetensors.index.json"};
    static const char *const two[] = {"flux1-dev-Q4_0.gguf", "flux1-dev-Q8_0.gguf", "README.md"};
    static const char *const none[] = {"README.md"};
    CHECK(lora, NULL, NULL, "lora.safetensors ");
    CHECK(component, NULL, NULL,
          "config.json m-00001-of-00002.safetensors m-00002-of-00002.safetensors m.safetensors.index.json ");
    CHECK(two, NULL, NULL,
          "o/n: it is no pipeline in diffusers' layout, and which of its weights to fetch must be said (file "
          "patterns); it holds flux1-dev-Q4_0.gguf, flux1-dev-Q8_0.gguf, README.md");
    CHECK(none, NULL, NULL, "o/n: it has no weights (safetensors or GGUF); it holds README.md");
}

static void a_listing_keeps_valid_names_once(void **state)
{
    (void)state;
    hub_listing l;
    static const char text[] =
        "{\"sha\": \"" COMMIT "\", \"siblings\": [{\"rfilename\": \"b\"}, {\"rfilename\": \"a/c\"}, "
        "{\"rfilename\": \"../x\"}, {\"rfilename\": \"b\"}, {\"rfilename\": \"/x\"}]}";
    assert_int_equal(hub_listing_parse(text, sizeof text - 1, "test", &l, NULL), FLUX1_OK);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.names[0], "a/c");
    assert_string_equal(l.names[1], "b");
    assert_int_equal(l.left_out, 2);
    hub_listing_free(&l);
}

static void what_is_no_listing_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "<html>",
        "[]",
        "{}",
        "{\"sha\": \"main\", \"siblings\": []}",
        "{\"sha\": \"" COMMIT "\"}",
        "{\"sha\": \"" COMMIT "\", \"siblings\": {}}",
        "{\"sha\": \"" COMMIT "\", \"siblings\": [{\"rfilename\": 5}]}",
        "{\"sha\": \"" COMMIT "\", \"siblings\": [{\"rfilename\": \"a\"}, 7]}",
        "{\"sha\": \"../../../../../../../../../../../etc/x0\", \"siblings\": []}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hub_listing l;
        flux1_error err = {0};
        if (hub_listing_parse(texts[i], strlen(texts[i]), "test", &l, &err) != FLUX1_ERR_FORMAT)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(l.count, 0);
        assert_non_null(strstr(err.message, "test"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipeline_is_its_plain_weights_and_what_they_need),
        cmocka_unit_test(the_only_variant_of_a_folder_is_taken),
        cmocka_unit_test(a_variant_is_taken_where_a_folder_has_it),
        cmocka_unit_test(patterns_match_as_in_huggingface_hub),
        cmocka_unit_test(one_file_or_one_set_of_shards_needs_no_pattern),
        cmocka_unit_test(a_listing_keeps_valid_names_once),
        cmocka_unit_test(what_is_no_listing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
