/* NULL in every place of every function of flux1_tools.h: FLUX1_ERR_ARGUMENT or nothing, never a crash; where there is
 * no context nothing is written. */
#include "support/golden.h"

#include "flux1_tools.h"

static const char FOLDER[] = TEST_DATA "/pipelines/single";

static void refused_at(flux1_context *c, flux1_status st, int line)
{
    if (st != FLUX1_ERR_ARGUMENT || !flux1_context_message(c)[0])
        fail_msg("line %d: %s \"%s\"", line, flux1_status_name(st), flux1_context_message(c));
}
#define REFUSED(c, call) refused_at(c, call, __LINE__)

static char mark;
#define MARK ((void *)&mark)
#define UNTOUCHED(p) assert_ptr_equal(p, MARK)
#define EMPTIED(p) assert_null(p), p = MARK

static void what_gives_back_takes_null(void **state)
{
    (void)state;
    flux1_bench_params_defaults(NULL);
    flux1_pull_params_defaults(NULL);
    flux1_tokens_free(NULL);
    flux1_tokenizer_close(NULL);
    flux1_string_free(NULL);
}

static void tokenizers(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_tokenizer *t = MARK;
    flux1_tokens tokens = {.clip_count = -7};
    assert_int_equal(flux1_tokenize(NULL, FOLDER, "a", 1, 8, &tokens), FLUX1_ERR_ARGUMENT);
    assert_int_equal(tokens.clip_count, -7);
    REFUSED(c, flux1_tokenize(c, NULL, "a", 1, 8, &tokens));
    assert_int_equal(tokens.clip_count, 0);
    REFUSED(c, flux1_tokenize(c, FOLDER, NULL, 1, 8, &tokens));
    assert_null(tokens.clip);
    REFUSED(c, flux1_tokenize(c, FOLDER, "a", 1, 8, NULL));
    assert_int_equal(flux1_tokenizer_open(NULL, FOLDER, &t), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(t);
    REFUSED(c, flux1_tokenizer_open(c, NULL, &t));
    EMPTIED(t);
    REFUSED(c, flux1_tokenizer_open(c, FOLDER, NULL));
    assert_int_equal(flux1_tokenizer_open(c, FOLDER, &t), FLUX1_OK);
    tokens.clip_count = -7;
    assert_int_equal(flux1_tokenizer_run(NULL, t, "a", 1, 8, &tokens), FLUX1_ERR_ARGUMENT);
    assert_int_equal(tokens.clip_count, -7);
    REFUSED(c, flux1_tokenizer_run(c, NULL, "a", 1, 8, &tokens));
    REFUSED(c, flux1_tokenizer_run(c, t, NULL, 1, 8, &tokens));
    REFUSED(c, flux1_tokenizer_run(c, t, "a", 1, 8, NULL));
    assert_int_equal(flux1_tokenizer_run(c, t, NULL, 0, 8, &tokens), FLUX1_OK); /* the empty prompt, as elsewhere */
    assert_int_equal(tokens.t5_count, 8);
    flux1_tokens_free(&tokens);
    flux1_tokenizer_close(t);
    flux1_context_destroy(c);
}

static void pictures_and_recordings(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    char *json = MARK;
    REFUSED(c, flux1_picture_json(c, NULL, &json));
    EMPTIED(json);
    REFUSED(c, flux1_picture_json(c, "x.png", NULL));
    REFUSED(c, flux1_picture_json(c, "", &json));
    EMPTIED(json);
    assert_string_equal(flux1_context_message(c), "the path of the picture is empty");
    REFUSED(c, flux1_recording_json(c, NULL, &json));
    EMPTIED(json);
    REFUSED(c, flux1_recording_json(c, "x.json", NULL));
    flux1_context_destroy(c);
}

static void conversions(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_convert_params p;
    char *json = MARK;
    flux1_convert_params_defaults(NULL);
    flux1_convert_params_defaults(&p);
    assert_int_equal(flux1_convert(NULL, FOLDER, "x.gguf", &p, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_convert(c, FOLDER, "x.gguf", &p, NULL));
    REFUSED(c, flux1_convert(c, NULL, "x.gguf", &p, &json));
    EMPTIED(json);
    REFUSED(c, flux1_convert(c, FOLDER, NULL, &p, &json));
    EMPTIED(json);
    p.size = 8;
    REFUSED(c, flux1_convert(c, FOLDER, "x.gguf", &p, &json));
    flux1_convert_params_defaults(&p);
    p.part = "vae";
    p.adapter_count = 1;
    REFUSED(c, flux1_convert(c, FOLDER, "x.gguf", &p, &json));
    p.adapter_count = -1;
    REFUSED(c, flux1_convert(c, FOLDER, "x.gguf", &p, &json));
    p.adapter_count = 1;
    p.adapters = &(flux1_adapter_file){NULL, 1};
    REFUSED(c, flux1_convert(c, FOLDER, "x.gguf", &p, &json));
    flux1_context_destroy(c);
}

static void descriptions(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_generate_params p;
    flux1_bench_params b;
    char *json = MARK;
    flux1_generate_params_defaults(&p);
    flux1_bench_params_defaults(&b);
    assert_int_equal(flux1_info_json(NULL, FOLDER, &p, 0, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_info_json(c, NULL, &p, 0, &json));
    EMPTIED(json);
    REFUSED(c, flux1_info_json(c, FOLDER, &p, 0, NULL));
    REFUSED(c, flux1_info_json(c, FOLDER, NULL, 0, &json));
    assert_non_null(strstr(json, "\"problem\"")); /* what can be said all the same */
    flux1_string_free(json);
    json = MARK;
    assert_int_equal(flux1_devices_json(NULL, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_devices_json(c, NULL));
    assert_int_equal(flux1_bench_json(NULL, &b, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_bench_json(c, NULL, &json));
    EMPTIED(json);
    REFUSED(c, flux1_bench_json(c, &b, NULL));
    b.variant = NULL;
    REFUSED(c, flux1_bench_json(c, &b, &json));
    EMPTIED(json);
    b.path = FOLDER;
    b.stage = NULL;
    REFUSED(c, flux1_bench_json(c, &b, &json));
    EMPTIED(json);
    assert_int_equal(flux1_bench_compare_json(NULL, "a", "b", &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_bench_compare_json(c, NULL, "b", &json));
    EMPTIED(json);
    REFUSED(c, flux1_bench_compare_json(c, "a", NULL, &json));
    REFUSED(c, flux1_bench_compare_json(c, "a", "b", NULL));
    flux1_context_destroy(c);
}

static void a_context_that_could_not_be_created_plans_nothing(void **state)
{
    (void)state;
    flux1_context_params cp;
    flux1_generate_params p;
    flux1_bench_params b;
    flux1_context *c;
    char *json = MARK;
    flux1_context_params_defaults(&cp);
    flux1_generate_params_defaults(&p);
    flux1_bench_params_defaults(&b);
    b.path = FOLDER;
    cp.device = "no such device";
    assert_int_not_equal(flux1_context_create(&cp, &c), FLUX1_OK);
    REFUSED(c, flux1_info_json(c, FOLDER, &p, 1, &json));
    flux1_string_free(json);
    REFUSED(c, flux1_bench_json(c, &b, &json));
    EMPTIED(json);
    flux1_context_destroy(c);
}

static void the_cache(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    char *json = MARK;
    assert_int_equal(flux1_cache_json(NULL, FOLDER, FLUX1_CACHE_LIST, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_cache_json(c, FOLDER, FLUX1_CACHE_LIST, NULL));
    REFUSED(c, flux1_cache_json(c, FOLDER, (flux1_cache_action)7, &json));
    EMPTIED(json);
    unsetenv("FLUX1_CACHE_DIR");
    REFUSED(c, flux1_cache_json(c, NULL, FLUX1_CACHE_LIST, &json));
    EMPTIED(json);
    assert_int_equal(flux1_cache_json(c, FOLDER, FLUX1_CACHE_CLEAR, &json), FLUX1_OK); /* nothing in it is an entry */
    assert_non_null(strstr(json, "\"entries\": 0"));
    flux1_string_free(json);
    flux1_context_destroy(c);
}

/* Nothing is asked of a server here. */
static void pulling(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_pull_params params;
    const char *patterns[] = {"x", NULL};
    char *json = MARK;
    flux1_pull_params_defaults(&params);
    assert_int_equal(flux1_pull_json(NULL, &params, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_pull_json(c, &params, &json)); /* no repository */
    EMPTIED(json);
    params.repository = "org/name";
    REFUSED(c, flux1_pull_json(c, &params, NULL));
    REFUSED(c, flux1_pull_json(c, NULL, &json));
    EMPTIED(json);
    params.file_count = 2;
    REFUSED(c, flux1_pull_json(c, &params, &json));
    EMPTIED(json);
    params.files = patterns;
    REFUSED(c, flux1_pull_json(c, &params, &json));
    EMPTIED(json);
    params.file_count = 0;
    params.size = 8;
    REFUSED(c, flux1_pull_json(c, &params, &json));
    EMPTIED(json);
    params.size = sizeof params;
    params.repository = "../name";
    REFUSED(c, flux1_pull_json(c, &params, &json));
    EMPTIED(json);
    flux1_context_destroy(c);
}

static void checks(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_doctor_params params = {0};
    char *json = MARK;
    assert_int_equal(flux1_doctor_json(NULL, &params, &json), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(json);
    REFUSED(c, flux1_doctor_json(c, &params, &json)); /* not set up */
    EMPTIED(json);
    flux1_doctor_params_defaults(NULL);
    flux1_doctor_params_defaults(&params);
    REFUSED(c, flux1_doctor_json(c, NULL, &json));
    EMPTIED(json);
    REFUSED(c, flux1_doctor_json(c, &params, NULL));
    params.device = "ref";
    REFUSED(c, flux1_doctor_json(c, &params, &json));
    EMPTIED(json);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gives_back_takes_null),
        cmocka_unit_test(tokenizers),
        cmocka_unit_test(the_cache),
        cmocka_unit_test(pictures_and_recordings),
        cmocka_unit_test(conversions),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(pulling),
        cmocka_unit_test(checks),
        cmocka_unit_test(a_context_that_could_not_be_created_plans_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
