/* `bench --runs`: the arithmetic of its report, and that its events lie within each other. */
#include "support/golden.h"

#include "base/json.h"
#include "flux1_tools.h"
#include "pipeline/session.h"
#include "pipeline/tasks.h"
#include "pipeline/text_to_image.h"
#include "tools/spread.h"

/* 2, 4, 4, 4, 5, 5, 7, 9: mean 5, squares of the differences 9+1+1+1+0+0+4+16 = 32, over n − 1 = 7. */
static void a_spread_is_the_sample_s(void **state)
{
    (void)state;
    double values[] = {4, 2, 4, 5, 4, 9, 5, 7};
    spread s = spread_of(values, 8);
    assert_true(fabs(s.mean - 5) < 1e-12);
    assert_true(fabs(s.deviation - sqrt(32.0 / 7)) < 1e-12);
    assert_true(s.min == 2 && s.max == 9);
    s = spread_of(values, 1);
    assert_true(s.mean == 2 && s.deviation == 0 && s.min == 2 && s.max == 2 && s.median == 2 && s.mad == 0);
}

/* 2, 4, 4, 4, 5, 5, 7, 9: median 4.5; distances 0.5 five times, 2.5, 2.5, 4.5, in the middle 0.5.
 * 1, 2, 4, 8: median 3; distances 1, 1, 2, 5, in the middle 1.5.
 * 1, 2, 10: median 2; distances 0, 1, 8. 1, 8, 9, 10, 30: median 9; 0, 1, 1, 8, 21. */
static void a_median_distance_is_not_moved_by_outliers(void **state)
{
    (void)state;
    double eight[] = {4, 2, 4, 5, 4, 9, 5, 7}, four[] = {8, 1, 4, 2}, three[] = {10, 1, 2}, five[] = {30, 1, 9, 10, 8};
    spread s = spread_of(eight, 8);
    assert_true(s.median == 4.5 && s.mad == 0.5);
    s = spread_of(four, 4);
    assert_true(s.median == 3 && s.mad == 1.5);
    s = spread_of(three, 3);
    assert_true(s.median == 2 && s.mad == 1);
    s = spread_of(five, 5);
    assert_true(s.median == 9 && s.mad == 1 && s.max == 30);
}

enum { STEPS = 3, EVENTS = 6 + STEPS };

typedef struct report {
    double mean[EVENTS], least[EVENTS], most[EVENTS], steps_per_second, images_per_second;
} report;

static double number_of(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void read_report(const char *text, report *out)
{
    static const char *const names[EVENTS] = {
        "clip_encoding",    "t5_encoding",      "encoder", "denoising", "denoising_step_0",
        "denoising_step_1", "denoising_step_2", "vae",     "total"};
    json_value *json;
    flux1_error err = {0};
    assert_int_equal(json_parse(text, strlen(text), "bench", &json, &err), FLUX1_OK);
    const json_value *events = json_object_get(json, "events");
    assert_int_equal(json_array_size(events), EVENTS);
    for (size_t i = 0; i < EVENTS; i++) {
        const json_value *e = json_array_get(events, i);
        assert_string_equal(json_string_value(json_object_get(e, "event")), names[i]);
        out->mean[i] = number_of(e, "mean_seconds");
        out->least[i] = number_of(e, "min_seconds");
        out->most[i] = number_of(e, "max_seconds");
        assert_true(out->least[i] > 0 && out->least[i] <= out->mean[i] && out->mean[i] <= out->most[i]);
        assert_true(number_of(e, "deviation_seconds") <= out->most[i] - out->least[i]);
    }
    assert_int_equal((int)number_of(json, "runs"), 3);
    assert_int_equal((int)number_of(json, "warm_ups"), 2);
    out->steps_per_second = number_of(json, "steps_per_second");
    out->images_per_second = number_of(json, "images_per_second");
    json_free(json);
}

static void parts_of_a_run_take_less_than_the_whole(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "1x2"};
    for (int k = 0; k < 2; k++) {
        flux1_bench_params p;
        report r;
        char *text, folder[512];
        snprintf(folder, sizeof folder, "%s/pipelines/schnell", TEST_DATA);
        flux1_bench_params_defaults(&p);
        p.path = folder;
        p.width = p.height = 64;
        p.sequence_length = 16;
        p.steps = STEPS;
        p.runs = 3;
        flux1_context *c = context_on("cpu", shapes[k], 2, FLUX1_DTYPE_F32);
        if (flux1_bench_json(c, &p, &text) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        read_report(text, &r);
        assert_true(r.mean[0] + r.mean[1] <= r.mean[2]);
        assert_true(r.mean[4] + r.mean[5] + r.mean[6] <= r.mean[3]);
        assert_true(r.mean[2] + r.mean[3] + r.mean[7] <= r.mean[8]);
        assert_true(fabs(r.steps_per_second * r.mean[3] - STEPS) < 1e-6);
        assert_true(fabs(r.images_per_second * r.mean[8] - 1) < 1e-6);
        flux1_string_free(text);
        flux1_context_destroy(c);
    }
}

/* ---- what a run does, by the linker's --wrap ---- */

flux1_status __real_task_run(flux1_context *c, session *s, task t, void *job);
flux1_status __wrap_task_run(flux1_context *c, session *s, task t, void *job);
flux1_status __real_decoder_run(decoder *d, const float *latent, const size_t *reserve, progress *p, tensor *decoded,
                                flux1_image *image);
flux1_status __wrap_decoder_run(decoder *d, const float *latent, const size_t *reserve, progress *p, tensor *decoded,
                                flux1_image *image);

static int encoded[2], decoded_pictures;

flux1_status __wrap_task_run(flux1_context *c, session *s, task t, void *job)
{
    encoded[0] += t == TASK_CLIP;
    encoded[1] += t == TASK_T5;
    return __real_task_run(c, s, t, job);
}
flux1_status __wrap_decoder_run(decoder *d, const float *latent, const size_t *reserve, progress *p, tensor *decoded,
                                flux1_image *image)
{
    decoded_pictures++;
    return __real_decoder_run(d, latent, reserve, p, decoded, image);
}

static char told[64];
static double told_seconds;

static void tell(void *user, const char *what, double seconds)
{
    (void)user;
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s;", what);
    told_seconds += seconds;
}

/* Two runs that are not timed and three that are: each encodes with both encoders and decodes, and is told of. */
static void every_run_does_all_of_its_work(void **state)
{
    (void)state;
    flux1_bench_params p;
    report r;
    char *text;
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/schnell";
    p.width = p.height = 64;
    p.sequence_length = 16;
    p.steps = STEPS;
    p.runs = 3;
    p.timed = tell;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    encoded[0] = encoded[1] = decoded_pictures = 0;
    assert_int_equal(flux1_bench_json(c, &p, &text), FLUX1_OK);
    assert_true(encoded[0] == 5 && encoded[1] == 5 && decoded_pictures == 5);
    assert_string_equal(told, "run 1 of 3;run 2 of 3;run 3 of 3;");
    read_report(text, &r);
    assert_true(fabs(told_seconds / 3 - r.mean[8]) <= 1e-6 * r.mean[8]);
    for (const session *s = c->sessions; s; s = s->next)
        assert_false(s->busy);
    flux1_string_free(text);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spread_is_the_sample_s),
        cmocka_unit_test(a_median_distance_is_not_moved_by_outliers),
        cmocka_unit_test(parts_of_a_run_take_less_than_the_whole),
        cmocka_unit_test(every_run_does_all_of_its_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
