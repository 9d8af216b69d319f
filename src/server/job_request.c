#include "server/job_request.h"

#include "base/lora_tag.h"
#include "server/random.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NUMBER_MAX 40 /* characters of a number that is given as text */

static const struct {
    const char *name, *ending, *type;
} formats[] = {[FLUX1_FORMAT_AUTO] = {"png", "png", "image/png"},
               [FLUX1_FORMAT_PNG] = {"png", "png", "image/png"},
               [FLUX1_FORMAT_JPEG] = {"jpeg", "jpg", "image/jpeg"},
               [FLUX1_FORMAT_WEBP] = {"webp", "webp", "image/webp"}};

const char *format_name(flux1_format format) { return formats[format].name; }
const char *format_ending(flux1_format format) { return formats[format].ending; }
const char *format_type(flux1_format format) { return formats[format].type; }

bool request_begin(const job_request *defaults, job_request *out, fault *f)
{
    *out = *defaults;
    out->model = out->prompt = out->written = out->negative_prompt = NULL;
    out->loras = 0;
    uint32_t seed; /* 32 bits are enough to choose from, and short enough to be typed again */
    if (!random_bytes(&seed, sizeof seed))
        return fault_set(f, FAULT_SERVER, NULL, "the system gives no random numbers");
    out->seed = seed;
    return true;
}

void request_free(job_request *r)
{
    free(r->model);
    free(r->prompt);
    free(r->written);
    free(r->negative_prompt);
    for (int i = 0; i < r->loras; i++)
        free(r->lora[i].name);
    *r = (job_request){0};
}

/* ---- one value ---- */

bool request_has(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    return v && !json_is_null(v);
}

/* A number, or a text that is one. False: neither, or not finite. */
static bool number_of(const json_value *v, double *out)
{
    char *end;
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return isfinite(*out);
    }
    const char *text = json_string_value(v);
    if (!text || !text[0] || json_string_length(v) > NUMBER_MAX ||
        strspn(text, "0123456789.eE+-") != json_string_length(v))
        return false;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool read_whole(const json_value *object, const char *key, int lowest, int highest, int *out, fault *f)
{
    double value;
    if (!request_has(object, key))
        return true;
    if (!number_of(json_object_get(object, key), &value) || value != floor(value))
        return fault_set(f, FAULT_INVALID, key, "\"%s\" must be a whole number from %d to %d", key, lowest, highest);
    if (value < lowest || value > highest)
        return fault_set(f, FAULT_INVALID, key, "\"%s\" is %.17g: it must be from %d to %d", key, value, lowest,
                         highest);
    *out = (int)value;
    return true;
}

bool request_real(const json_value *object, const char *key, double lowest, double highest, float *out, fault *f)
{
    double value;
    if (!request_has(object, key))
        return true;
    if (!number_of(json_object_get(object, key), &value) || value < lowest || value > highest)
        return fault_set(f, FAULT_INVALID, key, "\"%s\" must be a number from %g to %g", key, lowest, highest);
    *out = (float)value;
    return true;
}

bool request_text(const json_value *object, const char *key, char **out, fault *f)
{
    const json_value *v = json_object_get(object, key);
    if (!request_has(object, key))
        return true;
    if (!json_is_string(v))
        return fault_set(f, FAULT_INVALID, key, "\"%s\" must be a string", key);
    if (json_string_length(v) > REQUEST_PROMPT_MAX)
        return fault_set(f, FAULT_INVALID, key, "\"%s\" has %zu bytes: at most %d", key, json_string_length(v),
                         REQUEST_PROMPT_MAX);
    char *copy = strdup(json_string_value(v));
    if (!copy)
        return fault_set(f, FAULT_SERVER, NULL, "out of memory for a request");
    free(*out);
    *out = copy;
    return true;
}

/* true, 1, and the same as a text, in any case ("True" is Python's). */
static bool flag_of(const json_value *v, bool *out)
{
    const char *text = json_string_value(v);
    double number;
    if (number_of(v, &number)) {
        *out = number == 1;
        return number == 0 || number == 1;
    }
    *out = json_is_true(v) || (text && strcasecmp(text, "true") == 0);
    return *out || json_is(v, JSON_FALSE) || (text && strcasecmp(text, "false") == 0);
}

