/* Internals of the T5 tokenizer, and opening it from files in memory. */
#ifndef FLUX1_TEXT_T5_OPEN_H
#define FLUX1_TEXT_T5_OPEN_H

#include "text/t5_charsmap.h"
#include "text/t5_source.h"
#include "text/t5_unigram.h"
#include "text/text.h"

struct t5_tokenizer {
    charsmap map;
    unigram model;
    t5_steps steps;
    prompt_cutter cutter;
    cut_token *tokens;
    int32_t pad, end;
    int32_t vocabulary;
    int length;
};

/* Files are not changed; names must be set (for messages), bytes are NULL if a file is absent. */
flux1_status t5_tokenizer_open_files(const tokenizer_files *files, t5_tokenizer **out, flux1_error *err);

#endif
