/* Noise levels equal the oracle's to the bit, and schedules that FLUX.1 does not use are refused. */
#include "support/golden.h"

static scheduler_config config_of(const char *text)
{
    scheduler_config c;
    flux1_error err = {0};
    json_value *j;
    assert_int_equal(json_parse(text, strlen(text), "scheduler_config.json", &j, NULL), FLUX1_OK);
    if (scheduler_config_read(j, "scheduler_config.json", &c, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    json_free(j);
    return c;
}

typedef struct schedule {
    const char *name, *config;
} schedule;

/* The schedules of tools/oracle/catalog.py. */
static const schedule SCHEDULES[] = {
    {"dynamic", "{\"use_dynamic_shifting\":true,\"shift\":3.0}"},
    {"other", "{\"use_dynamic_shifting\":true,\"base_shift\":0.3,\"max_shift\":0.9,\"base_image_seq_len\":16,\"max_"
              "image_seq_len\":1024}"},
    {"static1", "{\"shift\":1.0}"},
    {"static3", "{\"shift\":3.0}"},
};

static void sigmas_equal_the_oracle_to_the_bit(void **state)
{
    (void)state;
    store *g;
    flux1_error err = {0};
    int compared = 0;
    assert_int_equal(store_open_file(TEST_DATA "/goldens/scheduler.safetensors", &g, &err), FLUX1_OK);
    for (size_t i = 0; i < store_count(g); i++) {
        const store_tensor *t = store_at(g, i);
        char name[32], what[16];
        long long tokens, steps;
        assert_int_equal(sscanf(t->name, "%31[^.].tokens%lld.steps%lld.%15s", name, &tokens, &steps, what), 4);
        for (size_t s = 0; s < sizeof SCHEDULES / sizeof SCHEDULES[0]; s++) {
            if (strcmp(SCHEDULES[s].name, name) != 0)
                continue;
            scheduler_config c = config_of(SCHEDULES[s].config);
            float *sigmas = malloc((size_t)(steps + 1) * sizeof *sigmas);
            assert_non_null(sigmas);
            scheduler_sigmas(&c, steps, tokens, sigmas);
            for (long long k = 0; strcmp(what, "timesteps") == 0 && k < steps; k++)
                sigmas[k] *= 1000;
            if (memcmp(sigmas, t->view.data, tensor_bytes(&t->view)) != 0)
                fail_msg("%s differs", t->name);
            free(sigmas);
            compared++;
        }
    }
    assert_int_equal(compared, store_count(g));
    assert_true(compared >= 100);
    store_close(g);
}

/* Where time_shift_type is linear or shift_terminal is set, by the formulas (mu and the last level are known in closed
 * form). */
static void linear_shift_and_terminal_follow_their_formulas(void **state)
{
    (void)state;
    float sigmas[6];
    scheduler_config c = config_of("{\"use_dynamic_shifting\":true,\"time_shift_type\":\"linear\"}");
    scheduler_sigmas(&c, 5, 256, sigmas); /* mu = base_shift at base tokens: m/(m + 1/s − 1) with m = 0.5 */
    for (int k = 0; k < 5; k++) {
        double s = 1 - 0.2 * k;
        assert_float_equal(sigmas[k], 0.5 / (0.5 + 1 / s - 1), 1e-6);
    }
    assert_true(sigmas[5] == 0);
    c = config_of("{\"shift\":1.0,\"shift_terminal\":0.1}");
    scheduler_sigmas(&c, 5, 0, sigmas);
    assert_float_equal(sigmas[0], 1, 1e-6);
    assert_float_equal(sigmas[4], 0.1, 1e-6);
    assert_true(sigmas[5] == 0);
    scheduler_sigmas(&c, 1, 0, sigmas);
    assert_true(sigmas[0] == 1 && sigmas[1] == 0);
}

/* diffusers' own defaults: shift 1, no dynamic shifting, so the levels are even. */
static void an_empty_config_has_even_levels(void **state)
{
    (void)state;
    float sigmas[5];
    const scheduler_config c = config_of("{}");
    scheduler_sigmas(&c, 4, 4096, sigmas);
    for (int k = 0; k < 5; k++)
        assert_true(sigmas[k] == (float)(4 - k) / 4);
}

typedef struct refusal {
    const char *config;
    flux1_status status;
    const char *named;
} refusal;

static void other_schedules_are_refused_by_name(void **state)
{
    (void)state;
    static const refusal refusals[] = {
        {"{\"_class_name\":\"EulerDiscreteScheduler\"}", FLUX1_ERR_UNSUPPORTED, "EulerDiscreteScheduler"},
        {"{\"use_karras_sigmas\":true}", FLUX1_ERR_UNSUPPORTED, "use_karras_sigmas"},
        {"{\"use_exponential_sigmas\":true}", FLUX1_ERR_UNSUPPORTED, "use_exponential_sigmas"},
        {"{\"use_beta_sigmas\":true}", FLUX1_ERR_UNSUPPORTED, "use_beta_sigmas"},
        {"{\"invert_sigmas\":true}", FLUX1_ERR_UNSUPPORTED, "invert_sigmas"},
        {"{\"stochastic_sampling\":true}", FLUX1_ERR_UNSUPPORTED, "stochastic_sampling"},
        {"{\"num_train_timesteps\":500}", FLUX1_ERR_UNSUPPORTED, "num_train_timesteps"},
        {"{\"num_train_timesteps\":0}", FLUX1_ERR_FORMAT, "num_train_timesteps"},
        {"{\"time_shift_type\":\"cubic\"}", FLUX1_ERR_FORMAT, "time_shift_type"},
        {"{\"shift\":0}", FLUX1_ERR_FORMAT, "shift"},
        {"{\"shift\":\"3\"}", FLUX1_ERR_FORMAT, "shift"},
        {"{\"shift_terminal\":1}", FLUX1_ERR_FORMAT, "shift_terminal"},
        {"{\"shift_terminal\":-0.5}", FLUX1_ERR_FORMAT, "shift_terminal"},
        {"{\"base_shift\":[]}", FLUX1_ERR_FORMAT, "base_shift"},
        {"{\"use_dynamic_shifting\":1}", FLUX1_ERR_FORMAT, "use_dynamic_shifting"},
        {"{\"max_image_seq_len\":256}", FLUX1_ERR_FORMAT, "max_image_seq_len"},
        {"{\"base_image_seq_len\":-1}", FLUX1_ERR_FORMAT, "base_image_seq_len"},
        {"[]", FLUX1_ERR_FORMAT, "scheduler_config.json"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        scheduler_config c;
        flux1_error err = {0};
        json_value *j;
        assert_int_equal(json_parse_python(refusals[i].config, strlen(refusals[i].config), "x", &j, NULL), FLUX1_OK);
        flux1_status st = scheduler_config_read(j, "scheduler_config.json", &c, &err);
        json_free(j);
        if (st != refusals[i].status || !strstr(err.message, refusals[i].named) ||
            !strstr(err.message, "scheduler_config.json"))
            fail_msg("%s: %s, \"%s\"", refusals[i].config, flux1_status_name(st), err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_equal_the_oracle_to_the_bit),
        cmocka_unit_test(linear_shift_and_terminal_follow_their_formulas),
        cmocka_unit_test(an_empty_config_has_even_levels),
        cmocka_unit_test(other_schedules_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
