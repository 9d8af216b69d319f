#include "server/webui_request.h"

#include "base/lora_tag.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What clients send whether or not anybody has chosen it, and this server has no place for. name, SILENT: it changes no
 * picture here, or belongs to another one of them; OFF: a note where it is not null, false, empty, or a number up to 0
 */
#define UNUSED(X)                                     \
    X("url", SILENT)                                  \
    X("auth", SILENT)                                 \
    X("styles", OFF)                                  \
    X("clip_skip", SILENT)                            \
    X("denoising_strength", SILENT)                   \
    X("restore_faces", OFF)                           \
    X("tiling", OFF)                                  \
    X("script_args", SILENT)                          \
    X("hr_scale", SILENT)                             \
    X("hr_upscaler", SILENT)                          \
    X("hr_second_pass_steps", SILENT)                 \
    X("hr_resize_x", SILENT)                          \
    X("hr_resize_y", SILENT)                          \
    X("hr_checkpoint_name", SILENT)                   \
    X("hr_sampler_name", SILENT)                      \
    X("hr_scheduler", SILENT)                         \
    X("hr_prompt", SILENT)                            \
    X("hr_negative_prompt", SILENT)                   \
    X("hr_additional_modules", SILENT)                \
    X("hr_cfg", SILENT)                               \
    X("hr_distilled_cfg", SILENT)                     \
    X("refiner_checkpoint", OFF)                      \
    X("refiner_switch_at", SILENT)                    \
    X("disable_extra_networks", OFF)                  \
    X("firstpass_image", OFF)                         \
    X("infotext", OFF)                                \
    X("comments", SILENT)                             \
    X("force_task_id", SILENT)                        \
    X("firstphase_width", OFF)                        \
    X("firstphase_height", OFF)                       \
    X("subseed", SILENT)                              \
    X("subseed_strength", OFF)                        \
    X("seed_resize_from_h", OFF)                      \
    X("seed_resize_from_w", OFF)                      \
    X("eta", SILENT)                                  \
    X("s_churn", OFF)                                 \
    X("s_tmax", SILENT)                               \
    X("s_tmin", SILENT)                               \
    X("s_noise", SILENT)                              \
    X("s_min_uncond", SILENT)                         \
    X("override_settings_restore_afterwards", SILENT) \
    X("save_images", SILENT)                          \
    X("do_not_save_samples", SILENT)                  \
    X("do_not_save_grid", SILENT)

#define TEXT_NUMBER_MAX 1e9

typedef enum unused_rule { SILENT, OFF } unused_rule;

#define UNUSED_TEXT_SILENT "Ignored."
#define UNUSED_TEXT_OFF "Ignored, with a note where it is on."
#define UNUSED_ROW(member, rule) {member, FIELD_OTHER, .text = UNUSED_TEXT_##rule, .schema = "{}"},

#define ANY_TEXT "{\"type\": [\"string\", \"null\"]}"

const request_field webui_fields[] = {
    {"distilled_cfg_scale", FIELD_REAL, 0, 1000, offsetof(job_request, guidance), .text = "Distilled guidance."},
    {"cfg_scale", FIELD_OTHER, .text = "Ignored, with a note where it is not 1.",
     .schema = "{\"type\": [\"number\", \"string\", \"null\"]}"},
    {"sampler_name", FIELD_OTHER, .text = "Euler; others are ignored with a note.", .schema = ANY_TEXT},
    {"override_settings", FIELD_OTHER, .text = "sd_model_checkpoint: one of sd-models.",
     .schema = "{\"type\": [\"object\", \"null\"], \"additionalProperties\": true}"},
    {"sampler_index", FIELD_OTHER, .text = "As sampler_name.", .schema = ANY_TEXT},
    {"scheduler", FIELD_OTHER, .text = "Simple; others are ignored with a note.", .schema = ANY_TEXT},
    {"script_name", FIELD_OTHER, .text = "There is no script: 422 where one is named.", .schema = ANY_TEXT},
    {"alwayson_scripts", FIELD_OTHER, .text = "There is no script: 422 where one has arguments.",
     .schema = "{\"type\": [\"object\", \"null\"], \"additionalProperties\": true}"},
    UNUSED(UNUSED_ROW){0}};