bool request_flag(const json_value *object, const char *key, bool *out, fault *f)
{
    bool flag;
    if (!request_has(object, key))
        return true;
    if (!flag_of(json_object_get(object, key), &flag))
        return fault_set(f, FAULT_INVALID, key, "\"%s\" must be true or false", key);
    *out = flag;
    return true;
}

/* 0 to 2^64 - 1, or -1. */
static bool seed_of(const json_value *v, bool *random, uint64_t *out)
{
    char *end;
    const char *text = json_string_value(v);
    *random = false;
    if (json_is(v, JSON_UNSIGNED)) {
        *out = v->large;
        return true;
    }
    if (json_is_integer(v)) {
        *random = v->integer == -1;
        *out = (uint64_t)v->integer;
        return v->integer >= -1;
    }
    if (json_is_real(v)) { /* what JavaScript makes of it */
        *random = v->real == -1;
        *out = v->real >= 0 && v->real < 0x1p63 ? (uint64_t)v->real : 0;
        return *random || (v->real >= 0 && v->real < 0x1p63 && v->real == floor(v->real));
    }
    if (!text || !text[0] || json_string_length(v) > NUMBER_MAX)
        return false;
    if (strcmp(text, "-1") == 0)
        return *random = true;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[strspn(text, "0123456789")] == '\0' && errno == 0;
}

/* -1: *out stays as it is. */
static bool read_seed(const json_value *object, const char *key, uint64_t *out, fault *f)
{
    bool random;
    uint64_t seed = 0;
    if (!request_has(object, key))
        return true;
    if (!seed_of(json_object_get(object, key), &random, &seed))
        return fault_set(f, FAULT_INVALID, key,
                         "\"%s\" must be a whole number from 0 to 18446744073709551615, or -1 for a random one", key);
    if (!random)
        *out = seed;
    return true;
}

static bool read_format(const json_value *object, const char *key, flux1_format *out, fault *f)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!request_has(object, key))
        return true;
    for (int i = FLUX1_FORMAT_PNG; text && i <= FLUX1_FORMAT_WEBP; i++)
        if (strcmp(text, formats[i].name) == 0 || strcmp(text, formats[i].ending) == 0) {
            *out = (flux1_format)i;
            return true;
        }
    return fault_set(f, FAULT_INVALID, key, "\"%s\" must be \"png\", \"jpeg\" or \"webp\"", key);
}

/* "fb:0.12", off, 0.12. */
static bool read_step_cache(const json_value *object, const char *key, float *out, fault *f)
{
    const json_value *v = json_object_get(object, key);
    const char *text = json_string_value(v);
    double value = 0;
    char *end = NULL;
    if (!request_has(object, key))
        return true;
    const bool fb = text && strncmp(text, "fb:", 3) == 0 && text[3 + strspn(text + 3, "0123456789.eE+-")] == '\0';
    if (fb)
        value = (double)strtof(text + 3, &end);
    const bool good = fb ? *end == '\0' && value > 0 : text ? strcmp(text, "off") == 0 : number_of(v, &value);
    if (!good || !isfinite(value) || value < 0 || value > 100)
        return fault_set(f, FAULT_INVALID, key,
                         "\"%s\" must be \"off\", or \"fb:\" and a threshold above 0 and at most 100, such as fb:0.12",
                         key);
    *out = (float)value;
    return true;
}

/* ---- adapters ---- */

bool request_add_lora(job_request *r, const char *name, size_t bytes, double scale, fault *f)
{
    if (bytes == 0)
        return fault_set(f, FAULT_INVALID, "lora", "\"lora\": a name is missing");
    if (!isfinite(scale) || fabs(scale) > 1000)
        return fault_set(f, FAULT_INVALID, "lora", "\"lora\": the scale of \"%.*s\" must be a number such as 0.8",
                         (int)(bytes < 200 ? bytes : 200), name);
    if (r->loras == REQUEST_LORAS_MAX)
        return fault_set(f, FAULT_INVALID, "lora", "\"lora\": at most %d", REQUEST_LORAS_MAX);
    char *copy = strndup(name, bytes);
    if (!copy)
        return fault_set(f, FAULT_SERVER, NULL, "out of memory for a request");
    r->lora[r->loras++] = (request_lora){copy, (float)scale};
    return true;
}

