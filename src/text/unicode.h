/* Unicode as the oracle's tokenizers see it. Categories, case and normalisation come from utf8proc; where versions
 * matter, from our own tables. */
#ifndef FLUX1_TEXT_UNICODE_H
#define FLUX1_TEXT_UNICODE_H

#include "base/status.h"

#include <stdbool.h>

/* Sorted code points at which membership changes. */
typedef struct code_point_set {
    const uint32_t *edges;
    size_t count;
} code_point_set;

extern const code_point_set unicode_assigned, unicode_cased, unicode_case_ignorable;
extern const code_point_set unicode_cluster_extend, unicode_cluster_spacing, unicode_cluster_prepend,
    unicode_cluster_pictographic;
extern const code_point_set unicode_conjunct_consonant, unicode_conjunct_linker;
/* What tokenizers' patterns and lower case know beyond Unicode 14.0; later_lower: rows of a character and its lower
 * case, ascending. */
extern const code_point_set unicode_later_letter, unicode_later_number;
extern const uint32_t unicode_later_lower[][2];
extern const size_t unicode_later_lower_count;

bool code_point_in(const code_point_set *set, int32_t c);

/* FLUX1_ERR_ARGUMENT naming the first bad byte's offset; FLUX1_ERR_LIMIT beyond TEXT_PROMPT_MAX. */
flux1_status utf8_check_prompt(const char *s, size_t size, flux1_error *err);

bool unicode_is_letter(int32_t c);      /* general category L* */
bool unicode_is_number(int32_t c);      /* N* */
bool unicode_is_other(int32_t c);       /* C*, unassigned in Unicode 14.0 included */
bool unicode_is_space_mark(int32_t c);  /* Zs */
bool unicode_is_white_space(int32_t c); /* White_Space */

/* Canonical composition (NFC) of text[count] in a fresh buffer. Linear but for sorting runs of marks. FLUX1_ERR_MEMORY.
 */
flux1_status unicode_nfc(const int32_t *text, size_t count, int32_t **out, size_t *out_count, flux1_error *err);

/* Python's str.lower() of one word: full mapping, final sigma seen within the word. out holds up to 2 * count. Returns
 * its length. */
size_t unicode_lower_word(const int32_t *word, size_t count, int32_t *out);

/* Bytes of the extended grapheme cluster (UAX #29) at the start of valid UTF-8 of size > 0. */
size_t unicode_cluster(const char *s, size_t size);

#endif
