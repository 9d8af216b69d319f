#include "server/webui_request.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct webui_counts {
    int size, times;
} webui_counts;

/* What clients send whether or not anybody has chosen it: no note. */
#define PASSED_OVER(name)                                     \
    {                                                         \
        name, FIELD_OTHER, .text = "Ignored.", .schema = "{}" \
    }
#define ANY_TEXT "{\"type\": [\"string\", \"null\"]}"

const request_field webui_fields[] = {
    {"distilled_cfg_scale", FIELD_REAL, 0, 1000, offsetof(job_request, guidance), .text = "Distilled guidance."},
    {"cfg_scale", FIELD_OTHER, .text = "Ignored, with a note where it is not 1.", .schema = "{}"},
    {"sampler_name", FIELD_OTHER, .text = "Euler; others are ignored with a note.", .schema = ANY_TEXT},
    {"override_settings", FIELD_OTHER, .text = "sd_model_checkpoint: one of sd-models.",
     .schema = "{\"type\": [\"object\", \"null\"], \"additionalProperties\": true}"},
    {"sampler_index", FIELD_OTHER, .text = "As sampler_name.", .schema = ANY_TEXT},
    {"enable_hr", FIELD_OTHER, .text = "Ignored with a note.", .schema = "{}"},
    PASSED_OVER("url"),
    PASSED_OVER("auth"),
    PASSED_OVER("scheduler"),
    PASSED_OVER("styles"),
    PASSED_OVER("clip_skip"),
    PASSED_OVER("denoising_strength"),
    PASSED_OVER("restore_faces"),
    PASSED_OVER("tiling"),
    PASSED_OVER("alwayson_scripts"),
    PASSED_OVER("script_name"),
    PASSED_OVER("script_args"),
    PASSED_OVER("hr_scale"),
    PASSED_OVER("hr_upscaler"),
    PASSED_OVER("hr_second_pass_steps"),
    PASSED_OVER("hr_resize_x"),
    PASSED_OVER("hr_resize_y"),
    PASSED_OVER("hr_checkpoint_name"),
    PASSED_OVER("hr_sampler_name"),
    PASSED_OVER("hr_scheduler"),
    PASSED_OVER("hr_prompt"),
    PASSED_OVER("hr_negative_prompt"),
    PASSED_OVER("hr_additional_modules"),
    PASSED_OVER("firstphase_width"),
    PASSED_OVER("firstphase_height"),
    PASSED_OVER("subseed"),
    PASSED_OVER("subseed_strength"),
    PASSED_OVER("seed_resize_from_h"),
    PASSED_OVER("seed_resize_from_w"),
    PASSED_OVER("eta"),
    PASSED_OVER("s_churn"),
    PASSED_OVER("s_tmax"),
    PASSED_OVER("s_tmin"),
    PASSED_OVER("s_noise"),
    PASSED_OVER("s_min_uncond"),
    PASSED_OVER("override_settings_restore_afterwards"),
    PASSED_OVER("save_images"),
    PASSED_OVER("send_images"),
    PASSED_OVER("do_not_save_samples"),
    PASSED_OVER("do_not_save_grid"),
    {0}};

const request_field webui_count_fields[] = {
    {"batch_size", FIELD_WHOLE, 1, REQUEST_COUNT_MAX, offsetof(webui_counts, size), .text = "Pictures, times n_iter."},
    {"n_iter", FIELD_WHOLE, 1, REQUEST_COUNT_MAX, offsetof(webui_counts, times), .text = "Pictures, times batch_size."},
    {0}};

void webui_model_name(const char *checkpoint, char name[MODEL_NAME_ROOM])
{
    const size_t n = strcspn(checkpoint, "["), length = n > 0 && checkpoint[n] && checkpoint[n - 1] == ' ' ? n - 1 : n;
    snprintf(name, MODEL_NAME_ROOM, "%.*s", (int)(length < MODEL_NAME_ROOM ? length : MODEL_NAME_ROOM), checkpoint);
}

