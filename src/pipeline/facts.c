#include "pipeline/facts.h"

#include "image/metadata.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path_or_name(const char *path, bool name)
{
    const char *slash = name ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

flux1_status facts_texts(flux1_context *c, const flux1_image *image, const flux1_model *m, const request *r, bool names,
                         const char *written, char **parameters, char **json)
{
    char mesh_text[32];
    image_lora loras[ADAPTERS_MAX];
    const int *shape = image->mesh[0] ? image->mesh : c->mesh.shape;
    snprintf(mesh_text, sizeof mesh_text, "%dx%d", shape[0], shape[1]);
    for (int i = 0; i < r->adapters.count; i++)
        loras[i] = (image_lora){path_or_name(r->adapters.adapter[i]->path, names), r->adapters.scale[i]};
    image_metadata d = {.prompt = r->prompt,
                        .model = folder_name(m),
                        .version = flux1_version(),
                        .width = image->width,
                        .height = image->height,
                        .steps = (int)r->steps,
                        .has_guidance = m->dit.guidance,
                        .guidance = r->guidance,
                        .seed = image->seed,
                        .rng_threads = r->rng == FLUX1_RNG_CUDA ? r->rng_threads : 0,
                        .given_noise = r->latents != NULL,
                        .max_sequence_length = r->length,
                        .dtype = image->dtype ? image->dtype : context_dtype(c),
                        .device = image->device ? image->device : c->device.kind->name,
                        .mesh = mesh_text,
                        .negative_prompt = r->passes > 1 ? r->negative_prompt : NULL,
                        .true_cfg_scale = r->true_cfg_scale,
                        .step_cache = r->step_cache,
                        .loras = loras,
                        .lora_count = r->adapters.count,
                        .written = written};
    TRY(metadata_parameters(&d, parameters, &c->error));
    return metadata_json(&d, json, &c->error);
}

flux1_status facts_request(flux1_context *c, const flux1_model *m, const flux1_generate_params *params, request *r)
{
    void (*log)(void *, flux1_log_level, const char *) = c->log;
    c->log = NULL;
    const flux1_status st = request_make(c, m, params, r);
    c->log = log;
    return st;
}

/* A path that holds in another folder too. */
static flux1_status note_path(dump *d, const char *key, const char *path, flux1_error *err)
{
    char absolute[PATH_MAX];
    return *path ? dump_note(d, key, realpath(path, absolute) ? absolute : path, err) : FLUX1_OK;
}

flux1_status facts_of_model(dump *d, const flux1_model *m, flux1_error *err)
{
    static const char *const keys[COMPONENTS] = {
        [COMPONENT_CLIP] = "clip", [COMPONENT_T5] = "t5", [COMPONENT_DIT] = "transformer", [COMPONENT_VAE] = "vae"};
    if (m->source.synthetic)
        return FLUX1_OK;
    TRY(note_path(d, "model", m->source.model, err));
    for (int i = 0; i < COMPONENTS; i++)
        TRY(note_path(d, keys[i], m->source.part[i], err));
    TRY(note_path(d, "tokenizers", m->source.tokenizers, err));
    return m->source.variant[0] ? dump_note(d, "file_variant", m->source.variant, err) : FLUX1_OK;
}

void facts_key(const char *name, int64_t index, char out[FACTS_KEY_MAX])
{
    if (index)
        snprintf(out, FACTS_KEY_MAX, "%s.%lld", name, (long long)index);
    else
        snprintf(out, FACTS_KEY_MAX, "%s", name);
}

flux1_status facts_of_picture(dump *d, int64_t index, flux1_context *c, const flux1_image *image, const flux1_model *m,
                              const request *r)
{
    char *parameters = NULL, *json = NULL, key[FACTS_KEY_MAX];
    flux1_image sized = *image;
    sized.width = (int)r->width;
    sized.height = (int)r->height;
    flux1_status st = facts_texts(c, &sized, m, r, false, NULL, &parameters, &json);
    facts_key("flux1", index, key);
    if (st == FLUX1_OK)
        st = dump_note(d, key, json, &c->error);
    facts_key("parameters", index, key);
    if (st == FLUX1_OK)
        st = dump_note(d, key, parameters, &c->error);
    free(parameters);
    free(json);
    return st;
}
