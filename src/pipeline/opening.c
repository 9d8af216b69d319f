/* Opening a model: the public calls, and what they share with the tools. */
#include "pipeline/opening.h"

#include "base/checked.h"
#include "base/limits.h"

#include <string.h>

/* An empty path is none. */
static const char *path_or_null(const char *path) { return path && *path ? path : NULL; }

flux1_status opening_variant(flux1_context *c, const char *variant)
{
    const size_t n = variant ? strlen(variant) : 0;
    if (variant && (n == 0 || n >= WEIGHT_VARIANT_MAX || strpbrk(variant, "./\\")))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "file_variant \"%s\": it should be a variant's name, such as fp16 in model.fp16.safetensors",
                         variant);
    return FLUX1_OK;
}

flux1_status opening_paths(flux1_context *c, const flux1_model_parts *parts, model_paths *out)
{
    flux1_model_parts p = {0};
    TRY(context_needs(c, parts, "parts"));
    if (parts->size < offsetof(flux1_model_parts, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "parts: size is not set");
    memcpy(&p, parts, parts->size < sizeof p ? parts->size : sizeof p);
    *out = (model_paths){.model = path_or_null(p.model),
                         .part = {[COMPONENT_CLIP] = path_or_null(p.clip),
                                  [COMPONENT_T5] = path_or_null(p.t5),
                                  [COMPONENT_DIT] = path_or_null(p.transformer),
                                  [COMPONENT_VAE] = path_or_null(p.vae)},
                         .tokenizers = path_or_null(p.tokenizers),
                         .variant = path_or_null(p.file_variant)};
    return opening_variant(c, out->variant);
}

/* What the stores have to tell, after what was told already. */
static flux1_status tell_of_files(flux1_context *c, const struct flux1_model *m, notes *n)
{
    const size_t before = n->count;
    for (int p = 0; p < COMPONENTS; p++)
        for (int kind = 0; kind < STORE_NOTES; kind++)
            if (store_note(m->store[p], kind))
                notes_add(n, FLUX1_LOG_INFO, "%s", store_note(m->store[p], kind));
    for (size_t i = before; i < n->count; i++)
        context_log(c, n->note[i].level, "%s", n->note[i].text);
    return n->failed ? error_oom(&c->error, 0, "a note") : FLUX1_OK;
}

/* How much a process grows differs by some hundred KiB from one to the next, and a model that is opened again takes a
 * few pages or none; rounded, and never nothing, they have equal plans. */
#define OPENED_STEP ((size_t)1 << 20)

flux1_status opening_locate(flux1_context *c, const model_paths *named, located *parts, struct flux1_model **out)
{
    flux1_status st = locate(named, parts, &c->error);
    if (st == FLUX1_OK)
        st = locate_strays(parts, &c->error);
    for (size_t i = 0; i < parts->notes.count; i++)
        context_log(c, parts->notes.note[i].level, "%s", parts->notes.note[i].text);
    if (st != FLUX1_OK)
        return st;
    const model_paths paths = located_paths(parts);
    const uint64_t before = limits_resident();
    flux1_status opened = folder_open_parts(&paths, out, &c->error);
    if (opened == FLUX1_OK && (opened = tell_of_files(c, *out, &parts->notes)) != FLUX1_OK) {
        folder_close(*out);
        *out = NULL;
    }
    if (opened != FLUX1_OK) {
        locate_advise(parts, &c->error);
        return opened;
    }
    const uint64_t now = limits_resident();
    (*out)->opened = size_round_up(now > before ? now - before : 1, OPENED_STEP);
    if ((*out)->unused)
        context_log(c, FLUX1_LOG_INFO, "%s", (*out)->unused);
    return FLUX1_OK;
}

flux1_status opening_run(flux1_context *c, const model_paths *named, struct flux1_model **out)
{
    located parts;
    const flux1_status st = opening_locate(c, named, &parts, out);
    located_free(&parts);
    return st;
}

flux1_status flux1_model_open(flux1_context *context, const char *path, flux1_model **out)
{
    TRY(context_begin(context));
    TRY(context_needs(context, out, "out"));
    *out = NULL;
    if (!path || !*path)
        return error_set(&context->error, FLUX1_ERR_ARGUMENT, "no model: give the path of a FLUX.1 pipeline folder");
    return opening_run(context, &(model_paths){.model = path}, out);
}

flux1_status flux1_model_open_parts(flux1_context *context, const flux1_model_parts *parts, flux1_model **out)
{
    model_paths paths;
    TRY(context_begin(context));
    TRY(context_needs(context, out, "out"));
    *out = NULL;
    TRY(opening_paths(context, parts, &paths));
    return opening_run(context, &paths, out);
}
