/* Every allocation of a plan, of a recording made and played, of a conversion and of reading a picture fails once: each
 * time it ends in FLUX1_ERR_MEMORY, writes nothing and leaves nothing allocated (seen by the sanitizer). */
#include "support/failing.h"
#include "support/golden.h"

#include "flux1_tools.h"

static flux1_status plan_once(void *user, flux1_error *err)
{
    flux1_context *c = user;
    flux1_plan_params p;
    char *json, *path = scratch_path("failing.svg");
    flux1_plan_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/schnell";
    p.machine = "wh-n300";
    p.sp = "1@0";
    p.steps = 1;
    p.sequence_length = 16;
    p.width = p.height = 32;
    p.timeline = path;
    flux1_status st = flux1_plan_json(c, &p, &json);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(c));
    assert_true((st == FLUX1_OK) == is_there(path));
    unlink(path);
    flux1_string_free(json);
    return st;
}

static void every_allocation_of_a_plan_may_fail(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    assert_true(failing_each(plan_once, c, 300) > 300);
    flux1_context_destroy(c);
}

/* ---- recordings ---- */

typedef struct playing {
    flux1_context *c;
    flux1_model *m;
    char path[256];
} playing;

static flux1_status record_once(void *user, flux1_error *err)
{
    playing *k = user;
    flux1_plan_params p;
    char *json;
    flux1_plan_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/schnell";
    p.machine = "wh-n300";
    p.mesh = "1x2sp0tp1";
    p.steps = 1;
    p.sequence_length = 16;
    p.width = p.height = 32;
    p.record = k->path;
    unlink(k->path);
    flux1_status st = flux1_plan_json(k->c, &p, &json);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(k->c));
    assert_true((st == FLUX1_OK) == is_there(k->path));
    flux1_string_free(json);
    return st;
}

static flux1_status play_once(void *user, flux1_error *err)
{
    playing *k = user;
    flux1_generate_params p;
    flux1_image *image;
    flux1_generate_params_defaults(&p);
    p.prompt = "a car";
    flux1_status st = flux1_recording_run(k->c, k->m, k->path, &p, &image);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(k->c));
    assert_true((st == FLUX1_OK) == (image != NULL));
    flux1_images_free(image, 1);
    return st;
}

static void every_allocation_of_a_recording_may_fail(void **state)
{
    playing k;
    flux1_error err;
    (void)state;
    k.c = context_on("ref", "1x2", 1, FLUX1_DTYPE_F32);
    k.m = pipeline_of(k.c, "schnell");
    snprintf(k.path, sizeof k.path, "%s", scratch_path("failing.rec"));
    assert_true(failing_each(record_once, &k, 200) > 500);
    assert_int_equal(record_once(&k, &err), FLUX1_OK);
    assert_int_equal(play_once(&k, &err), FLUX1_OK); /* the context's session is there from now on */
    assert_true(failing_each(play_once, &k, 200) > 500);
    unlink(k.path);
    flux1_model_close(k.m);
    flux1_context_destroy(k.c);
}

static flux1_status convert_once(void *user, flux1_error *err)
{
    flux1_context *c = user;
    const flux1_convert_adapter lora = {TEST_DATA "/files/lora/kohya.safetensors", 1};
    flux1_convert_params p;
    char *json, *path = scratch_path("failing.gguf");
    flux1_convert_params_defaults(&p);
    p.type = "q8_0";
    p.part = "transformer";
    p.adapters = &lora;
    p.adapter_count = 1;
    flux1_status st = flux1_convert(c, TEST_DATA "/pipelines/schnell", path, &p, &json);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(c));
    assert_true((st == FLUX1_OK) == is_there(path));
    unlink(path);
    flux1_string_free(json);
    return st;
}

static void every_allocation_of_a_conversion_may_fail(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    assert_true(failing_each(convert_once, c, 300) > 200);
    flux1_context_destroy(c);
}

/* With ComfyUI's graph in it. */
static flux1_status read_picture_once(void *user, flux1_error *err)
{
    flux1_context *c = user;
    char *json;
    flux1_status st = flux1_picture_json(c, TEST_DATA "/pictures/comfy_dev.png", &json);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(c));
    assert_true((st == FLUX1_OK) == (json != NULL));
    flux1_string_free(json);
    return st;
}

static void every_allocation_of_reading_a_picture_may_fail(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    assert_true(failing_each(read_picture_once, c, 300) > 20);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_of_a_plan_may_fail),
                                       cmocka_unit_test(every_allocation_of_a_recording_may_fail),
                                       cmocka_unit_test(every_allocation_of_reading_a_picture_may_fail),
                                       cmocka_unit_test(every_allocation_of_a_conversion_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
