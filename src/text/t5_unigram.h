/* Unigram: the split of a segment into the pieces of the highest total score. */
#ifndef FLUX1_TEXT_T5_UNIGRAM_H
#define FLUX1_TEXT_T5_UNIGRAM_H

#include "text/pieces.h"

typedef struct unigram {
    string_table pieces; /* value: id */
    double *scores;      /* by id */
    double unknown_score;
    int32_t unknown; /* id; -1: the model has none */
} unigram;

/* Splits one segment (size > 0, valid UTF-8) into the pieces of the highest total score and appends their ids; adjacent
 * unknowns become one. FLUX1_ERR_MODEL for an unknown character if the model has no unknown piece; FLUX1_ERR_MEMORY.
 */
flux1_status unigram_encode(const unigram *u, const char *text, size_t size, id_list *out, flux1_error *err);

#endif
