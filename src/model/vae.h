/* The autoencoder: latent to picture and back. Planes are cut by rows over all ranks. (diffusers:
 * models/autoencoders/autoencoder_kl.py, vae.py.) */
#ifndef FLUX1_MODEL_VAE_H
#define FLUX1_MODEL_VAE_H

#include "model/config.h"
#include "model/loader.h"

typedef struct vae_decoder vae_decoder;
typedef struct vae_encoder vae_encoder;

flux1_status vae_decoder_create(loader *l, const vae_config *c, vae_decoder **out);
void vae_decoder_destroy(vae_decoder *v);

/* latent: host [1, h·w, latent_channels], unscaled (x/scaling + shift). pixels: host [1, h·w·scale², 3], about −1 to 1,
 * on ranks that pass one (others NULL). band: 0, or the levels are computed in bands of so many rows (vae_bands.h): the
 * same picture up to rounding, in about a third of the memory. */
flux1_status vae_decode(vae_decoder *v, mesh *m, const tensor *latent, int64_t h, int64_t w, int64_t band,
                        tensor *pixels, model_tick *tick, void *user);

flux1_status vae_encoder_create(loader *l, const vae_config *c, vae_encoder **out);
void vae_encoder_destroy(vae_encoder *v);

/* pixels: host [1, height·width, 3] in [−1, 1]. moments: host [1, h·w, 2·latent_channels], mean then log-variance (not
 * clamped), h and w being height and width halved (rounding down) levels − 1 times. */
flux1_status vae_encode(vae_encoder *v, mesh *m, const tensor *pixels, int64_t height, int64_t width, tensor *moments,
                        model_tick *tick, void *user);

#endif
