#include "weights/contents.h"

#include "weights/foreign.h"

#include <stdio.h>
#include <string.h>

/* Tensors beside the parts in all-in-one files; FLUX.1 does not use them. */
static const char *const extras[] = {
    "*logit_scale",  "*text_projection.weight", "*scaled_fp8",           "*position_ids",
    "*spiece_model", "model_ema.decay",         "model_ema.num_updates", NULL};

static const char *prefix_of(const store *s, const name_map *map)
{
    for (const char *const *prefix = map->prefixes; *prefix; prefix++)
        for (const char *const *sign = map->signs; *sign; sign++)
            if (store_raw_find(s, *prefix, strlen(*prefix), *sign))
                return *prefix;
    return NULL;
}

const name_map *contents_map(const store *s, const char **prefix)
{
    for (int part = 0; part < MODEL_PARTS; part++) {
        const char *found = prefix_of(s, name_map_of((model_part)part));
        if (found) {
            *prefix = found;
            return name_map_of((model_part)part);
        }
    }
    return NULL;
}

bool contents_is_extra(const char *name) { return name_listed(name, extras); }

static bool is_stray(const store_contents *c, const char *name)
{
    for (int part = 0; part < MODEL_PARTS; part++)
        if (c->prefix[part] && strncmp(name, c->prefix[part], strlen(c->prefix[part])) == 0)
            return false;
    return !contents_is_extra(name);
}

/* Other models' files, told by a tensor. First those that have tensors of FLUX.1's names as well. */
static const struct {
    const char *ending, *model;
} others[] = {
    {"double_stream_modulation_img.lin.weight", "FLUX.2"},
    {"double_stream_modulation_img.linear.weight", "FLUX.2"},
    {"distilled_guidance_layer.in_proj.weight", "Chroma"},
    {"controlnet_x_embedder.weight", "a ControlNet"},
    {"controlnet_blocks.0.weight", "a ControlNet"},
    {"txt_norm.weight", "Qwen-Image"},
    {"individual_token_refiner.blocks.0.norm1.weight", "HunyuanVideo"},
    {"cap_embedder.1.weight", "Lumina 2 or Z-Image"},
    {"context_refiner.0.attn.to_q.weight", "Lumina 2"},
    {"time_embed.timestep_embedder.linear_1.weight", "LongCat-Image or Bria"},
    {"context_embedder_norm.weight", "Ovis-Image"},
    {"time_mod_proj.weight", "Krea 2"},
    {"joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"},
    {"conditioner.embedders.1.model.text_projection", "Stable Diffusion XL"},
    {"label_emb.0.0.weight", "Stable Diffusion XL"},
    {"input_blocks.0.0.weight", "Stable Diffusion"},
    {"down_blocks.0.attentions.0.norm.weight", "Stable Diffusion"},
};

enum { OTHERS = sizeof others / sizeof *others, ALIKE = 12 };

static const char *other_model(const store *s, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        const size_t ending = strlen(others[k].ending);
        for (size_t i = 0; i < s->raw_count; i++) {
            const size_t length = strlen(s->raw[i].tensor.name);
            if (length >= ending && strcmp(s->raw[i].tensor.name + length - ending, others[k].ending) == 0)
                return others[k].model;
        }
    }
    return NULL;
}

static flux1_status is_of_another(const store *s, const char *model, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_MODEL, "%s: a file of %s, not of FLUX.1", s->path, model);
}

static flux1_status holds_nothing(const store *s, flux1_error *err)
{
    const char *model = other_model(s, OTHERS);
    for (size_t i = 0; i < s->raw_count; i++) {
        const char *foreign = foreign_tensor(s->raw[i].tensor.name);
        if (foreign)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: tensor \"%s\" %s", s->path, s->raw[i].tensor.name,
                             foreign);
    }
    if (s->raw_count && (strstr(s->raw[0].tensor.name, "lora") || strstr(s->raw[0].tensor.name, "lycoris")))
        return error_set(err, FLUX1_ERR_MODEL, "%s: a LoRA, which is added to a model", s->path);
    if (model)
        return is_of_another(s, model, err);
    if (s->raw_count == 1 && strcmp(s->raw[0].tensor.name, "latents") == 0)
        return error_set(err, FLUX1_ERR_MODEL, "%s: a picture's latents, which flux1 decode makes into the picture",
                         s->path);
    if (s->raw_count == 0)
        return error_set(err, FLUX1_ERR_MODEL, "%s: there is no tensor in it", s->path);
    return error_set(
        err, FLUX1_ERR_MODEL,
        "%s: holds neither FLUX.1's transformer nor CLIP, T5 or the VAE (%zu tensors, the first is \"%s\")", s->path,
        s->raw_count, s->raw[0].tensor.name);
}

flux1_status contents_of(const store *s, store_contents *out, flux1_error *err)
{
    bool any = false;
    *out = (store_contents){.is_gguf = s->file[0].is_gguf};
    for (int part = 0; part < MODEL_PARTS; part++) {
        out->prefix[part] = prefix_of(s, name_map_of((model_part)part));
        any = any || out->prefix[part];
    }
    if (!any)
        return holds_nothing(s, err);
    const char *model = out->prefix[MODEL_TRANSFORMER] ? other_model(s, ALIKE) : NULL;
    if (model)
        return is_of_another(s, model, err);
    for (size_t i = 0; i < s->raw_count; i++)
        if (is_stray(out, s->raw[i].tensor.name) && out->strays++ == 0)
            snprintf(out->stray, sizeof out->stray, "%s", s->raw[i].tensor.name);
    return FLUX1_OK;
}

flux1_status contents_lack(const char *path, const store_contents *c, model_part part, flux1_error *err)
{
    char has[128] = "";
    size_t used = 0;
    for (int p = 0; p < MODEL_PARTS; p++)
        if (c->prefix[p])
            used += (size_t)snprintf(has + used, sizeof has - used, "%s%s", used ? ", " : "",
                                     name_map_of((model_part)p)->title);
    return error_set(err, FLUX1_ERR_MODEL, "%s: holds no %s (it holds: %s)", path, name_map_of(part)->title, has);
}
