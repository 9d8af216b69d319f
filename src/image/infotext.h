/* AUTOMATIC1111's parameters, read by its own rule: the prompt's lines, "Negative prompt: …" and its further lines, and
 * a last line of at least three `Key: value` pairs. */
#ifndef FLUX1_IMAGE_INFOTEXT_H
#define FLUX1_IMAGE_INFOTEXT_H

#include "base/status.h"

#include <stddef.h>

typedef struct infotext_pair {
    char *key, *value; /* value: without the quotes of JSON that it may have */
} infotext_pair;

typedef struct infotext {
    char *prompt, *negative_prompt; /* without blanks at their ends; negative_prompt: NULL if there is none */
    infotext_pair *pairs;
    size_t count;
} infotext;

/* Any text gives a prompt and what pairs there are; a last line beyond 64 KiB is the prompt's. FLUX1_ERR_MEMORY; *out
 * is zeroed then. */
flux1_status infotext_read(const char *text, infotext *out, flux1_error *err);
void infotext_free(infotext *t);

/* NULL if there is none of that key. Of several the last counts, as in Python's dict. */
const char *infotext_value(const infotext *t, const char *key);

#endif
