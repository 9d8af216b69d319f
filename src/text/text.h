/* Prompts to token ids, equal to what FluxPipeline's tokenizers give (transformers 4.57.1): CLIP's byte pairs and T5's
 * Unigram pieces. An opened tokenizer is immutable and may be used by any number of threads at once. Prompts are UTF-8
 * of at most TEXT_PROMPT_MAX bytes; NUL is an ordinary character. */
#ifndef FLUX1_TEXT_TEXT_H
#define FLUX1_TEXT_TEXT_H

#include "base/status.h"

#include <stdbool.h>

#define TEXT_PROMPT_MAX ((size_t)1 << 20)

typedef struct clip_tokenizer clip_tokenizer;
typedef struct t5_tokenizer t5_tokenizer;

/* `folder` NULL: FLUX.1's own tokenizer, whose data is compiled in. Otherwise `folder` (MODEL/tokenizer) holds
 * vocab.json and merges.txt, or tokenizer.json; special tokens and the length come from tokenizer_config.json, and from
 * special_tokens_map.json where the former lists no added tokens. FLUX1_ERR_IO, FLUX1_ERR_MODEL (a file is missing),
 * FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED, FLUX1_ERR_LIMIT, FLUX1_ERR_MEMORY; *out is NULL then. */
flux1_status clip_tokenizer_open(const char *folder, clip_tokenizer **out, flux1_error *err);
void clip_tokenizer_close(clip_tokenizer *t); /* NULL is fine */

/* model_max_length of tokenizer_config.json; 77 if it is absent or a placeholder beyond 65536. */
int clip_tokenizer_length(const clip_tokenizer *t);

/* Largest id + 1: the least number of rows of an embedding table. */
int32_t clip_tokenizer_vocabulary(const clip_tokenizer *t);

/* ids [length], length >= 2: start, the prompt's tokens cut to length - 2, end, padding. *used counts the ids before
 * padding; *truncated tells whether tokens were cut (either may be NULL). The rules are those of the slow CLIPTokenizer
 * without ftfy; of a folder with tokenizer.json alone, what that states. FLUX1_ERR_ARGUMENT: not UTF-8 (names the
 * byte), or length < 2. FLUX1_ERR_LIMIT: prompt too long. FLUX1_ERR_MEMORY. */
flux1_status clip_tokenize(const clip_tokenizer *t, const char *prompt, size_t bytes, int length, int32_t *ids,
                           int *used, bool *truncated, flux1_error *err);

/* `folder` NULL: FLUX.1's own. Otherwise `folder` (MODEL/tokenizer_2) holds spiece.model or tokenizer.json. With both,
 * spiece.model is taken when tokenizer_config.json sets add_prefix_space (as FLUX.1's does), tokenizer.json otherwise,
 * as transformers does. Errors as above. */
flux1_status t5_tokenizer_open(const char *folder, t5_tokenizer **out, flux1_error *err);
void t5_tokenizer_close(t5_tokenizer *t); /* NULL is fine */

/* model_max_length; 512 if it is absent or a placeholder. */
int t5_tokenizer_length(const t5_tokenizer *t);
int32_t t5_tokenizer_vocabulary(const t5_tokenizer *t);

/* ids [length], length >= 1: the prompt's tokens cut to length - 1, </s>, padding. Otherwise as clip_tokenize. */
flux1_status t5_tokenize(const t5_tokenizer *t, const char *prompt, size_t bytes, int length, int32_t *ids, int *used,
                         bool *truncated, flux1_error *err);

#endif
