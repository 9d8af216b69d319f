/* fp8: the transformer's products in e4m3. On `ref` the velocity equals what torch makes of the same products
 * (tools/oracle/fp8_goldens.py); everywhere it is as near to float32 as torch's fp8 is, within the ratio that bf16 is
 * held to. Over steps the two part: values that two sums in float32 round to different neighbours add up. */
#ifdef TEST_DEVICE /* built again for a GPU: tests/cuda.cmake */
#define ON_A_GPU
#endif
#include "support/stage_runs.h"

#ifdef ON_A_GPU
#include "ops/cuda_emulator/emulator.h"
#endif

#define RATIO 1.5
#define NEAR \
    2e-3 /* 2e-7 seen; one value that goes to its other neighbour may cost 1e-3, other operands or scales cost 2e-2 */

static void fp8_golden(const char *name, store **out)
{
    char path[512];
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s/goldens/fp8/%s.safetensors", test_data(), name);
    if (store_open_file(path, out, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
}

/* `got` against the fp8 golden and against float32. exact: in float32 besides the products, as the golden; near: how
 * near to it then. */
static void hold(const char *where, const float *got, const tensor *fp8, const tensor *truth, const store *g,
                 const char *name, bool exact, double near)
{
    char key[64];
    int64_t n = tensor_elements(truth);
    snprintf(key, sizeof key, "%s.%s", exact ? "fp8_error" : "fp8_bf16_error", name);
    double torch = golden_number(g, key), error = relative_l2(got, truth->data, n),
           apart = relative_l2(got, fp8->data, n);
    printf("%-28s %-14s off by %.2e, torch's fp8 by %.2e; apart %.2e\n", where, name, error, torch, apart);
    assert_int_equal(tensor_elements(fp8), n);
    assert_true(error <= RATIO * torch);
    assert_true(error >= torch / RATIO); /* float32 or bf16 would be much nearer */
    assert_true(apart <= near);
}

static void hold_velocity(flux1_context *c, const char *pipeline, const char *where, bool exact)
{
    char path[512];
    store *stages, *fp8;
    flux1_error err = {0};
    flux1_model *m = pipeline_of(c, pipeline);
    snprintf(path, sizeof path, "%s/goldens/%s/stages.safetensors", test_data(), pipeline);
    assert_int_equal(store_open_file(path, &stages, &err), FLUX1_OK);
    fp8_golden(pipeline, &fp8);
    tensor v = velocity_of(c, m, stages, stages_grid_w(stages, m));
    hold(where, v.data, golden_tensor(fp8, "dit.velocity"), golden_tensor(stages, "dit.velocity"), fp8, "dit.velocity",
         exact, exact ? NEAR : INFINITY);
    tensor_free(&v);
    store_close(fp8);
    store_close(stages);
    flux1_model_close(m);
}

static void check(flux1_context *c, flux1_status st)
{
    if (st != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
}

/* The golden's whole request, all steps. */
static void hold_steps(flux1_context *c, const char *model, const char *case_name, bool exact)
{
    char folder[512], goldens[64], last[32];
    golden g;
    store *fp8;
    flux1_text *text;
    flux1_sampler *s;
    const float *latents;
    int64_t tokens, channels;
    int left = 1;
    snprintf(folder, sizeof folder, "%s/%s", test_models(), model);
    snprintf(goldens, sizeof goldens, "mini/%s", model);
    flux1_model *m = model_of(c, folder);
    golden_open(goldens, case_name, &g);
    fp8_golden(model, &fp8);
    snprintf(last, sizeof last, "latents.%d", g.params.steps);
    check(c, flux1_encode_text(c, m, &g.params, &text));
    check(c, flux1_sampler_create(c, m, text, &g.params, &s));
    while (left > 0)
        check(c, flux1_sampler_step(s, &left));
    check(c, flux1_sampler_latents(s, &latents, &tokens, &channels));
    hold(model, latents, golden_tensor(fp8, last), golden_tensor(g.file, last), fp8, last, exact, INFINITY);
    flux1_sampler_free(s);
    flux1_text_free(text);
    store_close(fp8);
    golden_close(&g);
    flux1_model_close(m);
}

static void refused(const char *device, const char *words)
{
    flux1_context *c;
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = device;
    p.dtype = FLUX1_DTYPE_FP8;
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(flux1_context_message(c), words));
    flux1_context_destroy(c);
}

#ifdef ON_A_GPU

/* A rank of a row-parallel product scales its own columns: a little better than torch, never worse. */
static void on_a_gpu_it_is_as_near_as_torch(void **state)
{
    static const char *const shapes[] = {NULL, "1x2", "2x2"};
    char where[64];
    (void)state;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        flux1_context *c = context_on("cuda", shapes[k], 2, FLUX1_DTYPE_FP8);
        for (size_t i = 0; i < PIPELINE_COUNT; i++) {
            snprintf(where, sizeof where, "%s on %s", PIPELINES[i], shapes[k] ? shapes[k] : "1x1");
            hold_velocity(c, PIPELINES[i], where, false);
        }
        flux1_context_destroy(c);
    }
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = "cuda";
    p.encoder_device = "host"; /* which has no fp8 and needs none */
    p.dtype = FLUX1_DTYPE_FP8;
    flux1_context *c = context_of(&p);
    hold_steps(c, "mini-schnell", "ducks-128x128", false);
    flux1_context_destroy(c);
}

static void a_gpu_without_it_refuses_it(void **state)
{
    (void)state;
    if (getenv("FLUX1_TEST_GPU"))
        skip();
    cuda_emulator_capability(80);
    refused("cuda", "capability 8.9");
    cuda_emulator_capability(90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_gpu_without_it_refuses_it),
                                       cmocka_unit_test(on_a_gpu_it_is_as_near_as_torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void on_ref_it_equals_torch(void **state)
{
    (void)state;
    flux1_context *c = context_on("ref", NULL, 1, FLUX1_DTYPE_FP8);
    for (size_t i = 0; i < PIPELINE_COUNT; i++)
        hold_velocity(c, PIPELINES[i], PIPELINES[i], true);
    hold_steps(c, "mini-schnell", "ducks-128x128", true);
    flux1_context_destroy(c);
}

static void a_cpu_refuses_it(void **state)
{
    (void)state;
    refused("cpu", "needs a GPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_ref_it_equals_torch), cmocka_unit_test(a_cpu_refuses_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