/* "NAME", "NAME:SCALE", or {"name", "scale"}. */
static bool read_lora(const json_value *v, job_request *r, fault *f)
{
    const json_value *name = json_is_object(v) ? json_object_get(v, "name") : v;
    const json_value *scale = json_object_get(v, "scale");
    const char *text = json_string_value(name), *colon;
    double number = 1;
    char *end;
    if (!text || (scale && !json_is_null(scale) && !number_of(scale, &number)))
        return fault_set(f, FAULT_INVALID, "lora",
                         "\"lora\" must be a list of objects such as {\"name\": \"detail\", \"scale\": 0.8}");
    size_t bytes = json_string_length(name);
    if (!json_is_object(v) && (colon = strrchr(text, ':')) && colon[1]) {
        number = strtod(colon + 1, &end);
        bytes = *end ? bytes : (size_t)(colon - text);
        number = *end ? 1 : number;
    }
    return request_add_lora(r, text, bytes, number, f);
}

static bool read_loras(const json_value *object, const char *key, job_request *r, fault *f)
{
    const json_value *v = json_object_get(object, key);
    if (!request_has(object, key))
        return true;
    if (!json_is_array(v))
        return read_lora(v, r, f);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!read_lora(json_array_get(v, i), r, f))
            return false;
    return true;
}

/* ---- whole requests ---- */

#define PLACE(member) offsetof(job_request, member)

const request_field request_common_fields[] = {
    {"prompt", FIELD_TEXT, 1, .place = PLACE(prompt), .text = "What the picture shows; not empty."},
    {"negative_prompt", FIELD_TEXT, .place = PLACE(negative_prompt),
     .text = "What it does not show; counts where true_cfg_scale is above 1."},
    {"true_cfg_scale", FIELD_REAL, 0, 1000, PLACE(true_cfg_scale), .text = "Classifier-free guidance; 1: off."},
    {"width", FIELD_WHOLE, 1, REQUEST_SIZE_MAX, PLACE(width),
     .text = "Pixels; rounded down to what the model can make."},
    {"height", FIELD_WHOLE, 1, REQUEST_SIZE_MAX, PLACE(height),
     .text = "Pixels; rounded down to what the model can make."},
    {"steps", FIELD_WHOLE, 1, REQUEST_STEPS_MAX, PLACE(steps), .text = "Denoising steps."},
    {"guidance", FIELD_REAL, 0, 1000, PLACE(guidance), .text = "Distilled guidance; null where the model has none."},
    {"seed", FIELD_SEED, .place = PLACE(seed), .text = "Of the first picture; -1: a random one."},
    {"step_cache", FIELD_STEP_CACHE, .place = PLACE(step_cache),
     .text = "\"off\", or \"fb:\" and the threshold of the first-block cache."},
    {"max_sequence_length", FIELD_WHOLE, 1, REQUEST_TOKENS_MAX, PLACE(max_sequence_length), .text = "Tokens of T5."},
    {"lora", FIELD_LORAS, .text = "Adapters of the server's folder: {\"name\", \"scale\"}, or \"NAME:SCALE\"."},
    {0}};

const request_field request_own_fields[] = {
    {"model", FIELD_OTHER, .text = "One of /v1/models.", .schema = "{\"type\": [\"string\", \"null\"]}"},
    {"count", FIELD_WHOLE, 1, REQUEST_COUNT_MAX, PLACE(count), .text = "Pictures, whose seeds count up."},
    {"format", FIELD_FORMAT, .place = PLACE(format), .text = "Of the files."},
    {"quality", FIELD_WHOLE, 1, 100, PLACE(quality), .text = "Of JPEG and WebP."},
    {"preview_every", FIELD_WHOLE, 0, REQUEST_STEPS_MAX, PLACE(preview_every),
     .text = "Steps between previews; 0: none."},
    {0}};

static bool read_field(const request_field *d, const json_value *o, void *into, fault *f)
{
    void *at = (char *)into + d->place;
    switch (d->type) {
    case FIELD_TEXT: return request_text(o, d->name, at, f);
    case FIELD_WHOLE: return read_whole(o, d->name, (int)d->lowest, (int)d->highest, at, f);
    case FIELD_REAL: return request_real(o, d->name, d->lowest, d->highest, at, f);
    case FIELD_FLAG: return request_flag(o, d->name, at, f);
    case FIELD_SEED: return read_seed(o, d->name, at, f);
    case FIELD_FORMAT: return read_format(o, d->name, at, f);
    case FIELD_STEP_CACHE: return read_step_cache(o, d->name, at, f);
    case FIELD_LORAS: return read_loras(o, d->name, into, f);
    case FIELD_OTHER: break;
    }
    return true;
}

