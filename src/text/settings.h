/* The small JSON files next to a vocabulary, and the special strings that follow from them; used by both tokenizers.
 * The order of precedence is that of transformers: tokenizer_config.json with its added_tokens_decoder; if that list is
 * absent, also special_tokens_map.json, added_tokens.json and tokenizer.json's added_tokens. */
#ifndef FLUX1_TEXT_SETTINGS_H
#define FLUX1_TEXT_SETTINGS_H

#include "base/json.h"
#include "text/strings.h"

#include <stdint.h>

#define ADDED_TOKENS_MAX 4096

/* One file's text; bytes NULL: the file is absent. */
typedef struct text_file {
    char *name; /* the path, for messages */
    char *bytes;
    size_t size;
} text_file;

/* One row per file that a tokenizer folder may have: member, name. */
#define TOKENIZER_FILES(X)                \
    X(vocab, "vocab.json")                \
    X(merges, "merges.txt")               \
    X(tokenizer, "tokenizer.json")        \
    X(model, "spiece.model")              \
    X(config, "tokenizer_config.json")    \
    X(special, "special_tokens_map.json") \
    X(added, "added_tokens.json")

typedef struct tokenizer_files {
#define ROW(member, name) text_file member;
    TOKENIZER_FILES(ROW)
#undef ROW
    bool vocabulary_of_merges; /* CLIP: merges.txt alone makes the vocabulary, by OpenAI's rule */
} tokenizer_files;

/* FLUX1_ERR_IO if `folder` is not a folder or a file in it cannot be read. Free in any case. */
flux1_status tokenizer_files_read(const char *folder, tokenizer_files *out, flux1_error *err);
void tokenizer_files_free(tokenizer_files *f);

/* A string that is cut out of the raw prompt before any other processing. */
typedef struct added_token {
    const char *content; /* borrowed from the settings' JSON */
    int64_t id;          /* as the file says; -1: to be found or given */
    bool strip_left, strip_right, single_word, normalized;
} added_token;

typedef enum special_role {
    ROLE_BOS,
    ROLE_EOS,
    ROLE_UNK,
    ROLE_SEP,
    ROLE_PAD,
    ROLE_CLS,
    ROLE_MASK,
    ROLE_COUNT
} special_role;

typedef struct tokenizer_settings {
    json_value *config, *special, *added_file, *tokenizer; /* each may be NULL */
    int length;                                            /* model_max_length; 0: not given */
    const char *role[ROLE_COUNT];                          /* NULL: not given */
    added_token *added; /* listed with an id, ascending; then the roles; then additional special tokens */
    size_t added_count;
    size_t listed; /* of these come from lists with ids */
    bool has_prefix_space, prefix_space, legacy;
    int64_t extra_ids;        /* -1: not given */
    bool has_extra_id_tokens; /* additional_special_tokens names <extra_id_…> itself */
} tokenizer_settings;

/* `role` holds the class's defaults on entry. out->tokenizer is read if with_tokenizer (it is the vocabulary) or if its
 * list of added tokens counts. FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED (padding or truncation on the left,
 * whole-word tokens), FLUX1_ERR_LIMIT. Free in any case. */
flux1_status tokenizer_settings_read(const tokenizer_files *files, bool with_tokenizer, tokenizer_settings *out,
                                     flux1_error *err);
/* Reads out->tokenizer if it was not read before. */
flux1_status tokenizer_settings_load_tokenizer(const tokenizer_files *files, tokenizer_settings *s, flux1_error *err);
void tokenizer_settings_free(tokenizer_settings *s);

/* Whether a part of tokenizer.json, {"type": …}, is of that type. */
bool settings_is_type(const json_value *object, const char *type);

/* An entry of an added_tokens list: {"content": …, "lstrip": …}. */
flux1_status settings_parse_token(const json_value *object, const char *name, added_token *out, flux1_error *err);

#endif
