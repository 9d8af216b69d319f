#include "pipeline/fit.h"

#include "model/sizes.h"

#include <inttypes.h>

#define T5_VOCABULARY 32128 /* FLUX.1's; UMT5 and mT5 have far more */

void fit_learn(const store *transformer, fit *out)
{
    dit_config dit;
    *out = (fit){0};
    if (dit_sizes(transformer, &dit, NULL) == FLUX1_OK)
        *out = (fit){.pooled = dit.pooled_dim, .joint = dit.joint_dim, .channels = dit.in_channels};
}

static flux1_status same(const store *s, const char *what, int64_t has, int64_t needs, flux1_error *err)
{
    if (!needs || has == needs)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: its %s is %" PRId64 ", this transformer needs %" PRId64, store_path(s),
                     what, has, needs);
}

static flux1_status check_t5(const store *s, const t5_config *t5, const fit *f, flux1_error *err)
{
    if (t5->vocab > T5_VOCABULARY ||
        store_find(s, "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"))
        return error_set(err, FLUX1_ERR_MODEL, "%s: another T5 (UMT5 or mT5); FLUX.1 has T5 v1.1 XXL", store_path(s));
    return same(s, "width", t5->d_model, f->joint, err);
}

/* The part's sizes: from its config if there is one, else from its shapes. */
#define READ(read, told, out) (json ? read(json, config, out, err) : told(s, out, err))

static flux1_status check(const store *s, component c, const json_value *json, const char *config, const fit *f,
                          flux1_error *err)
{
    clip_config clip;
    t5_config t5;
    dit_config dit;
    vae_config vae;
    switch (c) {
    case COMPONENT_CLIP:
        TRY(READ(clip_config_read, clip_sizes, &clip));
        return same(s, "width", clip.hidden, f->pooled, err);
    case COMPONENT_T5: TRY(READ(t5_config_read, t5_sizes, &t5)); return check_t5(s, &t5, f, err);
    case COMPONENT_DIT: return READ(dit_config_read, dit_sizes, &dit);
    case COMPONENT_VAE:
        TRY(READ(vae_config_read, vae_sizes, &vae));
        return same(s, "number of latent channels", vae.latent_channels, f->channels / 4, err);
    case COMPONENTS: break;
    }
    return FLUX1_OK;
}

flux1_status fit_check(const store *s, component c, const char *config, const fit *f, flux1_error *err)
{
    json_value *json = NULL;
    flux1_status st = config ? json_parse_file(config, &json, err) : FLUX1_OK;
    if (st == FLUX1_OK)
        st = check(s, c, json, config, f, err);
    json_free(json);
    return st;
}
