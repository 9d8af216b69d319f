/* Files of adapters: keys by hand, and what is refused, with a sentence. */
#include "weights/adapter_merge.h"
#include "weights/recipe.h"

#include "support/safetensors_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[] = "/tmp/flux1_adapter_XXXXXX", model_path[] = "/tmp/flux1_model_XXXXXX";
static store *model;
static float numbers[64];

static void write_file(const char *to, const char *header, size_t bytes)
{
    size_t size;
    unsigned char *file = safetensors_build(header, numbers, bytes, &size);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, size, f), size);
    fclose(f);
    free(file);
}

static int begin(void **state)
{
    (void)state;
    flux1_error err;
    if (close(mkstemp(path)) || close(mkstemp(model_path)))
        return -1;
    write_file(model_path,
               "{\"proj_out.weight\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[0,32]},"
               "\"norm_out.linear.weight\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[32,64]}}",
               64);
    return store_open_file(model_path, &model, &err) == FLUX1_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    store_close(model);
    return unlink(path) | unlink(model_path);
}

static flux1_status open_file(const char *header, size_t bytes, adapter_file **f, flux1_error *err)
{
    const store *stores[MODEL_PARTS] = {[MODEL_TRANSFORMER] = model};
    write_file(path, header, bytes);
    return adapter_open(path, stores, f, err);
}

static void refused(flux1_status status, const char *words, const char *header, size_t bytes)
{
    adapter_file *f;
    flux1_error err = {0};
    assert_int_equal(open_file(header, bytes, &f, &err), status);
    assert_null(f);
    if (!strstr(err.message, words) || !strstr(err.message, path))
        fail_msg("\"%s\" does not have \"%s\"", err.message, words);
}

#define T(key, shape, from, to) \
    "\"" key "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

