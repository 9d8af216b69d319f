/* Strict JSON into jansson's values: depth-limited (64), duplicate keys and NUL characters refused, UTF-8 checked, the
 * whole text consumed, sentences with file, line and column. An integer beyond 64 bits becomes a double. The parser is
 * ours (json_parse.c says why). */
#ifndef FLUX1_BASE_JSON_H
#define FLUX1_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>

/* Parses `bytes` (need not end in NUL); `name` is the path for messages. FLUX1_ERR_FORMAT with line and column,
 * FLUX1_ERR_MEMORY. *out is owned by the caller: json_decref. */
flux1_status json_parse(const char *bytes, size_t length, const char *name, json_t **out, flux1_error *err);

/* Reads and parses a file of at most 64 MiB. FLUX1_ERR_IO if it cannot be read. */
flux1_status json_parse_file(const char *path, json_t **out, flux1_error *err);

/* Getters for an object's members. `name` is the file for messages. An absent key or a null leaves *out as it was (the
 * default) and returns FLUX1_OK; a member of the wrong type, or outside [min, max], is FLUX1_ERR_FORMAT: `name: "key"
 * is …, it should be …`. */
flux1_status json_get_int(const json_t *object, const char *name, const char *key, int64_t min, int64_t max,
                          int64_t *out, flux1_error *err);
flux1_status json_get_real(const json_t *object, const char *name, const char *key, double *out,
                           flux1_error *err); /* integers accepted; finite only */
flux1_status json_get_bool(const json_t *object, const char *name, const char *key, bool *out, flux1_error *err);
flux1_status json_get_string(const json_t *object, const char *name, const char *key, const char **out,
                             flux1_error *err); /* borrowed from object */
/* *count elements into out[0..max); *count as it was when absent. */
flux1_status json_get_ints(const json_t *object, const char *name, const char *key, int64_t min, int64_t max,
                           int64_t *out, size_t capacity, size_t *count, flux1_error *err);

/* `key` must be there (not null): FLUX1_ERR_FORMAT `name: "key" is missing`. */
flux1_status json_require(const json_t *object, const char *name, const char *key, flux1_error *err);

#endif
