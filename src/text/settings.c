#include "text/settings.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/stand_in.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENIZER_FILE_MAX ((size_t)64 << 20)
#define LENGTH_MAX 65536 /* larger is transformers' way of saying "not known" (1e30) */

/* ---- files ---- */

static flux1_status read_one(const char *folder, const char *name, text_file *out, flux1_error *err)
{
    bool there;
    if (!(out->name = path_join(folder, name)))
        return error_oom(err, 0, name);
    TRY(file_find(out->name, &there, err));
    if (!there)
        return FLUX1_OK;
    TRY(file_read(out->name, TOKENIZER_FILE_MAX, &out->bytes, &out->size, err));
    return stand_in_check(out->name, out->bytes, out->size, err);
}

flux1_status tokenizer_files_read(const char *folder, tokenizer_files *out, flux1_error *err)
{
    bool there;
    memset(out, 0, sizeof *out);
    TRY(file_find(folder, &there, err));
    if (!file_is_directory(folder))
        return error_set(err, FLUX1_ERR_IO, "%s: no such folder; a FLUX.1 model keeps its tokenizer's files there",
                         folder);
#define ROW(member, name) TRY(read_one(folder, name, &out->member, err));
    TOKENIZER_FILES(ROW)
#undef ROW
    return FLUX1_OK;
}

void tokenizer_files_free(tokenizer_files *f)
{
#define ROW(member, file_name) \
    free(f->member.name);      \
    free(f->member.bytes);
    TOKENIZER_FILES(ROW)
#undef ROW
    memset(f, 0, sizeof *f);
}

/* ---- added tokens ---- */

/* Appends a token unless its content is already there; `content` must live as long as the settings. */
static flux1_status add_token(tokenizer_settings *s, const char *name, added_token token, flux1_error *err)
{
    if (token.content[0] == '\0')
        return FLUX1_OK;
    for (size_t i = 0; i < s->added_count; i++)
        if (strcmp(s->added[i].content, token.content) == 0)
            return FLUX1_OK;
    if (s->added_count == ADDED_TOKENS_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: more than %d added tokens; remove those that no prompt uses", name,
                         ADDED_TOKENS_MAX);
    if (token.single_word)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: the added token \"%s\" has single_word set, which flux1 cannot follow; set it to false",
                         name, token.content);
    if (!s->added && !(s->added = malloc(ADDED_TOKENS_MAX * sizeof *s->added)))
        return error_oom(err, ADDED_TOKENS_MAX * sizeof *s->added, "added tokens");
    s->added[s->added_count++] = token;
    return FLUX1_OK;
}

bool settings_is_type(const json_value *object, const char *type)
{
    const char *text = json_string_value(json_object_get(object, "type"));
    return text && strcmp(text, type) == 0;
}

flux1_status settings_parse_token(const json_value *object, const char *name, added_token *out, flux1_error *err)
{
    if (!json_is_object(object))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: an added token should be an object with \"content\"", name);
    TRY(json_require(object, name, "content", err));
    TRY(json_get_string(object, name, "content", &out->content, err));
    TRY(json_get_bool(object, name, "lstrip", &out->strip_left, err));
    TRY(json_get_bool(object, name, "rstrip", &out->strip_right, err));
    TRY(json_get_bool(object, name, "single_word", &out->single_word, err));
    return json_get_bool(object, name, "normalized", &out->normalized, err);
}

/* A special token stands in the files as a string or as an object with its content; null says nothing. */
static flux1_status parse_special(const json_value *value, const char *name, const char *key, added_token *out,
                                  flux1_error *err)
{
    memset(out, 0, sizeof *out);
    out->id = -1;
    if (json_is_string(value)) {
        out->content = json_string_value(value);
        return FLUX1_OK;
    }
    if (json_is_object(value))
        return settings_parse_token(value, name, out, err);
    return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" should be a string or an object with \"content\"", name, key);
}

static const char *const role_keys[ROLE_COUNT] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                  "pad_token", "cls_token", "mask_token"};

typedef struct role_tokens {
    added_token token[ROLE_COUNT];
} role_tokens;

static flux1_status read_roles(const json_value *object, const char *name, tokenizer_settings *s, role_tokens *tokens,
                               flux1_error *err)
{
    for (int r = 0; r < ROLE_COUNT; r++) {
        const json_value *value = json_object_get(object, role_keys[r]);
        if (!value || json_is_null(value))
            continue;
        TRY(parse_special(value, name, role_keys[r], &tokens->token[r], err));
        s->role[r] = tokens->token[r].content;
    }
    return FLUX1_OK;
}

