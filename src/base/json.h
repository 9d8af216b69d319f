/* Reading JSON: a tree of values, and getters that check types and ranges. json_write.h writes.
 * The reader accepts RFC 8259 with an object or a list at the top, at most 64 levels deep and at most 4 GB. It refuses
 * duplicate keys, NUL characters and invalid UTF-8; messages name file, line and column. */
#ifndef FLUX1_BASE_JSON_H
#define FLUX1_BASE_JSON_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64

/* ---- reading ---- */

/* A value belongs to its document: json_free on the root frees everything. A tree is immutable, so any number of
 * threads may read it. */
typedef struct json_value json_value;

/* Parses `bytes` (need not end in NUL, are not needed afterwards); `name` is the path for messages. *out is the root.
 * FLUX1_ERR_FORMAT with line and column, FLUX1_ERR_LIMIT, FLUX1_ERR_MEMORY; *out is NULL then. */
flux1_status json_parse(const char *bytes, size_t length, const char *name, json_value **out, flux1_error *err);

/* The same by the rules of Python's json.load, for files that Python writes and reads: NaN, Infinity and -Infinity are
 * numbers, so is one too large for a double (infinity), and of duplicate keys the last one counts. */
flux1_status json_parse_python(const char *bytes, size_t length, const char *name, json_value **out, flux1_error *err);

/* Reads a file of at most 64 MiB by Python's rules. FLUX1_ERR_IO if it cannot be read. */
flux1_status json_parse_file(const char *path, json_value **out, flux1_error *err);

void json_free(json_value *root); /* NULL is fine */

/* ---- values ---- */

typedef enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_INTEGER,  /* fits int64_t */
    JSON_UNSIGNED, /* an integer from 2^63 to 2^64 - 1; one beyond these is a JSON_REAL */
    JSON_REAL,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} json_kind;

typedef struct json_member json_member;

/* Use the functions below to read it. */
struct json_value {
    json_kind kind;
    uint32_t count; /* bytes of a string, elements of a list, members of an object */
    union {
        int64_t integer;
        uint64_t large;
        double real;
        const char *string; /* UTF-8 without NUL, and a NUL behind it */
        const json_value *element;
        const json_member *member; /* as they stand in the file; behind them, pointers to them sorted by key */
    };
};

struct json_member {
    const char *key; /* ends in NUL */
    json_value value;
};

/* These accept any value, and NULL; for something absent or of another kind they return NULL, 0 or false. */
static inline bool json_is(const json_value *v, json_kind kind) { return v && v->kind == kind; }
static inline bool json_is_object(const json_value *v) { return json_is(v, JSON_OBJECT); }
static inline bool json_is_array(const json_value *v) { return json_is(v, JSON_ARRAY); }
static inline bool json_is_string(const json_value *v) { return json_is(v, JSON_STRING); }
static inline bool json_is_integer(const json_value *v) { return json_is(v, JSON_INTEGER); }
static inline bool json_is_real(const json_value *v) { return json_is(v, JSON_REAL); }
static inline bool json_is_null(const json_value *v) { return json_is(v, JSON_NULL); }
static inline bool json_is_true(const json_value *v) { return json_is(v, JSON_TRUE); }
static inline bool json_is_number(const json_value *v) { return v && v->kind >= JSON_INTEGER && v->kind <= JSON_REAL; }

size_t json_object_size(const json_value *object);
const json_value *json_object_get(const json_value *object, const char *key);
/* Member number `index` in the file's order; its key in *key. NULL after the last. */
const json_value *json_object_at(const json_value *object, size_t index, const char **key);

size_t json_array_size(const json_value *array);
const json_value *json_array_get(const json_value *array, size_t index);

const char *json_string_value(const json_value *v);
size_t json_string_length(const json_value *v);
int64_t json_integer_value(const json_value *v);
double json_number_value(const json_value *v); /* of any number, as a double */

/* ---- getters for an object's members ----
 * `name` is the file for messages. An absent key or a null leaves *out as it was (the default) and returns FLUX1_OK; a
 * member of the wrong type, or outside [min, max], is FLUX1_ERR_FORMAT: `name: "key" is …, it should be …`. */

flux1_status json_get_int(const json_value *object, const char *name, const char *key, int64_t min, int64_t max,
                          int64_t *out, flux1_error *err);
flux1_status json_get_real(const json_value *object, const char *name, const char *key, double *out,
                           flux1_error *err); /* integers accepted; finite only */
flux1_status json_get_bool(const json_value *object, const char *name, const char *key, bool *out, flux1_error *err);
flux1_status json_get_string(const json_value *object, const char *name, const char *key, const char **out,
                             flux1_error *err); /* borrowed from object */
/* *count elements into out[0..max); *count as it was when absent. */
flux1_status json_get_ints(const json_value *object, const char *name, const char *key, int64_t min, int64_t max,
                           int64_t *out, size_t capacity, size_t *count, flux1_error *err);

/* `key` must be there (not null): FLUX1_ERR_FORMAT `name: "key" is missing`. */
flux1_status json_require(const json_value *object, const char *name, const char *key, flux1_error *err);

/* ---- numbers as text ---- */

#define JSON_NUMBER_ROOM 40

/* The shortest decimal that reads back as the same double, as Python's repr writes it ("0.1", "1e-05", "3.0", "NaN",
 * "-Infinity"), whatever the locale. Returns `out`. */
const char *json_real_text(double value, char out[JSON_NUMBER_ROOM]);

#endif
