/* Whole requests on a mesh over several processes, which mpirun has started: the first runs these tests, the others
 * follow, with more threads than the first plans for itself. usage: test_processes MESH [ENCODER_DEVICE] */
#include "support/golden_runs.h"

#include "pipeline/context.h"

#include <limits.h>
#include <stdlib.h>

static const char *shape;
static flux1_context *team; /* of all processes */

/* ---- operations that fail, or are cancelled: counted where each begins, by the linker's --wrap ---- */

static atomic_long fuse = -1;
static atomic_bool cancels;

flux1_status __real_ops_begin(const ops *o, const char *operation, const weight *w);
flux1_status __wrap_ops_begin(const ops *o, const char *operation, const weight *w);

flux1_status __wrap_ops_begin(const ops *o, const char *operation, const weight *w)
{
    if (atomic_load(&fuse) < 0 || atomic_fetch_sub(&fuse, 1) != 0)
        return __real_ops_begin(o, operation, w);
    if (!atomic_load(&cancels))
        return error_set(o->err, FLUX1_ERR_IO, "%s cannot go on", operation);
    flux1_cancel(team);
    return __real_ops_begin(o, operation, w);
}

static void disturb(long operations, bool by_cancel)
{
    atomic_store(&cancels, by_cancel);
    atomic_store(&fuse, operations);
}

static int own_number(void)
{
    const char *number = getenv("OMPI_COMM_WORLD_RANK");
    return number ? atoi(number) : 0;
}

/* ---- files that are others on the second process's host, by the linker's --wrap ---- */

uint64_t __real_store_sample(const store *s);
uint64_t __wrap_store_sample(const store *s);

uint64_t __wrap_store_sample(const store *s)
{
    const bool other = strstr(store_path(s), "/double") || strstr(store_path(s), "/kohya.");
    return __real_store_sample(s) + (own_number() == 1 && other);
}

static flux1_context *join(const char *encoder_device)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.mesh = shape;
    p.encoder_device = encoder_device;
    p.threads = 1 + 6 * own_number();
    p.processes = 1;
    return context_of(&p);
}

/* ---- the first process's tests ---- */

/* The others' operations are counted from their start: one fails in the first request. */
static void what_fails_elsewhere_is_told_with_its_place(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    golden_open("schnell", "car", &g);
    flux1_model *m = model_of(team, g.folder);
    assert_int_equal(flux1_generate(team, m, &g.params, &image), FLUX1_ERR_IO);
    assert_memory_equal(flux1_context_message(team), "rank", 4);
    assert_non_null(strstr(flux1_context_message(team), "(process 1 on host "));
    assert_non_null(strstr(flux1_context_message(team), " cannot go on"));
    assert_int_equal(atomic_load(&team->cancel), 1); /* nobody wants what this process computed meanwhile */
    golden_close(&g);
    flux1_model_close(m);
}

static void every_stage_equals_the_oracle(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"schnell", "car"}, {"schnell", "tiled"}, {"dev", "scripts"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        golden g;
        golden_open(cases[i][0], cases[i][1], &g);
        flux1_model *m = model_of(team, g.folder);
        run_case(team, m, &g, cases[i][1]);
        golden_close(&g);
        flux1_model_close(m);
    }
    run_pipeline(team, "dev/cfg");
}

static void refused_elsewhere(const flux1_model *m, const flux1_generate_params *p, const char *told)
{
    flux1_image *image;
    assert_int_equal(flux1_generate(team, m, p, &image), FLUX1_ERR_MODEL);
    assert_non_null(strstr(flux1_context_message(team), "(process 1 on host "));
    assert_non_null(strstr(flux1_context_message(team), told));
}

static void files_of_other_content_are_refused(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    golden_open("lora", "peft", &g);
    flux1_model *m = model_of(team, TEST_DATA "/pipelines/double");
    g.params.dump = NULL;
    refused_elsewhere(m, &g.params, "/double: this model is not the one that the leading process has");
    flux1_model_close(m);
    m = model_of(team, TEST_DATA "/pipelines/packed");
    for (int i = 0; i < 2; i++) {
        flux1_adapter_use use = {.scale = (float)golden_number(g.file, "strength")};
        const char *path =
            i ? TEST_DATA "/files/lora/golden/peft.safetensors" : TEST_DATA "/files/lora/golden/kohya.safetensors";
        assert_int_equal(flux1_adapter_open(team, m, path, &use.adapter), FLUX1_OK);
        g.params.adapters = &use;
        g.params.adapter_count = 1;
        if (i == 0) {
            refused_elsewhere(m, &g.params, "/kohya.safetensors: this adapter is not the one");
        } else {
            if (flux1_generate(team, m, &g.params, &image) != FLUX1_OK)
                fail_msg("%s", flux1_context_message(team));
            flux1_images_free(image, 1);
        }
        flux1_adapter_close(use.adapter);
    }
    golden_close(&g);
    flux1_model_close(m);
}

