/* The T5 tokenizer's insides, and opening it from memory. */
#ifndef FLUX1_TEXT_T5_OPEN_H
#define FLUX1_TEXT_T5_OPEN_H

#include "text/pieces.h"
#include "text/settings.h"
#include "text/text.h"

#define T5_PIECE_BYTES_MAX 1024 /* longest vocabulary entry taken; real ones stay under 64 */
/* Bytes of a prompt after normalisation; nmt_nfkc makes at most 11 bytes of one. */
#define T5_NORMALIZED_MAX ((size_t)16 << 20)

/* ---- the character map: a Darts double array over UTF-8 prefixes, and the replacements one behind the other, each
 * ended by NUL ---- */

typedef struct charsmap {
    uint32_t *units; /* NULL: no map, text stays as it is */
    size_t unit_count;
    char *replacements;
    size_t replacement_bytes;
} charsmap;

/* sentencepiece's precompiled_charsmap: u32 size of the trie in bytes, trie, replacements. Empty: no map. `name` for
 * messages. */
flux1_status charsmap_parse(const char *bytes, size_t size, const char *name, charsmap *out, flux1_error *err);
void charsmap_free(charsmap *m);

typedef struct byte_buffer {
    char *bytes;
    size_t size, capacity;
} byte_buffer;

/* Room for `more` bytes behind size. FLUX1_ERR_LIMIT beyond T5_NORMALIZED_MAX, FLUX1_ERR_MEMORY. */
flux1_status byte_buffer_reserve(byte_buffer *b, size_t more, flux1_error *err);

/* Appends `text` as tokenizers' Precompiled normalizer leaves it: grapheme cluster by cluster. */
flux1_status charsmap_apply(const charsmap *m, const char *text, size_t bytes, byte_buffer *out, flux1_error *err);

/* ---- Unigram ---- */

typedef struct unigram {
    string_table pieces; /* value: id */
    double *scores;      /* by id */
    double unknown_score;
    int32_t unknown; /* id; -1: the model has none */
} unigram;

/* Splits one segment (size > 0, valid UTF-8) into the pieces of the highest total score and appends their ids; adjacent
 * unknowns become one. FLUX1_ERR_MODEL when an unknown character meets a model without unknown piece; FLUX1_ERR_MEMORY.
 */
flux1_status unigram_encode(const unigram *u, const char *text, size_t size, id_list *out, flux1_error *err);

/* ---- the tokenizer ---- */

typedef enum prefix_scheme { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix_scheme;

/* What happens to a stretch of text before it is split into pieces; tokenizer.json can leave any part out. */
typedef struct t5_steps {
    bool strip_left, strip_right;
    bool collapse_spaces; /* two or more spaces become one word mark */
    bool split;           /* segments begin at word marks */
    bool end_token;       /* the template ends with one */
    prefix_scheme prefix;
} t5_steps;

struct t5_tokenizer {
    charsmap map;
    unigram model;
    t5_steps steps;
    prompt_cutter cutter;
    cut_token *tokens;
    int32_t pad, end;
    int32_t vocabulary;
    int length;
};

/* A vocabulary on its way in; strings borrowed from the file's bytes. */
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

flux1_status t5_source_add(t5_source *s, t5_piece piece, flux1_error *err);

/* spiece.model: a ModelProto message of sentencepiece. Fills pieces, unknown, charsmap. */
flux1_status t5_read_spiece(const text_file *file, t5_source *s, flux1_error *err);

/* tokenizer.json, parsed: fills pieces, unknown, charsmap, steps, end. */
flux1_status t5_read_json(const json_t *root, const char *name, t5_source *s, flux1_error *err);

/* The files are only read from; names must be set (messages), bytes NULL where a file is absent. */
flux1_status t5_tokenizer_open_files(const tokenizer_files *files, t5_tokenizer **out, flux1_error *err);

#endif
