/* Internals of the CLIP tokenizer, and opening it from files in memory (also for tests and fuzzing). */
#ifndef FLUX1_TEXT_CLIP_OPEN_H
#define FLUX1_TEXT_CLIP_OPEN_H

#include "text/clip_bpe.h"
#include "text/clip_json.h"
#include "text/settings.h"
#include "text/text.h"

struct clip_tokenizer {
    bpe pairs;
    clip_steps steps;
    prompt_cutter cutter; /* of the raw prompt */
    prompt_cutter later;  /* of the normalised text, where the steps are stated */
    cut_token *tokens;    /* of both */
    int32_t bos, eos, pad;
    int32_t literal[2]; /* "<|startoftext|>" and "<|endoftext|>" found by the splitting pattern */
    int32_t vocabulary; /* largest id + 1 */
    int length;
};

/* Files are not changed; names must be set (for messages), bytes are NULL if a file is absent. */
flux1_status clip_tokenizer_open_files(const tokenizer_files *files, clip_tokenizer **out, flux1_error *err);

#endif
