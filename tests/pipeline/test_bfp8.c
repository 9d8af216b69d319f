/* Weights rounded to bfp8: transformer and T5 give what diffusers gives with matrices that torch has rounded
 * (tools/oracle/bfp8_goldens.py), on every device and mesh. */
#include "support/stage_runs.h"

#define SAME 1e-5  /* relative L2: one float32 sum to another */
#define LEAST 1e-3 /* to what diffusers gives without rounding: 1e-2 seen */

static void open_golden(const char *folder, const char *name, store **out)
{
    char path[512];
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s/goldens/%s/%s.safetensors", test_data(), folder, name);
    if (store_open_file(path, out, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
}

static flux1_context *rounding_on(const char *device, const char *shape)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = device;
    p.mesh = shape;
    p.threads = 2;
    p.dtype = FLUX1_DTYPE_F32;
    p.weight_rounding = FLUX1_ROUNDING_BFP8;
    return context_of(&p);
}

static void hold(const char *what, const char *where, tensor got, const store *g, const char *name)
{
    char key[64];
    const tensor *truth = golden_tensor(g, name);
    const int64_t n = tensor_elements(&got);
    snprintf(key, sizeof key, "error.%s", name);
    assert_int_equal(tensor_elements(truth), n);
    const double apart = relative_l2(got.data, truth->data, n);
    printf("%-10s %-8s %-14s apart %.1e; rounding costs %.1e\n", what, where, name, apart, golden_number(g, key));
    assert_true(golden_number(g, key) > LEAST);
    assert_true(apart < SAME);
    tensor_free(&got);
}

static void hold_pipeline(const char *name, const char *device, const char *shape)
{
    store *stages, *g;
    flux1_context *c = rounding_on(device, shape);
    flux1_model *m = pipeline_of(c, name);
    open_golden(name, "stages", &stages);
    open_golden("bfp8", name, &g);
    hold(name, shape ? shape : device, velocity_of(c, m, stages, stages_grid_w(stages, m)), g, "dit.velocity");
    hold(name, shape ? shape : device, embeds_of(c, m, "three yellow ducks on a pond at night", 24), g,
         "prompt_embeds");
    store_close(g);
    store_close(stages);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void stages_are_those_of_rounded_matrices(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        hold_pipeline(PIPELINES[i], "cpu", NULL);
        hold_pipeline(PIPELINES[i], "ref", NULL);
        hold_pipeline(PIPELINES[i], "cpu", "2x2");
    }
}

/* The second context finds the blocks that the first has prepared, and must not take them for its own. */
static void rounded_and_plain_weights_are_kept_apart(void **state)
{
    (void)state;
    store *stages;
    open_golden("schnell", "stages", &stages);
    flux1_context *rounding = rounding_on("cpu", NULL), *plain = context_on("cpu", NULL, 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(plain, "schnell");
    tensor a = velocity_of(rounding, m, stages, stages_grid_w(stages, m));
    const double error = velocity_error(plain, m, stages, stages_grid_w(stages, m));
    tensor b = velocity_of(rounding, m, stages, stages_grid_w(stages, m));
    assert_true(error < SAME);
    assert_memory_equal(a.data, b.data, tensor_bytes(&a));
    assert_true(relative_l2(a.data, golden_tensor(stages, "dit.velocity")->data, tensor_elements(&a)) > LEAST);
    tensor_free(&a);
    tensor_free(&b);
    store_close(stages);
    flux1_model_close(m);
    flux1_context_destroy(plain);
    flux1_context_destroy(rounding);
}

static void a_context_says_that_it_rounds(void **state)
{
    (void)state;
    flux1_context_info info = {.size = sizeof info};
    flux1_context_params p;
    flux1_context *c = rounding_on("cpu", NULL);
    assert_int_equal(flux1_context_get_info(c, &info), FLUX1_OK);
    assert_string_equal(info.dtype, "f32 with bfp8 weights");
    flux1_context_destroy(c);
    flux1_context_params_defaults(&p);
    p.weight_rounding = (flux1_rounding)2;
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_ERR_ARGUMENT);
    assert_string_equal(flux1_context_message(c), "weight_rounding 2: it should be one of flux1_rounding");
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_are_those_of_rounded_matrices),
        cmocka_unit_test(rounded_and_plain_weights_are_kept_apart),
        cmocka_unit_test(a_context_says_that_it_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
