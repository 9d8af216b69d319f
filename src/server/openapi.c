#include "server/openapi.h"

#include "flux1.h"
#include "server/openai_request.h"
#include "server/routes.h"
#include "server/webui_request.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 40
#define ID_MAX_BYTES 64 /* of "POST/v1/images/generations" and the like */

/* ---- fields of requests ---- */

static void put_texts(json_writer *w, const char *key, const char *const *texts)
{
    json_begin_array(w, key);
    for (; *texts; texts++)
        json_put_string(w, NULL, *texts);
    json_end_array(w);
}

/* Absent and null are the same, and a number may be given as a text. */
static void put_types(json_writer *w, field_type type)
{
    static const char *const text[] = {"string", "null", NULL}, *const whole[] = {"integer", "string", "null", NULL},
                             *const real[] = {"number", "string", "null", NULL},
                             *const flag[] = {"boolean", "integer", "string", "null", NULL},
                             *const list[] = {"array", "object", "string", "null", NULL};
    static const char *const *const types[] = {
        [FIELD_TEXT] = text,  [FIELD_WHOLE] = whole, [FIELD_REAL] = real,       [FIELD_FLAG] = flag,
        [FIELD_SEED] = whole, [FIELD_FORMAT] = text, [FIELD_STEP_CACHE] = real, [FIELD_LORAS] = list};
    put_texts(w, "type", types[type]);
}

static void put_range(json_writer *w, const request_field *d)
{
    if (d->type == FIELD_SEED) {
        json_put_integer(w, "minimum", -1);
        json_put_unsigned(w, "maximum", UINT64_MAX);
    } else {
        json_put_integer(w, "minimum", (int64_t)d->lowest);
        json_put_integer(w, "maximum", (int64_t)d->highest);
    }
}

static void put_formats(json_writer *w)
{
    json_begin_array(w, "enum");
    for (int i = FLUX1_FORMAT_PNG; i <= FLUX1_FORMAT_WEBP; i++) {
        const char *name = format_name((flux1_format)i), *ending = format_ending((flux1_format)i);
        json_put_string(w, NULL, name);
        if (strcmp(name, ending) != 0)
            json_put_string(w, NULL, ending);
    }
    json_put_null(w, NULL);
    json_end_array(w);
}

/* {"name", "scale"} for each, or its text. */
static void put_lora(json_writer *w)
{
    static const char *const types[] = {"object", "string", NULL};
    json_put_integer(w, "maxItems", REQUEST_LORAS_MAX);
    json_begin_object(w, "items");
    put_texts(w, "type", types);
    json_begin_object(w, "properties");
    json_begin_object(w, "name");
    json_put_string(w, "type", "string");
    json_end_object(w);
    json_begin_object(w, "scale");
    put_types(w, FIELD_REAL);
    json_end_object(w);
    json_end_object(w);
    json_end_object(w);
}

/* All members of a JSON text that is part of the program. */
static void put_members(json_writer *w, const char *text)
{
    json_value *root = NULL;
    const json_value *v;
    const char *key;
    if (json_parse(text, strlen(text), "a schema", &root, NULL) != FLUX1_OK)
        w->text.failed = true;
    for (size_t i = 0; (v = json_object_at(root, i, &key)); i++)
        json_put_value(w, key, v);
    json_free(root);
}

static void put_field(json_writer *w, const request_field *d)
{
    json_begin_object(w, d->name);
    json_put_string(w, "description", d->text);
    if (d->type == FIELD_OTHER)
        put_members(w, d->schema);
    else
        put_types(w, d->type);
    if (d->type == FIELD_WHOLE || d->type == FIELD_REAL || d->type == FIELD_SEED)
        put_range(w, d);
    if (d->type == FIELD_TEXT) {
        json_put_integer(w, "minLength", (int64_t)d->lowest);
        json_put_integer(w, "maxLength", REQUEST_PROMPT_MAX);
    }
    if (d->type == FIELD_FORMAT)
        put_formats(w);
    if (d->type == FIELD_LORAS)
        put_lora(w);
    json_end_object(w);
}

/* The common fields and those of two more tables, the second of which may be NULL. */
static void put_request(json_writer *w, const char *name, const request_field *others, const request_field *more)
{
    const request_field *const tables[] = {request_common_fields, others, more};
    static const char *const required[] = {"prompt", NULL};
    json_begin_object(w, name);
    json_put_string(w, "type", "object");
    put_texts(w, "required", required);
    json_begin_object(w, "properties");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const request_field *d = tables[i]; d && d->name; d++)
            put_field(w, d);
    json_end_object(w);
    json_put_bool(w, "additionalProperties", true);
    json_end_object(w);
}

static void put_components(json_writer *w)
{
    json_begin_object(w, "components");
    json_begin_object(w, "schemas");
    put_request(w, "JobRequest", request_own_fields, NULL);
    put_request(w, "ImagesRequest", openai_fields, openai_wish_fields);
    put_request(w, "Txt2ImgRequest", webui_fields, webui_wish_fields);
    put_members(w, openapi_schemas);
    json_end_object(w);
    json_begin_object(w, "securitySchemes");
    json_begin_object(w, "key");
    json_put_string(w, "type", "http");
    json_put_string(w, "scheme", "bearer");
    json_end_object(w);
    json_end_object(w);
    json_end_object(w);
}

/* ---- paths ---- */

typedef struct operation {
    const char *method, *path;
    route_access access;
    const char *query, *takes, *answers, *summary;
} operation;