const request_field webui_wish_fields[] = {
    {"batch_size", FIELD_WHOLE, 1, REQUEST_COUNT_MAX, offsetof(webui_wishes, size), .text = "Pictures, times n_iter."},
    {"n_iter", FIELD_WHOLE, 1, REQUEST_COUNT_MAX, offsetof(webui_wishes, times), .text = "Pictures, times batch_size."},
    {"send_images", FIELD_FLAG, .place = offsetof(webui_wishes, send),
     .text = "false: an answer without pictures, which are in /api/files as those of all jobs."},
    {"enable_hr", FIELD_FLAG, .place = offsetof(webui_wishes, upscale), .text = "Ignored with a note."},
    {0}};

void webui_model_name(const char *checkpoint, char name[MODEL_NAME_ROOM])
{
    const size_t n = strcspn(checkpoint, "["), length = n > 0 && checkpoint[n] && checkpoint[n - 1] == ' ' ? n - 1 : n;
    snprintf(name, MODEL_NAME_ROOM, "%.*s", (int)(length < MODEL_NAME_ROOM ? length : MODEL_NAME_ROOM), checkpoint);
}

bool webui_wanted_model(const json_value *settings, const char **wanted, fault *f)
{
    *wanted = json_string_value(json_object_get(settings, "sd_model_checkpoint"));
    return *wanted || !request_has(settings, "sd_model_checkpoint") ||
           fault_set(f, FAULT_INVALID, "sd_model_checkpoint", "\"sd_model_checkpoint\" must be a string");
}

/* ---- <lora:NAME:0.8> ---- */

/* Into the request. One scale counts here for all, that of the transformer. */
static bool take_tag(job_request *r, const lora_tag *t, remarks *n, fault *f)
{
    const size_t bytes = (size_t)(t->end - t->begin);
    if (!t->is_number)
        return fault_set(f, FAULT_INVALID, "prompt", "\"prompt\": %.*s must be <lora:NAME:SCALE>",
                         (int)(bytes < 100 ? bytes : 100), t->begin);
    if (t->text_scale != t->scale)
        remarks_add(n, "%.*s: the text encoders had the transformer's scale, %g, too", (int)(bytes < 100 ? bytes : 100),
                    t->begin, t->scale);
    return request_add_lora(r, t->name, t->name_bytes, t->scale, f);
}

/* The prompt without its tags; what it was with them is kept. */
static bool take_tags(job_request *r, remarks *n, fault *f)
{
    lora_tag t;
    for (char *at = r->prompt; lora_tag_find(at, &t); at = lora_tag_cut(at, &t)) {
        if (!r->written && !(r->written = strdup(r->prompt)))
            return fault_set(f, FAULT_SERVER, NULL, "out of memory for a request");
        if (!take_tag(r, &t, n, f))
            return false;
    }
    return true;
}

/* ---- what is not ours ---- */

/* Neither null, false, empty, nor a number up to 0; nor one of these as a text, or "None". */
static bool is_on(const json_value *o, const char *key)
{
    const json_value *v = json_object_get(o, key);
    const char *text = json_string_value(v);
    bool flag = false;
    float number;
    fault f;
    if (json_is_number(v))
        return json_number_value(v) > 0;
    if (request_flag(o, key, &flag, &f))
        return flag;
    if (text && request_real(o, key, -TEXT_NUMBER_MAX, TEXT_NUMBER_MAX, &number, &f))
        return number > 0;
    return (text && text[0] && strcasecmp(text, "None") != 0) || json_array_size(v) > 0 || json_object_size(v) > 0;
}

static bool is_one_of(const char *text, const char *const *names)
{
    while (*names && strcasecmp(text, *names) != 0)
        names++;
    return *names != NULL;
}

/* A name of a sampler or scheduler that is none of FLUX.1's. */
static const char *other_name(const json_value *o, const char *key, const char *const *own)
{
    const char *name = json_string_value(json_object_get(o, key));
    return name && name[0] && !is_one_of(name, own) ? name : NULL;
}

