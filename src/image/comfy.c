#include "image/comfy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    STEPS_BACK = 32, /* from a sampler to a text or a file: a graph that was not written by ComfyUI may be a ring */
    WIDGETS_MAX = 9
};

typedef struct graph {
    const json_value *root;
    const json_value *nodes, *links; /* a workflow's lists; NULL: it is a prompt, whose members are the nodes */
    comfy_facts *facts;
} graph;

typedef const json_value node;

/* ---- nodes of both kinds of graph ---- */

/* A workflow has the values of its widgets in a list. */
static const struct {
    const char *type, *names[WIDGETS_MAX];
} WIDGETS[] = {
    {"KSampler", {"seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"}},
    {"KSamplerAdvanced",
     {"add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step"}},
    {"SamplerCustom", {"add_noise", "noise_seed", "", "cfg"}},
    {"RandomNoise", {"noise_seed"}},
    {"BasicScheduler", {"scheduler", "steps", "denoise"}},
    {"KSamplerSelect", {"sampler_name"}},
    {"CFGGuider", {"cfg"}},
    {"FluxGuidance", {"guidance"}},
    {"CLIPTextEncode", {"text"}},
    {"CLIPTextEncodeFlux", {"clip_l", "t5xxl", "guidance"}},
    {"EmptyLatentImage", {"width", "height"}},
    {"EmptySD3LatentImage", {"width", "height"}},
    {"LoraLoader", {"lora_name", "strength_model", "strength_clip"}},
    {"LoraLoaderModelOnly", {"lora_name", "strength_model"}},
    {"UNETLoader", {"unet_name"}},
    {"UnetLoaderGGUF", {"unet_name"}},
    {"CheckpointLoaderSimple", {"ckpt_name"}},
    {"PrimitiveNode", {"value"}},
};

static const char *type_of(const graph *g, node *n)
{
    const char *type = json_string_value(json_object_get(n, g->nodes ? "type" : "class_type"));
    return type ? type : "";
}

static bool is_type(const graph *g, node *n, const char *type) { return n && strcmp(type_of(g, n), type) == 0; }

static const json_value *widget(const graph *g, node *n, const char *name)
{
    const json_value *values = json_object_get(n, "widgets_values");
    for (size_t t = 0; t < sizeof WIDGETS / sizeof *WIDGETS; t++)
        for (size_t i = 0; is_type(g, n, WIDGETS[t].type) && i < WIDGETS_MAX && WIDGETS[t].names[i]; i++)
            if (strcmp(WIDGETS[t].names[i], name) == 0)
                return json_array_get(values, i);
    return NULL;
}

/* The row of a list of objects or of lists that begins with this number. */
static const json_value *numbered(const json_value *list, const char *key, int64_t number)
{
    const json_value *one;
    for (size_t i = 0; (one = json_array_get(list, i)); i++) {
        const json_value *id = key ? json_object_get(one, key) : json_array_get(one, 0);
        if (json_is_integer(id) && json_integer_value(id) == number)
            return one;
    }
    return NULL;
}

/* A workflow's input of that name. */
static const json_value *slot(node *n, const char *name)
{
    const json_value *list = json_object_get(n, "inputs"), *one;
    for (size_t i = 0; (one = json_array_get(list, i)); i++) {
        const char *its = json_string_value(json_object_get(one, "name"));
        if (its && strcmp(its, name) == 0)
            return one;
    }
    return NULL;
}

/* The node that an input is linked to; NULL: none. */
static node *source(const graph *g, node *n, const char *name)
{
    if (g->nodes) {
        const json_value *link = json_object_get(slot(n, name), "link");
        const json_value *row = json_is_integer(link) ? numbered(g->links, NULL, json_integer_value(link)) : NULL;
        const json_value *from = json_array_get(row, 1);
        return json_is_integer(from) ? numbered(g->nodes, "id", json_integer_value(from)) : NULL;
    }
    const json_value *link = json_object_get(json_object_get(n, "inputs"), name);
    const char *id = json_array_size(link) == 2 ? json_string_value(json_array_get(link, 0)) : NULL;
    return id ? json_object_get(g->root, id) : NULL;
}

