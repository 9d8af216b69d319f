/* Models of single files: pictures from every form against the oracle's, sizes told by shapes, parts that are missing.
 */
#include "support/golden_runs.h"
#include "support/true_layout.h"

#include "pipeline/folder.h"

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"

static struct flux1_model *open_parts(const model_paths *paths)
{
    struct flux1_model *m = NULL;
    flux1_error err = {0};
    if (folder_open_parts(paths, &m, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return m;
}

static void check_picture(const char *form, const char *device, const char *shape, const model_paths *paths)
{
    golden g;
    char where[64];
    flux1_context *c = context_on(device, shape, 2, FLUX1_DTYPE_F32);
    struct flux1_model *m = open_parts(paths);
    golden_open("files", form, &g);
    snprintf(where, sizeof where, "%s on %s %s", form, device, shape);
    run_case(c, m, &g, where);
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static const struct form {
    const char *name;
    model_paths paths;
} forms[] = {
    {"bfl",
     {.model = PACKED,
      .part = {[COMPONENT_CLIP] = FILES "bfl/clip_l.safetensors",
               [COMPONENT_T5] = FILES "bfl/t5xxl.safetensors",
               [COMPONENT_DIT] = FILES "bfl/flux1.safetensors",
               [COMPONENT_VAE] = FILES "bfl/ae.safetensors"}}},
    {"comfy",
     {.model = PACKED,
      .part = {[COMPONENT_CLIP] = FILES "comfy/flux1-fp8.safetensors",
               [COMPONENT_T5] = FILES "comfy/flux1-fp8.safetensors",
               [COMPONENT_DIT] = FILES "comfy/flux1-fp8.safetensors",
               [COMPONENT_VAE] = FILES "comfy/flux1-fp8.safetensors"}}},
    {"scaled", {.model = PACKED, .part = {[COMPONENT_DIT] = FILES "scaled/flux1.safetensors"}}},
    {"gguf",
     {.model = PACKED,
      .part = {[COMPONENT_CLIP] = FILES "gguf/clip.gguf",
               [COMPONENT_T5] = FILES "gguf/t5.gguf",
               [COMPONENT_DIT] = FILES "gguf/flux1.gguf"}}},
    {"bnb",
     {.model = PACKED,
      .part = {[COMPONENT_T5] = FILES "bnb/text_encoder_2", [COMPONENT_DIT] = FILES "bnb/transformer"}}},
};

static void every_form_gives_the_oracle_s_picture(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        check_picture(forms[i].name, "cpu", "", &forms[i].paths);
        check_picture(forms[i].name, "ref", "", &forms[i].paths);
    }
}

static void meshes_cut_packed_weights(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof forms / sizeof *forms; i++)
        check_picture(forms[i].name, "cpu", "1x2", &forms[i].paths);
}

/* All of FLUX.1 in one file of holes: every name is known, every size is told by the shapes, and equals the configs'.
 */
static void true_layouts_need_no_config(void **state)
{
    (void)state;
    char *path = scratch_path("true.safetensors");
    for (int dev = 0; dev < 2; dev++) {
        struct flux1_model *told, *real;
        const true_layout all = {
            .transformer = true, .dev = dev, .in_channels = 64, .vae = true, .clip = true, .t5 = true};
        assert_int_equal(true_layout_write(path, &all), (dev ? 780 : 776) + 244 + 197 + 220);
        told = open_parts(&(model_paths){.model = path, .tokenizers = PACKED});
        assert_int_equal(folder_synthetic(dev ? "dev" : "schnell", DTYPE_BF16, false, &real, NULL), FLUX1_OK);
        assert_int_equal(store_count(told->store[COMPONENT_DIT]), dev ? 1160 : 1156);
        assert_memory_equal(&told->dit, &real->dit, sizeof real->dit);
        assert_memory_equal(&told->clip, &real->clip, sizeof real->clip);
        assert_memory_equal(&told->t5, &real->t5, sizeof real->t5);
        assert_memory_equal(&told->vae, &real->vae, sizeof real->vae);
        assert_memory_equal(&told->scheduler, &real->scheduler, sizeof real->scheduler);
        assert_string_equal(told->tokenizers, PACKED);
        flux1_model_close(told);
        told = open_parts(&(model_paths){.model = path});
        assert_null(told->tokenizers); /* the compiled-in ones: their vocabularies fit */
        assert_int_equal(clip_tokenizer_vocabulary(told->clip_tokens), 49408);
        assert_int_equal(t5_tokenizer_vocabulary(told->t5_tokens), 32100);
        assert_int_equal(told->t5_length, dev ? 512 : 256);
        flux1_model_close(told);
        flux1_model_close(real);
    }
    unlink(path);
}

static void expect_refused(const model_paths *paths, flux1_status status, const char *words, const char *more)
{
    struct flux1_model *m = NULL;
    flux1_error err = {0};
    assert_int_equal(folder_open_parts(paths, &m, &err), status);
    assert_null(m);
    if (!strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, words, more);
}

static void what_is_missing_or_left_over_is_named(void **state)
{
    (void)state;
    char *path = scratch_path("part.safetensors");
    true_layout l = {.transformer = true, .in_channels = 64};
    true_layout_write(path, &l);
    expect_refused(&(model_paths){.model = path, .tokenizers = PACKED}, FLUX1_ERR_MODEL,
                   "name a file or a folder for each", "are missing: clip, t5, vae;");
    expect_refused(&(model_paths){.part = {[COMPONENT_DIT] = path}}, FLUX1_ERR_MODEL,
                   "name a file or a folder for each", "are missing: clip, t5, vae;");
    expect_refused(&(model_paths){.model = PACKED, .part = {[COMPONENT_VAE] = path}}, FLUX1_ERR_MODEL, "holds no VAE",
                   path);
    expect_refused(&(model_paths){.part = {PACKED "/text_encoder", PACKED "/text_encoder_2", PACKED "/transformer",
                                           PACKED "/vae"}},
                   FLUX1_ERR_MODEL, "no tokenizers are named",
                   "the built-in one for CLIP has 49408 entries, the embedding table");
    l.in_channels = 384;
    l.vae = l.clip = l.t5 = true;
    true_layout_write(path, &l);
    expect_refused(&(model_paths){.model = path, .tokenizers = PACKED}, FLUX1_ERR_UNSUPPORTED, "FLUX.1 Fill",
                   "384 channels in and 64 out");
    l.in_channels = 64;
    l.extra = "model.diffusion_model.double_blocks.0.unheard_of.weight";
    true_layout_write(path, &l);
    struct flux1_model *m = open_parts(&(model_paths){.model = path, .tokenizers = PACKED});
    assert_non_null(strstr(m->unused, "ignored: "));
    assert_non_null(
        strstr(m->unused, "1 tensor that such a model does not have: \"double_blocks.0.unheard_of.weight\""));
    flux1_model_close(m);
    unlink(path);
    expect_refused(&(model_paths){.model = path}, FLUX1_ERR_MODEL, "no such file or folder", path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_the_oracle_s_picture),
        cmocka_unit_test(meshes_cut_packed_weights),
        cmocka_unit_test(true_layouts_need_no_config),
        cmocka_unit_test(what_is_missing_or_left_over_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
