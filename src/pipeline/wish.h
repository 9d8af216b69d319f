/* Whether a request would fit into memory, also with options that it did not ask for: advice for one that does not. */
#ifndef FLUX1_PIPELINE_WISH_H
#define FLUX1_PIPELINE_WISH_H

#include "pipeline/text_to_image.h"

typedef struct wish {
    const flux1_model *model;
    const request *request;
    const flux1_text *text; /* the longest that is to be encoded; NULL: none is */
    int64_t batch;          /* pictures at a time */
    bool together;          /* the decoder is open beside the denoiser */
} wish;

/* By the plans of all its stages. *most: bytes of the largest one (memory_total). */
flux1_status wish_fits(flux1_context *c, const wish *w, bool *fits, uint64_t *most);

/* What to ask for instead, with the same picture, in words ("dtype int8"): a cache folder for prepared weights, or
 * another dtype, of which the one that takes least is named; both where neither alone is enough. "" if nothing fits, or
 * the device has memory of its own. */
enum { WISH_TEXT = 96 };
flux1_status wish_options(flux1_context *c, const wish *w, char words[WISH_TEXT]);

/* After a stage was refused (`refused`, which is returned): adds to the message what would fit. */
flux1_status wish_advise(flux1_context *c, const wish *w, flux1_status refused);

#endif