#define PAIR(key) T(key ".lora_A.weight", "[1,2]", 0, 8) "," T(key ".lora_B.weight", "[4,1]", 8, 24)

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    refused(FLUX1_ERR_FORMAT, "without", "{" T("proj_out.lora_A.weight", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without", "{" T("proj_out.lora_B.weight", "[4,1]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "ranks 1 and 2",
            "{" T("proj_out.lora_A.weight", "[1,2]", 0, 8) "," T("proj_out.lora_B.weight", "[4,2]", 8, 40) "}", 40);
    refused(FLUX1_ERR_FORMAT, "should be a matrix",
            "{" T("proj_out.lora_A.weight", "[0,2]", 0, 0) "," T("proj_out.lora_B.weight", "[4,0]", 0, 0) "}", 0);
    refused(FLUX1_ERR_FORMAT, "should be a matrix",
            "{" T("proj_out.lora_A.weight", "[2]", 0, 8) "," T("proj_out.lora_B.weight", "[4,1]", 8, 24) "}", 24);
    refused(FLUX1_ERR_MODEL, "another model",
            "{" T("proj_out.lora_A.weight", "[1,3]", 0, 12) "," T("proj_out.lora_B.weight", "[4,1]", 12, 28) "}", 28);
    refused(FLUX1_ERR_FORMAT, "both for the layer",
            "{" T("final_layer.linear.lora_A.weight", "[1,2]", 0,
                  8) "," T("final_layer.linear.lora_B.weight", "[4,1]", 8,
                           24) "," T("proj_out.lora_A.weight", "[1,2]", 24, 32) "," T("proj_out.lora_B.weight", "[4,1]",
                                                                                      32, 48) "}",
            48);
    refused(FLUX1_ERR_MODEL, "Stable Diffusion",
            "{" T("lora_unet_up_blocks_0_x.lora_down.weight", "[1,2]", 0,
                  8) "," T("lora_unet_up_blocks_0_x.lora_up.weight", "[4,1]", 8, 24) "}",
            24);
    refused(FLUX1_ERR_MODEL, "HunyuanVideo, not of FLUX.1",
            "{" PAIR("proj_out") "," T("lora_unet_double_blocks_0_img_mlp_fc1.alpha", "[]", 24, 28) "}", 28);
    refused(FLUX1_ERR_MODEL, "is it a LoRA", "{" T("x", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_UNSUPPORTED, "it has VeRA", "{" T("proj_out.vera_lambda_b", "[2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.lokr_w2\"", "{" T("proj_out.lokr_w1", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.hada_w1_b\"", "{" T("proj_out.hada_w1_a", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.hada_w1_a\"", "{" T("proj_out.hada_w2_a", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without", "{" T("proj_out.dora_scale", "[4]", 0, 16) "}", 16);
    refused(FLUX1_ERR_UNSUPPORTED, "control",
            "{" T("img_in.lora_A.weight", "[1,2]", 0, 8) "," T("single_blocks.0.norm.key_norm.scale", "[2]", 8, 16) "}",
            16);
    numbers[6] = (float)NAN;
    refused(FLUX1_ERR_FORMAT, "NaN",
            "{" T("proj_out.lora_A.weight", "[1,2]", 0, 8) "," T("proj_out.lora_B.weight", "[4,1]", 8,
                                                                 24) "," T("proj_out.alpha", "[]", 24, 28) "}",
            28);
    numbers[6] = 0;
}

/* The file's other tensors are named; alpha / rank by hand: 3 / 1 and, by the metadata, rslora, 4 / √1. */
static void what_applies_has_its_scale(void **state)
{
    (void)state;
    adapter_file *f;
    flux1_error err = {0};
    numbers[6] = 3;
    assert_int_equal(
        open_file("{" T("proj_out.lora_A.weight", "[1,2]", 0, 8) "," T("proj_out.lora_B.weight", "[4,1]", 8, 24) "," T(
                      "proj_out.alpha", "[]", 24, 28) "," T("what.is.it", "[]", 28, 32) "}",
                  32, &f, &err),
        FLUX1_OK);
    const adapter_term *t = adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_BESIDE);
    assert_true(t && t->scale == 3 && f->applied == 1 && f->pairs == 1 && f->rank_min == 1 && f->rank_max == 1);
    assert_string_equal(f->strays, "what.is.it");
    assert_null(adapter_find(f, MODEL_CLIP, "proj_out", ADAPTER_BESIDE));
    adapter_close(f);
    assert_int_equal(
        open_file(
            "{\"__metadata__\":{\"lora_adapter_metadata\":\"{\\\"transformer.lora_alpha\\\": 9, "
            "\\\"transformer.alpha_pattern\\\": {\\\"proj_out\\\": 4}, \\\"transformer.use_rslora\\\": true}\"}," T(
                "transformer.proj_out.lora_A.weight", "[1,2]", 0, 8) "," T("transformer.proj_out.lora_B.weight",
                                                                           "[4,1]", 8, 24) "}",
            24, &f, &err),
        FLUX1_OK);
    assert_true(adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_BESIDE)->scale == 4);
    adapter_close(f);
}

/* Whole numbers too: torch.tensor(16) is one. */
static void an_alpha_of_any_type_counts(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        int64_t value;
        int end;
    } rows[] = {{"I64", 3, 32}, {"I32", -70000, 28}, {"I16", -3, 26}, {"I8", 5, 25}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char header[400];
        adapter_file *f;
        flux1_error err = {0};
        memcpy(&numbers[6], &rows[i].value, sizeof rows[i].value);
        snprintf(header, sizeof header,
                 "{" PAIR("proj_out") ",\"proj_out.alpha\":{\"dtype\":\"%s\",\"shape\":[],"
                                      "\"data_offsets\":[24,%d]}}",
                 rows[i].type, rows[i].end);
        if (open_file(header, (size_t)rows[i].end, &f, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        assert_true(adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_BESIDE)->scale == (float)rows[i].value);
        adapter_close(f);
    }
    memset(numbers, 0, sizeof numbers);
}

/* Of the alpha of no entry it is said that it does not apply. */
static void an_alpha_alone_is_named(void **state)
{
    (void)state;
    adapter_file *f;
    flux1_error err = {0};
    assert_int_equal(open_file("{" PAIR("proj_out") "," T("proj_out.lora_A.alpha", "[]", 24, 28) "}", 28, &f, &err),
                     FLUX1_OK);
    assert_string_equal(f->strays, "proj_out.lora_A.alpha");
    adapter_close(f);
}

/* As in files that are for programs of both spellings: diffusers' counts. Two of one kind make no sense. */
static void a_layer_in_two_spellings_counts_once(void **state)
{
    (void)state;
    adapter_file *f;
    flux1_error err = {0};
    float first = 0;
    numbers[0] = 1, numbers[6] = 2;
    assert_int_equal(open_file("{" T("lora_unet_final_layer_linear.lora_down.weight", "[1,2]", 0, 8) "," T(
                                   "lora_unet_final_layer_linear.lora_up.weight", "[4,1]", 8,
                                   24) "," T("transformer.proj_out.lora_A.weight", "[1,2]", 24,
                                             32) "," T("transformer.proj_out.lora_B.weight", "[4,1]", 32, 48) "}",
                               48, &f, &err),
                     FLUX1_OK);
    assert_int_equal(f->count, 1);
    assert_int_equal(f->applied, 1);
    assert_int_equal(f->pairs, 2);
    assert_string_equal(f->strays, "lora_unet_final_layer_linear.lora_down.weight");
    const adapter_term *t = adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_BESIDE);
    assert_int_equal(tensor_decode(&t->down->view, 0, 1, &first, &err), FLUX1_OK);
    assert_true(first == 2);
    numbers[0] = numbers[6] = 0;
    adapter_close(f);
}

#define LOHA(key)                                                                                                      \
    T(key ".hada_w1_a", "[4,1]", 24, 40)                                                                               \
    "," T(key ".hada_w1_b", "[1,2]", 40, 48) "," T(key ".hada_w2_a", "[4,1]", 48, 64) "," T(key ".hada_w2_b", "[1,2]", \
                                                                                            64, 72)

/* Programs differ in which of two kinds counts, in one spelling or in two; none applies both. */
static void a_layer_of_two_kinds_is_refused(void **state)
{
    (void)state;
    refused(FLUX1_ERR_FORMAT,
            "\"proj_out.lora_A.weight\" (LoRA) and \"proj_out.hada_w1_a\" (LoHa) are both for the layer \"proj_out\"; "
            "flux1 applies one",
            "{" PAIR("proj_out") "," LOHA("proj_out") "}", 72);
    refused(FLUX1_ERR_FORMAT,
            "\"transformer.proj_out.lora_A.weight\" (LoRA) and \"lora_unet_final_layer_linear.hada_w1_a\"",
            "{" PAIR("transformer.proj_out") "," LOHA("lora_unet_final_layer_linear") "}", 72);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.diff\" (differences)",
            "{" PAIR("proj_out") "," T("proj_out.diff", "[4,2]", 24, 56) "}", 56);
    refused(FLUX1_ERR_FORMAT, "(DoRA) are both for the layer \"proj_out\"",
            "{" PAIR("transformer.proj_out") "," T("lora_unet_final_layer_linear.lora_down.weight", "[1,2]", 24,
                                                   32) "," T("lora_unet_final_layer_linear.lora_up.weight", "[4,1]", 32,
                                                             48) "," T("lora_unet_final_layer_linear.dora_scale", "[4]",
                                                                       48, 64) "}",
            64);
    refused(FLUX1_ERR_FORMAT, "are both for the layer \"norm_out.linear\"",
            "{" T("norm_out.linear.diff", "[4,2]", 0, 32) "," T("norm_out.linear.w_norm", "[4,2]", 32, 64) "}", 64);
}

#define PEFT_PAIR PAIR("base_model.model.final_layer.linear")
#define PEFT_LOHA                                                       \
    T("base_model.model.proj_out.hada_w1_a", "[4,1]", 0, 16)            \
    "," T("base_model.model.proj_out.hada_w1_b", "[1,2]", 16,           \
          24) "," T("base_model.model.proj_out.hada_w2_a", "[4,1]", 24, \
                    40) "," T("base_model.model.proj_out.hada_w2_b", "[1,2]", 40, 48)
#define PEFT_LOKR \
    T("base_model.model.proj_out.lokr_w1", "[2,1]", 0, 8) "," T("base_model.model.proj_out.lokr_w2", "[2,2]", 8, 24)

/* The scale that an entry for proj_out has; -1: refused. */
static double scale_beside(const char *folder, const char *file, const char *header, size_t bytes, const char *config)
{
    const store *stores[MODEL_PARTS] = {[MODEL_TRANSFORMER] = model};
    char weights[200], beside[200];
    adapter_file *f;
    flux1_error err = {0};
    snprintf(weights, sizeof weights, "%s/%s", folder, file);
    snprintf(beside, sizeof beside, "%s/adapter_config.json", folder);
    write_file(weights, header, bytes);
    FILE *out = fopen(beside, "wb");
    assert_non_null(out);
    assert_true(fputs(config, out) >= 0);
    fclose(out);
    const flux1_status st = adapter_open(weights, stores, &f, &err);
    unlink(weights);
    unlink(beside);
    if (st != FLUX1_OK) {
        assert_true(strstr(err.message, "adapter_config.json") ||
                    strstr(err.message, "lora_alpha for \"base_model.model.final_layer.linear\"") ||
                    strstr(err.message, "no finite factor") || strstr(err.message, "init_lora_weights"));
        return -1;
    }
    const adapter_term *t = adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_BESIDE);
    t = t ? t : adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_WEIGHT);
    const double scale = f->change[t->change].scale;
    adapter_close(f);
    return scale;
}

/* As PEFT's save_pretrained leaves them: rank 1, so the scale is alpha. Patterns have the file's names. */
static void the_configuration_beside_peft_s_file_counts(void **state)
{
    (void)state;
    char folder[] = "/tmp/flux1_adapter_XXXXXX";
    assert_non_null(mkdtemp(folder));
    const char *config = "{\"lora_alpha\": 5, \"alpha_pattern\": {}, \"r\": 1, \"use_rslora\": false}";
#define BESIDE(file, config) scale_beside(folder, file, "{" PEFT_PAIR "}", 24, config)
    assert_true(BESIDE("adapter_model.safetensors", config) == 5);
    assert_true(BESIDE("adapter_model.safetensors", "{\"alpha_pattern\": {\"final_layer.linear\": 3}}") == 3);
    assert_true(BESIDE("adapter_model.safetensors", "{\"lora_alpha\"") == -1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"lora_alpha\": \"5\"}") == -1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"lora_alpha\": null}") == 1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"lora_alpha\": 1e300}") == -1);
    assert_true(BESIDE("style.safetensors", config) == 1);
    assert_int_equal(rmdir(folder), 0);
}

