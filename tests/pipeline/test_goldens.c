/* Every stage of every committed pipeline equals the oracle's: noise, ids, sigmas, both encoders, the latents of each
 * step, the decoded picture, its bytes. */
#include "support/golden_runs.h"

#include <pthread.h>

/* Of the pipelines every `apart`th, from `first` on. */
static void run_some(const char *device, const char *shape, int threads, size_t first, size_t apart)
{
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = first; i < PIPELINE_COUNT; i += apart)
        run_pipeline(c, PIPELINES[i]);
    flux1_context_destroy(c);
    print_worst(device, shape);
}

static void run_all(const char *device, const char *shape, int threads) { run_some(device, shape, threads, 0, 1); }

static void device_equals_the_oracle(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, NULL, 2);
}

#ifdef FLUX1_TESTS_CUDA_INSTALL_H

/* Each pipeline on one of two shapes: what they hold true is the same for all. */
static void run_in_turns(const char *first, const char *second)
{
    const char *const shapes[] = {first, second};
    char both[32];
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        flux1_context *c = context_on(TEST_DEVICE, shapes[i % 2], 1, FLUX1_DTYPE_F32);
        run_pipeline(c, PIPELINES[i]);
        flux1_context_destroy(c);
    }
    snprintf(both, sizeof both, "%s %s", first, second);
    print_worst(TEST_DEVICE, both);
}

/* Ranks that share a GPU: what they exchange passes through the host. */
static void a_mesh_that_shares_a_gpu_equals_the_oracle(void **state)
{
    (void)state;
    run_in_turns("1x2", "3x1");
}

/* Kernels of our own for everything: a machine with a driver and nothing else. */
static void without_cublas_and_cudnn_it_equals_the_oracle(void **state)
{
    (void)state;
    if (getenv("FLUX1_TEST_GPU"))
        skip();
    const cuda_emulator_counters before = cuda_emulator_counts();
    cuda_emulator_libraries(false, false);
    flux1_context *c = context_on(TEST_DEVICE, NULL, 2, FLUX1_DTYPE_F32);
    run_pipeline(c, "schnell");
    run_pipeline(c, "patchwork");
    flux1_context_destroy(c);
    cuda_emulator_libraries(true, true);
    const cuda_emulator_counters after = cuda_emulator_counts();
    assert_int_equal(after.matmuls + after.sdpas + after.convs, before.matmuls + before.sdpas + before.convs);
}

/* The prompt's half of a block beside the image's. */
static void with_branches_it_equals_the_oracle(void **state)
{
    (void)state;
    static const char *const shapes[] = {NULL, "1x2"};
    for (int i = 0; i < 2; i++) {
        flux1_context_params p;
        flux1_context_params_defaults(&p);
        p.device = TEST_DEVICE;
        p.dtype = FLUX1_DTYPE_F32;
        p.mesh = shapes[i];
        p.eager = 2;
        flux1_context *c = context_of(&p);
        run_pipeline(c, i ? "double" : "mixed");
        flux1_context_destroy(c);
    }
}

/* Ranks with a GPU each: NCCL moves what they exchange, and steps are recorded with it. */
static void a_mesh_of_gpus_equals_the_oracle(void **state)
{
    (void)state;
    int64_t launches = cuda_emulator_counts().graph_launches;
    cuda_emulator_devices(4);
    run_in_turns("3x1", "2x2");
    cuda_emulator_devices(1);
    assert_true(getenv("FLUX1_TEST_GPU") || cuda_emulator_counts().graph_launches > launches);
}

/* How many steps had been replayed when a step was told to be done. */
typedef struct submitted {
    int64_t before, at[8];
    int previews;
} submitted;

static int note_submitted(void *user, const flux1_progress *p)
{
    submitted *s = user;
    if (p->stage == FLUX1_STAGE_DENOISE && p->step && !s->at[p->step]) /* the ticks of the next step come later */
        s->at[p->step] = cuda_emulator_counts().graph_launches - s->before;
    s->previews += p->preview != NULL;
    return 0;
}

/* Step 1 runs as it is, step 2 is recorded, 3 and 4 are replayed. A GPU has each before the one in front is done, but
 * where that one's latent is wanted. */
