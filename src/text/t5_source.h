/* A T5 vocabulary as read from its file: filled by t5_json.c or t5_spiece.c, used by t5_open.c. */
#ifndef FLUX1_TEXT_T5_SOURCE_H
#define FLUX1_TEXT_T5_SOURCE_H

#include "text/settings.h"

#define T5_PIECE_BYTES_MAX 1024 /* longest vocabulary entry accepted; real ones are under 64 */

typedef enum prefix_scheme { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix_scheme;

/* What happens to a stretch of text before it is split into pieces; tokenizer.json can leave any part out. */
typedef struct t5_steps {
    bool strip_left, strip_right;
    bool collapse_spaces; /* two or more spaces become one word mark */
    bool words_alone;     /* white space goes; what it separates is marked and split by itself */
    bool split;           /* segments begin at word marks */
    bool end_token;       /* the template ends with one */
    prefix_scheme prefix;
} t5_steps;

/* One entry; `bytes` are borrowed from the file. */
typedef struct t5_piece {
    const char *bytes;
    uint32_t length;
    bool added; /* control and user-defined pieces: cut out of the raw prompt */
    double score;
} t5_piece;

typedef struct t5_source {
    tokenizer_settings settings;
    const char *name; /* of the file that the vocabulary is from */
    t5_piece *pieces;
    size_t piece_count, piece_capacity;
    int64_t unknown; /* id, -1: none */
    const char *charsmap;
    size_t charsmap_bytes;
    char *owned_charsmap; /* decoded from base64 */
    char *extra_names;    /* the text of <extra_id_…> */
    int64_t end;          /* id of the end token, where steps.end_token */
    t5_steps steps;
} t5_source;

/* FLUX1_ERR_FORMAT for a score that is not finite, FLUX1_ERR_LIMIT, FLUX1_ERR_MEMORY. */
flux1_status t5_source_add(t5_source *s, t5_piece piece, flux1_error *err);
void t5_source_free(t5_source *s); /* a zeroed one is fine */

#endif