bool request_read_fields(const request_field *fields, const json_value *object, void *into, fault *f)
{
    for (; fields->name; fields++)
        if (!read_field(fields, object, into, f))
            return false;
    return true;
}

bool request_read_common(const json_value *o, job_request *r, fault *f)
{
    if (!json_is_object(o))
        return fault_set(f, FAULT_INVALID, NULL, "the body must be a JSON object such as {\"prompt\": \"a red fox\"}");
    if (!request_has(o, "prompt"))
        return fault_set(f, FAULT_INVALID, "prompt", "\"prompt\" is missing");
    if (!request_read_fields(request_common_fields, o, r, f))
        return false;
    return r->prompt[strspn(r->prompt, " \t\r\n")] != '\0' ||
           fault_set(f, FAULT_INVALID, "prompt", "\"prompt\" is empty");
}

bool request_check_seeds(const job_request *r, fault *f)
{
    return r->seed <= UINT64_MAX - (uint64_t)(r->count - 1) ||
           fault_set(f, FAULT_INVALID, "seed",
                     "\"seed\" is %" PRIu64 " with %d pictures: the last one's would be "
                     "beyond 18446744073709551615",
                     r->seed, r->count);
}

static bool is_named(const request_field *fields, const char *key)
{
    for (; fields && fields->name; fields++)
        if (strcmp(fields->name, key) == 0)
            return true;
    return false;
}

void request_note_unknown(const json_value *object, const request_field *fields, const request_field *others,
                          const request_field *more, remarks *n)
{
    const char *key;
    for (size_t i = 0; json_object_at(object, i, &key); i++)
        if (!is_named(fields, key) && !is_named(others, key) && !is_named(more, key))
            remarks_add(n, "\"%.100s\" is not known here and was ignored", key);
}

void request_note_tag(const job_request *r, remarks *n)
{
    lora_tag t;
    if (lora_tag_find(r->prompt, &t))
        remarks_add(n, "%.*s is a part of the prompt here, and adds no adapter; \"lora\" does",
                    t.end - t.begin < 100 ? (int)(t.end - t.begin) : 100, t.begin);
}

bool request_read(const json_value *object, job_request *r, remarks *n, fault *f)
{
    if (!request_read_common(object, r, f) || !request_read_fields(request_own_fields, object, r, f))
        return false;
    request_note_unknown(object, request_common_fields, request_own_fields, NULL, n);
    request_note_tag(r, n);
    return request_check_seeds(r, f);
}

/* ---- writing ---- */

void request_put(json_writer *w, const char *key, const job_request *r)
{
    char seed[24], cache[JSON_NUMBER_ROOM + 8];
    builder b = {0};
    json_begin_object(w, key);
    if (r->model)
        json_put_string(w, "model", r->model);
    json_put_string(w, "prompt", r->prompt);
    if (r->negative_prompt)
        json_put_string(w, "negative_prompt", r->negative_prompt);
    json_put_float(w, "true_cfg_scale", r->true_cfg_scale);
    json_put_integer(w, "width", r->width);
    json_put_integer(w, "height", r->height);
    json_put_integer(w, "steps", r->steps);
    if (r->guidance >= 0)
        json_put_float(w, "guidance", r->guidance);
    else
        json_put_null(w, "guidance");
    snprintf(seed, sizeof seed, "%" PRIu64, r->seed);
    json_put_string(w, "seed", seed);
    json_put_integer(w, "count", r->count);
    builder_add(&b, "fb:");
    builder_float(&b, r->step_cache);
    snprintf(cache, sizeof cache, "%s", b.text && r->step_cache > 0 ? b.text : "off");
    builder_free(&b);
    json_put_string(w, "step_cache", cache);
    json_put_integer(w, "max_sequence_length", r->max_sequence_length);
    json_begin_array(w, "lora");
    for (int i = 0; i < r->loras; i++) {
        json_begin_object(w, NULL);
        json_put_string(w, "name", r->lora[i].name);
        json_put_float(w, "scale", r->lora[i].scale);
        json_end_object(w);
    }
    json_end_array(w);
    json_put_string(w, "format", format_name(r->format));
    json_put_integer(w, "quality", r->quality ? r->quality : 90);
    json_put_integer(w, "preview_every", r->preview_every);
    json_end_object(w);
}
