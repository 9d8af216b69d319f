/* The decoder's levels in bands of rows: what lies between a group norm and the convolution behind it, and the widest
 * level's input, are there for one band at a time. Group norms are of the whole picture: each is two passes, statistics
 * first. So there are no seams, and the result is that of the whole planes: the same bits, but for the last level's
 * first norm, whose statistics are added up band by band.
 *
 * Of the whole picture two planes of a level are kept (its residual and the input of its second convolution), and the
 * output of the level before. The last level's input is computed twice, once for its statistics. */
#ifndef FLUX1_MODEL_VAE_BANDS_H
#define FLUX1_MODEL_VAE_BANDS_H

#include "model/vae_parts.h"

/* From the latent to the first level's input. */
typedef flux1_status vae_bottom(const vae_run *r, const tensor *latent, act out);

/* out: this rank's rows of the picture. band: rows at once, at every level; above 0. */
flux1_status vae_bands_decode(const vae_run *r, int64_t band, vae_bottom *bottom, const tensor *latent, act out);

#endif
