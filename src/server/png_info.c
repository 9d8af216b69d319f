#include "server/png_info.h"

#include "base/file.h"
#include "flux1_tools.h"
#include "server/failure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool png_info_of_file(server *s, const char *path, json_value **facts, fault *f)
{
    char *text = NULL;
    flux1_error err = {0};
    *facts = NULL;
    pthread_mutex_lock(&s->reading);
    const flux1_status st = flux1_picture_json(s->engine.reader, path, &text);
    const char *message = flux1_context_message(s->engine.reader), *rest = message;
    if (st == FLUX1_ERR_FORMAT || st == FLUX1_ERR_LIMIT) {
        if (strncmp(message, path, strlen(path)) == 0 && message[strlen(path)] == ':')
            rest += strlen(path) + 1 + (message[strlen(path) + 1] == ' ');
        fault_set(f, FAULT_INVALID, NULL, "the picture: %s", rest);
    } else if (st != FLUX1_OK)
        failure_fault(s, f, st, "the picture cannot be read", message);
    pthread_mutex_unlock(&s->reading);
    const bool good = st == FLUX1_OK && json_parse(text, strlen(text), "the picture", facts, &err) == FLUX1_OK;
    if (st == FLUX1_OK && !good)
        fault_set(f, FAULT_SERVER, NULL, "%s", err.message);
    flux1_string_free(text);
    return good;
}

/* The library reads files: the bytes are one for as long. */
bool png_info_read(server *s, const char *bytes, size_t count, json_value **facts, fault *f)
{
    flux1_error err = {0};
    char *path = NULL;
    *facts = NULL;
    if (count == 0)
        return fault_set(f, FAULT_INVALID, NULL, "there is no picture: it is empty");
    if (history_write_scratch(s->history, bytes, count, &path, &err) != FLUX1_OK)
        return failure_write(s, f, &err, "the picture cannot be stored for a moment, to be read");
    const bool good = png_info_of_file(s, path, facts, f);
    unlink(path);
    free(path);
    return good;
}

/* ---- as a request ---- */

static void put_seed(json_writer *w, const json_value *seed)
{
    char text[24];
    if (json_is(seed, JSON_UNSIGNED))
        snprintf(text, sizeof text, "%" PRIu64, seed->large);
    else if (json_is_integer(seed) && seed->integer >= 0)
        snprintf(text, sizeof text, "%" PRId64, seed->integer);
    else
        return;
    json_put_string(w, "seed", text);
}

/* "folder/name.safetensors:0.8" */
static void put_lora(json_writer *w, const json_value *lora)
{
    static const char ending[] = ".safetensors";
    const char *text = json_string_value(lora), *slash = text ? strrchr(text, '/') : NULL;
    if (!text)
        return;
    const char *name = slash ? slash + 1 : text, *colon = strrchr(name, ':');
    size_t n = colon ? (size_t)(colon - name) : strlen(name);
    if (n > strlen(ending) && memcmp(name + n - strlen(ending), ending, strlen(ending)) == 0)
        n -= strlen(ending);
    char *stem = strndup(name, n);
    json_begin_object(w, NULL);
    json_put_string(w, "name", stem);
    json_put_real(w, "scale", colon ? strtod(colon + 1, NULL) : 1);
    json_end_object(w);
    w->text.failed |= !stem;
    free(stem);
}

void png_info_put_request(json_writer *w, const char *key, const json_value *request)
{
    const json_value *list = json_object_get(request, "lora");
    json_begin_object(w, key);
    for (const request_field *field = request_common_fields; field->name; field++) {
        const json_value *v = json_object_get(request, field->name);
        if (!v || json_is_null(v) || v == list)
            continue;
        if (strcmp(field->name, "seed") == 0)
            put_seed(w, v);
        else
            json_put_value(w, field->name, v);
    }
    if (json_is_array(list)) {
        json_begin_array(w, "lora");
        for (size_t i = 0; i < json_array_size(list); i++)
            put_lora(w, json_array_get(list, i));
        json_end_array(w);
    }
    json_end_object(w);
}
