/* `bench` says where a stage's time goes, and --compare what differs between two reports beyond their noise. */
#include "support/golden.h"

#include "base/file.h"
#include "base/json.h"
#include "flux1_tools.h"

#include <unistd.h>

static double number(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static const char *text(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    assert_true(json_is_string(v));
    return json_string_value(v);
}

static json_value *parsed(const char *json)
{
    json_value *v;
    flux1_error err = {0};
    if (json_parse(json, strlen(json), "the report", &v, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return v;
}

/* ---- kernels ---- */

static json_value *bench(const char *shape, flux1_dtype type, const char *profile)
{
    flux1_bench_params p;
    char *json;
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/dev";
    p.width = 80;
    p.height = 48;
    p.steps = 3;
    p.repeats = 2;
    p.profile = profile;
    flux1_context *c = context_on("cpu", shape, 2, type);
    if (flux1_bench_json(c, &p, &json) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    json_value *report = parsed(json);
    flux1_string_free(json);
    flux1_context_destroy(c);
    return report;
}

typedef struct sums {
    double flops, int8_flops, share, seconds, processor;
    int rows;
} sums;

static sums kernels_of(const json_value *report, const char *stage)
{
    sums s = {0};
    const json_value *k, *list = json_object_get(report, "kernels");
    for (size_t i = 0; (k = json_array_get(list, i)); i++) {
        if (strcmp(text(k, "stage"), stage) != 0)
            continue;
        const double flops = json_number_value(json_object_get(k, "flops"));
        s.rows++;
        s.flops += flops;
        s.int8_flops += strcmp(text(k, "type"), "int8") == 0 ? flops : 0;
        s.share += number(k, "share_of_stage");
        s.seconds += number(k, "seconds");
        assert_true(number(k, "seconds_min") <= number(k, "seconds") &&
                    number(k, "seconds") <= number(k, "seconds_max"));
        assert_true((flops > 0) == (text(k, "shape")[0] != '\0'));
        s.processor += json_number_value(json_object_get(k, "processor_seconds"));
    }
    return s;
}

/* The plan's FLOPs are all there, and with "other" so is the time. */
static void kernels_add_up_to_their_stage(void **state)
{
    (void)state;
    static const char *const meshes[] = {"1x1", "1x2"};
    for (int i = 0; i < 2; i++) {
        json_value *report = bench(meshes[i], FLUX1_DTYPE_F32, NULL);
        const json_value *stage, *list = json_object_get(report, "stages");
        assert_int_equal(json_array_size(list), 5);
        for (size_t k = 0; (stage = json_array_get(list, k)); k++) {
            const sums s = kernels_of(report, text(stage, "stage"));
            assert_true(s.rows > 3);
            assert_true(fabs(s.flops - number(stage, "flops")) < 0.5);
            assert_true(s.share > 0.999 && s.seconds > 0.999 * number(stage, "seconds"));
            assert_true(number(stage, "processor_seconds") > 0);
            if (i == 0) /* one rank; medians of two runs are means, which add up */
                assert_true(s.processor > 0 && s.processor <= number(stage, "processor_seconds") * 1.001);
            else
                assert_true(s.processor == 0);
        }
        json_free(report);
    }
}

/* Whether a stage's attention is in int8: all of it, or none. */
static bool attends_in_int8(const json_value *report, const char *stage)
{
    int in_int8 = 0, all = 0;
    const json_value *k, *list = json_object_get(report, "kernels");
    for (size_t i = 0; (k = json_array_get(list, i)); i++) {
        if (strcmp(text(k, "stage"), stage) != 0 || strcmp(text(k, "kernel"), "attention") != 0)
            continue;
        in_int8 += strcmp(text(k, "type"), "int8") == 0;
        all++;
    }
    assert_true(all > 0 && (in_int8 == 0 || in_int8 == all));
    return in_int8 > 0;
}

/* The blocks' attention is so with int8-fast alone, but not with every instruction set; T5's never is. */
static void attention_has_the_type_it_is_computed_in(void **state)
{
    (void)state;
    const ops_config fast = {.int8 = INT8_ROTATED};
    for (int i = 0; i < 2; i++) {
        json_value *report = bench("1x1", i ? FLUX1_DTYPE_INT8_FAST : FLUX1_DTYPE_INT8, NULL);
        assert_int_equal(attends_in_int8(report, "dit step"), i && ops_cpu_sizing.attends(&fast) == INT8_ROTATED);
        assert_false(attends_in_int8(report, "t5"));
        json_free(report);
    }
}

/* T5 and the blocks multiply in int8, CLIP and the VAE do not (docs/performance.md); --profile changes nothing. */
static void kernels_have_the_type_of_their_products(void **state)
{
    (void)state;
    char trace[64];
    snprintf(trace, sizeof trace, "/tmp/flux1_kernels_%d", (int)getpid());
    json_value *report = bench("1x1", FLUX1_DTYPE_INT8, trace);
    const sums t5 = kernels_of(report, "t5"), clip = kernels_of(report, "clip"), dit = kernels_of(report, "dit step"),
               vae = kernels_of(report, "vae decode");
    assert_true(t5.int8_flops > 0 && dit.int8_flops > 0 && clip.int8_flops == 0 && vae.int8_flops == 0);
    assert_true(number(report, "peak_int8_flops_per_second") >= 0);
    const json_value *step = json_array_get(json_object_get(report, "stages"), 3);
    assert_true(fabs(dit.flops - number(step, "flops")) < 0.5);
    json_free(report);
    unlink(trace);
}

/* ---- --compare ---- */

static char paths[2][64];

static void put(int which, const char *json)
{
    snprintf(paths[which], sizeof paths[which], "/tmp/flux1_compare_%d_%d", which, (int)getpid());
    FILE *f = fopen(paths[which], "w");
    assert_non_null(f);
    assert_true(fputs(json, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static flux1_status compared(const char *a, const char *b, json_value **out, char message[256])
{
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    char *json = NULL;
    put(0, a);
    put(1, b);
    flux1_status st = flux1_bench_compare_json(c, paths[0], paths[1], &json);
    *out = json ? parsed(json) : NULL;
    snprintf(message, 256, "%s", flux1_context_message(c));
    flux1_string_free(json);
    flux1_context_destroy(c);
    unlink(paths[0]);
    unlink(paths[1]);
    return st;
}

#define STAGE(name, median, min, max, mad)                                                                  \
    "{\"stage\": \"" name "\", \"seconds\": " #median ", \"seconds_min\": " #min ", \"seconds_max\": " #max \
    ", \"seconds_mad\": " #mad "}"
#define REPORT(repeats, threads, rows) "{\"repeats\": " #repeats ", \"threads\": " #threads ", \"stages\": [" rows "]}"

/* From 2 s: 3 s with medians' distances of 0.1 and 0.2 is 1.0 > 3·0.3; 2.8 s is not. With 3 runs ranges must not touch
 * either. 2.01 s is below 1 %, however quiet. */
static void differences_above_the_noise_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *verdict;
        double ratio;
    } cases[] = {
        {REPORT(9, 1, STAGE("t5", 2, 1.8, 3.1, 0.1)), REPORT(9, 1, STAGE("t5", 3, 2.7, 3.5, 0.2)), "b is slower", 1.5},
        {REPORT(9, 1, STAGE("t5", 3, 2.7, 3.5, 0.2)), REPORT(9, 1, STAGE("t5", 2, 1.8, 3.1, 0.1)), "b is faster",
         2.0 / 3},
        {REPORT(9, 1, STAGE("t5", 2, 1.8, 2.1, 0.1)), REPORT(9, 1, STAGE("t5", 2.8, 2.7, 3.5, 0.2)), "within noise",
         1.4},
        {REPORT(3, 1, STAGE("t5", 2, 1.8, 3.1, 0.1)), REPORT(9, 1, STAGE("t5", 3, 2.7, 3.5, 0.2)), "within noise", 1.5},
        {REPORT(3, 1, STAGE("t5", 2, 1.8, 2.1, 0.1)), REPORT(3, 1, STAGE("t5", 3, 2.7, 3.5, 0.2)), "b is slower", 1.5},
        {REPORT(9, 1, STAGE("t5", 2, 1.999, 2.001, 0)), REPORT(9, 1, STAGE("t5", 2.01, 2.009, 2.011, 0)),
         "within noise", 1.005},
        {REPORT(1, 1, STAGE("t5", 2, 2, 2, 0)), REPORT(9, 1, STAGE("t5", 9, 8, 10, 0)), "not known: one run", 4.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_value *v;
        char message[256];
        if (compared(cases[i].a, cases[i].b, &v, message) != FLUX1_OK)
            fail_msg("%s", message);
        const json_value *row = json_array_get(json_object_get(v, "rows"), 0);
        assert_string_equal(text(row, "verdict"), cases[i].verdict);
        assert_true(fabs(number(row, "ratio") - cases[i].ratio) < 1e-12);
        assert_int_equal(json_array_size(json_object_get(v, "setups_differ")), 0);
        json_free(v);
    }
}

static void other_setups_and_lone_rows_are_named(void **state)
{
    (void)state;
    json_value *v;
    char message[256];
    const char *a = REPORT(3, 1, STAGE("t5", 2, 1, 3, 0) "," STAGE("clip", 1, 1, 2, 0)),
               *b = REPORT(3, 2, STAGE("t5", 2, 1, 3, 0));
    assert_int_equal(compared(a, b, &v, message), FLUX1_OK);
    const json_value *setup = json_array_get(json_object_get(v, "setups_differ"), 0);
    assert_string_equal(text(setup, "what"), "threads");
    assert_true(number(setup, "a") == 1 && number(setup, "b") == 2);
    const json_value *row = json_array_get(json_object_get(v, "rows"), 0);
    assert_true(number(row, "ratio_min") == 1.0 / 3 && number(row, "ratio_max") == 3);
    assert_string_equal(text(json_array_get(json_object_get(v, "only_in_a"), 0), "stage"), "clip");
    assert_int_equal(json_array_size(json_object_get(v, "only_in_b")), 0);
    json_free(v);
}

/* Choices that change times and are no default. */
static void what_was_asked_for_is_of_the_setup(void **state)
{
    (void)state;
    flux1_context_params params;
    flux1_bench_params p;
    flux1_context *c = NULL;
    char *json, message[256];
    json_value *v;
    flux1_context_params_defaults(&params);
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/dev";
    p.repeats = 0;
    params.eager = 1;
    params.device_weights = FLUX1_DEVICE_WEIGHTS_PACKED;
    params.encoder_device = "ref";
    params.max_memory = 1u << 30;
    assert_int_equal(flux1_context_create(&params, &c), FLUX1_OK);
    assert_int_equal(flux1_bench_json(c, &p, &json), FLUX1_OK);
    json_value *report = parsed(json);
    assert_string_equal(text(report, "capture"), "no");
    assert_string_equal(text(report, "device_weights"), "packed");
    assert_string_equal(text(report, "encoder_device"), "ref");
    assert_true(number(report, "max_memory") == 1u << 30);
    json_free(report);
    flux1_string_free(json);
    flux1_context_destroy(c);

    const char *a = REPORT(3, 1, STAGE("t5", 2, 1, 3, 0));
    const char *b = "{\"repeats\": 3, \"threads\": 1, \"max_memory\": 7, \"stages\": [" STAGE("t5", 2, 1, 3, 0) "]}";
    assert_int_equal(compared(a, b, &v, message), FLUX1_OK);
    const json_value *setup = json_array_get(json_object_get(v, "setups_differ"), 0);
    assert_string_equal(text(setup, "what"), "max_memory");
    assert_true(json_is_null(json_object_get(setup, "a")) && number(setup, "b") == 7);
    json_free(v);
}

/* Whichever of a row's three times it is. */
static void a_time_of_0_is_told_and_has_no_ratio(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *why;
    } cases[] = {
        {STAGE("t5", 0, 0, 0, 0), STAGE("t5", 2, 1, 3, 0), "a has a time of 0"},
        {STAGE("t5", 2, 0, 3, 0), STAGE("t5", 2, 1, 3, 0), "a has a time of 0"},
        {STAGE("t5", 2, 1, 3, 0), STAGE("t5", 0, 0, 3, 0), "b has a time of 0"},
        {STAGE("t5", 0, 0, 0, 0), STAGE("t5", 0, 0, 0, 0), "both have a time of 0"},
        {STAGE("t5", 2, 1, 3, 0), STAGE("t5", 1e-300, 1e-300, 1e-300, 0), "b has a time of 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char a[600], b[600], message[256];
        json_value *v;
        snprintf(a, sizeof a, REPORT(3, 1, "%s," STAGE("clip", 1, 1, 2, 0)), cases[i].a);
        snprintf(b, sizeof b, REPORT(3, 1, "%s," STAGE("clip", 1, 1, 2, 0)), cases[i].b);
        assert_int_equal(compared(a, b, &v, message), FLUX1_OK);
        const json_value *rows = json_object_get(v, "rows"), *others = json_object_get(v, "not_compared");
        assert_int_equal(json_array_size(rows), 1);
        assert_string_equal(text(json_array_get(rows, 0), "stage"), "clip");
        assert_int_equal(json_array_size(others), 1);
        assert_string_equal(text(json_array_get(others, 0), "stage"), "t5");
        assert_string_equal(text(json_array_get(others, 0), "why"), cases[i].why);
        assert_null(json_object_get(json_array_get(others, 0), "ratio"));
        json_free(v);
    }
}

static void what_is_no_report_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *a, *message;
    } cases[] = {
        {"{}", "not a report of flux1 bench"},
        {"[]", "not a report of flux1 bench"},
        {"{\"stages\": [3]}", "not an object"},
        {"{\"stages\": \"t5\"}", "\"stages\" is not a list"},
        {REPORT(3, 1, STAGE("t5", 2, 1, 3, 0) "," STAGE("t5", 2, 1, 3, 0)), "a row of t5 is there twice"},
        {"{\"stages\": [{\"seconds\": 3}]}", "\"stage\" is missing"},
        {"{\"stages\": [{\"stage\": \"t5\"}]}", "planned, not timed"},
        {"{\"stages\": [{\"stage\": \"t5\", \"seconds\": 1}]}", "\"seconds_min\" is missing"},
        {REPORT(3, 1, STAGE("t5", -2, 1, 3, 0)), "\"seconds\" is -2, it should be from 0 to 1e+09 seconds"},
        {REPORT(3, 1, STAGE("t5", 1e300, 1e300, 1e300, 0)), "\"seconds\" is 1e+300"},
        {REPORT(3, 1, STAGE("t5", 2, 1, 1.5, 0)),
         "t5: \"seconds\" is 2, it should be from \"seconds_min\", 1, to \"seconds_max\", 1.5"},
        {REPORT(3, 1, STAGE("t5", 2, 2.5, 3, 0)), "it should be from \"seconds_min\", 2.5"},
        {REPORT(3, 1, STAGE("t5", 2, 3, 1, 0)), "it should be from \"seconds_min\", 3, to \"seconds_max\", 1"},
        {REPORT(3, 1, STAGE("t5", NaN, 1, 3, 0)), "\"seconds\""},
        {REPORT(3, 1, STAGE("t5", "x", 1, 3, 0)), "\"seconds\""},
        {REPORT(3, 1, STAGE("t\\u001b[31m5", 2, 1, 3, 0)), "control characters"},
        {REPORT(-3, 1, STAGE("t5", 2, 1, 3, 0)), "\"repeats\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_value *v;
        char message[256];
        assert_int_equal(compared(cases[i].a, REPORT(3, 1, STAGE("t5", 2, 1, 3, 0)), &v, message), FLUX1_ERR_FORMAT);
        if (!strstr(message, cases[i].message) || !strstr(message, paths[0]))
            fail_msg("case %zu: %s", i, message);
    }
}

static void reports_of_different_stages_are_not_compared(void **state)
{
    (void)state;
    json_value *v;
    char message[256];
    const char *a = REPORT(3, 1, STAGE("t5", 2, 1, 3, 0)), *b = REPORT(3, 1, STAGE("clip", 2, 1, 3, 0));
    assert_int_equal(compared(a, b, &v, message), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(message, "nothing in common"));
    assert_non_null(strstr(message, paths[0]));
    assert_non_null(strstr(message, paths[1]));
}

/* By another name too. */
static void a_report_is_not_compared_with_itself(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    char *json;
    put(0, REPORT(3, 1, STAGE("t5", 2, 1, 3, 0)));
    assert_true(snprintf(paths[1], sizeof paths[1], "%s.link", paths[0]) < (int)sizeof paths[1]);
    assert_int_equal(symlink(paths[0], paths[1]), 0);
    assert_int_equal(flux1_bench_compare_json(c, paths[0], paths[1], &json), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), ".link: both reports are this file"));
    flux1_context_destroy(c);
    unlink(paths[1]);
    unlink(paths[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_add_up_to_their_stage),
        cmocka_unit_test(attention_has_the_type_it_is_computed_in),
        cmocka_unit_test(kernels_have_the_type_of_their_products),
        cmocka_unit_test(differences_above_the_noise_are_told),
        cmocka_unit_test(other_setups_and_lone_rows_are_named),
        cmocka_unit_test(reports_of_different_stages_are_not_compared),
        cmocka_unit_test(a_time_of_0_is_told_and_has_no_ratio),
        cmocka_unit_test(what_was_asked_for_is_of_the_setup),
        cmocka_unit_test(what_is_no_report_is_refused),
        cmocka_unit_test(a_report_is_not_compared_with_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