static const operation operations[] = {
#define OPERATION_ROW(method, path, who, bytes, handler, query, takes, answers, summary) \
    {method, path, ROUTE_##who, query, takes, answers, summary},
    ROUTE_TABLE(OPERATION_ROW)
#undef OPERATION_ROW
};

#define OPERATIONS (sizeof operations / sizeof *operations)

/* text[0..count): "Job", or "image/png". */
static void put_content(json_writer *w, const char *text, size_t count)
{
    char name[NAME_MAX_BYTES], reference[NAME_MAX_BYTES + 32];
    snprintf(name, sizeof name, "%.*s", (int)count, text);
    const bool media = strchr(name, '/') != NULL;
    json_begin_object(w, media ? name : "application/json");
    if (!media) {
        snprintf(reference, sizeof reference, "#/components/schemas/%s", name);
        json_begin_object(w, "schema");
        json_put_string(w, "$ref", reference);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_contents(json_writer *w, const char *text, size_t count)
{
    json_begin_object(w, "content");
    for (const char *end = text + count; text < end;) {
        const char *bar = memchr(text, '|', (size_t)(end - text)), *stop = bar ? bar : end;
        put_content(w, text, (size_t)(stop - text));
        text = bar ? bar + 1 : end;
    }
    json_end_object(w);
}

/* "200 Job, 204", and the form of all errors. */
static void put_answers(json_writer *w, const char *answers)
{
    char status[4];
    json_begin_object(w, "responses");
    while (*answers) {
        const size_t count = strcspn(answers, ",");
        snprintf(status, sizeof status, "%.3s", answers);
        json_begin_object(w, status);
        json_put_string(w, "description", status[0] == '2' ? "Done" : "Refused");
        if (count > 4)
            put_contents(w, answers + 4, count - 4);
        json_end_object(w);
        answers += count + strspn(answers + count, ", ");
    }
    json_begin_object(w, "default");
    json_put_string(w, "description", "What went wrong");
    put_contents(w, "Error", strlen("Error"));
    json_end_object(w);
    json_end_object(w);
}

static void put_parameter(json_writer *w, const char *name, size_t count, const char *place)
{
    char text[NAME_MAX_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)count, name);
    json_begin_object(w, NULL);
    json_put_string(w, "name", text);
    json_put_string(w, "in", place);
    json_put_bool(w, "required", strcmp(place, "path") == 0);
    json_begin_object(w, "schema");
    json_put_string(w, "type", "string");
    json_end_object(w);
    json_end_object(w);
}

static void put_parameters(json_writer *w, const operation *r)
{
    json_begin_array(w, "parameters");
    if (strchr(r->path, '*'))
        put_parameter(w, "name", strlen("name"), "path");
    for (const char *at = r->query; *at; at += strspn(at, " ")) {
        const size_t count = strcspn(at, " ");
        put_parameter(w, at, count, "query");
        at += count;
    }
    json_end_array(w);
}

static void put_security(json_writer *w, const operation *r, bool keys)
{
    json_begin_array(w, "security");
    if (keys && r->access != ROUTE_OPEN) {
        json_begin_object(w, NULL);
        json_begin_array(w, "key");
        json_end_array(w);
        json_end_object(w);
    }
    json_end_array(w);
}

/* The method and the path's words, joined by underscores. */
static void put_id(json_writer *w, const operation *r)
{
    char id[ID_MAX_BYTES];
    size_t n = (size_t)snprintf(id, sizeof id, "%s%s", r->method, r->path);
    for (size_t i = 0; i < n && i < sizeof id; i++)
        id[i] = (char)(isalnum((unsigned char)id[i]) ? tolower((unsigned char)id[i]) : '_');
    json_put_string(w, "operationId", id);
}

static void put_operation(json_writer *w, const operation *r, bool keys)
{
    char method[ID_MAX_BYTES];
    for (size_t i = 0; i <= strlen(r->method); i++)
        method[i] = (char)tolower((unsigned char)r->method[i]);
    json_begin_object(w, method);
    put_id(w, r);
    json_put_string(w, "summary", r->summary);
    put_parameters(w, r);
    if (r->takes[0]) {
        json_begin_object(w, "requestBody");
        json_put_bool(w, "required", true);
        put_contents(w, r->takes, strlen(r->takes));
        json_end_object(w);
    }
    put_answers(w, r->answers);
    put_security(w, r, keys);
    json_end_object(w);
}

/* The operations of one path, which is written where it stands first in the table. */
static void put_path(json_writer *w, size_t first, bool keys)
{
    const operation *one = &operations[first];
    const char *star = strchr(one->path, '*');
    builder path = {0};
    for (size_t i = 0; i < first; i++)
        if (strcmp(operations[i].path, one->path) == 0)
            return;
    builder_add_bytes(&path, one->path, star ? (size_t)(star - one->path) : strlen(one->path));
    if (star)
        builder_format(&path, "{name}%s", star + strspn(star, "*"));
    json_begin_object(w, path.text ? path.text : "");
    for (size_t i = first; i < OPERATIONS; i++)
        if (strcmp(operations[i].path, one->path) == 0)
            put_operation(w, &operations[i], keys);
    json_end_object(w);
    w->text.failed |= path.failed;
    builder_free(&path);
}

void openapi_get(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    json_put_string(&w, "openapi", "3.1.0");
    json_begin_object(&w, "info");
    json_put_string(&w, "title", "flux1 serve");
    json_put_string(&w, "version", flux1_version());
    json_end_object(&w);
    json_begin_object(&w, "paths");
    for (size_t i = 0; i < OPERATIONS; i++)
        put_path(&w, i, x->server->settings.key_count > 0);
    json_end_object(&w);
    put_components(&w);
    json_end_object(&w);
    answer_json(x, 200, &w);
}
