/* What a picture says about how it was made. */
#include "base/file.h"
#include "base/json_write.h"
#include "base/lora_tag.h"
#include "flux1_tools.h"
#include "image/comfy.h"
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

/* ---- tags of adapters, which are no part of the prompt ---- */

static bool is_adapter(const lora_tag *t) { return t->is_number && t->name_bytes > 0; }

static void put_prompt(json_writer *w, const char *prompt)
{
    lora_tag t;
    char *plain = strdup(prompt), *begin = plain;
    bool any = false;
    for (char *at = plain; at && lora_tag_find(at, &t); any |= is_adapter(&t))
        at = is_adapter(&t) ? lora_tag_cut(at, &t) : at + (t.end - at);
    if (any) { /* the blanks that set them apart */
        begin += strspn(begin, " ");
        for (size_t n = strlen(begin); n > 0 && begin[n - 1] == ' '; n--)
            begin[n - 1] = '\0';
    }
    w->text.failed |= !plain;
    json_put_string(w, "prompt", begin);
    free(plain);
}

/* As --lora takes them. */
static void put_tags(json_writer *w, const char *prompt)
{
    lora_tag t;
    bool any = false;
    for (const char *at = prompt; lora_tag_find(at, &t); at = t.end) {
        builder b = {0};
        if (!is_adapter(&t))
            continue;
        if (!any)
            json_begin_array(w, "lora");
        any = true;
        builder_add_bytes(&b, t.name, t.name_bytes);
        builder_add(&b, ":");
        builder_float(&b, (float)t.scale);
        w->text.failed |= b.failed;
        json_put_string(w, NULL, b.text);
        builder_free(&b);
    }
    if (any)
        json_end_array(w);
}

/* The text encoders' have no place in a request. */
static void put_other_scales(json_writer *w, const char *prompt)
{
    lora_tag t;
    bool apart = false;
    for (const char *at = prompt; lora_tag_find(at, &t); at = t.end)
        apart |= is_adapter(&t) && t.text_scale != t.scale;
    if (apart)
        json_put_string(w, "te", "of LoRAs, other than unet");
}

/* ---- all of the text ---- */

static void put_infotext(json_writer *w, const infotext *t)
{
    const bool cfg = has_true_cfg(t);
    bool *used = calloc(t->count + 1, sizeof *used);
    w->text.failed |= !used;
    json_begin_object(w, "request");
    put_prompt(w, t->prompt);
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
    put_tags(w, t->prompt);
    json_end_object(w);
    json_begin_object(w, "others");
    put_other_scales(w, t->prompt);
    if (t->negative_prompt && !cfg)
        json_put_string(w, "Negative prompt", t->negative_prompt);
    for (size_t i = 0; used && i < t->count; i++)
        if (!used[i] && counts(t, i))
            json_put_string(w, t->pairs[i].key, t->pairs[i].value);
    json_end_object(w);
    free(used);
}

/* ---- ComfyUI ---- */

static void put_text(json_writer *w, const char *key, const char *text)
{
    if (text)
        json_put_string(w, key, text);
}

static void put_value(json_writer *w, const char *key, const json_value *value)
{
    if (value)
        json_put_value(w, key, value);
}

/* "folder/name.safetensors:0.8", as --lora takes it, whatever slashes the writer's system has. */
static void put_lora(json_writer *w, const comfy_lora *l)
{
    builder b = {0};
    char number[JSON_NUMBER_ROOM];
    for (const char *c = l->name; *c; c++)
        builder_add_bytes(&b, *c == '\\' ? "/" : c, 1);
    builder_format(&b, ":%s", json_real_text(l->strength, number));
    w->text.failed |= b.failed;
    put_text(w, NULL, b.text);
    builder_free(&b);
}

static void put_loras(json_writer *w, const comfy_facts *f)
{
    if (f->loras == 0)
        return;
    json_begin_array(w, "lora");
    for (int i = 0; i < f->loras; i++)
        put_lora(w, &f->lora[i]);
    json_end_array(w);
}

