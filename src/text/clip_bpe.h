/* Byte pair merging as CLIP does it: symbols are strings, the last one of a word carries "</w>", and the earliest merge
 * rule goes first. */
#ifndef FLUX1_TEXT_CLIP_BPE_H
#define FLUX1_TEXT_CLIP_BPE_H

#include "text/pieces.h"

#include <stdint.h>

typedef struct merge_rule {
    uint32_t left, right; /* symbols */
    uint32_t rank, product;
} merge_rule;

typedef struct bpe {
    uint32_t byte[256], last_byte[256]; /* the symbol of a byte within a word, and at its end */
    int32_t *ids;                       /* by symbol: what it becomes */
    size_t symbol_count;
    merge_rule *slots; /* open addressing; product UINT32_MAX: free */
    size_t slot_mask;  /* slots - 1, a power of two less one */
} bpe;

/* Makes space for `rules` merge rules. FLUX1_ERR_MEMORY. */
flux1_status bpe_reserve(bpe *b, size_t rules, flux1_error *err);
/* A later rule for the same pair replaces the earlier one. */
void bpe_add_rule(bpe *b, merge_rule rule);
void bpe_free(bpe *b);

/* Merges the bytes of one word (count > 0) and appends the ids; stops early only when the list is full.
 * FLUX1_ERR_MEMORY. n log n. */
flux1_status bpe_encode(const bpe *b, const unsigned char *word, size_t count, id_list *out, flux1_error *err);

#endif
