/* Requests out of JSON that nobody has checked: what is taken, and that everything else is refused. */
#include "server/job_request.h"
#include "server/webui_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const job_request defaults = {.true_cfg_scale = 1,
                                     .width = 1024,
                                     .height = 1024,
                                     .steps = 28,
                                     .guidance = 3.5f,
                                     .count = 1,
                                     .max_sequence_length = 512,
                                     .format = FLUX1_FORMAT_PNG};

typedef struct reading {
    job_request r;
    remarks said;
    fault f;
    bool good;
} reading;

static reading read_with(const char *text, bool webui)
{
    reading out = {0};
    json_value *root = NULL;
    assert_int_equal(json_parse(text, strlen(text), "the test", &root, NULL), FLUX1_OK);
    assert_true(request_begin(&defaults, &out.r, &out.f));
    out.good =
        webui ? webui_request_read(root, &out.r, &out.said, &out.f) : request_read(root, &out.r, &out.said, &out.f);
    assert_true(out.f.kind == FAULT_NONE ? out.good : out.f.kind == FAULT_INVALID || out.f.kind == FAULT_UNPROCESSABLE);
    assert_true(out.good || out.f.message[0]);
    json_free(root);
    return out;
}

static void end(reading *x)
{
    request_free(&x->r);
    remarks_free(&x->said);
}

static void refused(const char *text, const char *param, bool webui)
{
    reading x = read_with(text, webui);
    if (x.good)
        fail_msg("accepted: %s", text);
    assert_string_equal(x.f.param, param);
    end(&x);
}

static void every_field_is_taken(void **state)
{
    (void)state;
    reading x = read_with("{\"prompt\": \"a\", \"negative_prompt\": \"b\", \"true_cfg_scale\": 2.5, \"width\": \"64\", "
                          "\"height\": 80.0, \"steps\": 3, \"guidance\": \"4\", \"seed\": \"18446744073709551615\", "
                          "\"count\": 1, \"step_cache\": \"fb:0.12\", \"max_sequence_length\": 7, \"lora\": "
                          "[{\"name\": \"x\", \"scale\": 0.5}, \"y:2\", \"z\"], \"format\": \"webp\", \"quality\": 70, "
                          "\"preview_every\": 2, \"else\": [1]}",
                          false);
    assert_true(x.good);
    assert_string_equal(x.r.prompt, "a");
    assert_string_equal(x.r.negative_prompt, "b");
    assert_float_equal(x.r.true_cfg_scale, 2.5f, 0);
    assert_int_equal(x.r.width, 64);
    assert_int_equal(x.r.height, 80);
    assert_int_equal(x.r.steps, 3);
    assert_float_equal(x.r.guidance, 4, 0);
    assert_true(x.r.seed == UINT64_MAX);
    assert_float_equal(x.r.step_cache, 0.12f, 0);
    assert_int_equal(x.r.max_sequence_length, 7);
    assert_int_equal(x.r.loras, 3);
    assert_string_equal(x.r.lora[1].name, "y");
    assert_float_equal(x.r.lora[0].scale, 0.5f, 0);
    assert_float_equal(x.r.lora[1].scale, 2, 0);
    assert_float_equal(x.r.lora[2].scale, 1, 0);
    assert_int_equal(x.r.format, FLUX1_FORMAT_WEBP);
    assert_int_equal(x.r.quality, 70);
    assert_int_equal(x.r.preview_every, 2);
    assert_int_equal(x.said.count, 1);
    assert_non_null(strstr(x.said.text[0], "\"else\""));
    end(&x);
}

static void what_is_null_is_not_given(void **state)
{
    (void)state;
    reading x = read_with("{\"prompt\": \"a\", \"width\": null, \"guidance\": null, \"seed\": null, \"lora\": null, "
                          "\"step_cache\": null, \"format\": null, \"count\": null, \"negative_prompt\": null}",
                          false);
    assert_true(x.good);
    assert_int_equal(x.r.width, 1024);
    assert_float_equal(x.r.guidance, 3.5f, 0);
    assert_null(x.r.negative_prompt);
    end(&x);
}

