/* Every allocation of a plan, of a recording made and played, of one on given values, of a conversion and of reading a
 * picture fails once: each time it ends in FLUX1_ERR_MEMORY, writes nothing and leaves nothing allocated (seen by the
 * sanitizer). */
#include "support/failing.h"
#include "support/golden.h"
#include "support/safetensors_build.h"

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

/* ---- a recording on given values ---- */

typedef struct trying {
    flux1_context *c;
    char recording[256], values[256], out[256];
} trying;

static flux1_status try_once(void *user, flux1_error *err)
{
    trying *k = user;
    unlink(k->out);
    const flux1_status st = flux1_recording_try(k->c, k->recording, k->values, k->out, 0, NULL);
    if (st != FLUX1_OK)
        error_set(err, st, "%s", flux1_context_message(k->c));
    assert_true((st == FLUX1_OK) == is_there(k->out));
    return st;
}

static void write_file(char path[256], const char *name, const void *data, size_t size)
{
    snprintf(path, 256, "%s", scratch_path(name));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Rows of a table looked up. */
static void every_allocation_of_a_trial_may_fail(void **state)
{
    static const char recording[] =
        "flux1-recording 1\nmodel variant=schnell\npicture width=8 height=8 steps=2 clip_tokens=77 t5_tokens=32\n"
        "mesh shape=1x1 sp=1@0 tp=1@1\nguidance 3.5\nsigmas 1 1 0\nstage clip\nstage t5\n"
        "stage dit.open\ncreate act=a0 role=ids batch=1 text=2 cols=1\ninput name=clip.ids out=a0\n"
        "block block=b0 name=block\nweight w=w0 block=b0 role=table rows=2 cols=2\n"
        "piece w=w0 tensor=w tensor_rows=2 tensor_cols=2 rows=2 cols=2\nprepare w=w0\n"
        "create act=a1 role=residual batch=1 text=2 cols=2\n"
        "stage dit.step\nbegin block=b0\nembed ids=a0 table=w0 out=a1\nend block=b0\n"
        "stage dit.latent\noutput in=a1\nstage vae\nend\n";
    static const float numbers[10] = {1, 2, 3, 4, 0, 0, 0, 0, 1, 0};
    char header[256];
    size_t size;
    trying k;
    flux1_error err;
    (void)state;
    /* data at a multiple of 4: 212 bytes of header behind 8 */
    snprintf(header, sizeof header, "%-212s",
             "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
             "\"output\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,32]},"
             "\"clip.ids\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[32,40]}}");
    unsigned char *values = safetensors_build(header, numbers, sizeof numbers, &size);
    write_file(k.recording, "trying.rec", recording, strlen(recording));
    write_file(k.values, "trying.values", values, size);
    snprintf(k.out, sizeof k.out, "%s", scratch_path("trying.out"));
    free(values);
    k.c = context_on("ref", "", 1, FLUX1_DTYPE_F32);
    if (try_once(&k, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_true(failing_each(try_once, &k, 300) > 50);
    unlink(k.recording);
    unlink(k.values);
    unlink(k.out);
    flux1_context_destroy(k.c);
}

static flux1_status convert_once(void *user, flux1_error *err)
{
    flux1_context *c = user;
    const flux1_adapter_file lora = {TEST_DATA "/files/lora/kohya.safetensors", 1};
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
                                       cmocka_unit_test(every_allocation_of_a_trial_may_fail),
                                       cmocka_unit_test(every_allocation_of_reading_a_picture_may_fail),
                                       cmocka_unit_test(every_allocation_of_a_conversion_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
