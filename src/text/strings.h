/* A fixed, sorted set of byte strings with a number each: exact lookup, and walking byte by byte to find all members
 * that begin at a position. */
#ifndef FLUX1_TEXT_STRINGS_H
#define FLUX1_TEXT_STRINGS_H

#include "base/status.h"

#include <stdbool.h>

typedef struct string_entry {
    const char *bytes;
    uint32_t length;
    uint32_t value;
} string_entry;

typedef struct string_table {
    string_entry *entries; /* ascending, no duplicates, none empty */
    size_t count;
    char *blob;          /* the bytes of all entries */
    uint32_t first[257]; /* entries that begin with byte b: [first[b], first[b + 1]) */
} string_table;

/* Copies what it needs from `entries`. Of equal strings the last one stays; empty ones are left out. At most 2^31 - 1.
 * FLUX1_ERR_MEMORY; *out is empty then. */
flux1_status string_table_build(const string_entry *entries, size_t count, const char *what, string_table *out,
                                flux1_error *err);
void string_table_free(string_table *t); /* a zeroed one is fine */

bool string_table_find(const string_table *t, const char *bytes, size_t length, uint32_t *value);

/* All members that share the bytes walked so far. */
typedef struct string_walk {
    uint32_t low, high, depth;
} string_walk;

static inline string_walk string_walk_begin(const string_table *t) { return (string_walk){0, (uint32_t)t->count, 0}; }

/* Goes one byte further; false if no member continues with it. *entry: the member that ends exactly here, or NULL. */
bool string_walk_step(const string_table *t, string_walk *w, unsigned char byte, const string_entry **entry);

#endif
