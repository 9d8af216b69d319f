/* CLIP's text by the steps of a tokenizer.json, as Rust's tokenizers runs them (transformers' CLIPTokenizerFast, and
 * every CLIPTokenizer from transformers 5 on). Unlike the slow class's they drop no control characters, put no space
 * around ideographs, lower each character by itself, and match some added tokens after that. */
#ifndef FLUX1_TEXT_CLIP_STATED_H
#define FLUX1_TEXT_CLIP_STATED_H

#include "text/clip_open.h"

/* Appends the ids of a stretch of text between added tokens. FLUX1_ERR_MEMORY. */
flux1_status clip_stated_encode(const clip_tokenizer *t, const char *text, size_t bytes, id_list *out,
                                flux1_error *err);

#endif
