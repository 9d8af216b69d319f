/* What a picture says about how it was made. */
#include "base/file.h"
#include "base/json_write.h"
#include "flux1_tools.h"
#include "image/infotext.h"
#include "image/picture_read.h"
#include "pipeline/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The web UI's keys that are ours under another name. CFG scale and Size are read apart. */
static const struct {
    const char *theirs, *ours;
} known[] = {{"Steps", "steps"}, {"Seed", "seed"}, {"Distilled CFG Scale", "guidance"}, {"Model", "model"}};
enum { KNOWN = sizeof known / sizeof *known, NUMBER_MAX = 30 };

/* False: it is no number as JSON has them. */
static bool put_number(json_writer *w, const char *key, const char *text)
{
    char list[NUMBER_MAX + 3];
    json_value *parsed = NULL;
    const size_t n = strlen(text);
    if (n > NUMBER_MAX || strspn(text, "0123456789.") != n)
        return false;
    snprintf(list, sizeof list, "[%s]", text);
    const bool good = json_parse(list, n + 2, "a number", &parsed, NULL) == FLUX1_OK && json_array_size(parsed) == 1;
    if (good)
        json_put_value(w, key, json_array_get(parsed, 0));
    json_free(parsed);
    return good;
}

static bool put_known(json_writer *w, const infotext_pair *pair)
{
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(pair->key, known[i].theirs) == 0) {
            if (strcmp(known[i].ours, "model") != 0)
                return put_number(w, known[i].ours, pair->value);
            json_put_string(w, "model", pair->value);
            return true;
        }
    return false;
}

/* The web UI's own: "CPU", or "NV", which draws as a GPU whose threads are as many as the numbers. */
static bool put_rng(json_writer *w, const char *text)
{
    const bool gpu = strcmp(text, "NV") == 0;
    if (gpu || strcmp(text, "CPU") == 0)
        json_put_string(w, "rng", gpu ? "cuda:2147483647" : "cpu");
    return gpu || strcmp(text, "CPU") == 0;
}

/* "1024x768" */
static bool put_size(json_writer *w, const char *text)
{
    int width = 0, height = 0, end = 0;
    if (strlen(text) > 20 || sscanf(text, "%7dx%7d%n", &width, &height, &end) != 2 || text[end] || width < 1 ||
        height < 1)
        return false;
    json_put_integer(w, "width", width);
    json_put_integer(w, "height", height);
    return true;
}

/* Of several pairs with one key the last counts. */
static bool counts(const infotext *t, size_t i) { return infotext_value(t, t->pairs[i].key) == t->pairs[i].value; }

/* Forge writes the distilled scale for FLUX.1. Where there is none, another kind of model was guided by the CFG scale,
 * and it is no request to make two passes here. */
static bool has_true_cfg(const infotext *t)
{
    const char *version = infotext_value(t, "Version");
    return t->negative_prompt &&
           (infotext_value(t, "Distilled CFG Scale") || (version && strncmp(version, "flux1 ", 6) == 0));
}

static void put_infotext(json_writer *w, const infotext *t)
{
    const bool cfg = has_true_cfg(t);
    bool *used = calloc(t->count + 1, sizeof *used);
    w->text.failed |= !used;
    json_begin_object(w, "request");
    json_put_string(w, "prompt", t->prompt);
    if (cfg)
        json_put_string(w, "negative_prompt", t->negative_prompt);
    for (size_t i = 0; used && i < t->count; i++) {
        const infotext_pair *pair = &t->pairs[i];
        if (!counts(t, i))
            continue;
        if (strcmp(pair->key, "Size") == 0)
            used[i] = put_size(w, pair->value);
        else if (strcmp(pair->key, "RNG") == 0)
            used[i] = put_rng(w, pair->value);
        else if (strcmp(pair->key, "CFG scale") == 0)
            used[i] = cfg && put_number(w, "true_cfg_scale", pair->value);
        else
            used[i] = put_known(w, pair);
    }
    json_end_object(w);
    json_begin_object(w, "others");
    if (t->negative_prompt && !cfg)
        json_put_string(w, "Negative prompt", t->negative_prompt);
    for (size_t i = 0; used && i < t->count; i++)
        if (!used[i] && counts(t, i))
            json_put_string(w, t->pairs[i].key, t->pairs[i].value);
    json_end_object(w);
    free(used);
}

/* *request: what our own JSON says; NULL if there is none, or it is no object with a prompt. */
static void read_own(const picture_facts *f, const char *path, json_value **request)
{
    *request = NULL;
    if (!f->json || json_parse(f->json, strlen(f->json), path, request, NULL) != FLUX1_OK)
        return;
    if (!json_is_string(json_object_get(*request, "prompt"))) {
        json_free(*request);
        *request = NULL;
    }
}

static flux1_status write_json(const picture_facts *f, const char *path, char **json, flux1_error *err)
{
    json_writer w = {.style = JSON_INDENTED};
    json_value *own;
    infotext text = {0};
    read_own(f, path, &own);
    if (!own && f->parameters)
        TRY(infotext_read(f->parameters, &text, err));
    json_begin_object(&w, NULL);
    json_put_string(&w, "file", path);
    json_put_string(&w, "format", picture_format_name(f->format));
    json_put_integer(&w, "width", f->width);
    json_put_integer(&w, "height", f->height);
    if (own)
        json_put_value(&w, "request", own);
    else if (f->parameters)
        put_infotext(&w, &text);
    if (f->parameters)
        json_put_string(&w, "parameters", f->parameters);
    json_end_object(&w);
    infotext_free(&text);
    json_free(own);
    return json_take(&w, "a picture's parameters", json, err);
}

flux1_status flux1_picture_json(flux1_context *c, const char *path, char **json)
{
    picture_facts facts;
    TRY(context_begin(c));
    TRY(context_needs(c, path, "path"));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(picture_facts_read(path, &facts, &c->error));
    flux1_status st = write_json(&facts, path, json, &c->error);
    picture_facts_free(&facts);
    return st;
}

int flux1_is_picture(const char *path)
{
    uint8_t first[12];
    picture_format format;
    file_identity identity;
    int fd;
    if (!path || file_open_regular(path, &fd, &identity, NULL) != FLUX1_OK)
        return 0;
    const ssize_t n = read(fd, first, sizeof first);
    close(fd);
    return n > 0 && picture_known(first, (size_t)n, &format);
}