static void steps_are_submitted_ahead(void **state)
{
    (void)state;
    golden g;
    if (getenv("FLUX1_TEST_GPU"))
        skip();
    golden_open("schnell", "car", &g);
    for (int every = 0; every < 3; every += 2) {
        flux1_context *c = context_on(TEST_DEVICE, NULL, 1, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        submitted s = {.before = cuda_emulator_counts().graph_launches};
        flux1_image *image;
        g.params.progress = note_submitted;
        g.params.progress_user = &s;
        g.params.preview_every = every;
        assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_OK);
        compare_image(&g, image, "ahead");
        flux1_images_free(image, 1);
        assert_int_equal(s.previews, every ? 2 : 0); /* after steps 2 and 4 */
        assert_int_equal(s.at[1], 1);
        assert_int_equal(s.at[2], every ? 1 : 2); /* step 2 is shown */
        assert_int_equal(s.at[3], 3);
        assert_int_equal(s.at[4], 3);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    golden_close(&g);
}

static int cancel_in_step(void *user, const flux1_progress *p)
{
    return p->stage == FLUX1_STAGE_DENOISE && p->step >= *(const int *)user;
}

/* The first rank stops in the middle of what the others wait for: before anything is recorded, and in a replayed step.
 */
static void a_cancel_ends_all_gpus(void **state)
{
    (void)state;
    golden g;
    cuda_emulator_devices(4);
    golden_open("schnell", "car", &g);
    flux1_context *c = context_on(TEST_DEVICE, "2x2", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    for (int step = 0; step < 4; step += 3) {
        flux1_image *image;
        g.params.progress = cancel_in_step;
        g.params.progress_user = &step;
        assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
    }
    g.params.progress = NULL;
    run_case(c, m, &g, "after a cancel");
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
    cuda_emulator_devices(1);
}

/* What is encoded beside a request, from the stage `from` of that one on. */
typedef struct beside {
    flux1_context *context;
    flux1_model *model;
    const flux1_generate_params *params;
    flux1_stage from;
    pthread_t thread;
    bool started;
    flux1_status status;
    flux1_text *text;
} beside;

static void *encode_beside(void *arg)
{
    beside *b = arg;
    b->status = flux1_encode_text(b->context, b->model, b->params, &b->text);
    return NULL;
}

static int start_beside(void *user, const flux1_progress *p)
{
    beside *b = user;
    if (!b->started && p->stage >= b->from && p->stage_fraction > 0) {
        b->started = true;
        assert_int_equal(pthread_create(&b->thread, NULL, encode_beside, b), 0);
    }
    return 0;
}

/* The next request's prompt, on another context: while this one's steps are recorded and replayed, and while it is
 * decoded. Both pictures are the oracle's. */
static void the_next_prompt_is_encoded_beside(void **state)
{
    (void)state;
    golden first, next;
    golden_open("schnell", "car", &first);
    golden_open("schnell", "long", &next);
    flux1_context *c = context_on(TEST_DEVICE, NULL, 1, FLUX1_DTYPE_F32),
                  *other = context_on(TEST_DEVICE, NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, first.folder);
    for (flux1_stage from = FLUX1_STAGE_DENOISE; from <= FLUX1_STAGE_DECODE; from++) {
        beside b = {.context = other, .model = m, .params = &next.params, .from = from};
        flux1_image *image;
        flux1_generate_params params = first.params, then = next.params;
        params.progress = start_beside;
        params.progress_user = &b;
        assert_int_equal(flux1_generate(c, m, &params, &image), FLUX1_OK);
        compare_image(&first, image, "in front");
        flux1_images_free(image, 1);
        assert_true(b.started);
        pthread_join(b.thread, NULL);
        assert_int_equal(b.status, FLUX1_OK);
        then.text = b.text;
        assert_int_equal(flux1_generate(c, m, &then, &image), FLUX1_OK);
        compare_image(&next, image, "encoded beside");
        flux1_images_free(image, 1);
        flux1_text_free(b.text);
    }
    flux1_model_close(m);
    flux1_context_destroy(other);
    flux1_context_destroy(c);
    golden_close(&next);
    golden_close(&first);
}

static void note_streaming(void *user, flux1_log_level level, const char *message)
{
    if (level == FLUX1_LOG_WARNING && strstr(message, "streamed") && strstr(message, "dtype fp8"))
        ++*(int *)user;
}

/* A GPU that says it has as much as the libraries are left. */
static void that_weights_will_not_fit_is_told(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    flux1_context_params p;
    int told = 0;
    if (getenv("FLUX1_TEST_GPU"))
        skip();
    golden_open("schnell", "car", &g);
    flux1_context_params_defaults(&p);
    p.device = TEST_DEVICE;
    p.max_memory = (uint64_t)1 << 30;
    p.log = note_streaming;
    p.log_user = &told;
    for (int small = 0; small < 2; small++) {
        cuda_emulator_memory((size_t)(small ? 512 << 20 : 1 << 30)); /* what is left to the libraries, and nothing */
        flux1_context *c = context_of(&p);
        cuda_emulator_memory((size_t)64 << 30);
        flux1_model *m = model_of(c, g.folder);
        assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_OK);
        assert_int_equal(told, small);
        flux1_images_free(image, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    golden_close(&g);
}

static void count_missing(void *user, flux1_log_level level, const char *message)
{
    if (level == FLUX1_LOG_WARNING && strstr(message, "is missing") && strstr(message, "FLUX1_CUDA_LIBRARIES"))
        ++*(int *)user;
}

static int stop_after_a_step(void *user, const flux1_progress *now)
{
    (void)user;
    return now->step > 0;
}

/* A request that ends after its first step: by then a GPU has computed with what libraries there are. */
static void begin_request(const flux1_context_params *p, const golden *g)
{
    flux1_image *image;
    flux1_generate_params stopped = g->params;
    stopped.progress = stop_after_a_step;
    flux1_context *c = context_of(p);
    flux1_model *m = model_of(c, g->folder);
    assert_int_equal(flux1_generate(c, m, &stopped, &image), FLUX1_ERR_CANCELLED);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* One warning a library, when a GPU that lacks it is first used. */
static void missing_libraries_are_told_once(void **state)
{
    (void)state;
    golden g;
    flux1_context_params p;
    int told = 0;
    if (getenv("FLUX1_TEST_GPU"))
        skip();
    golden_open("schnell", "car", &g);
    flux1_context_params_defaults(&p);
    p.device = TEST_DEVICE;
    p.log = count_missing;
    p.log_user = &told;
    cuda_notes_forget();
    for (int expected = 0; expected < 3; expected++) {
        cuda_emulator_libraries(expected < 1, expected < 2); /* both, then cuDNN alone, then none */
        for (int again = 0; again < 2; again++) {
            begin_request(&p, &g);
            assert_int_equal(told, expected);
        }
    }
    golden_close(&g);
    cuda_emulator_libraries(true, true);
}

/* The meshes are a test of their own, since the two take about the same time. */
int main(int argc, char **argv)
{
    const struct CMUnitTest single_tests[] = {
        cmocka_unit_test(device_equals_the_oracle),
        cmocka_unit_test(with_branches_it_equals_the_oracle),
        cmocka_unit_test(without_cublas_and_cudnn_it_equals_the_oracle),
        cmocka_unit_test(steps_are_submitted_ahead),
        cmocka_unit_test(the_next_prompt_is_encoded_beside),
        cmocka_unit_test(that_weights_will_not_fit_is_told),
        cmocka_unit_test(missing_libraries_are_told_once),
        cmocka_unit_test(a_mesh_that_shares_a_gpu_equals_the_oracle),
    };
    const struct CMUnitTest mesh_tests[] = {
        cmocka_unit_test(a_mesh_of_gpus_equals_the_oracle),
        cmocka_unit_test(a_cancel_ends_all_gpus),
    };
    (void)argv;
    return argc > 1 ? cmocka_run_group_tests(mesh_tests, NULL, NULL) : cmocka_run_group_tests(single_tests, NULL, NULL);
}

#else

static void reference_backend_equals_the_oracle(void **state)
{
    (void)state;
    run_all("ref", NULL, 1);
}

/* Instrumented, each mesh has a third of the pipelines, by turns: what it may break there is memory. */
#if defined(__SANITIZE_ADDRESS__)
enum { PIPELINES_APART = 3 };
#else
enum { PIPELINES_APART = 1 };
#endif

/* Shapes that divide, and shapes that do not: more ranks than heads, rows, features. */
static void every_mesh_equals_the_oracle(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x2", "2x1", "2x2", "1x3", "3x1", "2x4", "5x1", "1x7"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run_some("cpu", shapes[i], 1, i % PIPELINES_APART, PIPELINES_APART);
}

static void a_trained_pipeline_equals_the_oracle(void **state)
{
    (void)state;
    if (!is_there(SHARED_DATA "/mini-trial/model_index.json")) {
        printf("skipped: the trained pipeline is not beside this checkout\n");
        skip();
    }
    flux1_context *c = context_on("cpu", NULL, 0, FLUX1_DTYPE_F32);
    run_pipeline(c, "mini-trial");
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_backend_equals_the_oracle),
        cmocka_unit_test(device_equals_the_oracle),
        cmocka_unit_test(every_mesh_equals_the_oracle),
        cmocka_unit_test(a_trained_pipeline_equals_the_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
