/* Encoded prompts that a context keeps in memory, so that equal prompts in later requests do not run the encoders
 * again. What they are found by: the model, the ids of both tokenizers with their lengths, and the adapters that change
 * the encoders; device and dtype are the context's. The least recently used give way. A caller gets copies. */
#ifndef FLUX1_PIPELINE_TEXT_CACHE_H
#define FLUX1_PIPELINE_TEXT_CACHE_H

#include "pipeline/adapter_set.h"
#include "pipeline/context.h"

/* All of them together: eight prompts of 512 tokens of FLUX.1's T5. */
#define TEXT_CACHE_BYTES ((uint64_t)66 << 20)

struct flux1_text;

/* *found: an equal prompt was there, and text->pooled and text->embeds are copies of its. adapters may be NULL. */
flux1_status text_cache_take(flux1_context *c, const adapter_set *adapters, struct flux1_text *text, bool *found);

/* Keeps copies of what was just encoded, where they have room. */
flux1_status text_cache_keep(flux1_context *c, const adapter_set *adapters, const struct flux1_text *text);

/* From now on all of them take `room` bytes at most, and no more than TEXT_CACHE_BYTES. */
flux1_status text_cache_limit(flux1_context *c, uint64_t room);

uint64_t text_cache_bytes(const flux1_context *c); /* that are kept */

/* Prompts encoded, prompts found, and the bytes that are kept. */
void text_cache_counts(const flux1_context *c, uint64_t *encoded, uint64_t *reused, uint64_t *bytes);

void text_cache_free(flux1_context *c);

#endif