/* Its value, where it is written at the node itself; NULL otherwise. */
static const json_value *written(const graph *g, node *n, const char *name)
{
    const json_value *v = g->nodes ? widget(g, n, name) : json_object_get(json_object_get(n, "inputs"), name);
    return json_is_string(v) || json_is_number(v) || json_is(v, JSON_FALSE) ? v : NULL;
}

/* Its value, also from a node that only holds one. */
static const json_value *value_of(const graph *g, node *n, const char *name)
{
    static const char *const holders[] = {"value", "seed", "noise_seed", "int", "float", "number", "text", "string"};
    node *from = source(g, n, name);
    const json_value *v = from ? NULL : written(g, n, name);
    for (size_t i = 0; from && !v && i < sizeof holders / sizeof *holders; i++)
        v = written(g, from, holders[i]);
    return v;
}

static const json_value *number_of(const graph *g, node *n, const char *name)
{
    const json_value *v = value_of(g, n, name);
    return json_is_number(v) && isfinite(json_number_value(v)) ? v : NULL;
}

static const char *text_of(const graph *g, node *n, const char *name)
{
    return json_string_value(value_of(g, n, name));
}

/* The next node on the way back, over the first input of these that is linked. */
static node *back(const graph *g, node *n, const char *const *names)
{
    for (; *names; names++)
        if (source(g, n, *names))
            return source(g, n, *names);
    return NULL;
}

static bool is_muted(const graph *g, node *n) /* or bypassed */
{
    const int64_t mode = g->nodes ? json_integer_value(json_object_get(n, "mode")) : 0;
    return mode == 2 || mode == 4;
}

/* ---- what is missing ---- */

/* from: the node that should have said it; NULL: none was found. */
static void miss(const graph *g, const char *what, node *from)
{
    char *out = g->facts->missing;
    const size_t used = strlen(out);
    snprintf(out + used, COMFY_MISSING - used, "%s%s%s%.60s%s", used ? ", " : "", what, from ? " (from " : "",
             from ? type_of(g, from) : "", from ? ")" : "");
}

/* ---- the parts of a request ---- */

/* The text that a conditioning was made of. Guidance may be set on the way. */
static const char *read_condition(const graph *g, node *n, bool positive)
{
    static const char *const onwards[] = {"conditioning", "positive", "conditioning_1", "", NULL};
    comfy_facts *f = g->facts;
    for (int i = 0; n && i < STEPS_BACK; i++) {
        if (positive && !f->guidance)
            f->guidance = number_of(g, n, "guidance");
        if (is_type(g, n, "ConditioningZeroOut"))
            return positive ? NULL : "";
        if (is_type(g, n, "CLIPTextEncodeFlux")) {
            if (positive)
                f->clip_prompt = text_of(g, n, "clip_l");
            return text_of(g, n, "t5xxl");
        }
        if (is_type(g, n, "CLIPTextEncode"))
            return text_of(g, n, "text");
        n = back(g, n, onwards);
    }
    return NULL;
}

static void read_texts(const graph *g, node *positive, node *negative)
{
    comfy_facts *f = g->facts;
    f->prompt = read_condition(g, positive, true);
    f->negative_prompt = read_condition(g, negative, false);
    if (!f->prompt)
        miss(g, "prompt", positive);
    if (f->clip_prompt && f->prompt && strcmp(f->clip_prompt, f->prompt) == 0)
        f->clip_prompt = NULL;
}

