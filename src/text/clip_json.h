/* tokenizer.json of a CLIP tokenizer: what happens to a text before its words are merged. */
#ifndef FLUX1_TEXT_CLIP_JSON_H
#define FLUX1_TEXT_CLIP_JSON_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

/* The steps that tokenizer.json states; each may be left out. */
typedef struct clip_steps {
    bool stated; /* false: there is no tokenizer.json, the slow CLIPTokenizer's rules hold */
    bool compose, collapse_spaces, lower;
    bool literals;    /* the splitting pattern has "<|startoftext|>" and "<|endoftext|>" */
    int32_t bos, eos; /* what the post_processor puts around a prompt */
} clip_steps;

/* FLUX1_ERR_UNSUPPORTED for what transformers never writes for a CLIP. */
flux1_status clip_read_steps(const json_value *root, const char *name, clip_steps *out, flux1_error *err);

#endif
