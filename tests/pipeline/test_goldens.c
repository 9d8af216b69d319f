/* Every stage of every committed pipeline equals the oracle's: noise, ids, sigmas, both encoders, the latents of each step, the decoded picture, its bytes. */
#include "golden.h"

#include <dirent.h>

/* Bounds of relative L2 in float32 arithmetic; ids and sigmas are equal to the bit. */
typedef struct bound {
    const char *prefix;
    double limit;
} bound;

static const bound BOUNDS[] = {{"noise", 1e-7}, {"pooled_prompt_embeds", 1e-5}, {"prompt_embeds", 1e-5}, {"latents.", 3e-5}, {"decoded", 3e-5}};

static double worst[sizeof BOUNDS / sizeof BOUNDS[0]];

static void compare_tensor(const store_tensor *want, const store_tensor *got, const char *where)
{
    int64_t n = tensor_elements(&want->view);
    assert_int_equal(n, tensor_elements(&got->view));
    bool exact = strcmp(want->name, "sigmas") == 0 || want->view.type == DTYPE_I32;
    if (exact) {
        if (memcmp(want->view.data, got->view.data, tensor_bytes(&want->view)) != 0)
            fail_msg("%s: %s differs", where, want->name);
        return;
    }
    for (size_t b = 0; b < sizeof BOUNDS / sizeof BOUNDS[0]; b++)
        if (strncmp(want->name, BOUNDS[b].prefix, strlen(BOUNDS[b].prefix)) == 0) {
            double error = relative_l2(got->view.data, want->view.data, n);
            worst[b] = fmax(worst[b], error);
            if (!(error <= BOUNDS[b].limit))
                fail_msg("%s: %s is off by %.3g (relative L2), the bound is %.3g", where, want->name, error, BOUNDS[b].limit);
        }
}

static void compare_image(const golden *g, const flux1_image *image, const char *where)
{
    const store_tensor *want = store_find(g->file, "image");
    assert_non_null(want);
    assert_int_equal(want->view.shape[0], image->height);
    assert_int_equal(want->view.shape[1], image->width);
    const uint8_t *bytes = want->view.data;
    for (int64_t i = 0; i < tensor_elements(&want->view); i++)
        if (abs(bytes[i] - image->pixels[i]) > 1)
            fail_msg("%s: byte %lld of the picture is %d, the oracle's %d", where, (long long)i, image->pixels[i], bytes[i]);
}

static void run_case(flux1_context *c, const flux1_model *m, golden *g, const char *where)
{
    flux1_image *image;
    flux1_error err = {0};
    store *dumped;
    char *path = scratch_path("goldens.safetensors");
    int compared = 0;
    g->params.dump = path;
    if (flux1_generate(c, m, &g->params, &image) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(c));
    assert_int_equal(store_open_file(path, &dumped, &err), FLUX1_OK);
    for (size_t i = 0; i < store_count(g->file); i++) {
        const store_tensor *want = store_at(g->file, i), *got = store_find(dumped, want->name);
        if (!got)
            continue;
        compare_tensor(want, got, where);
        compared++;
    }
    assert_true(compared >= 4);
    compare_image(g, image, where);
    store_close(dumped);
    unlink(path);
    flux1_images_free(image, 1);
}

/* All cases of a pipeline in one context. */
static void run_pipeline(flux1_context *c, const char *pipeline, const char *only)
{
    char folder[512], where[512];
    flux1_model *m = NULL;
    snprintf(folder, sizeof folder, "%s/goldens/%s", TEST_DATA, pipeline);
    DIR *d = opendir(folder);
    assert_non_null(d);
    int cases = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".safetensors") != 0 || strcmp(e->d_name, "stages.safetensors") == 0)
            continue;
        *dot = '\0';
        if (only && strcmp(only, e->d_name) != 0)
            continue;
        golden g;
        golden_open(pipeline, e->d_name, &g);
        if (!m && flux1_model_open(c, g.folder, &m) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        snprintf(where, sizeof where, "%s/%s", pipeline, e->d_name);
        run_case(c, m, &g, where);
        golden_close(&g);
        cases++;
    }
    closedir(d);
    flux1_model_close(m);
    assert_true(cases > 0);
}

static void run_all(const char *device, const char *shape, int threads)
{
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < PIPELINE_COUNT; i++)
        run_pipeline(c, PIPELINES[i], NULL);
    flux1_context_destroy(c);
    for (size_t b = 0; b < sizeof BOUNDS / sizeof BOUNDS[0]; b++)
        printf("%s %s: %-22s worst %.2e, bound %.0e\n", device, shape ? shape : "1x1", BOUNDS[b].prefix, worst[b], BOUNDS[b].limit);
}

static void reference_backend_equals_the_oracle(void **state)
{
    (void)state;
    run_all("ref", NULL, 1);
}

static void device_equals_the_oracle(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, NULL, 2);
}

/* Shapes that divide, and shapes that do not: more ranks than heads, rows, features. */
static void every_mesh_equals_the_oracle(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x2", "2x1", "2x2", "1x3", "3x1", "2x4", "5x1", "1x7"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run_all("cpu", shapes[i], 1);
}

static void a_trained_pipeline_equals_the_oracle(void **state)
{
    (void)state;
    if (!is_there(SHARED_DATA "/mini-trial/model_index.json")) {
        printf("skipped: the trained pipeline is not beside this checkout\n");
        skip();
    }
    flux1_context *c = context_on("cpu", NULL, 0, FLUX1_DTYPE_F32);
    run_pipeline(c, "mini-trial", NULL);
    flux1_context_destroy(c);
}

static void the_mini_models_equal_the_oracle(void **state)
{
    (void)state;
    static const char *const shapes[] = {NULL, "1x2", "2x2", "3x1"}; /* three heads: 1x2 does not divide them */
    need_mini_models();
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        flux1_context *c = context_on(TEST_DEVICE, shapes[s], s ? 1 : 2, FLUX1_DTYPE_F32);
        for (size_t i = 0; i < MINI_COUNT; i++)
            run_pipeline(c, MINI_MODELS[i], NULL);
        flux1_context_destroy(c);
    }
}

/* Ranks that share a GPU: what they exchange passes through the host. */
static void a_mesh_on_the_device_equals_the_oracle(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "1x2", 1);
    run_all(TEST_DEVICE, "3x1", 1);
}

int main(void)
{
    const struct CMUnitTest on_cpu[] = {
        cmocka_unit_test(reference_backend_equals_the_oracle),
        cmocka_unit_test(device_equals_the_oracle),
        cmocka_unit_test(every_mesh_equals_the_oracle),
        cmocka_unit_test(a_trained_pipeline_equals_the_oracle),
        cmocka_unit_test(the_mini_models_equal_the_oracle),
    };
    const struct CMUnitTest on_gpu[] = {
        cmocka_unit_test(device_equals_the_oracle),
        cmocka_unit_test(a_mesh_on_the_device_equals_the_oracle),
    };
    return strcmp(TEST_DEVICE, "cpu") == 0 ? cmocka_run_group_tests(on_cpu, NULL, NULL) : cmocka_run_group_tests(on_gpu, NULL, NULL);
}
