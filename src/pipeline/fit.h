/* Whether a part fits a transformer, by the shapes of its tensors. */
#ifndef FLUX1_PIPELINE_FIT_H
#define FLUX1_PIPELINE_FIT_H

#include "pipeline/folder.h"

/* What a transformer takes and gives; 0: not known. */
typedef struct fit {
    int64_t pooled, joint; /* widths of CLIP's and T5's output */
    int64_t channels;      /* four times the latent's */
} fit;

/* From a transformer's open store; all 0 where its shapes do not tell. */
void fit_learn(const store *transformer, fit *out);

/* FLUX1_ERR_MODEL or FLUX1_ERR_UNSUPPORTED with a sentence for a store that is no such part of FLUX.1, or one of
 * another width. `config`: the path of its config.json, or NULL; then the shapes tell. */
flux1_status fit_check(const store *s, component c, const char *config, const fit *f, flux1_error *err);

#endif
