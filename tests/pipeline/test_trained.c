/* flux1.json: what it may say, what is refused, and which sizes are far from what it says. */
#include "support/stage_runs.h"
#include "pipeline/trained.h"

#include <unistd.h>

static char folder[] = "/tmp/flux1-test-XXXXXX", path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/flux1.json", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void put(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void what_it_says_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        trained_sizes want;
        const char *text;
    } rows[] = {
        {NULL, {0, 0, 0}, ""},
        {"{}", {0, 0, 0}, ""},
        {"{\"sizes\": null, \"colours\": []}", {0, 0, 0}, ""},
        {"{\"sizes\": {\"min\": 96, \"max\": 192, \"multiple\": 16, \"best\": \"128\"}}",
         {96, 192, 16},
         "sides of 96 to 192 pixels, in multiples of 16"},
        {"{\"sizes\": {\"min\": 128, \"max\": 128}}", {128, 128, 0}, "sides of 128 pixels"},
        {"{\"sizes\": {\"max\": 1024, \"min\": null}}", {0, 1024, 0}, "sides of at most 1024 pixels"},
        {"{\"sizes\": {\"min\": 256}}", {256, 0, 0}, "sides of at least 256 pixels"},
        {"{\"sizes\": {\"multiple\": 64}}", {0, 0, 64}, "sides in multiples of 64"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        trained_sizes t = {7, 7, 7};
        char text[TRAINED_ROOM];
        flux1_error err;
        if (rows[i].json)
            put(rows[i].json);
        assert_int_equal(trained_read(folder, &t, &err), FLUX1_OK);
        assert_true(t.min == rows[i].want.min && t.max == rows[i].want.max && t.multiple == rows[i].want.multiple);
        assert_string_equal(trained_describe(&t, text), rows[i].text);
    }
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"{\"sizes\": [128]}", "\"sizes\" should be an object"},
        {"{\"sizes\": {\"min\": \"96\"}}", "\"min\" is the text \"96\""},
        {"{\"sizes\": {\"max\": 0}}", "\"max\" is 0"},
        {"{\"sizes\": {\"multiple\": 1.5}}", "\"multiple\""},
        {"{\"sizes\": {\"min\": 200, \"max\": 100}}", "\"min\" is 200, more than \"max\", 100"},
        {"[]", "it should be an object"},
        {"", "flux1.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        trained_sizes t;
        flux1_error err;
        put(rows[i].json);
        assert_int_equal(trained_read(folder, &t, &err), FLUX1_ERR_FORMAT);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, rows[i].says));
    }
}

/* A quarter outside is still near: 3/4 of 96 is 72, 5/4 of 192 is 240. */
static void a_quarter_outside_is_near(void **state)
{
    (void)state;
    const trained_sizes t = {96, 192, 0}, m = {0, 0, 64}, none = {0};
    assert_false(trained_is_far(&t, 72, 240));
    assert_true(trained_is_far(&t, 71, 128));
    assert_true(trained_is_far(&t, 128, 241));
    assert_false(trained_is_far(&m, 64, 6400));
    assert_true(trained_is_far(&m, 64, 96));
    assert_false(trained_is_far(&none, 1, 65536));
}

/* ---- requests ---- */

static int warnings;

static void count_warnings(void *user, flux1_log_level level, const char *message)
{
    (void)user;
    warnings += level == FLUX1_LOG_WARNING && strstr(message, "48x32 is far from what this model was trained for") &&
                strstr(message, "sides of at least 64 pixels");
}

static void a_request_is_warned_of_once(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p;
    flux1_image *images;
    flux1_generate_params_defaults(&p);
    p.prompt = "a red fox";
    p.width = 48;
    p.height = 32;
    p.steps = 1;
    p.count = 2;
    c->log = count_warnings;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_OK);
    assert_int_equal(warnings, 0); /* the model says nothing of sizes */
    flux1_images_free(images, 2);
    m->trained.min = 64;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_OK);
    assert_int_equal(warnings, 1);
    flux1_images_free(images, 2);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_says_is_read),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_quarter_outside_is_near),
        cmocka_unit_test(a_request_is_warned_of_once),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
