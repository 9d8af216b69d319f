/* In bf16 every stage is as near to the float32 golden as torch's own bf16 is: at most 1.5 times its distance, on each
 * instruction set of this machine. */
#include "support/bf16_runs.h"

static void run_stages(flux1_context *c, const flux1_model *m, const char *pipeline)
{
    char path[512];
    store *g;
    flux1_error err = {0};
    double mean, logvar;
    snprintf(path, sizeof path, "%s/goldens/%s/stages.safetensors", test_data(), pipeline);
    assert_int_equal(store_open_file(path, &g, &err), FLUX1_OK);
    hold("dit.velocity", pipeline, velocity_error(c, m, g, stages_grid_w(g, m)), torch_error(g, "dit.velocity"));
    hold("vae.decode", pipeline, decode_error(c, m, g, 0), torch_error(g, "vae.decode"));
    encode_errors(c, m, g, &mean, &logvar);
    hold("vae.encode.mean", pipeline, mean, torch_error(g, "vae.encode.mean"));
    store_close(g);
}

static void run_device(const char *device, const char *isa)
{
    forget_rows();
    flux1_context *c = context_on(device, NULL, 1, FLUX1_DTYPE_BF16),
                  *f32 = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        flux1_model *m = pipeline_of(c, PIPELINES[i]);
        assert_true(run_cases(c, f32, m, PIPELINES[i]) > 0);
        run_stages(c, m, PIPELINES[i]);
        flux1_model_close(m);
    }
    flux1_context_destroy(c);
    flux1_context_destroy(f32);
    print_rows(isa);
}

static void bf16_is_as_near_as_torch_on_every_instruction_set(void **state)
{
    (void)state;
    int run = 0;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        if (!isa_choose(ISA_NAMES[i])) {
            printf("%s: not on this machine\n", ISA_NAMES[i]);
            continue;
        }
        run_device("cpu", ISA_NAMES[i]);
        run++;
    }
    isa_choose(NULL);
    assert_true(run > 0);
    assert_int_equal(too_far(), 0);
}

static void bf16_on_a_gpu_is_as_near_as_torch(void **state)
{
    (void)state;
    run_device(TEST_DEVICE, TEST_DEVICE);
    assert_int_equal(too_far(), 0);
}

int main(void)
{
    const struct CMUnitTest on_cpu[] = {cmocka_unit_test(bf16_is_as_near_as_torch_on_every_instruction_set)},
                            on_gpu[] = {cmocka_unit_test(bf16_on_a_gpu_is_as_near_as_torch)};
    if (strcmp(TEST_DEVICE, "cpu") != 0)
        return cmocka_run_group_tests(on_gpu, NULL, NULL);
    return cmocka_run_group_tests(on_cpu, NULL, NULL);
}
