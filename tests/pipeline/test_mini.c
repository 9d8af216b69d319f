/* The trained models of models/ equal the oracle at the sizes and text lengths that they were trained for, on meshes
 * too; in bf16 they are as near as torch's own bf16. Skipped where a checkout lacks the models or their goldens
 * (tools/oracle/mini_goldens.py). */
#include "support/bf16_runs.h"
#include "support/golden_runs.h"

static const char *const MINI[] = {"mini-schnell", "mini-dev"};
#define MINI_COUNT (sizeof MINI / sizeof MINI[0])

/* MINI's name as the goldens have it. */
static const char *golden_name(size_t i)
{
    static char name[64];
    snprintf(name, sizeof name, "mini/%s", MINI[i]);
    return name;
}

static void need_models_and_goldens(void)
{
    for (size_t i = 0; i < MINI_COUNT; i++) {
        char model[512], goldens[512];
        snprintf(model, sizeof model, "%s/%s/model_index.json", SOURCE_MODELS, MINI[i]);
        snprintf(goldens, sizeof goldens, "%s/goldens/%s", TEST_DATA, golden_name(i));
        if (is_there(model) && is_there(goldens))
            continue;
        printf("skipped: this checkout has no %s\n", is_there(model) ? goldens : model);
        skip();
    }
}

/* The first `models` of MINI. */
static void equals_the_oracle_on(const char *shape, int threads, size_t models)
{
    flux1_context *c = context_on("cpu", shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < models; i++)
        run_pipeline(c, golden_name(i));
    flux1_context_destroy(c);
    print_worst("cpu", shape);
}

static void mini_models_equal_the_oracle(void **state)
{
    (void)state;
    need_models_and_goldens();
    equals_the_oracle_on(NULL, 2, MINI_COUNT);
}

/* Three heads: over 1x2 they do not divide, over 1x3 they do. mini-dev's twenty steps once. */
static void mini_models_on_a_mesh_equal_the_oracle(void **state)
{
    (void)state;
    need_models_and_goldens();
    equals_the_oracle_on("1x2", 1, 1);
    equals_the_oracle_on("2x2", 1, MINI_COUNT);
    equals_the_oracle_on("1x3", 1, 1);
}

static void mini_models_in_bf16_are_as_near_as_torch(void **state)
{
    (void)state;
    need_models_and_goldens();
    flux1_context *c = context_on("cpu", NULL, 2, FLUX1_DTYPE_BF16), *f32 = context_on("cpu", NULL, 2, FLUX1_DTYPE_F32);
    forget_rows();
    for (size_t i = 0; i < MINI_COUNT; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s/%s", SOURCE_MODELS, MINI[i]);
        flux1_model *m = model_of(c, folder);
        assert_true(run_cases(c, f32, m, golden_name(i)) > 0);
        flux1_model_close(m);
    }
    flux1_context_destroy(c);
    flux1_context_destroy(f32);
    print_rows(ops_cpu_isa());
    assert_int_equal(too_far(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mini_models_equal_the_oracle),
        cmocka_unit_test(mini_models_on_a_mesh_equal_the_oracle),
        cmocka_unit_test(mini_models_in_bf16_are_as_near_as_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