static bool tell_of_sampling(const json_value *o, remarks *n, fault *f)
{
    static const char *const euler[] = {"Euler", "euler", "k_euler", NULL};
    static const char *const simple[] = {"Simple", "Automatic", NULL};
    const char *name;
    float scale = 1;
    if (!request_real(o, "cfg_scale", -TEXT_NUMBER_MAX, TEXT_NUMBER_MAX, &scale, f))
        return false;
    if ((name = other_name(o, "sampler_name", euler)))
        remarks_add(n, "sampler \"%.60s\": Euler was used, which is FLUX.1's", name);
    if ((name = other_name(o, "sampler_index", euler)))
        remarks_add(n, "sampler \"%.60s\": Euler was used, which is FLUX.1's", name);
    if ((name = other_name(o, "scheduler", simple)))
        remarks_add(n, "scheduler \"%.60s\": Simple was used, which is FLUX.1's", name);
    if (scale != 1)
        remarks_add(n,
                    "cfg_scale %g was ignored: FLUX.1's guidance is distilled_cfg_scale, and true_cfg_scale with a "
                    "negative prompt is classifier-free guidance",
                    (double)scale);
    return true;
}

/* Those that SillyTavern always sends change nothing of FLUX.1's. */
static void tell_of_settings(const json_value *o, remarks *n)
{
    static const char *const usual[] = {"sd_model_checkpoint", "CLIP_stop_at_last_layers", "sd_vae",
                                        "forge_additional_modules", NULL};
    const json_value *settings = json_object_get(o, "override_settings");
    const char *key;
    for (size_t i = 0; json_object_at(settings, i, &key); i++)
        if (!is_one_of(key, usual))
            remarks_add(n, "override_settings: \"%.60s\" was ignored", key);
}

static void tell_of_unused(const json_value *o, bool upscale, remarks *n)
{
#define UNUSED_RULE(member, rule) {member, rule},
    static const struct {
        const char *name;
        unused_rule rule;
    } unused[] = {UNUSED(UNUSED_RULE)};
#undef UNUSED_RULE
    if (upscale)
        remarks_add(n, "enable_hr was ignored: this server has no upscaling");
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        if (unused[i].rule == OFF && is_on(o, unused[i].name))
            remarks_add(n, "%s was ignored: this server has nothing like it", unused[i].name);
}

/* ---- scripts: their picture would be another one, and their own server refuses one that it does not have ---- */

/* Whether that script is given anything: {"args": [...]}, or whatever else is not empty. */
static bool has_arguments(const json_value *all, const char *name)
{
    const json_value *script = json_object_get(all, name);
    return json_object_get(script, "args") ? is_on(script, "args") : is_on(all, name);
}

static bool check_scripts(const json_value *o, remarks *n, fault *f)
{
    const char *name = json_string_value(json_object_get(o, "script_name")), *key;
    const json_value *all = json_object_get(o, "alwayson_scripts");
    if (name && name[0])
        return fault_set(f, FAULT_UNPROCESSABLE, "script_name",
                         "\"script_name\": there is no script \"%.60s\": this server has none", name);
    for (size_t i = 0; json_object_at(all, i, &key); i++) {
        if (has_arguments(all, key))
            return fault_set(f, FAULT_UNPROCESSABLE, "alwayson_scripts",
                             "\"alwayson_scripts\": there is no script \"%.60s\": this server has none", key);
        remarks_add(n, "the script \"%.60s\" was ignored: this server has none", key);
    }
    return true;
}

static bool read_wishes(const json_value *o, job_request *r, webui_wishes *w, fault *f)
{
    *w = (webui_wishes){.size = 1, .times = 1, .send = true};
    if (!request_read_fields(webui_wish_fields, o, w, f))
        return false;
    if (w->size * w->times > REQUEST_COUNT_MAX)
        return fault_set(f, FAULT_INVALID, "n_iter", "batch_size %d times n_iter %d: at most %d pictures", w->size,
                         w->times, REQUEST_COUNT_MAX);
    r->count = w->size * w->times;
    return true;
}

bool webui_request_read(const json_value *o, job_request *r, webui_wishes *w, remarks *n, fault *f)
{
    if (!request_read_common(o, r, f) || !request_read_fields(webui_fields, o, r, f) || !read_wishes(o, r, w, f) ||
        !take_tags(r, n, f) || !check_scripts(o, n, f) || !tell_of_sampling(o, n, f))
        return false;
    if (r->negative_prompt && !r->negative_prompt[0] && !request_has(o, "true_cfg_scale")) { /* they always send one */
        free(r->negative_prompt);
        r->negative_prompt = NULL;
    }
    tell_of_settings(o, n);
    tell_of_unused(o, w->upscale, n);
    request_note_unknown(o, request_common_fields, webui_fields, webui_wish_fields, n);
    r->preview_every = r->steps < 8 ? 1 : r->steps / 8; /* for current_image */
    return request_check_seeds(r, f);
}