static flux1_status add_special_list(const json_value *object, const char *name, tokenizer_settings *s,
                                     flux1_error *err)
{
    const json_value *list = json_object_get(object, "additional_special_tokens");
    if (!list || json_is_null(list))
        return FLUX1_OK;
    if (!json_is_array(list))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"additional_special_tokens\" should be an array", name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        added_token token;
        TRY(parse_special(json_array_get(list, i), name, "additional_special_tokens", &token, err));
        if (strstr(token.content, "<extra_id_"))
            s->has_extra_id_tokens = true;
        TRY(add_token(s, name, token, err));
    }
    return FLUX1_OK;
}

/* ---- lists with ids ---- */

static flux1_status id_out_of_range(const char *name, const char *content, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT,
                     "%s: the id of the added token \"%s\" should be an integer from 0 to 2147483646", name, content);
}

static flux1_status parse_id(const char *text, const char *name, int64_t *out, flux1_error *err)
{
    int64_t id = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 10 || strspn(text, "0123456789") != n)
        return id_out_of_range(name, text, err);
    for (size_t i = 0; i < n; i++)
        id = id * 10 + (text[i] - '0');
    if (id >= INT32_MAX)
        return id_out_of_range(name, text, err);
    *out = id;
    return FLUX1_OK;
}

static flux1_status list_decoder(const json_value *decoder, const char *name, tokenizer_settings *s, flux1_error *err)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(decoder))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"added_tokens_decoder\" should be an object", name);
    for (size_t i = 0; (value = json_object_at(decoder, i, &key)); i++) {
        added_token token = {0};
        TRY(settings_parse_token(value, name, &token, err));
        TRY(parse_id(key, name, &token.id, err));
        TRY(add_token(s, name, token, err));
    }
    return FLUX1_OK;
}

static flux1_status list_added_file(const json_value *file, const char *name, tokenizer_settings *s, flux1_error *err)
{
    const char *key;
    const json_value *value;
    for (size_t i = 0; (value = json_object_at(file, i, &key)); i++) {
        added_token token = {.content = key, .id = json_is_integer(value) ? json_integer_value(value) : -1};
        if (token.id < 0 || token.id >= INT32_MAX)
            return id_out_of_range(name, key, err);
        TRY(add_token(s, name, token, err));
    }
    return FLUX1_OK;
}

static flux1_status list_tokenizer(const json_value *tokenizer, const char *name, tokenizer_settings *s,
                                   flux1_error *err)
{
    const json_value *list = json_object_get(tokenizer, "added_tokens");
    if (!list || json_is_null(list))
        return FLUX1_OK;
    if (!json_is_array(list))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"added_tokens\" should be an array", name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_value *item = json_array_get(list, i);
        added_token token = {0};
        TRY(settings_parse_token(item, name, &token, err));
        TRY(json_require(item, name, "id", err));
        TRY(json_get_int(item, name, "id", 0, INT32_MAX - 1, &token.id, err));
        TRY(add_token(s, name, token, err));
    }
    return FLUX1_OK;
}

static int by_id(const void *a, const void *b)
{
    const added_token *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* ---- the whole ---- */

typedef flux1_status parser(const char *bytes, size_t length, const char *name, json_value **out, flux1_error *err);

/* tokenizer.json is read by Rust, strictly; the others by Python. */
static flux1_status parse_object(parser *parse, const text_file *file, json_value **out, flux1_error *err)
{
    if (!file->bytes)
        return FLUX1_OK;
    TRY(parse(file->bytes, file->size, file->name, out, err));
    if (!json_is_object(*out))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: should be a JSON object", file->name);
    return FLUX1_OK;
}

static flux1_status refuse_left(const json_value *config, const char *name, const char *key, flux1_error *err)
{
    const char *side = "right";
    TRY(json_get_string(config, name, key, &side, err));
    if (strcmp(side, "right") != 0)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: \"%s\" is \"%s\", flux1 knows only \"right\", which FLUX.1 uses", name, key, side);
    return FLUX1_OK;
}