/* The same seed twice out of 2^32 would be a wonder. */
static void without_a_seed_it_is_random(void **state)
{
    (void)state;
    reading a = read_with("{\"prompt\": \"a\"}", false), b = read_with("{\"prompt\": \"a\", \"seed\": -1}", false);
    assert_true(a.good && b.good && a.r.seed != b.r.seed);
    end(&a);
    end(&b);
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *param;
    } wrong[] = {{"{}", "prompt"},
                 {"{\"prompt\": null}", "prompt"},
                 {"{\"prompt\": [\"a\"]}", "prompt"},
                 {"{\"prompt\": \"\\t \"}", "prompt"},
                 {"{\"prompt\": \"a\", \"negative_prompt\": 1}", "negative_prompt"},
                 {"{\"prompt\": \"a\", \"width\": true}", "width"},
                 {"{\"prompt\": \"a\", \"width\": \"0x40\"}", "width"},
                 {"{\"prompt\": \"a\", \"width\": -64}", "width"},
                 {"{\"prompt\": \"a\", \"height\": 1e300}", "height"},
                 {"{\"prompt\": \"a\", \"steps\": \"\"}", "steps"},
                 {"{\"prompt\": \"a\", \"guidance\": -1}", "guidance"},
                 {"{\"prompt\": \"a\", \"guidance\": {}}", "guidance"},
                 {"{\"prompt\": \"a\", \"seed\": 18446744073709551616}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": \"18446744073709551616\"}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": 1.5}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": \"\"}", "seed"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:-1\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:0\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"lora\": {}}", "lora"},
                 {"{\"prompt\": \"a\", \"lora\": [{\"name\": \"\"}]}", "lora"},
                 {"{\"prompt\": \"a\", \"lora\": [{\"name\": \"x\", \"scale\": 1e6}]}", "lora"},
                 {"{\"prompt\": \"a\", \"lora\": [1,2]}", "lora"},
                 {"{\"prompt\": \"a\", \"format\": \"PNG\"}", "format"},
                 {"{\"prompt\": \"a\", \"quality\": 101}", "quality"},
                 {"{\"prompt\": \"a\", \"preview_every\": -1}", "preview_every"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refused(wrong[i].text, wrong[i].param, false);
    refused("{\"prompt\": \"a\", \"lora\": [\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\",\"1\","
            "\"1\",\"1\",\"1\",\"1\",\"1\"]}",
            "lora", false);
}

static void web_uis_tags_and_counts(void **state)
{
    (void)state;
    reading x =
        read_with("{\"prompt\": \"<lora:x:0.5>a <lora:y> fox<lora:z:2:1>\", \"negative_prompt\": \"\", "
                  "\"distilled_cfg_scale\": 4, \"cfg_scale\": 7, \"batch_size\": 2, \"n_iter\": 3, \"seed\": 5, "
                  "\"sampler_name\": \"Euler\", \"override_settings\": {\"sd_model_checkpoint\": \"FLUX-dev [12]\"}}",
                  true);
    assert_true(x.good);
    assert_string_equal(x.r.prompt, "a  fox");
    assert_string_equal(x.r.written, "<lora:x:0.5>a <lora:y> fox<lora:z:2:1>");
    assert_null(x.r.negative_prompt);
    assert_float_equal(x.r.guidance, 4, 0);
    assert_int_equal(x.r.count, 6);
    assert_int_equal(x.r.loras, 3);
    assert_string_equal(x.r.lora[2].name, "z");
    assert_float_equal(x.r.lora[0].scale, 0.5f, 0);
    assert_float_equal(x.r.lora[1].scale, 1, 0);
    assert_float_equal(x.r.lora[2].scale, 1, 0); /* behind the text encoders' 2 */
    assert_int_equal(x.r.preview_every, 28 / 8);
    assert_int_equal(x.said.count, 2); /* of z and cfg_scale */
    assert_non_null(strstr(x.said.text[0], "<lora:z:2:1>: the text encoders had the transformer's scale, 1, too"));
    end(&x);
    refused("{\"prompt\": \"a <lora:x:>\"}", "prompt", true);
    refused("{\"prompt\": \"a <lora:>\"}", "lora", true);
    refused("{\"prompt\": \"a\", \"batch_size\": 11, \"n_iter\": 10}", "n_iter", true);
    char name[MODEL_NAME_ROOM];
    webui_model_name("FLUX-dev [12]", name);
    assert_string_equal(name, "FLUX-dev");
    webui_model_name("a b", name);
    assert_string_equal(name, "a b");
    reading own = read_with("{\"prompt\": \"a <lora:x:0.5> fox\"}", false); /* no interface where it is a tag */
    assert_true(own.good);
    assert_string_equal(own.r.prompt, "a <lora:x:0.5> fox");
    assert_int_equal(own.said.count, 1);
    assert_non_null(strstr(own.said.text[0], "<lora:x:0.5> is a part of the prompt here"));
    end(&own);
    reading open_tag = read_with("{\"prompt\": \"a <lora:x\"}", true); /* is a part of the prompt */
    assert_true(open_tag.good);
    assert_int_equal(open_tag.r.loras, 0);
    end(&open_tag);
}

