/* The data of FLUX.1's own tokenizers, packed into the library: OpenAI's byte pair merges for CLIP and Google's
 * sentencepiece model for T5 (data/, NOTICE). Unpacked for each tokenizer that is opened from it, and freed when that
 * stands: nothing is kept, so any number of threads may do it. */
#ifndef FLUX1_TEXT_BUILTIN_H
#define FLUX1_TEXT_BUILTIN_H

#include "text/settings.h"

/* A file, deflated by data/pack.c when the library is built. */
typedef struct builtin_file {
    const unsigned char *packed;
    size_t packed_bytes, bytes;
} builtin_file;

extern const builtin_file builtin_clip_merges, builtin_t5_spiece;

/* The files of one tokenizer. FLUX1_ERR_MEMORY. Free with tokenizer_files_free in any case. */
flux1_status builtin_clip_files(tokenizer_files *out, flux1_error *err);
flux1_status builtin_t5_files(tokenizer_files *out, flux1_error *err);

#endif
