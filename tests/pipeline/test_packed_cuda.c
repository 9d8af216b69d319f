/* Quantised files on an emulated GPU that holds their weights as they are: the oracle's pictures, and to the bit those
 * of weights that are decoded when they come. */
#include "support/golden_runs.h"

#include "pipeline/folder.h"

#include <stdlib.h>

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"

static const struct form {
    const char *name; /* the golden's */
    model_paths paths;
} forms[] = {
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
enum { FORMS = sizeof forms / sizeof *forms };

static flux1_context *context_with(flux1_device_weights how, const char *shape, flux1_dtype arithmetic)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = TEST_DEVICE;
    p.mesh = shape;
    p.threads = 2;
    p.dtype = arithmetic;
    p.device_weights = how;
    return context_of(&p);
}

static flux1_model *model_at(const model_paths *paths)
{
    flux1_model *m = NULL;
    flux1_error err = {0};
    if (folder_open_parts(paths, &m, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return m;
}

/* The emulated GPU's; on a real one nobody counts. */
static int64_t decodings(void) { return cuda_emulator_counts().kernel[CUDA_KERNEL_decode]; }
static bool has_decoded(int64_t before) { return getenv("FLUX1_TEST_GPU") || decodings() > before; }

static void every_form_gives_the_oracle_s_picture(void **state)
{
    (void)state;
    for (size_t i = 0; i < FORMS; i++) {
        const int64_t before = decodings();
        flux1_context *c = context_with(FLUX1_DEVICE_WEIGHTS_PACKED, NULL, FLUX1_DTYPE_F32);
        flux1_model *m = model_at(&forms[i].paths);
        golden g;
        golden_open("files", forms[i].name, &g);
        run_case(c, m, &g, forms[i].name);
        assert_true(has_decoded(before));
        golden_close(&g);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
}

static void make_picture(const struct form *f, flux1_device_weights how, const char *shape, flux1_dtype arithmetic,
                         flux1_image **out)
{
    flux1_context *c = context_with(how, shape, arithmetic);
    flux1_model *m = model_at(&f->paths);
    golden g;
    golden_open("files", f->name, &g);
    if (flux1_generate(c, m, &g.params, out) != FLUX1_OK)
        fail_msg("%s: %s", f->name, flux1_context_message(c));
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* On one rank, and on a mesh whose slices end with blocks or cut them; in either arithmetic. In fp8 the transformer's
 * weights are quantised when they come, those of the encoders are packed. */
static void packed_and_decoded_weights_give_one_picture(void **state)
{
    (void)state;
    static const struct {
        const char *shape;
        flux1_dtype arithmetic;
        size_t form;
    } runs[] = {{NULL, FLUX1_DTYPE_BF16, 0},
                {"1x2", FLUX1_DTYPE_BF16, 2},
                {NULL, FLUX1_DTYPE_BF16, 3},
                {NULL, FLUX1_DTYPE_FP8, 2},
                {"1x2", FLUX1_DTYPE_F32, 3}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        flux1_image *image[2];
        const struct form *f = &forms[runs[i].form];
        int64_t before = decodings();
        make_picture(f, FLUX1_DEVICE_WEIGHTS_DECODED, runs[i].shape, runs[i].arithmetic, &image[0]);
        assert_int_equal(decodings(), before);
        make_picture(f, FLUX1_DEVICE_WEIGHTS_PACKED, runs[i].shape, runs[i].arithmetic, &image[1]);
        assert_true(has_decoded(before));
        assert_memory_equal(image[0]->pixels, image[1]->pixels, (size_t)(3 * image[0]->width * image[0]->height));
        flux1_images_free(image[0], 1);
        flux1_images_free(image[1], 1);
    }
}

static void another_number_is_refused(void **state)
{
    (void)state;
    flux1_context_params p;
    flux1_context *c = NULL;
    flux1_context_params_defaults(&p);
    p.device_weights = (flux1_device_weights)3;
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_ERR_ARGUMENT);
    assert_string_equal(flux1_context_message(c), "device_weights 3: it should be one of flux1_device_weights");
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_the_oracle_s_picture),
        cmocka_unit_test(packed_and_decoded_weights_give_one_picture),
        cmocka_unit_test(another_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
