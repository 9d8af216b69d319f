/* True CFG equals the oracle's on every device and mesh; where it does not take effect the picture is that without, and
 * the log says so. */
#include "support/bf16_runs.h"
#include "support/golden_runs.h"

#include "pipeline/text_cache.h"

static const char *const GOLDENS[] = {"schnell/cfg", "dev/cfg", "mixed/cfg"};
enum { GOLDEN_COUNT = sizeof GOLDENS / sizeof *GOLDENS };

static void run_all(const char *device, const char *shape, int threads)
{
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < GOLDEN_COUNT; i++)
        run_pipeline(c, GOLDENS[i]);
    flux1_context_destroy(c);
    print_worst(device, shape);
}

static void run_bf16(const char *device, const char *isa)
{
    forget_rows();
    flux1_context *c = context_on(device, NULL, 1, FLUX1_DTYPE_BF16),
                  *f32 = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(GOLDENS[i], "/"), GOLDENS[i]);
        flux1_model *m = pipeline_of(c, name);
        assert_true(run_cases(c, f32, m, GOLDENS[i]) > 0);
        flux1_model_close(m);
    }
    flux1_context_destroy(c);
    flux1_context_destroy(f32);
    print_rows(isa);
    assert_int_equal(too_far(), 0);
}

static void true_cfg_equals_the_oracle(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "1x1", 2);
}

#ifdef FLUX1_TESTS_CUDA_INSTALL_H

static void on_a_mesh_that_shares_a_gpu(void **state)
{
    (void)state;
    flux1_context *c = context_on(TEST_DEVICE, "1x2", 1, FLUX1_DTYPE_F32);
    run_pipeline(c, "dev/cfg");
    flux1_context_destroy(c);
}

/* Both passes are in the recorded step. */
static void on_a_mesh_of_gpus(void **state)
{
    (void)state;
    int64_t launches = cuda_emulator_counts().graph_launches;
    cuda_emulator_devices(4);
    flux1_context *c = context_on(TEST_DEVICE, "2x2", 1, FLUX1_DTYPE_F32);
    run_pipeline(c, "schnell/cfg");
    flux1_context_destroy(c);
    cuda_emulator_devices(1);
    assert_true(getenv("FLUX1_TEST_GPU") || cuda_emulator_counts().graph_launches > launches);
}