static flux1_status read_config(const json_value *config, const char *name, tokenizer_settings *s, flux1_error *err)
{
    double length = 0, extra = -1;
    bool split = false;
    TRY(json_get_real(config, name, "model_max_length", &length, err));
    if (json_object_get(config, "model_max_length") && !json_is_null(json_object_get(config, "model_max_length"))) {
        if (!(length >= 2) || floor(length) != length)
            return error_set(err, FLUX1_ERR_FORMAT,
                             "%s: \"model_max_length\" is %g, it should be a whole number of at least 2", name, length);
        s->length = length > LENGTH_MAX ? 0 : (int)length;
    }
    TRY(json_get_real(config, name, "extra_ids", &extra, err));
    if (json_object_get(config, "extra_ids") && !json_is_null(json_object_get(config, "extra_ids"))) {
        if (!(extra >= 0) || extra > ADDED_TOKENS_MAX || floor(extra) != extra)
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"extra_ids\" is %g, it should be a whole number from 0 to %d",
                             name, extra, ADDED_TOKENS_MAX);
        s->extra_ids = (int64_t)extra;
    }
    const json_value *prefix = json_object_get(config, "add_prefix_space");
    s->has_prefix_space = prefix && !json_is_null(prefix);
    s->prefix_space = !prefix; /* T5Tokenizer's default is true, and null is no true */
    TRY(json_get_bool(config, name, "add_prefix_space", &s->prefix_space, err));
    TRY(json_get_bool(config, name, "legacy", &s->legacy, err));
    TRY(json_get_bool(config, name, "split_special_tokens", &split, err));
    if (split)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: \"split_special_tokens\" is true, which flux1 cannot follow; set it to false", name);
    TRY(refuse_left(config, name, "padding_side", err));
    return refuse_left(config, name, "truncation_side", err);
}

static flux1_status read_tokens(const tokenizer_files *files, tokenizer_settings *s, flux1_error *err)
{
    role_tokens roles;
    memset(&roles, 0, sizeof roles);
    for (int r = 0; r < ROLE_COUNT; r++)
        roles.token[r] = (added_token){.content = s->role[r], .id = -1};
    const json_value *decoder = s->config ? json_object_get(s->config, "added_tokens_decoder") : NULL;
    TRY(read_roles(s->config, files->config.name, s, &roles, err));
    if (decoder) {
        TRY(list_decoder(decoder, files->config.name, s, err));
    } else {
        TRY(read_roles(s->special, files->special.name, s, &roles, err));
        if (s->added_file)
            TRY(list_added_file(s->added_file, files->added.name, s, err));
        TRY(list_tokenizer(s->tokenizer, files->tokenizer.name, s, err));
    }
    if (s->added_count)
        qsort(s->added, s->added_count, sizeof *s->added, by_id);
    s->listed = s->added_count;
    for (int r = 0; r < ROLE_COUNT; r++)
        if (s->role[r])
            TRY(add_token(s, files->config.name, roles.token[r], err));
    TRY(add_special_list(s->config, files->config.name, s, err));
    return decoder ? FLUX1_OK : add_special_list(s->special, files->special.name, s, err);
}

flux1_status tokenizer_settings_read(const tokenizer_files *files, bool with_tokenizer, tokenizer_settings *out,
                                     flux1_error *err)
{
    out->legacy = out->prefix_space = true;
    out->extra_ids = -1;
    TRY(parse_object(json_parse_python, &files->config, &out->config, err));
    TRY(parse_object(json_parse_python, &files->special, &out->special, err));
    TRY(parse_object(json_parse_python, &files->added, &out->added_file, err));
    if (with_tokenizer || !json_object_get(out->config, "added_tokens_decoder"))
        TRY(parse_object(json_parse, &files->tokenizer, &out->tokenizer, err));
    if (out->config)
        TRY(read_config(out->config, files->config.name, out, err));
    return read_tokens(files, out, err);
}

flux1_status tokenizer_settings_load_tokenizer(const tokenizer_files *files, tokenizer_settings *s, flux1_error *err)
{
    return s->tokenizer ? FLUX1_OK : parse_object(json_parse, &files->tokenizer, &s->tokenizer, err);
}

void tokenizer_settings_free(tokenizer_settings *s)
{
    json_free(s->config);
    json_free(s->special);
    json_free(s->added_file);
    json_free(s->tokenizer);
    free(s->added);
    memset(s, 0, sizeof *s);
}