const char *webui_wanted_model(const json_value *o)
{
    const json_value *settings = json_object_get(o, "override_settings");
    return json_string_value(json_object_get(settings, "sd_model_checkpoint"));
}

/* ---- <lora:NAME:0.8> ---- */

/* Takes the tag at text[0..bytes) into the request; its own scale of the text encoders, behind a second colon, does not
 * count. */
static bool take_tag(job_request *r, const char *text, size_t bytes, fault *f)
{
    const char *name = text + strlen("<lora:"), *end = text + bytes - 1,
               *colon = memchr(name, ':', (size_t)(end - name));
    char *stop = NULL;
    const double scale = colon ? strtod(colon + 1, &stop) : 1;
    if (colon && (stop == colon + 1 || (*stop != ':' && stop != end)))
        return fault_set(f, FAULT_INVALID, "prompt", "\"prompt\": %.*s must be <lora:NAME:SCALE>",
                         (int)(bytes < 100 ? bytes : 100), text);
    return request_add_lora(r, name, (size_t)((colon ? colon : end) - name), scale, f);
}

/* The prompt without its tags. */
static bool take_tags(job_request *r, fault *f)
{
    for (char *at = r->prompt; (at = strstr(at, "<lora:"));) {
        char *end = strchr(at, '>');
        if (!end)
            return true;
        if (!take_tag(r, at, (size_t)(end - at) + 1, f))
            return false;
        memmove(at, end + 1, strlen(end + 1) + 1);
    }
    return true;
}

/* ---- what is not ours ---- */

static void tell_of_others(const json_value *o, remarks *n)
{
    static const char *const sampler_keys[] = {"sampler_name", "sampler_index"};
    float scale = 1;
    bool high = false;
    fault f;
    for (int i = 0; i < 2; i++) {
        const char *sampler = json_string_value(json_object_get(o, sampler_keys[i]));
        if (sampler && sampler[0] && strcasecmp(sampler, "Euler") != 0)
            remarks_add(n, "sampler \"%.60s\": Euler was used, which is FLUX.1's", sampler);
    }
    if (request_real(o, "cfg_scale", 0, 1000, &scale, &f) && scale != 1)
        remarks_add(n,
                    "cfg_scale %g was ignored: FLUX.1's guidance is distilled_cfg_scale, and true_cfg_scale with a "
                    "negative prompt is classifier-free guidance",
                    (double)scale);
    if (request_flag(o, "enable_hr", &high, &f) && high)
        remarks_add(n, "enable_hr was ignored: this server has no upscaling");
}

static bool read_count(const json_value *o, job_request *r, fault *f)
{
    webui_counts c = {1, 1};
    if (!request_read_fields(webui_count_fields, o, &c, f))
        return false;
    if (c.size * c.times > REQUEST_COUNT_MAX)
        return fault_set(f, FAULT_INVALID, "n_iter", "batch_size %d times n_iter %d: at most %d pictures", c.size,
                         c.times, REQUEST_COUNT_MAX);
    r->count = c.size * c.times;
    return true;
}

bool webui_request_read(const json_value *o, job_request *r, remarks *n, fault *f)
{
    if (!request_read_common(o, r, f) || !request_read_fields(webui_fields, o, r, f) || !read_count(o, r, f) ||
        !take_tags(r, f))
        return false;
    if (r->negative_prompt && !r->negative_prompt[0] && !request_has(o, "true_cfg_scale")) { /* they always send one */
        free(r->negative_prompt);
        r->negative_prompt = NULL;
    }
    tell_of_others(o, n);
    request_note_unknown(o, request_common_fields, webui_fields, webui_count_fields, n);
    r->preview_every = r->steps < 8 ? 1 : r->steps / 8; /* for current_image */
    return request_check_seeds(r, f);
}