static void add_lora(const graph *g, const char *name, const json_value *strength, const json_value *clip)
{
    comfy_facts *f = g->facts;
    if (f->loras == COMFY_LORAS) {
        miss(g, "further LoRAs", NULL);
        return;
    }
    const double scale = strength ? json_number_value(strength) : 1, of_clip = clip ? json_number_value(clip) : scale;
    if (!isfinite(scale) || !isfinite(of_clip))
        miss(g, "a LoRA's strength", NULL);
    else
        f->lora[f->loras++] = (comfy_lora){name, scale, of_clip};
}

/* Nodes that take any number of LoRAs have them as {"on": true, "lora": FILE, "strength": 1}. */
static void read_lora_list(const graph *g, node *n)
{
    const json_value *inputs = json_object_get(n, "inputs"), *one;
    const char *key;
    for (size_t i = 0; (one = json_object_at(inputs, i, &key)); i++) {
        const char *name = json_string_value(json_object_get(one, "lora"));
        if (name && json_is_true(json_object_get(one, "on")))
            add_lora(g, name, json_object_get(one, "strength"), json_object_get(one, "strengthTwo"));
    }
}

/* LoRAs, back to the file of the model. */
static void read_model(const graph *g, node *n)
{
    static const char *const onwards[] = {"model", "", NULL};
    static const char *const files[] = {"unet_name", "ckpt_name", "model_name"};
    comfy_facts *f = g->facts;
    for (int i = 0; n && i < STEPS_BACK; i++, n = back(g, n, onwards)) {
        const char *lora = text_of(g, n, "lora_name");
        if (is_muted(g, n))
            continue;
        if (lora)
            add_lora(g, lora, number_of(g, n, "strength_model"), number_of(g, n, "strength_clip"));
        read_lora_list(g, n);
        for (size_t k = 0; !f->model && k < sizeof files / sizeof *files; k++)
            f->model = text_of(g, n, files[k]);
    }
}

static void read_size(const graph *g, node *latent)
{
    comfy_facts *f = g->facts;
    f->width = number_of(g, latent, "width");
    f->height = number_of(g, latent, "height");
    if (strncmp(latent ? type_of(g, latent) : "", "Empty", 5) != 0)
        miss(g, "an empty latent", latent);
}

static void read_schedule(const graph *g, node *n)
{
    comfy_facts *f = g->facts;
    f->steps = number_of(g, n, "steps");
    f->scheduler = text_of(g, n, "scheduler");
    f->denoise = number_of(g, n, "denoise");
    if (!f->steps)
        miss(g, "steps", n);
}

static void read_seed(const graph *g, node *n, const char *name)
{
    g->facts->seed = number_of(g, n, name);
    if (!g->facts->seed)
        miss(g, "seed", n);
}

static void ignore(const graph *g, const char *what)
{
    char *out = g->facts->ignored;
    const size_t used = strlen(out);
    snprintf(out + used, sizeof g->facts->ignored - used, "%s%s", used ? ", " : "", what);
}

/* How a sampler that is told to makes a part of the steps, or begins without noise. */
static void read_part(const graph *g, node *n)
{
    const json_value *noise = value_of(g, n, "add_noise"), *end = number_of(g, n, "end_at_step");
    const char *word = json_string_value(noise);
    if (json_is(noise, JSON_FALSE) || (word && strcmp(word, "disable") == 0))
        ignore(g, "add_noise");
    if (json_number_value(number_of(g, n, "start_at_step")) > 0)
        ignore(g, "start_at_step");
    if (end && g->facts->steps && json_number_value(end) < json_number_value(g->facts->steps))
        ignore(g, "end_at_step");
}

/* ---- the samplers ---- */

static void read_plain(const graph *g, node *n, const char *seed)
{
    read_seed(g, n, seed);
    read_schedule(g, n);
    g->facts->sampler = text_of(g, n, "sampler_name");
    g->facts->cfg = number_of(g, n, "cfg");
    read_texts(g, source(g, n, "positive"), source(g, n, "negative"));
    read_model(g, source(g, n, "model"));
}

