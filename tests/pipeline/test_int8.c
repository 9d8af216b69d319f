/* int8 and int8-fast: the transformer's and T5's products in int8. The fast kernels give what the definition (device
 * ref) gives, on one rank and on meshes, and both are as near to float32 as 8 bits allow. tests/ops/test_int8.c holds a
 * product to ggml's arithmetic; here it is the stages. */
#include "support/stage_runs.h"

/* Relative L2 to float32: 4e-3 to 1e-2 seen, of T5 up to 2.4e-2. In float32 it is below 1e-5. */
#define MOST 4e-2
#define LEAST 1e-3
/* To the definition: two sums in float32 round some value to different neighbours, which costs a step of its group.
 * Where the processor multiplies bf16, values between products are rounded to it as well: 7e-3 seen. */
#define NEAR (ops_cpu_multiplies_bf16() ? 2e-2 : 4e-3)

static const flux1_dtype TYPES[] = {FLUX1_DTYPE_INT8, FLUX1_DTYPE_INT8_FAST};
static const char *const NAMES[] = {"int8", "int8-fast"};
enum { TYPE_COUNT = 2 };

static void hold(int type, const char *what, const char *device, tensor got, const float *truth, const float *ref,
                 double near)
{
    const int64_t n = tensor_elements(&got);
    const double error = relative_l2(got.data, truth, n), apart = relative_l2(got.data, ref, n);
    printf("%-9s %-14s %-9s off by %.2e, apart from the definition %.2e\n", NAMES[type], what, device, error, apart);
    assert_true(error <= MOST && error >= LEAST);
    assert_true(apart <= near);
}

static tensor velocity_in(flux1_dtype type, const char *device, const char *shape, const char *pipeline, const store *g)
{
    flux1_context *c = context_on(device, shape, 2, type);
    flux1_model *m = pipeline_of(c, pipeline);
    tensor v = velocity_of(c, m, g, stages_grid_w(g, m));
    flux1_model_close(m);
    flux1_context_destroy(c);
    return v;
}

static void a_velocity_is_as_near_as_8_bits_allow(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        char path[512];
        store *g;
        flux1_error err = {0};
        snprintf(path, sizeof path, "%s/goldens/%s/stages.safetensors", test_data(), PIPELINES[i]);
        assert_int_equal(store_open_file(path, &g, &err), FLUX1_OK);
        const float *truth = golden_tensor(g, "dit.velocity")->data;
        for (int t = 0; t < TYPE_COUNT; t++) {
            tensor ref = velocity_in(TYPES[t], "ref", NULL, PIPELINES[i], g),
                   one = velocity_in(TYPES[t], "cpu", NULL, PIPELINES[i], g),
                   four = velocity_in(TYPES[t], "cpu", "2x2", PIPELINES[i], g);
            hold(t, PIPELINES[i], "cpu", one, truth, ref.data, NEAR);
            hold(t, PIPELINES[i], "cpu, 2x2", four, truth, ref.data, MOST); /* a rank's groups begin with its columns */
            tensor_free(&ref);
            tensor_free(&one);
            tensor_free(&four);
        }
        store_close(g);
    }
}

static tensor embeds_in(flux1_dtype type, const char *device, const char *pipeline)
{
    flux1_context *c = context_on(device, NULL, 2, type);
    flux1_model *m = pipeline_of(c, pipeline);
    tensor out = embeds_of(c, m, "three yellow ducks on a pond at night", 0);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return out;
}

static void so_are_embeddings_of_t5(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        tensor truth = embeds_in(FLUX1_DTYPE_F32, "cpu", PIPELINES[i]);
        for (int t = 0; t < TYPE_COUNT; t++) {
            tensor ref = embeds_in(TYPES[t], "ref", PIPELINES[i]), got = embeds_in(TYPES[t], "cpu", PIPELINES[i]);
            hold(t, PIPELINES[i], "cpu", got, truth.data, ref.data, NEAR);
            tensor_free(&ref);
            tensor_free(&got);
        }
        tensor_free(&truth);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_velocity_is_as_near_as_8_bits_allow),
                                       cmocka_unit_test(so_are_embeddings_of_t5)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
