/* One tiny pipeline in every form that files have: each tensor, asked for by its diffusers name, decodes to the
 * oracle's bits (tools/oracle/file_goldens.py). */
#include "weights/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define FILES TEST_DATA "/files/"

/* FNV-1a of all values as they are asked for; −0 counts as 0. */
static int64_t digest(const store_tensor *t)
{
    const weight_recipe r = recipe_whole(WEIGHT_LINEAR, t);
    uint64_t hash = 14695981039346656037u;
    float *row = malloc((size_t)r.cols * sizeof *row);
    flux1_error err;
    for (int64_t i = 0; i < r.rows; i++) {
        if (recipe_decode(&r, i, 0, r.cols, row, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        for (int64_t k = 0; k < r.cols; k++)
            row[k] += 0.0f;
        for (size_t k = 0; k < (size_t)r.cols * sizeof *row; k++)
            hash = (hash ^ ((const unsigned char *)row)[k]) * 1099511628211u;
    }
    free(row);
    return (int64_t)hash;
}

static store *golden_of(const char *form)
{
    char path[300];
    store *s;
    flux1_error err;
    snprintf(path, sizeof path, TEST_DATA "/goldens/files/%s.digests.safetensors", form);
    if (store_open_file(path, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

/* Every tensor of `part` (a diffusers folder's name) is there under its name, with its bits, and nothing else is. */
static void check_store(const char *form, const char *part, store *s)
{
    static const char *const twins[] = {"encoder.embed_tokens.weight", NULL};
    store *golden = golden_of(form);
    flux1_error err;
    int checked = 0;
    for (size_t i = 0; i < store_count(golden); i++) {
        const store_tensor *g = store_at(golden, i), *t;
        const size_t length = strlen(part);
        if (strncmp(g->name, part, length) != 0 || g->name[length] != '/')
            continue;
        const store_tensor *found = store_find(s, g->name + length + 1);
        if (!found)
            fail_msg("%s: no %s", form, g->name);
        assert_int_equal(store_claim(s, found->name, found->view.dims, found->view.shape, &t, &err), FLUX1_OK);
        if (!t || digest(t) != *(const int64_t *)g->view.data)
            fail_msg("%s: %s (%s in the file, %s) has other values", form, g->name, found->stored_as,
                     dtype_describe(found->view.type)->name);
        checked++;
    }
    if (store_check(s, true, twins, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_true(checked > 20);
    store_close(golden);
    store_close(s);
}

static void check_part(const char *form, const char *file, model_part part)
{
    static const char *const folders[MODEL_PARTS] = {[MODEL_CLIP] = "text_encoder",
                                                     [MODEL_T5] = "text_encoder_2",
                                                     [MODEL_TRANSFORMER] = "transformer",
                                                     [MODEL_VAE] = "vae"};
    char path[300];
    store *s;
    flux1_error err;
    snprintf(path, sizeof path, FILES "%s/%s", form, file);
    if (store_open_part(path, part, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    check_store(form, folders[part], s);
}

static void bfl_names_and_plain_encoders(void **state)
{
    (void)state;
    check_part("bfl", "flux1.safetensors", MODEL_TRANSFORMER);
    check_part("bfl", "ae.safetensors", MODEL_VAE);
    check_part("bfl", "clip_l.safetensors", MODEL_CLIP);
    check_part("bfl", "t5xxl.safetensors", MODEL_T5);
}

static void comfy_all_in_one_with_scaled_fp8(void **state)
{
    (void)state;
    for (int part = 0; part < MODEL_PARTS; part++)
        check_part("comfy", "flux1-fp8.safetensors", (model_part)part);
}

static void fp8_and_int8_with_notes(void **state)
{
    (void)state;
    check_part("scaled", "flux1.safetensors", MODEL_TRANSFORMER);
}

static void gguf_of_all_types(void **state)
{
    (void)state;
    check_part("gguf", "flux1.gguf", MODEL_TRANSFORMER);
    check_part("gguf", "t5.gguf", MODEL_T5);
    check_part("gguf", "clip.gguf", MODEL_CLIP);
}

static void bitsandbytes_folders(void **state)
{
    (void)state;
    store *s;
    flux1_error err;
    if (store_open(FILES "bnb/transformer", (const char *const[]){"diffusion_pytorch_model", NULL}, NULL, &s, &err) !=
        FLUX1_OK)
        fail_msg("%s", err.message);
    check_store("bnb", "transformer", s);
    if (store_open(FILES "bnb/text_encoder_2", (const char *const[]){"model", NULL}, NULL, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    check_store("bnb", "text_encoder_2", s);
}

/* A slice of rows and columns, which cuts blocks, has the same bits as the same part of the whole. */
static void slices_of_packed_tensors(void **state)
{
    (void)state;
    store *s;
    flux1_error err;
    int cut = 0;
    static float whole[1 << 16], part[64];
    if (store_open_part(FILES "gguf/flux1.gguf", MODEL_TRANSFORMER, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < store_count(s); i++) {
        const weight_recipe r = recipe_whole(WEIGHT_LINEAR, store_at(s, i));
        if (r.cols < 64 || r.rows < 11 || r.rows * r.cols > 1 << 16)
            continue;
        for (int64_t row = 0; row < r.rows; row++)
            assert_int_equal(recipe_decode(&r, row, 0, r.cols, whole + row * r.cols, &err), FLUX1_OK);
        const weight_recipe rows = recipe_rows(&r, 3, 7), slice = recipe_cols(&rows, 13, 40);
        for (int64_t row = 0; row < 7; row++) {
            assert_int_equal(recipe_decode(&slice, row, 0, 40, part, &err), FLUX1_OK);
            assert_memory_equal(part, whole + (row + 3) * r.cols + 13, 40 * sizeof *part);
        }
        cut++;
    }
    assert_true(cut > 20);
    store_close(s);
}

static void what_a_file_holds_is_told_by_its_names(void **state)
{
    (void)state;
    store_contents c;
    flux1_error err;
    store *s;
    assert_int_equal(store_look(FILES "comfy/flux1-fp8.safetensors", &c, &err), FLUX1_OK);
    assert_string_equal(c.prefix[MODEL_TRANSFORMER], "model.diffusion_model.");
    assert_string_equal(c.prefix[MODEL_VAE], "vae.");
    assert_string_equal(c.prefix[MODEL_CLIP], "text_encoders.clip_l.transformer.");
    assert_string_equal(c.prefix[MODEL_T5], "text_encoders.t5xxl.transformer.");
    assert_true(c.strays == 0 && !c.is_gguf);
    assert_int_equal(store_look(FILES "gguf/t5.gguf", &c, &err), FLUX1_OK);
    assert_true(c.is_gguf && c.prefix[MODEL_T5] && !c.prefix[MODEL_TRANSFORMER] && !c.prefix[MODEL_CLIP]);
    assert_int_equal(store_open_part(FILES "gguf/t5.gguf", MODEL_VAE, &s, &err), FLUX1_ERR_MODEL);
    assert_null(s);
    assert_non_null(strstr(err.message, "holds no VAE (it holds: T5)"));
    assert_int_equal(store_look(TEST_DATA "/goldens/types.safetensors", &c, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "neither FLUX.1's transformer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bfl_names_and_plain_encoders),
        cmocka_unit_test(comfy_all_in_one_with_scaled_fp8),
        cmocka_unit_test(fp8_and_int8_with_notes),
        cmocka_unit_test(gguf_of_all_types),
        cmocka_unit_test(bitsandbytes_folders),
        cmocka_unit_test(slices_of_packed_tensors),
        cmocka_unit_test(what_a_file_holds_is_told_by_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