static void read_ksampler(const graph *g, node *n) { read_plain(g, n, "seed"); }

static void read_advanced(const graph *g, node *n)
{
    read_plain(g, n, "noise_seed");
    read_part(g, n);
}

static void read_custom(const graph *g, node *n)
{
    read_seed(g, n, "noise_seed");
    read_schedule(g, source(g, n, "sigmas"));
    read_part(g, n);
    g->facts->sampler = text_of(g, source(g, n, "sampler"), "sampler_name");
    g->facts->cfg = number_of(g, n, "cfg");
    read_texts(g, source(g, n, "positive"), source(g, n, "negative"));
    read_model(g, source(g, n, "model"));
}

/* Noise, guider, sampler and sigmas are nodes of their own. */
static void read_custom_advanced(const graph *g, node *n)
{
    static const char *const texts[] = {"conditioning", "positive", NULL};
    node *guider = source(g, n, "guider");
    read_seed(g, source(g, n, "noise"), "noise_seed");
    read_schedule(g, source(g, n, "sigmas"));
    g->facts->sampler = text_of(g, source(g, n, "sampler"), "sampler_name");
    g->facts->cfg = number_of(g, guider, "cfg");
    read_texts(g, back(g, guider, texts), source(g, guider, "negative"));
    read_model(g, source(g, guider, "model"));
}

static const struct sampler {
    const char *type;
    void (*read)(const graph *g, node *n);
} SAMPLERS[] = {{"KSampler", read_ksampler},
                {"KSamplerAdvanced", read_advanced},
                {"SamplerCustom", read_custom},
                {"SamplerCustomAdvanced", read_custom_advanced}};

static const struct sampler *sampler_of(const graph *g, node *n)
{
    for (size_t i = 0; i < sizeof SAMPLERS / sizeof *SAMPLERS; i++)
        if (is_type(g, n, SAMPLERS[i].type) && !is_muted(g, n))
            return &SAMPLERS[i];
    return NULL;
}

static node *node_at(const graph *g, size_t i)
{
    const char *id;
    return g->nodes ? json_array_get(g->nodes, i) : json_object_at(g->root, i, &id);
}

static void read_graph(graph *g)
{
    const struct sampler *found = NULL, *one;
    node *n, *sampler = NULL;
    for (size_t i = 0; (n = node_at(g, i)); i++) {
        if (!(one = sampler_of(g, n)))
            continue;
        if (found) {
            g->facts->problem = "ComfyUI's graph has several samplers, and only pictures of one are repeated";
            return;
        }
        found = one;
        sampler = n;
    }
    if (!found) {
        g->facts->problem = "ComfyUI's graph has no sampler that is known here (KSampler, KSamplerAdvanced, "
                            "SamplerCustom, SamplerCustomAdvanced)";
        return;
    }
    found->read(g, sampler);
    read_size(g, source(g, sampler, "latent_image"));
}

flux1_status comfy_read(const char *prompt, const char *workflow, comfy_facts *out, flux1_error *err)
{
    const char *text = prompt ? prompt : workflow ? workflow : "";
    *out = (comfy_facts){0};
    flux1_status st = json_parse_python(text, strlen(text), "ComfyUI's graph", &out->root, NULL);
    if (st == FLUX1_ERR_MEMORY)
        return error_oom(err, 0, "ComfyUI's graph");
    graph g = {.root = out->root, .facts = out};
    if (!prompt) {
        g.nodes = json_object_get(out->root, "nodes");
        g.links = json_object_get(out->root, "links");
    }
    if (st != FLUX1_OK || !json_is_object(out->root) || (!prompt && !json_is_array(g.nodes)))
        out->problem = "ComfyUI's graph in it is not readable";
    else
        read_graph(&g);
    return FLUX1_OK;
}

void comfy_free(comfy_facts *facts)
{
    json_free(facts->root);
    *facts = (comfy_facts){0};
}
