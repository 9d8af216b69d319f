/* Latents that come from outside, and the two forms that they have. */
#ifndef FLUX1_PIPELINE_LATENTS_H
#define FLUX1_PIPELINE_LATENTS_H

#include "pipeline/context.h"
#include "pipeline/folder.h"

/* Packed token (i, j), feature c·4 + 2·y + x ↔ latent channel c at (2i + y, 2j + x), as in latent_cell. planes
 * [channels, 2·grid_h, 2·grid_w], tokens [grid_h·grid_w, 4·channels]. */
void latents_pack(const float *planes, int64_t channels, int64_t grid_h, int64_t grid_w, float *tokens);

/* Puts the size of the pictures, where the latents say it, in place of 0; of packed ones with one side given, the other
 * one. FLUX1_ERR_ARGUMENT, naming it, for a shape that is none of this model's latents. */
flux1_status latents_size(flux1_context *c, const flux1_model *m, const flux1_latents *l, int *width, int *height);

/* They are of so many pictures of that size in pixels, and finite. FLUX1_ERR_ARGUMENT. After latents_size. */
flux1_status latents_check(flux1_context *c, const flux1_model *m, const flux1_latents *l, int64_t pictures,
                           int64_t width, int64_t height);

/* Picture `index`, packed and scaled: [tokens, channels]. */
void latents_packed(const flux1_model *m, const flux1_latents *l, int64_t index, float *out);

#endif