static flux1_image *image_with(flux1_context *c, const flux1_model *m, flux1_generate_params *p,
                               const flux1_adapter_use *uses, int count)
{
    flux1_image *image;
    p->adapters = uses;
    p->adapter_count = count;
    if (flux1_generate(c, m, p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return image;
}

/* Followers know the last 32: the first one is used again with another that takes the oldest one's place. */
static void an_adapter_that_is_asked_for_is_not_given_up(void **state)
{
    (void)state;
    enum { MANY = 33, MOST = 16 };
    golden g;
    flux1_adapter_use all[MANY];
    flux1_context *alone = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    golden_open("lora", "peft", &g);
    flux1_model *m = model_of(alone, TEST_DATA "/pipelines/packed");
    g.params.dump = NULL;
    g.params.steps = 1;
    for (int i = 0; i < MANY; i++) {
        all[i].scale = i == 0 ? 0.5f : 0.25f;
        assert_int_equal(flux1_adapter_open(alone, m, TEST_DATA "/files/lora/golden/peft.safetensors", &all[i].adapter),
                         FLUX1_OK);
    }
    flux1_images_free(image_with(team, m, &g.params, all, MOST), 1);
    flux1_images_free(image_with(team, m, &g.params, all + MOST, MOST), 1);
    const flux1_adapter_use both[] = {all[0], all[MANY - 1]};
    flux1_image *image = image_with(team, m, &g.params, both, 2), *want = image_with(alone, m, &g.params, both, 2);
    compare_bytes(want->pixels, image, "with an older and a new adapter");
    flux1_images_free(image, 1);
    flux1_images_free(want, 1);
    for (int i = 0; i < MANY; i++)
        flux1_adapter_close(all[i].adapter);
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(alone);
}

typedef struct stopper {
    int calls, stop; /* at this call of the denoising */
} stopper;

static int stop_at(void *user, const flux1_progress *now)
{
    stopper *s = user;
    return now->stage == FLUX1_STAGE_DENOISE && ++s->calls == s->stop;
}

/* Pictures of several batches, with previews, as one process makes them. */
static void batches_are_those_of_one_process(void **state)
{
    (void)state;
    golden g;
    flux1_image *image, *want;
    flux1_context *alone = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    golden_open("dev", "scripts", &g);
    flux1_model *m = model_of(alone, g.folder);
    stopper never = {0};
    g.params.count = 3;
    g.params.batch = 2;
    g.params.preview_every = 1;
    g.params.negative_prompt = "a dog";
    g.params.true_cfg_scale = 3;
    g.params.progress = stop_at;
    g.params.progress_user = &never;
    if (flux1_generate(team, m, &g.params, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(team));
    if (flux1_generate(alone, m, &g.params, &want) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(alone));
    for (int i = 0; i < 3; i++)
        compare_bytes(want[i].pixels, &image[i], "a batch");
    flux1_images_free(image, 3);
    flux1_images_free(want, 3);
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(alone);
}

/* By a callback, and in the middle of an operation. */
static void a_cancelled_request_leaves_the_next_one_whole(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    golden_open("dev", "scripts", &g);
    flux1_model *m = model_of(team, g.folder);
    for (int way = 0; way < 3; way++) {
        stopper s = {.stop = way == 0 ? 5 : -1};
        g.params.dump = NULL;
        g.params.progress = stop_at;
        g.params.progress_user = &s;
        if (way > 0)
            disturb(way == 1 ? 40 : 400, true);
        assert_int_equal(flux1_generate(team, m, &g.params, &image), FLUX1_ERR_CANCELLED);
        assert_string_equal(flux1_context_message(team), way ? "cancelled" : "cancelled by the progress callback");
        g.params.progress = NULL;
        run_case(team, m, &g, "after a cancel");
    }
    golden_close(&g);
    flux1_model_close(m);
}

static const float *latent_of(flux1_sampler *s, int64_t *count)
{
    const float *latent;
    int64_t tokens, channels;
    assert_int_equal(flux1_sampler_latents(s, &latent, &tokens, &channels), FLUX1_OK);
    *count = tokens * channels;
    return latent;
}

/* Every step fails once at its end, when other processes may have done it, and is cancelled once in the middle; in
 * between the latent is as it was. */
static void a_failed_step_can_be_made_again(void **state)
{
    (void)state;
    golden g;
    flux1_text *text;
    flux1_sampler *plain, *s;
    int left = 1;
    int64_t count;
    golden_open("dev", "scripts", &g);
    flux1_model *m = model_of(team, g.folder);
    assert_int_equal(flux1_encode_text(team, m, &g.params, &text), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(team, m, text, &g.params, &plain), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(team, m, text, &g.params, &s), FLUX1_OK);
    const float *latent = latent_of(plain, &count);
    size_t bytes = (size_t)count * sizeof *latent;
    float *want = malloc(bytes);
    assert_non_null(want);
    for (long k = 0; left > 0; k++) {
        memcpy(want, latent_of(plain, &count), bytes);
        disturb(LONG_MAX, false);
        assert_int_equal(flux1_sampler_step(plain, NULL), FLUX1_OK);
        disturb(LONG_MAX - atomic_load(&fuse) - 1, false);
        assert_int_equal(flux1_sampler_step(s, NULL), FLUX1_ERR_IO);
        assert_memory_equal(latent_of(s, &count), want, bytes);
        disturb(7 + 11 * k, true);
        assert_int_equal(flux1_sampler_step(s, NULL), FLUX1_ERR_CANCELLED);
        assert_memory_equal(latent_of(s, &count), want, bytes);
        assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
    }
    memcpy(want, latent_of(plain, &count), bytes);
    assert_memory_equal(latent_of(s, &count), want, bytes);
    free(want);
    flux1_sampler_free(plain);
    flux1_sampler_free(s);
    flux1_text_free(text);
    golden_close(&g);
    flux1_model_close(m);
}

static void calls_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    flux1_context_info info = {.size = sizeof info};
    flux1_context *alone = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    assert_int_equal(flux1_context_get_info(team, &info), FLUX1_OK);
    assert_int_equal(info.process, 0);
    assert_true(info.processes > 1 && info.processes <= info.ranks);
    assert_int_equal(flux1_context_follow(team), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_context_follow(alone), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_context_get_info(alone, &info), FLUX1_OK);
    assert_true(info.process == 0 && info.processes == 1);
    flux1_context_destroy(alone);
}

/* By this process alone: the others are not asked. */
static void a_second_context_with_processes_is_told_to_use_the_first(void **state)
{
    (void)state;
    flux1_context *second;
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.mesh = shape;
    p.processes = 1;
    assert_int_equal(flux1_context_create(&p, &second), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(second), "processes 1: "));
    assert_non_null(strstr(flux1_context_message(second), "use that one context"));
    flux1_context_destroy(second);
}

/* ---- processors that multiply different types: the second one's has bf16, by the linker's --wrap ---- */

static bool mixed;
bool __real_ops_cpu_multiplies_bf16(void);
bool __wrap_ops_cpu_multiplies_bf16(void);

bool __wrap_ops_cpu_multiplies_bf16(void) { return mixed ? own_number() == 1 : __real_ops_cpu_multiplies_bf16(); }

/* What ranks exchange would not be of one type. */
static int join_with_other_processors(flux1_dtype type, const char *told)
{
    flux1_context *c;
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.mesh = shape;
    p.threads = 1;
    p.dtype = type;
    p.processes = 1;
    mixed = true;
    flux1_status st = flux1_context_create(&p, &c);
    const bool right = st == FLUX1_ERR_COMM && strstr(flux1_context_message(c), told);
    if (!right)
        fprintf(stderr, "process %d: status %d, \"%s\", it should say \"%s\"\n", own_number(), (int)st,
                flux1_context_message(c), told);
    flux1_context_destroy(c);
    return right ? 0 : 1;
}

/* Its own requests are refused; it carries out the first process's. */
static int follow(void)
{
    golden g;
    flux1_image *image;
    golden_open("schnell", "car", &g);
    flux1_model *m = model_of(team, g.folder);
    if (flux1_generate(team, m, &g.params, &image) != FLUX1_ERR_ARGUMENT) {
        fprintf(stderr, "a process that follows took a request: %s\n", flux1_context_message(team));
        return 1;
    }
    flux1_model_close(m);
    golden_close(&g);
    flux1_context_info info = {.size = sizeof info};
    if (flux1_context_get_info(team, &info) == FLUX1_OK && info.process == 1)
        disturb(50, false);
    if (flux1_context_follow(team) != FLUX1_OK) {
        fprintf(stderr, "%s\n", flux1_context_message(team));
        return 1;
    }
    flux1_context_destroy(team);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fails_elsewhere_is_told_with_its_place),
        cmocka_unit_test(a_second_context_with_processes_is_told_to_use_the_first),
        cmocka_unit_test(files_of_other_content_are_refused),
        cmocka_unit_test(an_adapter_that_is_asked_for_is_not_given_up),
        cmocka_unit_test(every_stage_equals_the_oracle),
        cmocka_unit_test(batches_are_those_of_one_process),
        cmocka_unit_test(a_cancelled_request_leaves_the_next_one_whole),
        cmocka_unit_test(a_failed_step_can_be_made_again),
        cmocka_unit_test(calls_that_do_not_fit_are_refused),
    };
    flux1_context_info info = {.size = sizeof info};
    shape = argc > 1 ? argv[1] : "2x1";
    if (argc > 2 && strcmp(argv[2], "mixed-int8") == 0)
        return join_with_other_processors(FLUX1_DTYPE_INT8, "cpu int8 and bf16: all must run the same");
    if (argc > 2 && strcmp(argv[2], "mixed-bf16") == 0)
        return join_with_other_processors(FLUX1_DTYPE_BF16, "cpu bf16 by products in f32, but ");
    team = join(argc > 2 ? argv[2] : NULL);
    if (flux1_context_get_info(team, &info) != FLUX1_OK || info.process > 0)
        return follow();
    int failed = cmocka_run_group_tests_name(shape, tests, NULL, NULL);
    flux1_context_destroy(team);
    return failed;
}
