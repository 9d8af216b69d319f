/* Base64 (RFC 4648), as pictures travel in JSON. */
#ifndef FLUX1_SERVER_BASE64_H
#define FLUX1_SERVER_BASE64_H

#include "base/builder.h"

#include <stdint.h>

void base64_add(builder *b, const uint8_t *bytes, size_t count);

/* *bytes is malloc'd, with a NUL behind it. Blanks and newlines within, and missing padding at the end, are accepted.
 * False, and *bytes NULL: it is no base64, or memory ran out. */
bool base64_read(const char *text, size_t length, uint8_t **bytes, size_t *count);

#endif
