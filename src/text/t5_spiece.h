/* spiece.model: a ModelProto message of sentencepiece. */
#ifndef FLUX1_TEXT_T5_SPIECE_H
#define FLUX1_TEXT_T5_SPIECE_H

#include "text/t5_source.h"

/* Fills pieces, unknown and charsmap. FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED (not Unigram), FLUX1_ERR_LIMIT,
 * FLUX1_ERR_MEMORY. */
flux1_status t5_read_spiece(const text_file *file, t5_source *s, flux1_error *err);

#endif