static void in_bf16_it_is_as_near_as_torch(void **state)
{
    (void)state;
    run_bf16(TEST_DEVICE, TEST_DEVICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(true_cfg_equals_the_oracle),
        cmocka_unit_test(on_a_mesh_that_shares_a_gpu),
        cmocka_unit_test(on_a_mesh_of_gpus),
        cmocka_unit_test(in_bf16_it_is_as_near_as_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void it_does_on_the_reference_backend_and_on_meshes(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"}, *const shapes[] = {"1x1", "1x2", "2x2"};
    for (int d = 0; d < 2; d++)
        for (int s = 0; s < 3; s++)
            run_all(devices[d], shapes[s], 1);
}

static void in_bf16_it_is_as_near_as_torch_on_every_instruction_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        if (isa_choose(ISA_NAMES[i]))
            run_bf16("cpu", ISA_NAMES[i]);
    isa_choose(NULL);
}

/* ---- where it does not take effect ---- */

typedef struct log_lines {
    int count;
    char last[512];
} log_lines;

static void keep_line(void *user, flux1_log_level level, const char *line)
{
    log_lines *l = user;
    if (level != FLUX1_LOG_WARNING)
        return;
    l->count++;
    snprintf(l->last, sizeof l->last, "%s", line);
}

typedef struct seen {
    int ticks, texts;
} seen;

static int count_ticks(void *user, const flux1_progress *p)
{
    seen *s = user;
    s->ticks += p->stage == FLUX1_STAGE_DENOISE && p->steps > 0;
    s->texts += p->stage == FLUX1_STAGE_TEXT && p->stage_fraction == 0;
    return 0;
}

/* The picture, with the latents after the last step and what it took. */
static flux1_image *picture_of(flux1_context *c, const flux1_model *m, flux1_generate_params p, store **dump,
                               seen *took)
{
    flux1_image *image;
    flux1_error err = {0};
    char *path = scratch_path("cfg.safetensors");
    p.dump = path;
    p.progress = count_ticks;
    p.progress_user = took;
    *took = (seen){0};
    text_cache_free(c); /* every prompt is encoded */
    if (flux1_generate(c, m, &p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(store_open_file(path, dump, &err), FLUX1_OK);
    unlink(path);
    return image;
}

static void assert_same_dump(const store *a, const store *b)
{
    assert_int_equal(store_count(a), store_count(b));
    for (size_t i = 0; i < store_count(a); i++) {
        const store_tensor *x = store_at(a, i), *y = store_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(tensor_bytes(&x->view), tensor_bytes(&y->view));
        assert_memory_equal(x->view.data, y->view.data, tensor_bytes(&x->view));
    }
}

/* A scale of 1 or less, or no negative prompt: one pass, nothing negative is encoded, every bit is that without. */
static void without_effect_it_is_one_pass_and_told(void **state)
{
    (void)state;
    static const struct {
        const char *negative;
        float scale;
        const char *told;
    } rows[] = {
        {"a blue car", 1, "the negative prompt is ignored: true_cfg_scale is 1, it takes effect above 1"},
        {"", 0.5f, "the negative prompt is ignored: true_cfg_scale is 0.5"},
        {"a blue car", -3, "true_cfg_scale is -3"},
        {NULL, 4, "true_cfg_scale 4 is ignored: there is no negative prompt"},
        {NULL, 1, NULL},
        {NULL, 0.5f, NULL},
    };
    log_lines lines = {0};
    flux1_context_params cp;
    flux1_context_params_defaults(&cp);
    cp.dtype = FLUX1_DTYPE_F32;
    cp.threads = 1;
    cp.log = keep_line;
    cp.log_user = &lines;
    golden g;
    store *plain, *dump;
    seen once, took;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_of(&cp);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *without = picture_of(c, m, g.params, &plain, &once);
    int before = lines.count;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flux1_generate_params p = g.params;
        p.negative_prompt = rows[i].negative;
        p.true_cfg_scale = rows[i].scale;
        lines.count = 0;
        flux1_image *image = picture_of(c, m, p, &dump, &took);
        assert_int_equal(lines.count, before + (rows[i].told != NULL));
        if (rows[i].told && !strstr(lines.last, rows[i].told))
            fail_msg("row %zu: \"%s\"", i, lines.last);
        assert_same_dump(plain, dump);
        assert_memory_equal(image->pixels, without->pixels, (size_t)(3 * without->width * without->height));
        assert_int_equal(took.ticks, once.ticks);
        assert_int_equal(took.texts, once.texts);
        store_close(dump);
        flux1_images_free(image, 1);
    }
    /* two passes tick twice as often, bar the reports at the ends of the steps; both prompts are encoded */
    g.params.negative_prompt = "";
    g.params.true_cfg_scale = 1.0001f;
    lines.count = 0;
    flux1_image *image = picture_of(c, m, g.params, &dump, &took);
    assert_int_equal(lines.count, before);
    assert_int_equal(took.ticks - g.params.steps, 2 * (once.ticks - g.params.steps));
    assert_int_equal(took.texts, 2 * once.texts);
    store_close(dump);
    store_close(plain);
    flux1_images_free(image, 1);
    flux1_images_free(without, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

static void a_scale_that_is_no_number_is_refused(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        flux1_image *image;
        flux1_generate_params p;
        flux1_generate_params_defaults(&p);
        assert_true(p.true_cfg_scale == 1);
        p.true_cfg_scale = wrong[i];
        assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_ARGUMENT);
        assert_non_null(strstr(flux1_context_message(c), "true_cfg_scale"));
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Whole, in stages, with negative texts encoded before: the same bits. */
static void staged_calls_and_texts_encoded_before_give_the_same(void **state)
{
    (void)state;
    golden g;
    store *dump;
    seen took;
    flux1_text *text, *negative;
    flux1_image *image;
    golden_open("dev/cfg", "words", &g);
    flux1_context *c = context_on("cpu", "1x2", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *whole = picture_of(c, m, g.params, &dump, &took);
    size_t bytes = (size_t)(3 * whole->width * whole->height);
    flux1_generate_params other = g.params, given = g.params;
    other.prompt = g.params.negative_prompt;
    assert_int_equal(flux1_encode_text(c, m, &g.params, &text), FLUX1_OK);
    assert_int_equal(flux1_encode_text(c, m, &other, &negative), FLUX1_OK);
    given.text = text;
    given.negative_text = negative;
    assert_int_equal(flux1_generate(c, m, &given, &image), FLUX1_OK);
    assert_memory_equal(image->pixels, whole->pixels, bytes);
    flux1_images_free(image, 1);
    for (int encoded = 0; encoded < 2; encoded++) {
        flux1_sampler *s;
        const float *latents;
        int64_t tokens, channels;
        given.negative_text = encoded ? negative : NULL;
        assert_int_equal(flux1_sampler_create(c, m, text, &given, &s), FLUX1_OK);
        for (int left = 1; left;)
            assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
        assert_int_equal(flux1_sampler_latents(s, &latents, &tokens, &channels), FLUX1_OK);
        assert_memory_equal(latents, store_find(dump, "latents.3")->view.data, (size_t)(tokens * channels) * 4);
        assert_int_equal(flux1_sampler_decode(s, &image), FLUX1_OK);
        assert_memory_equal(image->pixels, whole->pixels, bytes);
        flux1_images_free(image, 1);
        flux1_sampler_free(s);
    }
    given.negative_text = text; /* of the other prompt */
    assert_int_equal(flux1_generate(c, m, &given, &image), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "the negative text was encoded from another prompt"));
    flux1_sampler *none;
    assert_int_equal(flux1_sampler_create(c, m, text, &given, &none), FLUX1_ERR_ARGUMENT);
    assert_null(none);
    flux1_text_free(text);
    flux1_text_free(negative);
    store_close(dump);
    flux1_images_free(whole, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(true_cfg_equals_the_oracle),
        cmocka_unit_test(it_does_on_the_reference_backend_and_on_meshes),
        cmocka_unit_test(in_bf16_it_is_as_near_as_torch_on_every_instruction_set),
        cmocka_unit_test(without_effect_it_is_one_pass_and_told),
        cmocka_unit_test(a_scale_that_is_no_number_is_refused),
        cmocka_unit_test(staged_calls_and_texts_encoded_before_give_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
