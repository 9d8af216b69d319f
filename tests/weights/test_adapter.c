/* Files of adapters: keys by hand, and what is refused, with a sentence. */
#include "weights/adapter.h"
#include "weights/adapter_names.h"
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
    refused(FLUX1_ERR_MODEL, "is it a LoRA", "{" T("x", "[1,2]", 0, 8) "}", 8);
    refused(FLUX1_ERR_UNSUPPORTED, "OFT", "{" T("proj_out.oft_blocks", "[1,2]", 0, 8) "}", 8);
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

static void keys_of_text_encoders_are_known(void **state)
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
        cmocka_unit_test(halves_are_swapped_with_their_offsets),
        cmocka_unit_test(keys_of_text_encoders_are_known),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