/* A pipeline's writer puts the part's name before each key (transformer.lora_alpha), a transformer's own does not. */
static void the_configuration_inside_has_the_part_s_name_or_not(void **state)
{
    (void)state;
#define INSIDE(member) "{\"__metadata__\":{\"lora_adapter_metadata\":\"{" member "}\"},"
    static const struct {
        const char *header;
        float scale;
    } cases[] = {
        {INSIDE("\\\"transformer.lora_alpha\\\": 5") PAIR("transformer.proj_out") "}", 5},
        {INSIDE("\\\"lora_alpha\\\": 5") PAIR("proj_out") "}", 5},
        {INSIDE("\\\"lora_alpha\\\": 5, \\\"alpha_pattern\\\": {\\\"^proj_out\\\": 3}") PAIR("proj_out") "}", 3},
        {INSIDE("\\\"text_encoder.r\\\": 1, \\\"lora_alpha\\\": 5") PAIR("transformer.proj_out") "}", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adapter_file *f;
        flux1_error err = {0};
        if (open_file(cases[i].header, 24, &f, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        assert_true(f->change[0].scale == cases[i].scale);
        adapter_close(f);
    }
}

/* A layer's own name replaces the layer in PEFT's files; in others it says nothing. */
static void whole_layers_are_of_peft_s_files_alone(void **state)
{
    (void)state;
#define WHOLE(key) T(key, "[4,2]", 24, 56)
    static const struct {
        const char *header;
        size_t applied, strays;
    } cases[] = {
        {"{" PAIR("base_model.model.proj_out") "," WHOLE("base_model.model.norm_out.linear.weight") "}", 2, 0},
        {INSIDE("\\\"r\\\": 1") PAIR("proj_out") "," WHOLE("norm_out.linear.weight") "}", 2, 0},
        {"{" PAIR("proj_out") "," WHOLE("norm_out.linear.weight") "}", 1, 1},
        {"{" PAIR("base_model.model.proj_out") "," WHOLE("base_model.model.proj_out.base_layer.weight") "}", 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adapter_file *f;
        flux1_error err = {0};
        if (open_file(cases[i].header, 56, &f, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        assert_int_equal(f->applied, cases[i].applied);
        assert_int_equal(f->stray_count, cases[i].strays);
        adapter_close(f);
    }
    refused(FLUX1_ERR_FORMAT, "(whole weights) are both for the layer \"proj_out\"",
            "{" PAIR("base_model.model.proj_out") "," WHOLE("base_model.model.proj_out.weight") "}", 56);
}

/* LoHa of rank 1; LoKr of two whole factors, whose rank is in the configuration alone. */
static void peft_s_loha_and_lokr_have_their_alpha_there(void **state)
{
    (void)state;
    char folder[] = "/tmp/flux1_adapter_XXXXXX";
    const char *file = "adapter_model.safetensors", *loha = "{" PEFT_LOHA "}", *lokr = "{" PEFT_LOKR "}";
    assert_non_null(mkdtemp(folder));
    assert_true(scale_beside(folder, file, loha, 48, "{\"alpha\": 16, \"r\": 1, \"lora_alpha\": 2}") == 16);
    assert_true(scale_beside(folder, file, lokr, 24, "{\"alpha\": 6, \"r\": 4}") == 1.5);
    assert_true(scale_beside(folder, file, lokr, 24, "{\"alpha\": 6, \"r\": 4, \"rank_pattern\": {\"proj_out\": 2}}") ==
                3);
    assert_true(scale_beside(folder, file, lokr, 24, "{\"alpha\": 6}") == 1);
    assert_true(scale_beside(folder, file, lokr, 24, "{\"alpha\": 6, \"r\": 0}") == 1);
    assert_int_equal(rmdir(folder), 0);
}

/* A file that only makes sense with weights that PEFT has changed. */
static void a_training_on_other_weights_is_refused(void **state)
{
    (void)state;
    char folder[] = "/tmp/flux1_adapter_XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_true(BESIDE("adapter_model.safetensors", "{\"init_lora_weights\": \"pissa_niter_4\"}") == -1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"init_lora_weights\": \"OLoRA\"}") == -1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"init_lora_weights\": \"lora_ga\"}") == -1);
    assert_true(BESIDE("adapter_model.safetensors", "{\"init_lora_weights\": \"gaussian\", \"lora_alpha\": 2}") == 2);
    assert_true(BESIDE("adapter_model.safetensors", "{\"init_lora_weights\": true, \"lora_alpha\": 2}") == 2);
    assert_int_equal(rmdir(folder), 0);
    refused(FLUX1_ERR_UNSUPPORTED, "(init_lora_weights is \"pissa\")",
            "{\"__metadata__\":{\"lora_adapter_metadata\":\"{\\\"transformer.init_lora_weights\\\": "
            "\\\"pissa\\\"}\"}," PAIR("transformer.proj_out") "}",
            24);
}

/* BFL has shift before scale, diffusers the other way round. */
static void halves_are_swapped_with_their_offsets(void **state)
{
    (void)state;
    adapter_file *f;
    flux1_error err = {0};
    float x;
    numbers[2] = 10, numbers[4] = 30;
    assert_int_equal(open_file("{" T("final_layer.adaLN_modulation.1.lora_A.weight", "[1,2]", 0,
                                     8) "," T("final_layer.adaLN_modulation.1.lora_B.weight", "[4,1]", 8, 24) "}",
                               24, &f, &err),
                     FLUX1_OK);
    const weight_recipe r =
        recipe_whole(WEIGHT_LINEAR, &adapter_find(f, MODEL_TRANSFORMER, "norm_out.linear", ADAPTER_BESIDE)->up);
    assert_int_equal(recipe_decode(&r, 0, 0, 1, &x, &err), FLUX1_OK);
    assert_true(x == 30);
    assert_int_equal(recipe_decode(&r, 2, 0, 1, &x, &err), FLUX1_OK);
    assert_true(x == 10);
    adapter_close(f);
}

/* A list makes a tensor once, and leaves those alone that nothing changes. */
static void expect_one(const adapter_use *use, const char *name)
{
    adapter_merges all = {0};
    flux1_error err = {0};
    const adapter_use none = {use->file, 0};
    const store_tensor *const base = store_find(model, name), *t[3] = {base, base, base};
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            adapter_merges_take(&all, i ? use : &none, 1, MODEL_TRANSFORMER, ADAPTER_MERGE_ALL, &t[i], &err), FLUX1_OK);
    assert_ptr_equal(t[0], base);
    assert_ptr_not_equal(t[1], base);
    assert_ptr_equal(t[1], t[2]);
    assert_int_equal(t[1]->view.type, DTYPE_COMPUTED);
    adapter_merges_free(&all);
}

/* Elements [first, first + count) of the model's zeros with the file at 0.5. */
static void expect_merged(const char *header, const float *values, size_t count_of_values, const char *name, int first,
                          int count, const float *want)
{
    adapter_file *f;
    adapter_merged *m;
    flux1_error err = {0};
    float got[8];
    memcpy(numbers, values, count_of_values * sizeof *values);
    if (open_file(header, count_of_values * sizeof *values, &f, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    memset(numbers, 0, sizeof numbers);
    const adapter_use use = {f, 0.5f};
    assert_int_equal(adapter_merge(&use, 1, MODEL_TRANSFORMER, store_find(model, name), ADAPTER_MERGE_ALL, &m, &err),
                     FLUX1_OK);
    assert_non_null(m);
    for (int i = 0; i < 8; i++)
        got[i] = (float)NAN;
    assert_int_equal(tensor_decode(&adapter_merged_tensor(m)->view, first, count, got, &err), FLUX1_OK);
    for (int i = 0; i < count; i++)
        if (fabsf(got[i] - want[i]) > 1e-5f)
            fail_msg("%s, element %d: %g, not %g", header, first + i, (double)got[i], (double)want[i]);
    adapter_merged_free(m);
    expect_one(&use, name);
    adapter_close(f);
}

static void every_kind_by_hand(void **state)
{
    (void)state;
    /* (1 2)ᵀ ⊗ (3 4; 5 6) = (3 4; 5 6; 6 8; 10 12); an alpha means nothing */
    expect_merged("{" T("proj_out.lokr_w1", "[2,1]", 0, 8) "," T("proj_out.lokr_w2", "[2,2]", 8,
                                                                 24) "," T("proj_out.alpha", "[]", 24, 28) "}",
                  (float[]){1, 2, 3, 4, 5, 6, 1e10f}, 7, "proj_out.weight", 1, 6, (float[]){2, 2.5f, 3, 3, 4, 5});
    /* (1 2 3 4)ᵀ(1 2) ⊙ (1 1 1 2)ᵀ(3 1) · 6/1: rows 2 and 3 are 6·(9 6) and 6·(24 16) */
    expect_merged("{" T("proj_out.hada_w1_a", "[4,1]", 0, 16) "," T("proj_out.hada_w1_b", "[1,2]", 16, 24) "," T(
                      "proj_out.hada_w2_a", "[4,1]", 24, 40) "," T("proj_out.hada_w2_b", "[1,2]", 40,
                                                                   48) "," T("proj_out.alpha", "[1]", 48, 52) "}",
                  (float[]){1, 2, 3, 4, 1, 2, 1, 1, 1, 2, 3, 1, 6}, 13, "proj_out.weight", 4, 4,
                  (float[]){27, 18, 72, 48});
    /* up·down = (1 0 2 −1)ᵀ(3 4); row 2 is (6 8), its norm 10, its magnitude 5; row 1 is 0 */
    expect_merged("{" PAIR("proj_out") "," T("proj_out.dora_scale", "[4,1]", 24, 40) "}",
                  (float[]){3, 4, 1, 0, 2, -1, 1, 7, 5, 10}, 10, "proj_out.weight", 1, 7,
                  (float[]){0.4f, 0, 0, 1.5f, 2, -3, -4});
    /* by column: norms 3·√6 and 4·√6 */
    expect_merged("{" PAIR("proj_out") "," T("proj_out.dora_scale", "[1,2]", 24, 32) "}",
                  (float[]){3, 4, 1, 0, 2, -1, 1, 2}, 8, "proj_out.weight", 3, 3,
                  (float[]){0, 0.5f * 2 / 2.4494898f, 0.5f * 4 / 2.4494898f});
    /* a plain pair, which could run beside the layer */
    expect_merged("{" PAIR("proj_out") "}", (float[]){3, 4, 1, 0, 2, -1}, 6, "proj_out.weight", 0, 2,
                  (float[]){1.5f, 2});
    /* BFL's halves are the other way round: its rows 2, 3, 0, 1 */
    expect_merged("{" T("final_layer.adaLN_modulation.1.diff", "[4,2]", 0, 32) "}", (float[]){1, 2, 3, 4, 5, 6, 7, 8},
                  8, "norm_out.linear.weight", 1, 5, (float[]){3, 3.5f, 4, 0.5f, 1});
    /* up·core·down, core (1 2; 0 1): up (1 0; 0 1; 1 1; 0 0), down (1 0; 0 1) */
    expect_merged("{" T("proj_out.lora_down.weight", "[2,2]", 0, 16) "," T("proj_out.lora_up.weight", "[4,2]", 16,
                                                                           48) "," T("proj_out.lora_mid.weight",
                                                                                     "[2,2,1,1]", 48, 64) "}",
                  (float[]){1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 2, 0, 1}, 16, "proj_out.weight", 0, 6,
                  (float[]){0.5f, 1, 0, 0.5f, 0.5f, 1.5f});
}

static void what_does_not_fit_is_named_with_both_shapes(void **state)
{
    (void)state;
    refused(FLUX1_ERR_FORMAT, "\"proj_out.hada_w2_a\" is [3, 1]",
            "{" T("proj_out.hada_w1_a", "[4,1]", 0, 16) "," T("proj_out.hada_w1_b", "[1,2]", 16, 24) "," T(
                "proj_out.hada_w2_a", "[3,1]", 24, 36) "," T("proj_out.hada_w2_b", "[1,2]", 36, 44) "}",
            44);
    refused(FLUX1_ERR_MODEL, "[4, 4], the model's \"proj_out\" is [4, 2]",
            "{" T("proj_out.lokr_w1", "[2,2]", 0, 16) "," T("proj_out.lokr_w2", "[2,2]", 16, 32) "}", 32);
    refused(FLUX1_ERR_MODEL, "[4, 1], the model's \"proj_out\" is [4, 2]", "{" T("proj_out.diff", "[4]", 0, 16) "}",
            16);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.dora_scale\" is [3, 1]",
            "{" PAIR("proj_out") "," T("proj_out.dora_scale", "[3,1]", 24, 36) "}", 36);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.lora_B.bias\" is [3]",
            "{" PAIR("proj_out") "," T("proj_out.lora_B.bias", "[3]", 24, 36) "}", 36);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.lora_mid.weight\" is [2, 1]",
            "{" PAIR("proj_out") "," T("proj_out.lora_mid.weight", "[2,1]", 24, 32) "}", 32);
    numbers[7] = (float)NAN;
    refused(FLUX1_ERR_FORMAT, "dora_scale\" has a NaN",
            "{" PAIR("proj_out") "," T("proj_out.dora_scale", "[4]", 24, 40) "}", 40);
    numbers[7] = 0;
    refused(FLUX1_ERR_UNSUPPORTED, "DoRA of the difference",
            "{" PAIR("proj_out") "," T("proj_out.wd_for_diff", "[]", 24, 28) "}", 28);
}

#define GLORA(a1, a2)                                                                                               \
    T("proj_out.a1.weight", a1, 0, 8)                                                                               \
    "," T("proj_out.a2.weight", a2, 8, 16) "," T("proj_out.b1.weight", "[4,1]", 16, 32) "," T("proj_out.b2.weight", \
                                                                                              "[1,2]", 32, 40)

static void what_makes_no_sense_of_the_weight_is_refused(void **state)
{
    (void)state;
    refused(FLUX1_ERR_FORMAT, "is F32 [1, 2]; it should be square blocks",
            "{" T("proj_out.oft_blocks", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "square blocks", "{" T("proj_out.oft_blocks", "[2,2,1]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "square blocks", "{" T("proj_out.oft_blocks", "[0,2,2]", 0, 0) "}", 0);
    refused(FLUX1_ERR_FORMAT, "square blocks", "{" T("proj_out.oft_blocks.0", "[1,1,2,2]", 0, 16) "}", 16);
    refused(FLUX1_ERR_MODEL, "[2, 2], the model's \"proj_out\" is [4, 2]",
            "{" T("proj_out.oft_blocks", "[1,2,2]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "part 2 of a layer, which has 1", "{" T("proj_out.oft_blocks.1", "[1,2,2]", 0, 16) "}",
            16);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.rescale\" is [3]",
            "{" T("proj_out.oft_blocks", "[2,2,2]", 0, 32) "," T("proj_out.rescale", "[3]", 32, 44) "}", 44);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.oft_blocks\"", "{" T("proj_out.rescale", "[4]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "2 stages of 1 blocks of 4", "{" T("proj_out.oft_blocks", "[2,1,4,4]", 0, 128) "}", 128);
    refused(FLUX1_ERR_FORMAT, "1 stages of 4 blocks of 1;", "{" T("proj_out.oft_blocks", "[1,4,1,1]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "has 2 elements for each block", "{" T("proj_out.oft_R.weight", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_MODEL, "rotates 3 inputs, the model's \"proj_out\" has 2",
            "{" T("proj_out.oft_R.weight", "[1,3]", 0, 12) "}", 12);
    refused(FLUX1_ERR_MODEL, "[4, 4], the model's \"proj_out\" is [4, 2]",
            "{" T("proj_out.oft_R.weight", "[2,1]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.boft_s\"", "{" T("proj_out.boft_R", "[1,1,2,2]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.boft_R\"", "{" T("proj_out.boft_s", "[4,1]", 0, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.a1.weight\"", "{" T("proj_out.b2.weight", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.a2.weight\"", "{" T("proj_out.a1.weight", "[2,1]", 0, 8) "}", 8);
    refused(FLUX1_ERR_FORMAT, "have the ranks 4 and 2", "{" GLORA("[2,1]", "[2,1]") "}", 40);
    refused(FLUX1_ERR_FORMAT, "\"proj_out.a1.weight\" is [3, 1] and \"proj_out.b2.weight\" is [1, 2]; these do not fit",
            "{" T("proj_out.a1.weight", "[3,1]", 0, 12) "," T("proj_out.a2.weight", "[1,3]", 12, 24) "," T(
                "proj_out.b1.weight", "[4,1]", 24, 40) "," T("proj_out.b2.weight", "[1,2]", 40, 48) "}",
            48);
    refused(FLUX1_ERR_FORMAT, "without \"proj_out.weight\"", "{" T("proj_out.on_input", "[]", 0, 4) "}", 4);
    numbers[0] = 2;
    refused(FLUX1_ERR_FORMAT, "should be 0 or 1",
            "{" T("proj_out.on_input", "[]", 0, 4) "," T("proj_out.weight", "[4]", 4, 20) "}", 20);
    numbers[0] = 0;
    refused(FLUX1_ERR_MODEL, "[3, 2], the model's \"proj_out\" is [4, 2]",
            "{" T("proj_out.on_input", "[]", 0, 4) "," T("proj_out.weight", "[3]", 4, 16) "}", 16);
    refused(FLUX1_ERR_FORMAT, "one row or one column", "{" T("proj_out.ia3_l", "[4,2]", 0, 32) "}", 32);
    refused(FLUX1_ERR_MODEL, "is [4, 2]", "{" T("proj_out.ia3_l", "[1,4]", 0, 16) "}", 16);
    refused(FLUX1_ERR_UNSUPPORTED, "DoRA's magnitudes over OFT",
            "{" T("proj_out.oft_blocks", "[2,2,2]", 0, 32) "," T("proj_out.dora_scale", "[4]", 32, 48) "}", 48);
    refused(FLUX1_ERR_UNSUPPORTED, "DoRA's magnitudes over differences",
            "{" T("proj_out.diff", "[4,2]", 0, 32) "," T("proj_out.dora_scale", "[4]", 32, 48) "}", 48);
    refused(FLUX1_ERR_UNSUPPORTED, "DoRA's magnitudes over LoRA with biases",
            "{" PAIR("proj_out") "," T("proj_out.lora_B.bias", "[4]", 24, 40) "," T("proj_out.dora_scale", "[4]", 40,
                                                                                    56) "}",
            56);
    refused(FLUX1_ERR_UNSUPPORTED, "it has KaSA (tensor \"proj_out.lora_diag\")",
            "{" PAIR("proj_out") "," T("proj_out.lora_diag", "[1]", 24, 28) "}", 28);
    refused(FLUX1_ERR_UNSUPPORTED, "scaled OFT of OneTrainer",
            "{" T("proj_out.oft_R.scaled_oft", "[]", 0, 4) "," T("proj_out.oft_R.weight", "[1,1]", 4, 8) "}", 8);
    numbers[8] = -1;
    refused(FLUX1_ERR_FORMAT, "the alpha of \"proj_out\" is negative",
            "{" T("proj_out.oft_blocks", "[2,2,2]", 0, 32) "," T("proj_out.alpha", "[]", 32, 36) "}", 36);
    numbers[8] = 0;
}

static void what_a_configuration_cannot_mean_is_refused(void **state)
{
    (void)state;
    refused(FLUX1_ERR_UNSUPPORTED, "it has PEFT's ADALORA",
            INSIDE("\\\"transformer.peft_type\\\": \\\"ADALORA\\\"") PAIR("transformer.proj_out") "}", 24);
    refused(FLUX1_ERR_FORMAT, "num_cayley_neumann_terms 0; it should be 1 to 100",
            INSIDE("\\\"transformer.num_cayley_neumann_terms\\\": 0")
                T("transformer.proj_out.oft_R.weight", "[1,1]", 0, 4) "}",
            4);
    refused(FLUX1_ERR_FORMAT, "an eps that is no limit",
            INSIDE("\\\"transformer.coft\\\": true, \\\"transformer.eps\\\": -1")
                T("transformer.proj_out.oft_R.weight", "[1,1]", 0, 4) "}",
            4);
    refused(FLUX1_ERR_FORMAT, "rank_pattern or alpha_pattern: \"(?!a)b\": the regular expression has lookaround",
            INSIDE("\\\"transformer.alpha_pattern\\\": {\\\"(?!a)b\\\": 1}") PAIR("transformer.proj_out") "}", 24);
}

/* kohya's limit is one for an alpha of 0 too, LyCORIS' is none: row 0 of I + R is that of the weight, or (1 + S)/(1 −
 * S). */
static void a_limit_of_zero_is_one_of_kohya_s_alone(void **state)
{
    (void)state;
    static const char *const endings[] = {"oft_blocks", "oft_blocks.0"};
    for (int i = 0; i < 2; i++) {
        char header[400];
        adapter_file *f;
        flux1_error err = {0};
        snprintf(header, sizeof header,
                 "{\"proj_out.%s\":{\"dtype\":\"F32\",\"shape\":[2,2,2],\"data_offsets\":[0,32]}," T("proj_out.alpha",
                                                                                                     "[]", 32, 36) "}",
                 endings[i]);
        if (open_file(header, 36, &f, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        assert_true(f->change[0].rotation.limit == (i ? 0 : -1));
        adapter_close(f);
    }
}

/* PEFT's rule: the first key that matches, at a dot or from the beginning of the name that PEFT has. */
static void patterns_are_expressions(void **state)
{
    (void)state;
    char folder[] = "/tmp/flux1_adapter_XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_true(BESIDE("adapter_model.safetensors", "{\"alpha_pattern\": {\"final_.*\": 3}}") == 3);
    assert_true(
        BESIDE("adapter_model.safetensors", "{\"alpha_pattern\": {\"linear\": 2, \"final_layer.linear\": 3}}") == 2);
    assert_true(
        BESIDE("adapter_model.safetensors", "{\"alpha_pattern\": {\"^linear\": 2, \"^final_layer.\\\\w+\": 3}}") == 3);
    assert_true(BESIDE("adapter_model.safetensors", "{\"lora_alpha\": 4, \"alpha_pattern\": {\"inear\": 2}}") == 4);
    assert_int_equal(rmdir(folder), 0);
}

static void layers_are_known_behind_every_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *base, *target;
        model_part part;
    } rows[] = {
        {"lora_te1_text_model_encoder_layers_3_self_attn_q_proj", "text_model.encoder.layers.3.self_attn.q_proj",
         MODEL_CLIP},
        {"text_encoder.text_model.encoder.layers.11.mlp.fc1", "text_model.encoder.layers.11.mlp.fc1", MODEL_CLIP},
        {"lora_te3_encoder_block_0_layer_0_SelfAttention_q", "encoder.block.0.layer.0.SelfAttention.q", MODEL_T5},
        {"lora_te2_encoder_block_23_layer_1_DenseReluDense_wi_0", "encoder.block.23.layer.1.DenseReluDense.wi_0",
         MODEL_T5},
        {"clip_l.text_model.encoder.layers.3.mlp.fc2", "text_model.encoder.layers.3.mlp.fc2", MODEL_CLIP},
        {"clip_l.transformer.text_model.encoder.layers.3.mlp.fc2", "text_model.encoder.layers.3.mlp.fc2", MODEL_CLIP},
        {"t5.encoder.block.0.layer.0.SelfAttention.o", "encoder.block.0.layer.0.SelfAttention.o", MODEL_T5},
        {"t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.o", "encoder.block.0.layer.0.SelfAttention.o",
         MODEL_T5},
        {"base_model.model.text_encoder.text_model.encoder.layers.0.mlp.fc1", "text_model.encoder.layers.0.mlp.fc1",
         MODEL_CLIP},
        {"base_model.model.transformer.transformer_blocks.7.attn.to_q", "transformer_blocks.7.attn.to_q",
         MODEL_TRANSFORMER},
        {"base_model.model.proj_out", "proj_out", MODEL_TRANSFORMER},
        {"oft_unet_single_blocks_3_linear2", "single_transformer_blocks.3.proj_out", MODEL_TRANSFORMER},
        {"unet.transformer_blocks.7.attn.to_q", "transformer_blocks.7.attn.to_q", MODEL_TRANSFORMER},
        {"transformer.double_blocks.3.txt_attn.qkv.1", "transformer_blocks.3.attn.add_k_proj", MODEL_TRANSFORMER},
        {"transformer.single_blocks.3.linear1.3", "single_transformer_blocks.3.proj_mlp", MODEL_TRANSFORMER},
        {"transformer.img_in.proj", "x_embedder", MODEL_TRANSFORMER},
        {"lora_te1_encoder_layers_3_mlp_fc1", "text_model.encoder.layers.3.mlp.fc1", MODEL_CLIP},
        {"text_encoder.encoder.layers.3.self_attn.q_proj", "text_model.encoder.layers.3.self_attn.q_proj", MODEL_CLIP},
        {"lora_unet_model_diffusion_model_double_blocks_3_txt_mlp_0", "transformer_blocks.3.ff_context.net.0.proj",
         MODEL_TRANSFORMER},
        {"lora_te1.text_model.encoder.layers.3.mlp.fc1", "text_model.encoder.layers.3.mlp.fc1", MODEL_CLIP},
        {"lora_te2.encoder.block.0.layer.0.SelfAttention.q", "encoder.block.0.layer.0.SelfAttention.q", MODEL_T5},
        {"blocks.3.norm1_b.linear", "transformer_blocks.3.norm1_context.linear", MODEL_TRANSFORMER},
        {"blocks.3.attn.b_to_out", "transformer_blocks.3.attn.to_add_out", MODEL_TRANSFORMER},
        {"blocks.3.ff_a.2", "transformer_blocks.3.ff.net.2", MODEL_TRANSFORMER},
        {"single_blocks.3.norm.linear", "single_transformer_blocks.3.norm.linear", MODEL_TRANSFORMER},
        {"single_blocks.3.proj_out", "single_transformer_blocks.3.proj_out", MODEL_TRANSFORMER},
        {"base_model.model.", NULL, MODEL_TRANSFORMER},
        {"lora_te2_text_model_encoder_layers_3_self_attn_q_proj", NULL, MODEL_T5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        adapter_targets t;
        adapter_targets_find(rows[i].base, strlen(rows[i].base), &t);
        assert_int_equal(t.count, rows[i].target ? 1 : 0);
        if (rows[i].target) {
            assert_int_equal(t.part, rows[i].part);
            assert_string_equal(t.name[0], rows[i].target);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(what_applies_has_its_scale),
        cmocka_unit_test(an_alpha_of_any_type_counts),
        cmocka_unit_test(an_alpha_alone_is_named),
        cmocka_unit_test(a_layer_in_two_spellings_counts_once),
        cmocka_unit_test(a_layer_of_two_kinds_is_refused),
        cmocka_unit_test(the_configuration_beside_peft_s_file_counts),
        cmocka_unit_test(the_configuration_inside_has_the_part_s_name_or_not),
        cmocka_unit_test(whole_layers_are_of_peft_s_files_alone),
        cmocka_unit_test(peft_s_loha_and_lokr_have_their_alpha_there),
        cmocka_unit_test(a_training_on_other_weights_is_refused),
        cmocka_unit_test(halves_are_swapped_with_their_offsets),
        cmocka_unit_test(every_kind_by_hand),
        cmocka_unit_test(what_does_not_fit_is_named_with_both_shapes),
        cmocka_unit_test(what_makes_no_sense_of_the_weight_is_refused),
        cmocka_unit_test(what_a_configuration_cannot_mean_is_refused),
        cmocka_unit_test(a_limit_of_zero_is_one_of_kohya_s_alone),
        cmocka_unit_test(patterns_are_expressions),
        cmocka_unit_test(layers_are_known_behind_every_prefix),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
