/* Files of adapters of every family and kind against the oracle's pictures (tools/oracle/lora_goldens.py): on every
 * backend, on meshes, over quantised weights, and when requests change them. */
#include "support/golden_runs.h"

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"

static flux1_adapter *open_adapter(flux1_context *c, const flux1_model *m, const char *name)
{
    char path[300];
    flux1_adapter *a;
    snprintf(path, sizeof path, FILES "lora/golden/%s.safetensors", name);
    if (flux1_adapter_open(c, m, path, &a) != FLUX1_OK)
        fail_msg("%s: %s", name, flux1_context_message(c));
    return a;
}

static flux1_image *picture(flux1_context *c, const flux1_model *m, const golden *g, const flux1_adapter_use *uses,
                            int count)
{
    flux1_image *image;
    flux1_generate_params p = g->params;
    p.dump = NULL;
    p.adapters = uses;
    p.adapter_count = count;
    if (flux1_generate(c, m, &p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return image;
}

/* The file's picture is the golden's. Everything in the file applies. */
static void check(flux1_context *c, const flux1_model *m, const char *file, const char *name, const char *where)
{
    golden g;
    char text[100];
    flux1_adapter_info info = {.size = sizeof info};
    golden_open("lora", name, &g);
    flux1_adapter *a = open_adapter(c, m, file);
    assert_int_equal(flux1_adapter_get_info(a, &info), FLUX1_OK);
    assert_int_equal(info.applied, info.pairs);
    assert_true(info.pairs > 0);
    flux1_image *image = picture(c, m, &g, &(flux1_adapter_use){a, (float)golden_number(g.file, "strength")}, 1);
    snprintf(text, sizeof text, "%s %s", name, where);
    compare_image(&g, image, text);
    flux1_images_free(image, 1);
    flux1_adapter_close(a);
    golden_close(&g);
}

static const char *const families[] = {"kohya",      "kohya_ends", "peft",  "peft_dora", "ai_toolkit", "comfy",
                                       "comfy_text", "onetrainer", "xlabs", "fal",       "diffsynth",  "loha",
                                       "lokr",       "dora",       "full",  "mixed"};
enum { FAMILIES = sizeof families / sizeof *families };

/* One after the other on one session: each is built again, and has nothing of the one before. */
static void run_all(const char *device, const char *shape)
{
    flux1_context *c = context_on(device, shape, 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    char where[64];
    snprintf(where, sizeof where, "on %s %s", device, shape);
    for (size_t i = 0; i < FAMILIES; i++)
        check(c, m, families[i], families[i], where);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void every_family_gives_the_oracle_s_picture(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "");
    if (!strcmp(TEST_DEVICE, "cpu"))
        run_all("ref", "");
}

static void meshes_cut_what_is_merged(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "1x2");
    if (!strcmp(TEST_DEVICE, "cpu"))
        run_all("cpu", "2x2");
}

static const flux1_model_parts quantised[] = {{.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "comfy/flux1-fp8.safetensors",
                                               .t5 = FILES "comfy/flux1-fp8.safetensors",
                                               .clip = FILES "comfy/flux1-fp8.safetensors",
                                               .vae = FILES "comfy/flux1-fp8.safetensors"},
                                              {.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "gguf/flux1.gguf",
                                               .t5 = FILES "gguf/t5.gguf",
                                               .clip = FILES "gguf/clip.gguf"},
                                              {.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "bnb/transformer",
                                               .t5 = FILES "bnb/text_encoder_2"}};

static void quantised_weights_take_every_kind(void **state)
{
    (void)state;
    static const char *const names[] = {"comfy_mixed", "gguf_mixed", "bnb_mixed"};
    for (size_t i = 0; i < 3; i++)
        for (int ranks = 1; ranks <= 2; ranks++) {
            flux1_context *c = context_on(TEST_DEVICE, ranks == 2 ? "1x2" : "", 2, FLUX1_DTYPE_F32);
            flux1_model *m;
            if (flux1_model_open_parts(c, &quantised[i], &m) != FLUX1_OK)
                fail_msg("%s", flux1_context_message(c));
            check(c, m, "mixed", names[i], ranks == 2 ? "on a mesh" : "alone");
            flux1_model_close(m);
            flux1_context_destroy(c);
        }
}

static int farthest(const flux1_image *a, const flux1_image *b)
{
    int most = 0;
    for (int i = 0; i < a->width * a->height * 3; i++)
        most = abs(a->pixels[i] - b->pixels[i]) > most ? abs(a->pixels[i] - b->pixels[i]) : most;
    return most;
}

/* Strengths add up, 0 is nothing, and what a request merged is gone in the next one. */
static void strengths_change_between_requests(void **state)
{
    (void)state;
    static const char *const kinds[] = {"loha", "lokr", "dora", "full", "mixed"};
    golden g;
    golden_open("lora", "loha", &g);
    flux1_context *c = context_on(TEST_DEVICE, "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    flux1_image *plain = picture(c, m, &g, NULL, 0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        flux1_adapter *a = open_adapter(c, m, kinds[i]);
        flux1_image *whole = picture(c, m, &g, &(flux1_adapter_use){a, 0.5f}, 1);
        flux1_image *none = picture(c, m, &g, &(flux1_adapter_use){a, 0}, 1);
        flux1_image *halves = picture(c, m, &g, (flux1_adapter_use[]){{a, 0.75f}, {a, -0.25f}}, 2);
        flux1_image *again = picture(c, m, &g, &(flux1_adapter_use){a, 0.5f}, 1);
        flux1_adapter_close(a);
        flux1_image *after = picture(c, m, &g, NULL, 0);
        if (farthest(none, plain) || farthest(again, whole) || farthest(after, plain) || farthest(halves, whole) > 1 ||
            farthest(whole, plain) < 4)
            fail_msg("%s: at 0 %d, again %d, after %d, in two %d, seen %d", kinds[i], farthest(none, plain),
                     farthest(again, whole), farthest(after, plain), farthest(halves, whole), farthest(whole, plain));
        flux1_images_free(whole, 1), flux1_images_free(none, 1), flux1_images_free(halves, 1);
        flux1_images_free(again, 1), flux1_images_free(after, 1);
    }
    flux1_images_free(plain, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_gives_the_oracle_s_picture), cmocka_unit_test(meshes_cut_what_is_merged),
        cmocka_unit_test(quantised_weights_take_every_kind), cmocka_unit_test(strengths_change_between_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
