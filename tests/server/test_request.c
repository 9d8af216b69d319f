/* Requests out of JSON that nobody has checked: what is taken, and that everything else is refused. */
#include "server/job_request.h"
#include "server/openai_request.h"
#include "server/png_info.h"
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
    webui_wishes wishes;
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
    out.good = webui ? webui_request_read(root, &out.r, &out.wishes, &out.said, &out.f)
                     : request_read(root, &out.r, &out.said, &out.f);
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
    static const char *const ways[] = {"{\"prompt\": \"a\"}", "{\"prompt\": \"a\", \"seed\": -1}",
                                       "{\"prompt\": \"a\", \"seed\": -1.0}", "{\"prompt\": \"a\", \"seed\": \"-1\"}"};
    uint64_t seed[4];
    for (int i = 0; i < 4; i++) {
        reading x = read_with(ways[i], false);
        assert_true(x.good);
        seed[i] = x.r.seed;
        assert_true(seed[i] <= UINT32_MAX);
        for (int k = 0; k < i; k++)
            assert_true(seed[k] != seed[i]);
        end(&x);
    }
}

/* What a model's defaults are: sizes and numbers. */
static void a_request_begins_without_texts(void **state)
{
    (void)state;
    char text[] = "x";
    const job_request other = {
        .model = text, .prompt = text, .written = text, .negative_prompt = text, .loras = 2, .width = 64, .count = 3};
    job_request r;
    fault f = {0};
    assert_true(request_begin(&other, &r, &f));
    assert_true(!r.model && !r.prompt && !r.written && !r.negative_prompt && r.loras == 0);
    assert_true(r.width == 64 && r.count == 3);
}

