/* The autoencoder's parts, as vae.c loads them, and one run over them. */
#ifndef FLUX1_MODEL_VAE_PARTS_H
#define FLUX1_MODEL_VAE_PARTS_H

#include "model/config.h"
#include "model/loader.h"

#define VAE_NORM_EPS 1e-6f

typedef struct resnet {
    weight *norm1, *conv1, *norm2, *conv2, *shortcut; /* shortcut NULL where channels do not change */
    int64_t in, out;
} resnet;

typedef struct attention_block {
    linear_weight qkv, out;
    weight *norm;
} attention_block;

/* One resolution: resnets, then a change of resolution (NULL at the last). */
typedef struct level {
    held_block block;
    resnet *resnets;
    weight *resample;
    char name[48];
} level;

/* Both halves have the same parts: conv_in, levels, the middle, norm_out, conv_out; the decoder passes the middle
 * first. */
typedef struct vae_side {
    block_list blocks;
    vae_config config;
    const char *side; /* "encoder" or "decoder" */
    int64_t per_level;
    held_block ends, mid;
    weight *conv_in, *norm_out, *conv_out, *quant;
    resnet mid_resnet[2];
    attention_block attention;
    level level[VAE_LEVELS_MAX];
    const char *names[VAE_LEVELS_MAX + 3]; /* by finite slot */
    resnet *resnets;
} vae_side;

typedef struct vae_run {
    mesh *m;
    const vae_side *h;
    plane_cut p;
    int64_t latent_width;
    model_tick *tick;
    void *user;
} vae_run;

static inline flux1_status vae_plane(const vae_run *r, int64_t height, int64_t width, int64_t channels, act *out)
{
    return ops_create(r->m->o, ACT_PLANE, shape_plane(1, height, width, channels), out);
}

/* The norm and SiLU in front of a convolution. */
static inline norm_before vae_norm(const vae_run *r, const weight *w, act stats)
{
    return (norm_before){.stats = stats, .groups = r->h->config.groups, .w = w, .eps = VAE_NORM_EPS, .silu = true};
}

/* A part is done: NaNs are looked for, progress is told. */
static inline flux1_status vae_done(const vae_run *r, act x, int slot)
{
    TRY(ops_finite(r->m->o, x, slot));
    return r->tick(r->user, r->m);
}

#endif
