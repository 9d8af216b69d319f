/* The normalizer of a CLIP tokenizer.json. */
#ifndef FLUX1_TEXT_CLIP_NORMALIZE_H
#define FLUX1_TEXT_CLIP_NORMALIZE_H

#include "text/clip_json.h"

/* Valid UTF-8 to valid UTF-8 in a fresh buffer. FLUX1_ERR_MEMORY. */
flux1_status clip_normalize(const clip_steps *steps, const char *text, size_t bytes, char **out, size_t *out_bytes,
                            flux1_error *err);

#endif
