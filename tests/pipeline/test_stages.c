/* The denoiser's velocity and both halves of the VAE, each alone, equal the oracle's in float32: on both backends and
 * on meshes that cut unevenly. */
#include "support/stage_runs.h"

#define BOUND 1e-5

static double worst[4];
static const char *const STAGE[] = {"dit.velocity", "vae.decode", "vae.encode.mean", "vae.encode.logvar"};

static void run_pipeline(flux1_context *c, const char *pipeline)
{
    char path[512];
    store *g;
    double error[4];
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s/goldens/%s/stages.safetensors", TEST_DATA, pipeline);
    assert_int_equal(store_open_file(path, &g, &err), FLUX1_OK);
    flux1_model *m = pipeline_of(c, pipeline);
    error[0] = velocity_error(c, m, g, stages_grid_w(g, m));
    error[1] = decode_error(c, m, g, 0);
    encode_errors(c, m, g, &error[2], &error[3]);
    for (int i = 0; i < 4; i++) {
        worst[i] = fmax(worst[i], error[i]);
        if (!(error[i] <= BOUND))
            fail_msg("%s: %s is off by %.3g (relative L2), the bound is %.0e", pipeline, STAGE[i], error[i], BOUND);
    }
    flux1_model_close(m);
    store_close(g);
}

static void run_all(const char *device, const char *shape, int threads)
{
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    memset(worst, 0, sizeof worst);
    for (size_t i = 0; i < PIPELINE_COUNT; i++)
        run_pipeline(c, PIPELINES[i]);
    flux1_context_destroy(c);
    printf("%s %s: velocity %.1e, decode %.1e, encode %.1e and %.1e\n", device, shape, worst[0], worst[1], worst[2],
           worst[3]);
}

static void stages_equal_the_oracle_on_the_reference_backend(void **state)
{
    (void)state;
    run_all("ref", "1x1", 1);
}

static void stages_equal_the_oracle_on_the_cpu_backend(void **state)
{
    (void)state;
    run_all("cpu", "1x1", 2);
}

static void stages_equal_the_oracle_on_meshes(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x3", "2x2", "5x1", "3x4"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run_all("cpu", shapes[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_equal_the_oracle_on_the_reference_backend),
        cmocka_unit_test(stages_equal_the_oracle_on_the_cpu_backend),
        cmocka_unit_test(stages_equal_the_oracle_on_meshes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
