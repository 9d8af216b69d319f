/* flux1_tokenize: the ids that the pipeline would make, from the tokenizers' folders alone, or for a file of weights.
 */
#include "pipeline/opening.h"

#include "base/file.h"
#include "flux1_tools.h"

#include <stdlib.h>
#include <string.h>

struct flux1_tokenizer {
    clip_tokenizer *clip;
    t5_tokenizer *t5;
    int clip_length, t5_length;
};

/* Whether a file of weights has a transformer without guidance embedding; its text encoders may lie elsewhere. */
static flux1_status file_guidance(const char *path, bool *guidance, flux1_error *err)
{
    store_contents held;
    store *s = NULL;
    *guidance = true;
    TRY(store_look(path, &held, err));
    if (!held.prefix[MODEL_TRANSFORMER])
        return FLUX1_OK;
    TRY(store_open_part(path, MODEL_TRANSFORMER, &s, err));
    *guidance = store_find(s, GUIDANCE_TENSOR) != NULL;
    store_close(s);
    return FLUX1_OK;
}

/* The same of a folder; without a transformer there is no limit either. */
static flux1_status folder_guidance(const char *folder, bool *guidance, flux1_error *err)
{
    json_value *json = NULL;
    dit_config dit = {.guidance = true};
    flux1_status st = FLUX1_OK;
    char *path = path_join(folder, "transformer/config.json");
    if (!path)
        return error_oom(err, 0, "a path");
    if (file_exists(path)) {
        st = json_parse_file(path, &json, err);
        if (st == FLUX1_OK)
            st = dit_config_read(json, path, &dit, err);
    }
    json_free(json);
    free(path);
    *guidance = dit.guidance;
    return st;
}

/* The same of a folder that holds a transformer alone. */
static flux1_status part_guidance(const char *folder, const char *variant, bool *guidance, flux1_error *err)
{
    store *s = NULL;
    TRY(store_open(folder, (const char *const[]){component_stem(COMPONENT_DIT), NULL}, variant, &s, err));
    *guidance = store_find(s, GUIDANCE_TENSOR) != NULL;
    store_close(s);
    return FLUX1_OK;
}

/* A model's transformer, or one of its own; NULL for those that are not there. */
static flux1_status guidance_of(const char *model, const char *transformer, const char *variant, bool *guidance,
                                flux1_error *err)
{
    *guidance = true;
    if (transformer)
        return file_is_directory(transformer) ? part_guidance(transformer, variant, guidance, err)
                                              : file_guidance(transformer, guidance, err);
    if (model)
        return file_is_directory(model) ? folder_guidance(model, guidance, err) : file_guidance(model, guidance, err);
    return FLUX1_OK;
}

/* tokenizers: their folder, NULL for those built in. Where there is a transformer, its kind decides the default length,
 * as for a picture. */
static flux1_status open_pair(const char *tokenizers, const char *model, const char *transformer, const char *variant,
                              flux1_tokenizer *t, flux1_error *err)
{
    bool guidance;
    TRY(folder_open_tokenizers(tokenizers, &t->clip, &t->t5, err));
    TRY(guidance_of(model, transformer, variant, &guidance, err));
    t->clip_length = clip_tokenizer_length(t->clip);
    t->t5_length = folder_default_length(t5_tokenizer_length(t->t5), guidance);
    return FLUX1_OK;
}

static flux1_status open_any(flux1_context *c, const char *tokenizers, const char *model, const char *transformer,
                             const char *variant, flux1_tokenizer **out)
{
    flux1_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_oom(&c->error, sizeof *t, "the tokenizers");
    flux1_status st = open_pair(tokenizers, model, transformer, variant, t, &c->error);
    if (st == FLUX1_OK)
        *out = t;
    else
        flux1_tokenizer_close(t);
    return st;
}

static const char *if_folder(const char *path) { return path && file_is_directory(path) ? path : NULL; }

flux1_status flux1_tokenizer_open(flux1_context *c, const char *path, flux1_tokenizer **out)
{
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = NULL;
    TRY(context_needs(c, path, "model"));
    if (!file_exists(path))
        return error_set(&c->error, FLUX1_ERR_MODEL,
                         "%s: no such file or folder; a folder should hold tokenizer/ and tokenizer_2/", path);
    return open_any(c, if_folder(path), path, NULL, NULL, out);
}

static flux1_status open_located(flux1_context *c, const located *l, flux1_tokenizer **out)
{
    for (size_t i = 0; i < l->notes.count; i++)
        context_log(c, l->notes.note[i].level, "%s", l->notes.note[i].text);
    return open_any(c, l->tokenizers ? l->tokenizers : if_folder(l->model), l->model, l->part[COMPONENT_DIT],
                    l->variant, out);
}

flux1_status flux1_tokenizer_open_parts(flux1_context *c, const flux1_model_parts *parts, flux1_tokenizer **out)
{
    model_paths paths;
    located l;
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = NULL;
    TRY(opening_paths(c, parts, &paths));
    flux1_status st = locate_tokenizers(&paths, &l, &c->error);
    if (st == FLUX1_OK)
        st = open_located(c, &l, out);
    located_free(&l);
    return st;
}

flux1_status flux1_tokenizer_run(flux1_context *c, const flux1_tokenizer *t, const char *prompt, size_t bytes,
                                 int t5_length, flux1_tokens *out)
{
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = (flux1_tokens){0};
    TRY(context_needs(c, t, "tokenizer"));
    if (bytes)
        TRY(context_needs(c, prompt, "prompt"));
    else
        prompt = "";
    bool clip_cut = false, t5_cut = false;
    int length = t5_length ? t5_length : t->t5_length;
    if (length < 1 || length > T5_LENGTH_MAX)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "max_sequence_length %d: it should be 1 to %d", length,
                         T5_LENGTH_MAX);
    out->clip_count = t->clip_length;
    out->t5_count = length;
    out->clip = calloc((size_t)t->clip_length, sizeof *out->clip);
    out->t5 = calloc((size_t)length, sizeof *out->t5);
    flux1_status st = out->clip && out->t5 ? FLUX1_OK : error_oom(&c->error, 0, "the tokens");
    if (st == FLUX1_OK)
        st = clip_tokenize(t->clip, prompt, bytes, t->clip_length, out->clip, NULL, &clip_cut, &c->error);
    if (st == FLUX1_OK)
        st = t5_tokenize(t->t5, prompt, bytes, length, out->t5, NULL, &t5_cut, &c->error);
    out->clip_truncated = clip_cut;
    out->t5_truncated = t5_cut;
    if (st != FLUX1_OK)
        flux1_tokens_free(out);
    return st;
}

void flux1_tokenizer_close(flux1_tokenizer *t)
{
    if (!t)
        return;
    clip_tokenizer_close(t->clip);
    t5_tokenizer_close(t->t5);
    free(t);
}

flux1_status flux1_tokenize(flux1_context *c, const char *folder, const char *prompt, size_t bytes, int t5_length,
                            flux1_tokens *out)
{
    flux1_tokenizer *t;
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = (flux1_tokens){0};
    TRY(flux1_tokenizer_open(c, folder, &t));
    flux1_status st = flux1_tokenizer_run(c, t, prompt, bytes, t5_length, out);
    flux1_tokenizer_close(t);
    return st;
}

void flux1_tokens_free(flux1_tokens *tokens)
{
    if (!tokens)
        return;
    free(tokens->clip);
    free(tokens->t5);
    *tokens = (flux1_tokens){0};
}
