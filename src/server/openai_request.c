#include "server/openai_request.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COUNT_MAX 10
#define PARTIAL_MAX 3

const request_field openai_fields[] = {
    {"model", FIELD_OTHER, .text = "One of /v1/models; OpenAI's names stand for the first.",
     .schema = "{\"type\": [\"string\", \"null\"]}"},
    {"n", FIELD_WHOLE, 1, COUNT_MAX, offsetof(job_request, count), .text = "Pictures, whose seeds count up."},
    {"size", FIELD_OTHER, .text = "Width and height such as 1024x768, or \"auto\": in place of width and height.",
     .schema = "{\"type\": [\"string\", \"null\"], \"pattern\": \"^(auto|[0-9]+x[0-9]+)?$\"}"},
    {"output_format", FIELD_FORMAT, .place = offsetof(job_request, format), .text = "Of the files."},
    {"output_compression", FIELD_WHOLE, 0, 100, offsetof(job_request, quality), .text = "Quality of JPEG and WebP."},
    {"quality", FIELD_OTHER, .text = "Ignored.", .schema = "{}"},
    {"background", FIELD_OTHER, .text = "Ignored, with a note where it is not opaque or auto: pictures are opaque.",
     .schema = "{}"},
    {"user", FIELD_OTHER, .text = "Ignored.", .schema = "{}"},
    {"moderation", FIELD_OTHER, .text = "Ignored.", .schema = "{}"},
    {"response_format", FIELD_OTHER,
     .text = "Default: b64_json; with a model dall-e-2 or dall-e-3 url, as OpenAI has it.",
     .schema = "{\"enum\": [\"url\", \"b64_json\", null]}"},
    {0}};

const request_field openai_wish_fields[] = {
    {"stream", FIELD_FLAG, .place = offsetof(openai_wishes, stream), .text = "Answer with server-sent events."},
    {"partial_images", FIELD_WHOLE, 0, PARTIAL_MAX, offsetof(openai_wishes, partial), .text = "Previews in a stream."},
    {0}};

bool openai_wanted_model(const json_value *o, const char *model, const char **wanted, remarks *n, fault *f)
{
    static const char *const theirs[] = {"dall-e", "gpt-image", "chatgpt-image", "flux1", "default"};
    *wanted = json_string_value(json_object_get(o, "model"));
    if (request_has(o, "model") && !*wanted)
        return fault_set(f, FAULT_INVALID, "model", "\"model\" must be a string");
    for (size_t i = 0; *wanted && i < sizeof theirs / sizeof *theirs; i++)
        if (strncasecmp(*wanted, theirs[i], strlen(theirs[i])) == 0) {
            remarks_add(n, "model \"%.60s\": %s was used", *wanted, model);
            *wanted = NULL;
        }
    return true;
}

/* 1 to 6 digits; moves *at behind them. 0: it is no such number. */
static int read_side(const char **at)
{
    const size_t digits = strspn(*at, "0123456789");
    const int side = digits > 0 && digits <= 6 ? atoi(*at) : 0;
    *at += digits;
    return side <= REQUEST_SIZE_MAX ? side : 0;
}

/* "1024x768" */
static bool read_sides(const char *text, int *width, int *height)
{
    *width = read_side(&text);
    if (*text++ != 'x')
        return false;
    *height = read_side(&text);
    return !*text && *width > 0 && *height > 0;
}

static bool read_size(const json_value *o, job_request *r, fault *f)
{
    const char *text = json_string_value(json_object_get(o, "size"));
    int width, height;
    if (!request_has(o, "size") || (text && (strcmp(text, "auto") == 0 || !text[0])))
        return true;
    if (!text || !read_sides(text, &width, &height))
        return fault_set(f, FAULT_INVALID, "size",
                         "\"size\" must be \"auto\", or width and height of at most %d pixels, such as 1024x768",
                         REQUEST_SIZE_MAX);
    r->width = width;
    r->height = height;
    return true;
}

/* Programs that name one of the dall-e models read addresses unless they ask for bytes. */
static bool read_response_format(const json_value *o, openai_wishes *w, fault *f)
{
    const char *text = json_string_value(json_object_get(o, "response_format"));
    const char *model = json_string_value(json_object_get(o, "model"));
    w->url = model && strncasecmp(model, "dall-e", strlen("dall-e")) == 0;
    if (!request_has(o, "response_format"))
        return true;
    if (!text || (strcmp(text, "url") != 0 && strcmp(text, "b64_json") != 0))
        return fault_set(f, FAULT_INVALID, "response_format", "\"response_format\" must be \"url\" or \"b64_json\"");
    w->url = strcmp(text, "url") == 0;
    return true;
}

/* Their 0 is the smallest file. */
static void raise_compression(const json_value *o, job_request *r)
{
    if (request_has(o, "output_compression") && r->quality < 1)
        r->quality = 1;
}

/* Partial pictures at equal distances, none after the last step. */
static void set_previews(job_request *r, const openai_wishes *w)
{
    const int parts = w->partial + 1;
    r->preview_every = w->partial && w->stream ? (r->steps + parts - 1) / parts : 0;
}

static void tell_of_background(const json_value *o, remarks *n)
{
    const char *text = json_string_value(json_object_get(o, "background"));
    if (text && strcmp(text, "opaque") != 0 && strcmp(text, "auto") != 0)
        remarks_add(n, "background \"%.60s\" was ignored: pictures are opaque", text);
}

bool openai_request_read(const json_value *o, job_request *r, openai_wishes *w, remarks *n, fault *f)
{
    if (!read_size(o, r, f) || !request_read_common(o, r, f) || !request_read_fields(openai_fields, o, r, f) ||
        !request_read_fields(openai_wish_fields, o, w, f) || !read_response_format(o, w, f) ||
        !request_check_seeds(r, f))
        return false;
    raise_compression(o, r);
    set_previews(r, w);
    tell_of_background(o, n);
    request_note_unknown(o, request_common_fields, openai_fields, openai_wish_fields, n);
    request_note_tag(r, n);
    return true;
}
