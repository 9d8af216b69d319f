/* Writing JSON, member by member, into a growing text. The same calls give the same bytes on every machine and in every
 * locale. A failed allocation is remembered and reported by json_take; nothing has to be checked before.
 *
 *     json_writer w = {.style = JSON_LINE};
 *     json_begin_object(&w, NULL);
 *     json_put_unsigned(&w, "seed", seed);
 *     json_end_object(&w);
 *     st = json_take(&w, "the result", &text, err);
 */
#ifndef FLUX1_BASE_JSON_WRITE_H
#define FLUX1_BASE_JSON_WRITE_H

#include "base/builder.h"
#include "base/json.h"

typedef enum json_style {
    JSON_LINE,    /* {"a": 1, "b": [1, 2]}: as Python's json.dumps */
    JSON_COMPACT, /* {"a":1,"b":[1,2]} */
    JSON_INDENTED /* as json.dumps(indent=2) */
} json_style;

typedef struct json_writer {
    json_style style;
    builder text;
    int depth;
    uint64_t filled; /* bit d: the container at depth d has a member */
} json_writer;

/* `key` is the member's name in an object, NULL in a list and at the top. At most JSON_DEPTH_MAX levels. */
void json_begin_object(json_writer *w, const char *key);
void json_end_object(json_writer *w);
void json_begin_array(json_writer *w, const char *key);
void json_end_array(json_writer *w);

void json_put_string(json_writer *w, const char *key, const char *text); /* NULL is written as null */
void json_put_integer(json_writer *w, const char *key, int64_t value);
void json_put_unsigned(json_writer *w, const char *key, uint64_t value);
void json_put_real(json_writer *w, const char *key, double value);
void json_put_float(json_writer *w, const char *key, float value); /* the shortest that reads back as a float */
void json_put_bool(json_writer *w, const char *key, bool value);
void json_put_null(json_writer *w, const char *key);
void json_put_value(json_writer *w, const char *key, const json_value *value); /* with everything in it */

/* Hands the text over (free it) and empties the writer; all containers are closed. FLUX1_ERR_MEMORY, naming `what`. */
flux1_status json_take(json_writer *w, const char *what, char **out, flux1_error *err);
void json_abandon(json_writer *w);

/* Bytes in quotes, as json.dumps(text, ensure_ascii=False) writes them, but U+007F to U+009F as escapes: a terminal
 * would obey them. A byte that is not UTF-8 becomes U+FFFD. */
void json_quote(builder *b, const char *bytes, size_t count);

#endif