/* A scale above 1 makes two passes with FLUX.1 too; where there is no guidance, it was another kind of model's. */
static bool comfy_has_cfg(const comfy_facts *f)
{
    return f->guidance && f->cfg && f->negative_prompt && json_number_value(f->cfg) > 1;
}

static void put_comfy_request(json_writer *w, const comfy_facts *f, const picture_facts *p)
{
    const bool sized = f->width && f->height;
    json_begin_object(w, "request");
    put_text(w, "prompt", f->prompt);
    if (comfy_has_cfg(f)) {
        json_put_string(w, "negative_prompt", f->negative_prompt);
        json_put_value(w, "true_cfg_scale", f->cfg);
    }
    if (sized) {
        json_put_value(w, "width", f->width);
        json_put_value(w, "height", f->height);
    } else {
        json_put_integer(w, "width", p->width);
        json_put_integer(w, "height", p->height);
    }
    put_value(w, "steps", f->steps);
    put_value(w, "guidance", f->guidance);
    put_value(w, "seed", f->seed);
    put_text(w, "model", f->model);
    put_loras(w, f);
    json_end_object(w);
}

static void put_comfy_others(json_writer *w, const comfy_facts *f)
{
    bool apart = false;
    for (int i = 0; i < f->loras; i++)
        apart |= f->lora[i].clip_strength != f->lora[i].strength;
    json_begin_object(w, "others");
    put_text(w, "sampler", f->sampler);
    put_text(w, "scheduler", f->scheduler);
    put_value(w, "denoise", f->denoise);
    put_text(w, "CLIP's own prompt", f->clip_prompt);
    if (!comfy_has_cfg(f)) {
        put_value(w, "cfg", f->cfg);
        if (f->negative_prompt && f->negative_prompt[0])
            json_put_string(w, "negative prompt", f->negative_prompt);
    }
    if (apart)
        json_put_string(w, "strength_clip", "of LoRAs, other than strength_model");
    json_end_object(w);
    if (f->missing[0])
        json_put_string(w, "not_found", f->missing);
    if (f->ignored[0])
        json_put_string(w, "ignored", f->ignored);
}

/* Other programs have chunks of these names too; ComfyUI's are JSON objects. */
static const char *graph_in(const char *chunk)
{
    return chunk && chunk[strspn(chunk, " \t\r\n")] == '{' ? chunk : NULL;
}

static flux1_status put_comfy(json_writer *w, const picture_facts *p, flux1_error *err)
{
    comfy_facts f;
    TRY(comfy_read(graph_in(p->comfy), graph_in(p->comfy_workflow), &f, err));
    json_put_string(w, "program", "ComfyUI");
    put_text(w, "problem", f.problem ? f.problem : p->problem);
    if (!f.problem) {
        put_comfy_request(w, &f, p);
        put_comfy_others(w, &f);
    }
    comfy_free(&f);
    return FLUX1_OK;
}

/* ---- all of them ---- */

#define BROKEN_OWN "what flux1 wrote into it is damaged; get the picture again from where it came"

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
    flux1_status st = FLUX1_OK;
    const bool comfy = !f->parameters && (graph_in(f->comfy) || graph_in(f->comfy_workflow));
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
    else if (comfy)
        st = put_comfy(&w, f, err);
    if (own || !comfy)
        put_text(&w, "problem", f->problem ? f->problem : f->json && !own ? BROKEN_OWN : NULL);
    if (f->parameters)
        json_put_string(&w, "parameters", f->parameters);
    json_end_object(&w);
    infotext_free(&text);
    json_free(own);
    if (st != FLUX1_OK) {
        json_abandon(&w);
        return st;
    }
    return json_take(&w, "a picture's parameters", json, err);
}

flux1_status flux1_picture_json(flux1_context *c, const char *path, char **json)
{
    picture_facts facts;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs_path(c, path, "the picture"));
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