/* What clients always send is no note where it is off, and one each where it is on. */
static void web_uis_unused_fields(void **state)
{
    (void)state;
    reading off = read_with(
        "{\"prompt\": \"a\", \"sampler_name\": \"Euler\", \"scheduler\": \"Automatic\", \"tiling\": false, "
        "\"restore_faces\": null, \"subseed\": -1, \"subseed_strength\": 0, \"seed_resize_from_h\": -1, \"styles\": "
        "[], \"s_churn\": 0.0, \"firstphase_width\": 0, \"script_name\": \"\", \"script_args\": [], "
        "\"alwayson_scripts\": {}, \"override_settings\": {\"CLIP_stop_at_last_layers\": 1}, \"hr_scale\": 2, "
        "\"refiner_checkpoint\": \"\", \"refiner_switch_at\": 0, \"disable_extra_networks\": false, "
        "\"firstpass_image\": "
        "null, \"comments\": {}, \"hr_cfg\": 1, \"hr_distilled_cfg\": 3.5, \"force_task_id\": null, \"infotext\": "
        "null}",
        true);
    assert_true(off.good);
    assert_int_equal(off.said.count, 0);
    assert_null(off.r.written);
    end(&off);
    static const char *const on[] = {"\"scheduler\": \"karras\"",
                                     "\"tiling\": true",
                                     "\"restore_faces\": true",
                                     "\"subseed_strength\": 0.1",
                                     "\"seed_resize_from_w\": 64",
                                     "\"styles\": [\"anime\"]",
                                     "\"s_churn\": 1",
                                     "\"enable_hr\": true",
                                     "\"firstphase_height\": 64",
                                     "\"refiner_checkpoint\": \"x\"",
                                     "\"disable_extra_networks\": true",
                                     "\"infotext\": \"a fox\"",
                                     "\"alwayson_scripts\": {\"ControlNet\": {\"args\": []}}",
                                     "\"override_settings\": {\"samples_format\": \"jpg\"}"};
    for (size_t i = 0; i < sizeof on / sizeof *on; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"prompt\": \"a\", %s}", on[i]);
        reading x = read_with(text, true);
        if (!x.good || x.said.count != 1)
            fail_msg("%s: %d notes, %s", text, x.said.count, x.f.message);
        end(&x);
    }
}

/* As AUTOMATIC1111's own server answers (api.py: HTTPException 422). */
static void scripts_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"\"script_name\": \"outpainting\"", "script_name"},
        {"\"alwayson_scripts\": {\"ControlNet\": {\"args\": [{\"model\": \"canny\"}]}}", "alwayson_scripts"},
        {"\"alwayson_scripts\": {\"a\": {}, \"ADetailer\": {\"args\": [true]}}", "alwayson_scripts"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"prompt\": \"a\", %s}", wrong[i][0]);
        reading x = read_with(text, true);
        assert_false(x.good);
        assert_int_equal(x.f.kind, FAULT_UNPROCESSABLE);
        assert_int_equal(fault_http(&x.f), 422);
        assert_string_equal(x.f.param, wrong[i][1]);
        end(&x);
    }
}

/* What was written is read as the same again. */
static void a_request_comes_back(void **state)
{
    (void)state;
    reading x =
        read_with("{\"prompt\": \"a \\\"b\\\" \\u00e9\", \"seed\": 9223372036854775808, \"step_cache\": \"fb:0.1\", "
                  "\"lora\": [{\"name\": \"x\", \"scale\": 0.1}]}",
                  false);
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    request_put(&w, NULL, &x.r);
    assert_int_equal(json_take(&w, "the test", &text, NULL), FLUX1_OK);
    reading again = read_with(text, false);
    assert_true(again.good);
    assert_string_equal(again.r.prompt, x.r.prompt);
    assert_true(again.r.seed == UINT64_C(9223372036854775808));
    assert_float_equal(again.r.step_cache, 0.1f, 0);
    assert_float_equal(again.r.lora[0].scale, 0.1f, 0);
    assert_int_equal(again.said.count, 0);
    free(text);
    end(&x);
    end(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_taken),        cmocka_unit_test(what_is_null_is_not_given),
        cmocka_unit_test(without_a_seed_it_is_random), cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(web_uis_tags_and_counts),     cmocka_unit_test(a_request_comes_back),
        cmocka_unit_test(web_uis_unused_fields),       cmocka_unit_test(scripts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
