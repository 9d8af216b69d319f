/* Weights whose file names say a variant: diffusion_pytorch_model.fp16.safetensors. */
#ifndef FLUX1_WEIGHTS_VARIANT_H
#define FLUX1_WEIGHTS_VARIANT_H

#include "base/status.h"

#define VARIANT_ROOM 34 /* with the dot in front and the end */

/* What stands behind the stem in the folder's only variant of it: ".fp16"; "" if there is none. FLUX1_ERR_MODEL if
 * there are several, FLUX1_ERR_MEMORY. */
flux1_status variant_find(const char *folder, const char *stem, char out[VARIANT_ROOM], flux1_error *err);

#endif
