/* The character map of sentencepiece models: a Darts double array over UTF-8 prefixes, and a list of replacements, each
 * ended by NUL. */
#ifndef FLUX1_TEXT_T5_CHARSMAP_H
#define FLUX1_TEXT_T5_CHARSMAP_H

#include "base/status.h"

#include <stdint.h>

#define T5_NORMALIZED_MAX ((size_t)16 << 20) /* bytes of a normalised prompt; nmt_nfkc makes at most 11 of one */

typedef struct charsmap {
    uint32_t *units; /* NULL: no map, text stays as it is */
    size_t unit_count;
    char *replacements;
    size_t replacement_bytes;
} charsmap;

/* sentencepiece's precompiled_charsmap: u32 size of the trie in bytes, trie, replacements. Empty: no map. `name` for
 * messages. */
flux1_status charsmap_parse(const char *bytes, size_t size, const char *name, charsmap *out, flux1_error *err);
void charsmap_free(charsmap *m);

typedef struct byte_buffer {
    char *bytes;
    size_t size, capacity;
} byte_buffer;

/* Makes space for `more` bytes after `size`. FLUX1_ERR_LIMIT beyond T5_NORMALIZED_MAX, FLUX1_ERR_MEMORY. */
flux1_status byte_buffer_reserve(byte_buffer *b, size_t more, flux1_error *err);

/* Appends `text` as tokenizers' Precompiled normalizer leaves it: grapheme cluster by cluster. */
flux1_status charsmap_apply(const charsmap *m, const char *text, size_t bytes, byte_buffer *out, flux1_error *err);

#endif