/* What has a colon and no number behind it is a name. */
static void a_name_of_an_adapter_may_have_a_colon(void **state)
{
    (void)state;
    reading x = read_with("{\"prompt\": \"a\", \"format\": \"jpg\", \"lora\": [\"x:\", \"a:b\", \"a:b:-0.5\"]}", false);
    static const char *const names[] = {"x:", "a:b", "a:b"};
    assert_true(x.good);
    assert_int_equal(x.r.format, FLUX1_FORMAT_JPEG);
    assert_int_equal(x.r.loras, 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(x.r.lora[i].name, names[i]);
        assert_float_equal(x.r.lora[i].scale, i < 2 ? 1 : -0.5f, 0);
    }
    end(&x);
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
                 {"{\"prompt\": \"a\", \"width\": \"64e\"}", "width"},
                 {"{\"prompt\": \"a\", \"width\": 64.5}", "width"},
                 {"{\"prompt\": \"a\", \"seed\": -2}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": \"7e1\"}", "seed"},
                 {"{\"prompt\": \"a\", \"height\": 1e300}", "height"},
                 {"{\"prompt\": \"a\", \"steps\": \"\"}", "steps"},
                 {"{\"prompt\": \"a\", \"guidance\": -1}", "guidance"},
                 {"{\"prompt\": \"a\", \"guidance\": {}}", "guidance"},
                 {"{\"prompt\": \"a\", \"guidance\": 1000.5}", "guidance"},
                 {"{\"prompt\": \"a\", \"width\": \"00000000000000000000000000000000000000064\"}", "width"},
                 {"{\"prompt\": \"a\", \"seed\": 18446744073709551616}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": \"18446744073709551616\"}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": 1.5}", "seed"},
                 {"{\"prompt\": \"a\", \"seed\": \"\"}", "seed"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:-1\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:0\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:0.1e\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"step_cache\": \"fb:100.5\"}", "step_cache"},
                 {"{\"prompt\": \"a\", \"lora\": \"x:nan\"}", "lora"},
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
    refused("{\"prompt\": \"a\", \"cfg_scale\": \"high\"}", "cfg_scale", true); /* ignored, but no number */
    refused("{\"prompt\": \"a\", \"cfg_scale\": [7]}", "cfg_scale", true);
    reading guided = read_with("{\"prompt\": \"a\", \"negative_prompt\": \"\", \"true_cfg_scale\": 2}", true);
    assert_string_equal(guided.r.negative_prompt, ""); /* it was asked for */
    end(&guided);
    reading most = read_with("{\"prompt\": \"a\", \"batch_size\": 10, \"n_iter\": 10}", true);
    assert_true(most.good);
    assert_int_equal(most.r.count, REQUEST_COUNT_MAX);
    end(&most);
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

/* What clients always send is no note where it is off, and one each where it is on: the fields of its own server's
 * /docs (txt2img), Forge's hr_cfg, hr_distilled_cfg and hr_additional_modules, SillyTavern's url, auth and clip_skip.
 */
static void web_uis_unused_fields(void **state)
{
    (void)state;
    reading off = read_with(
        "{\"prompt\": \"a\", \"steps\": 7, \"sampler_name\": \"\", \"scheduler\": \"Automatic\", \"tiling\": false, "
        "\"restore_faces\": null, \"subseed\": -1, \"subseed_strength\": 0, \"seed_resize_from_h\": -1, \"styles\": "
        "[], \"s_churn\": 0.0, \"firstphase_width\": 0, \"script_name\": \"\", \"script_args\": [], "
        "\"alwayson_scripts\": {}, \"override_settings\": {\"CLIP_stop_at_last_layers\": 1}, \"hr_scale\": 2, "
        "\"refiner_checkpoint\": \"\", \"refiner_switch_at\": 0, \"disable_extra_networks\": false, "
        "\"firstpass_image\": "
        "null, \"comments\": {}, \"hr_cfg\": 1, \"hr_distilled_cfg\": 3.5, \"force_task_id\": null, \"infotext\": "
        "null, \"negative_prompt\": \"\", \"batch_size\": 1, \"n_iter\": 1, \"cfg_scale\": 1, \"seed_resize_from_w\": "
        "-1, "
        "\"do_not_save_samples\": false, \"do_not_save_grid\": false, \"eta\": 0, \"denoising_strength\": 0.7, "
        "\"s_min_uncond\": 0, \"s_tmax\": 0, \"s_tmin\": 0, \"s_noise\": 1, \"override_settings_restore_afterwards\": "
        "true, "
        "\"enable_hr\": false, \"firstphase_height\": 0, \"hr_upscaler\": \"Latent\", \"hr_second_pass_steps\": 0, "
        "\"hr_resize_x\": 0, \"hr_resize_y\": 0, \"hr_checkpoint_name\": \"x\", \"hr_sampler_name\": \"x\", "
        "\"hr_scheduler\": "
        "\"x\", \"hr_prompt\": \"x\", \"hr_negative_prompt\": \"x\", \"hr_additional_modules\": [\"x\"], "
        "\"sampler_index\": "
        "\"Euler\", \"send_images\": true, \"save_images\": true, \"url\": \"http://localhost\", \"auth\": \":x\", "
        "\"clip_skip\": 1}",
        true);
    assert_true(off.good);
    assert_int_equal(off.said.count, 0);
    assert_int_equal(off.r.preview_every, 1);
    assert_null(off.r.written);
    end(&off);
    static const char *const on[] = {"\"scheduler\": \"karras\"",
                                     "\"sampler_index\": \"DPM++ 2M\"",
                                     "\"cfg_scale\": 0.5",
                                     "\"odd\": 1",
                                     "\"tiling\": true",
                                     "\"restore_faces\": true",
                                     "\"subseed_strength\": 0.1",
                                     "\"seed_resize_from_w\": 64",
                                     "\"styles\": [\"anime\"]",
                                     "\"s_churn\": 1",
                                     "\"enable_hr\": true",
                                     "\"enable_hr\": \"true\"",
                                     "\"tiling\": \"True\"",
                                     "\"restore_faces\": 1",
                                     "\"restore_faces\": \"1\"",
                                     "\"subseed_strength\": \"0.5\"",
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

/* Flags as texts and numbers, as some programs write them. */
static void web_uis_flags_may_be_texts(void **state)
{
    (void)state;
    reading off = read_with("{\"prompt\": \"a\", \"enable_hr\": \"False\", \"tiling\": \"false\", \"restore_faces\": "
                            "0, \"disable_extra_networks\": \"0\", \"refiner_checkpoint\": \"None\", "
                            "\"seed_resize_from_h\": \"-1\", \"s_churn\": \"0.0\"}",
                            true);
    assert_true(off.good && off.wishes.send);
    assert_int_equal(off.said.count, 0);
    end(&off);
    static const struct {
        const char *value;
        bool send;
    } cases[] = {{"null", true},   {"true", true},       {"1", true},          {"\"TRUE\"", true}, {"\"1\"", true},
                 {"false", false}, {"\"false\"", false}, {"\"False\"", false}, {"0", false},       {"\"0\"", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"prompt\": \"a\", \"send_images\": %s}", cases[i].value);
        reading x = read_with(text, true);
        if (!x.good || x.wishes.send != cases[i].send)
            fail_msg("%s: %d, %s", text, x.wishes.send, x.f.message);
        assert_int_equal(x.said.count, 0);
        end(&x);
    }
    refused("{\"prompt\": \"a\", \"send_images\": \"no\"}", "send_images", true);
    refused("{\"prompt\": \"a\", \"send_images\": 2}", "send_images", true);
    refused("{\"prompt\": \"a\", \"enable_hr\": []}", "enable_hr", true);
    refused("{\"prompt\": \"a\", \"enable_hr\": 0.5}", "enable_hr", true);
}

/* As AUTOMATIC1111's own server answers (api.py: HTTPException 422). */
static void scripts_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"\"script_name\": \"outpainting\"", "script_name"},
        {"\"alwayson_scripts\": {\"a\": {\"enabled\": true}}", "alwayson_scripts"},
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

/* ---- OpenAI's ---- */

typedef struct openai_reading {
    reading x;
    openai_wishes w;
} openai_reading;

static openai_reading read_openai(const char *more)
{
    openai_reading out = {0};
    json_value *root = NULL;
    char text[300];
    snprintf(text, sizeof text, "{\"prompt\": \"a\"%s}", more);
    assert_int_equal(json_parse(text, strlen(text), "the test", &root, NULL), FLUX1_OK);
    assert_true(request_begin(&defaults, &out.x.r, &out.x.f));
    out.x.good = openai_request_read(root, &out.x.r, &out.w, &out.x.said, &out.x.f);
    json_free(root);
    return out;
}

static void a_size_has_two_sides_or_is_left_to_the_model(void **state)
{
    (void)state;
    static const struct {
        const char *size;
        int width, height; /* 0: refused */
    } cases[] = {{"\"64x48\"", 64, 48},     {"\"auto\"", 1024, 1024}, {"\"\"", 1024, 1024},   {"null", 1024, 1024},
                 {"\"65536x1\"", 65536, 1}, {"\"65537x64\"", 0, 0},   {"\"64x65537\"", 0, 0}, {"\"0x64\"", 0, 0},
                 {"\"64x0\"", 0, 0},        {"\"64\"", 0, 0},         {"\"x64\"", 0, 0},      {"\"64x48x\"", 0, 0},
                 {"\"64X48\"", 0, 0},       {"\"0000064x64\"", 0, 0}, {"64", 0, 0},           {"[64, 48]", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char more[64];
        snprintf(more, sizeof more, ", \"size\": %s", cases[i].size);
        openai_reading o = read_openai(more);
        if (o.x.good != (cases[i].width > 0))
            fail_msg("size %s", cases[i].size);
        if (o.x.good) {
            assert_int_equal(o.x.r.width, cases[i].width);
            assert_int_equal(o.x.r.height, cases[i].height);
        } else
            assert_string_equal(o.x.f.param, "size");
        end(&o.x);
    }
}

/* Of 28 steps a quarter each: previews behind 7, 14 and 21, none with the last. */
static void partial_images_come_at_equal_distances(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        int every;
    } cases[] = {{"\"stream\": true, \"partial_images\": 3", 7},
                 {"\"stream\": true, \"partial_images\": 2", 10},
                 {"\"stream\": true, \"partial_images\": 3, \"steps\": 2", 1},
                 {"\"stream\": true, \"partial_images\": 0", 0},
                 {"\"stream\": true", 0},
                 {"\"stream\": false, \"partial_images\": 3", 0},
                 {"\"partial_images\": 3", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char more[100];
        snprintf(more, sizeof more, ", %s", cases[i].more);
        openai_reading o = read_openai(more);
        assert_true(o.x.good);
        assert_int_equal(o.w.stream, strstr(cases[i].more, "true") != NULL);
        if (o.x.r.preview_every != cases[i].every)
            fail_msg("%s: every %d", cases[i].more, o.x.r.preview_every);
        end(&o.x);
    }
}

static void openais_other_fields(void **state)
{
    (void)state;
    openai_reading o =
        read_openai(", \"n\": 3, \"output_format\": \"webp\", \"output_compression\": 0, \"quality\": \"hd\", "
                    "\"response_format\": \"url\", \"style\": \"vivid\", \"user\": \"x\"");
    assert_true(o.x.good && o.w.url);
    assert_int_equal(o.x.r.count, 3);
    assert_int_equal(o.x.r.format, FLUX1_FORMAT_WEBP);
    assert_int_equal(o.x.r.quality, 1);
    assert_int_equal(o.x.said.count, 1);
    assert_non_null(strstr(o.x.said.text[0], "\"style\""));
    end(&o.x);
    o = read_openai(", \"response_format\": \"b64_json\", \"output_compression\": 70");
    assert_true(o.x.good && !o.w.url);
    assert_int_equal(o.x.r.quality, 70);
    end(&o.x);
    o = read_openai("");
    assert_true(o.x.good && !o.w.url && o.x.r.quality == 0); /* the format's own */
    end(&o.x);
    o = read_openai(", \"background\": \"opaque\", \"stream\": \"True\", \"moderation\": \"low\"");
    assert_true(o.x.good && o.w.stream);
    assert_int_equal(o.x.said.count, 0);
    end(&o.x);
    o = read_openai(", \"background\": \"transparent\"");
    assert_int_equal(o.x.said.count, 1);
    assert_non_null(strstr(o.x.said.text[0], "pictures are opaque"));
    end(&o.x);
    static const struct {
        const char *more;
        bool url;
    } forms[] = {{", \"model\": \"dall-e-3\"", true},
                 {", \"model\": \"DALL-E-2\", \"response_format\": null", true},
                 {", \"model\": \"dall-e-3\", \"response_format\": \"b64_json\"", false},
                 {", \"model\": \"gpt-image-1\"", false},
                 {", \"model\": \"schnell\"", false}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        o = read_openai(forms[i].more);
        if (!o.x.good || o.w.url != forms[i].url)
            fail_msg("%s: url %d", forms[i].more, o.w.url);
        end(&o.x);
    }
    static const char *const wrong[][2] = {{", \"n\": 2, \"seed\": 18446744073709551615", "seed"},
                                           {", \"response_format\": \"png\"", "response_format"},
                                           {", \"stream\": \"yes\"", "stream"},
                                           {", \"n\": 11", "n"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o = read_openai(wrong[i][0]);
        assert_false(o.x.good);
        assert_string_equal(o.x.f.param, wrong[i][1]);
        end(&o.x);
    }
}

static void their_models_stand_for_the_first_one(void **state)
{
    (void)state;
    static const struct {
        const char *body, *wanted;
        int notes;
        bool good;
    } cases[] = {{"{\"model\": \"dall-e-3\"}", NULL, 1, true},
                 {"{\"model\": \"GPT-image-1\"}", NULL, 1, true},
                 {"{\"model\": \"dev\"}", "dev", 0, true},
                 {"{\"model\": null}", NULL, 0, true},
                 {"{}", NULL, 0, true},
                 {"{\"model\": 3}", NULL, 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_value *root = NULL;
        const char *wanted = "x";
        remarks said = {0};
        fault f = {0};
        assert_int_equal(json_parse(cases[i].body, strlen(cases[i].body), "the test", &root, NULL), FLUX1_OK);
        assert_int_equal(openai_wanted_model(root, "schnell", &wanted, &said, &f), cases[i].good);
        assert_int_equal(said.count, cases[i].notes);
        if (cases[i].wanted)
            assert_string_equal(wanted, cases[i].wanted);
        else if (cases[i].good)
            assert_null(wanted);
        remarks_free(&said);
        json_free(root);
    }
}

/* ---- written ---- */

/* A picture's facts become a request that the page sends: adapters by their names here, seeds as text. */
static void a_pictures_facts_become_a_request(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{\"prompt\": \"a\", \"width\": 64, \"seed\": 18446744073709551615, "
         "\"negative_prompt\": null, \"model\": \"x\", "
         "\"lora\": [\"/l/a:b.safetensors:0.5\", \"org/name\", 3]}",
         "{\"prompt\": \"a\", \"width\": 64, \"seed\": \"18446744073709551615\", "
         "\"lora\": [{\"name\": \"a:b\", \"scale\": "
         "0.5}, {\"name\": \"name\", \"scale\": 1.0}]}"},
        {"{\"seed\": 7, \"lora\": [\".safetensors:2\"]}",
         "{\"seed\": \"7\", \"lora\": [{\"name\": \".safetensors\", \"scale\": 2.0}]}"},
        {"{\"seed\": -7, \"steps\": 3}", "{\"steps\": 3}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_writer w = {.style = JSON_LINE};
        json_value *facts = NULL;
        char *text = NULL;
        assert_int_equal(json_parse(rows[i][0], strlen(rows[i][0]), "the test", &facts, NULL), FLUX1_OK);
        png_info_put_request(&w, NULL, facts);
        assert_int_equal(json_take(&w, "the test", &text, NULL), FLUX1_OK);
        assert_string_equal(text, rows[i][1]);
        free(text);
        json_free(facts);
    }
}

static void a_request_is_written_with_all_that_it_comes_to(void **state)
{
    (void)state;
    reading x = read_with("{\"prompt\": \"a\", \"seed\": 7}", false);
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    request_put(&w, NULL, &x.r);
    assert_int_equal(json_take(&w, "the test", &text, NULL), FLUX1_OK);
    assert_string_equal(
        text, "{\"prompt\": \"a\", \"true_cfg_scale\": 1.0, \"width\": 1024, \"height\": 1024, \"steps\": 28, "
              "\"guidance\": 3.5, \"seed\": \"7\", \"count\": 1, \"step_cache\": \"off\", "
              "\"max_sequence_length\": 512, \"lora\": [], \"format\": \"png\", \"quality\": 90, "
              "\"preview_every\": 0}");
    free(text);
    end(&x);
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
        cmocka_unit_test(every_field_is_taken),
        cmocka_unit_test(what_is_null_is_not_given),
        cmocka_unit_test(without_a_seed_it_is_random),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(web_uis_tags_and_counts),
        cmocka_unit_test(a_request_comes_back),
        cmocka_unit_test(web_uis_unused_fields),
        cmocka_unit_test(web_uis_flags_may_be_texts),
        cmocka_unit_test(scripts_are_refused),
        cmocka_unit_test(a_request_begins_without_texts),
        cmocka_unit_test(a_name_of_an_adapter_may_have_a_colon),
        cmocka_unit_test(a_size_has_two_sides_or_is_left_to_the_model),
        cmocka_unit_test(partial_images_come_at_equal_distances),
        cmocka_unit_test(openais_other_fields),
        cmocka_unit_test(their_models_stand_for_the_first_one),
        cmocka_unit_test(a_pictures_facts_become_a_request),
        cmocka_unit_test(a_request_is_written_with_all_that_it_comes_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
