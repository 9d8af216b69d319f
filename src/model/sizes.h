/* Sizes of a part whose weights lie in a single file, without a config.json: told by the shapes of its tensors. What no
 * shape tells is FLUX.1's own: CLIP's head size 64, T5's largest distance 128, the VAE's 32 groups, scaling 0.3611 and
 * shift 0.1159. */
#ifndef FLUX1_MODEL_SIZES_H
#define FLUX1_MODEL_SIZES_H

#include "model/config.h"
#include "weights/store.h"

/* FLUX1_ERR_MODEL for a tensor that is missing or has an impossible shape, FLUX1_ERR_UNSUPPORTED for a model of another
 * kind (as from a config.json); both name it. */
flux1_status clip_sizes(const store *s, clip_config *out, flux1_error *err);
flux1_status t5_sizes(const store *s, t5_config *out, flux1_error *err);
flux1_status dit_sizes(const store *s, dit_config *out, flux1_error *err);
flux1_status vae_sizes(const store *s, vae_config *out, flux1_error *err);

#endif
