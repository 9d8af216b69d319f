/* The contents of a pipeline's config.json files. Every size is checked here, once: positive, and small enough that
 * products of a few of them do not overflow. */
#ifndef FLUX1_MODEL_CONFIG_H
#define FLUX1_MODEL_CONFIG_H

#include "base/json.h"
#include "ops/ops.h"

#include <stdbool.h>
#include <stdint.h>

#define VAE_LEVELS_MAX 8
#define ROPE_AXES_MAX 8

typedef struct clip_config {
    int64_t vocab, positions, hidden, layers, heads, mlp;
    int64_t eos; /* 2 selects transformers' legacy rule "position of the largest id"; any other: the id's first
                    position, or 0 */
    activation act;
    double eps;
} clip_config;

typedef struct t5_config {
    int64_t vocab, d_model, d_kv, d_ff, layers, heads, buckets, max_distance;
    double eps;
} t5_config;

#define DIT_ID_AXES 3 /* columns of a table of positions */

typedef struct dit_config {
    int64_t in_channels, out_channels, layers, single_layers, head_dim, heads, joint_dim, pooled_dim;
    int64_t axes[ROPE_AXES_MAX];
    size_t axis_count;
    bool guidance;
} dit_config;

typedef struct vae_config {
    int64_t in_channels, out_channels, latent_channels, layers, groups, levels;
    int64_t channels[VAE_LEVELS_MAX];
    int64_t sample_size;
    double scaling, shift;
    bool mid_attention, quant_conv, post_quant_conv;
} vae_config;

/* `name` is the file's path, for messages. FLUX1_ERR_FORMAT or FLUX1_ERR_UNSUPPORTED, naming the key. */
flux1_status clip_config_read(const json_value *j, const char *name, clip_config *out, flux1_error *err);
flux1_status t5_config_read(const json_value *j, const char *name, t5_config *out, flux1_error *err);
flux1_status dit_config_read(const json_value *j, const char *name, dit_config *out, flux1_error *err);
flux1_status vae_config_read(const json_value *j, const char *name, vae_config *out, flux1_error *err);

/* What a transformer that takes more than latents seems to be, for messages. */
const char *dit_kind(int64_t in_channels);

static inline int64_t dit_hidden(const dit_config *c) { return c->heads * c->head_dim; }

/* Width and height of a latent cell in pixels: 2^(levels − 1). */
static inline int64_t vae_scale(const vae_config *c) { return (int64_t)1 << (c->levels - 1); }

#endif
