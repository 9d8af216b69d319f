/* A growing text, for metadata, JSON and messages without a fixed size. A failed allocation is remembered, later calls
 * do nothing, and builder_take reports it: callers check once, at the end. */
#ifndef FLUX1_BASE_BUILDER_H
#define FLUX1_BASE_BUILDER_H

#include "base/status.h"

#include <stdbool.h>

typedef struct builder {
    char *text; /* NUL-terminated once anything was added; NULL before */
    size_t length, capacity;
    bool failed; /* an allocation failed: text is incomplete */
} builder;

void builder_add(builder *b, const char *text);
void builder_add_bytes(builder *b, const char *bytes, size_t count);
void builder_format(builder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a text from outside that should be UTF-8: each byte that belongs to no character becomes U+FFFD. */
void builder_add_utf8(builder *b, const char *text);

/* The shortest decimal that reads back as the same float ("3.5", "0.1"), with a point in every locale. Finite values
 * only. */
void builder_float(builder *b, float value);

/* Hands the text over ("" if nothing was added; free it) and empties the builder. FLUX1_ERR_MEMORY, naming `what`, if
 * an allocation failed. */
flux1_status builder_take(builder *b, const char *what, char **out, flux1_error *err);
void builder_free(builder *b);

#endif
