/* tokenizer.json of a T5 model. */
#ifndef FLUX1_TEXT_T5_JSON_H
#define FLUX1_TEXT_T5_JSON_H

#include "text/t5_source.h"

/* Fills pieces, unknown, charsmap, steps and end from the parsed file. FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED for what
 * transformers never writes for a T5, FLUX1_ERR_LIMIT, FLUX1_ERR_MEMORY. */
flux1_status t5_read_json(const json_value *root, const char *name, t5_source *s, flux1_error *err);

#endif
