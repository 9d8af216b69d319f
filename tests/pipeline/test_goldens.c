/* Every stage of every committed pipeline equals the oracle's: noise, ids, sigmas, both encoders, the latents of each step, the decoded picture, its bytes. */
#include "golden_runs.h"

static void run_all(const char *device, const char *shape, int threads)
{
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < PIPELINE_COUNT; i++)
        run_pipeline(c, PIPELINES[i]);
    flux1_context_destroy(c);
    print_worst(device, shape);
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
    run_pipeline(c, "mini-trial");
    flux1_context_destroy(c);
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
    };
    const struct CMUnitTest on_gpu[] = {
        cmocka_unit_test(device_equals_the_oracle),
        cmocka_unit_test(a_mesh_on_the_device_equals_the_oracle),
    };
    return strcmp(TEST_DEVICE, "cpu") == 0 ? cmocka_run_group_tests(on_cpu, NULL, NULL) : cmocka_run_group_tests(on_gpu, NULL, NULL);
}
