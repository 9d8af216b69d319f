#include "image/metadata.h"

#include "base/json_write.h"
#include "base/lora_tag.h"
#include "base/philox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The web UI's rule for quoting, and for what would not survive its parser's stripping: spaces at an end, a quote in
 * front. value: not empty. */
static void add_value(builder *b, const char *value)
{
    size_t n = strlen(value);
    bool quote = strpbrk(value, ",:\n\r") || strchr(" \t\"", value[0]) || strchr(" \t", value[n - 1]);
    if (quote)
        json_quote(b, value, n);
    else
        builder_add(b, value);
}

/* As the web UI knows a file: its name without folder and ending. */
static void add_tag(builder *b, const image_lora *l)
{
    static const char ending[] = ".safetensors";
    const char *slash = strrchr(l->path, '/'), *name = slash ? slash + 1 : l->path;
    const size_t n = strlen(name), rest = n > strlen(ending) ? n - strlen(ending) : 0;
    lora_tag_add(b, name, rest > 0 && strcmp(name + rest, ending) == 0 ? rest : n, l->scale);
}

static void add_prompt(builder *b, const image_metadata *m)
{
    builder_add(b, m->written ? m->written : m->prompt);
    for (int i = 0; i < m->lora_count && !m->written; i++)
        add_tag(b, &m->loras[i]);
}

flux1_status metadata_parameters(const image_metadata *m, char **out, flux1_error *err)
{
    builder b = {0};
    add_prompt(&b, m);
    if (m->negative_prompt) {
        builder_add(&b, "\nNegative prompt: ");
        builder_add(&b, m->negative_prompt);
    }
    builder_format(&b, "\nSteps: %d, Sampler: Euler, Schedule type: Simple, CFG scale: ", m->steps);
    builder_float(&b, m->negative_prompt ? m->true_cfg_scale : 1);
    if (m->has_guidance) {
        builder_add(&b, ", Distilled CFG Scale: ");
        builder_float(&b, m->guidance);
    }
    builder_format(&b, ", Seed: %" PRIu64 ", Size: %dx%d", m->seed, m->width, m->height);
    if (m->rng_threads)
        builder_add(&b, ", RNG: NV");
    if (m->model && m->model[0]) {
        builder_add(&b, ", Model: ");
        add_value(&b, m->model);
    }
    builder_format(&b, ", Version: flux1 %s", m->version);
    return builder_take(&b, "a picture's parameters", out, err);
}

/* As --rng takes it. */
static void put_rng(json_writer *w, const image_metadata *m)
{
    char text[32] = "cuda";
    if (m->rng_threads != PHILOX_THREADS_DEFAULT)
        snprintf(text, sizeof text, "cuda:%d", m->rng_threads);
    json_put_string(w, "rng", text);
}

static void put_known(json_writer *w, const char *key, const char *value)
{
    if (value)
        json_put_string(w, key, value);
}

/* As --step-cache takes it. */
static void put_step_cache(json_writer *w, const image_metadata *m)
{
    builder b = {0};
    builder_add(&b, "fb:");
    builder_float(&b, m->step_cache);
    w->text.failed |= b.failed;
    json_put_string(w, "step_cache", b.text ? b.text : "");
    builder_free(&b);
}

/* As --lora takes them. */
static void put_loras(json_writer *w, const image_metadata *m)
{
    json_begin_array(w, "lora");
    for (int i = 0; i < m->lora_count; i++) {
        builder b = {0};
        builder_add(&b, m->loras[i].path);
        builder_add(&b, ":");
        builder_float(&b, m->loras[i].scale);
        w->text.failed |= b.failed;
        json_put_string(w, NULL, b.text ? b.text : "");
        builder_free(&b);
    }
    json_end_array(w);
}

flux1_status metadata_json(const image_metadata *m, char **out, flux1_error *err)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_object(&w, NULL);
    json_put_string(&w, "prompt", m->prompt);
    json_put_integer(&w, "width", m->width);
    json_put_integer(&w, "height", m->height);
    json_put_integer(&w, "steps", m->steps);
    if (m->has_guidance)
        json_put_float(&w, "guidance", m->guidance);
    json_put_unsigned(&w, "seed", m->seed);
    if (m->rng_threads)
        put_rng(&w, m);
    if (m->given_noise)
        json_put_string(&w, "latents", "given");
    if (m->max_sequence_length > 0)
        json_put_integer(&w, "max_sequence_length", m->max_sequence_length);
    put_known(&w, "negative_prompt", m->negative_prompt);
    if (m->negative_prompt)
        json_put_float(&w, "true_cfg_scale", m->true_cfg_scale);
    if (m->step_cache > 0)
        put_step_cache(&w, m);
    if (m->lora_count > 0)
        put_loras(&w, m);
    put_known(&w, "model", m->model);
    put_known(&w, "dtype", m->dtype);
    put_known(&w, "device", m->device);
    put_known(&w, "mesh", m->mesh);
    put_known(&w, "version", m->version);
    json_end_object(&w);
    return json_take(&w, "a picture's parameters", out, err);
}
