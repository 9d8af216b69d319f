/* Regular expressions of Python's module re, as configurations from Python have them: translated to POSIX's extended
 * ones, in which the usual ones can be said. */
#ifndef FLUX1_BASE_PATTERN_H
#define FLUX1_BASE_PATTERN_H

#include "base/status.h"

#include <stdbool.h>

typedef struct pattern pattern;

/* For names that `text` describes from a dot, or from their beginning, to their end: (.*\.)?(text)$ for re.match.
 * \d, \w, \s and their opposites, escaped punctuation, sets, (?:…), lazy and counted repetition, ^, $ and | are
 * translated. FLUX1_ERR_FORMAT: what else there is (lookaround, references, flags, \b), what is no expression, and what
 * is too large: 1000 bytes, 50 groups in each other, or repetition that makes more than 10,000 of them. The sentence
 * begins with the text. */
flux1_status pattern_compile(const char *text, pattern **out, flux1_error *err);

bool pattern_matches(const pattern *p, const char *name);
void pattern_free(pattern *p); /* NULL is fine */

#endif
