/* Previews: the picture that the model expects after a step, by the VAE or by a linear estimate of it. */
#ifndef FLUX1_PIPELINE_PREVIEW_H
#define FLUX1_PIPELINE_PREVIEW_H

#include "pipeline/projection.h"
#include "pipeline/text_to_image.h"

/* The estimate for the model's VAE: what is kept, or fitted now, by decoding a few small latents on the context's
 * device. It lives as long as the model. FLUX1_ERR_LIMIT if the memory is too small for that; FLUX1_ERR_UNSUPPORTED: a
 * latent has too many channels. out NULL: only tells whether it could. */
flux1_status preview_projection(flux1_context *c, const flux1_model *m, const request *r, const projection **out);

#endif
