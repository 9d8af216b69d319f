/* Opening a T5 tokenizer: which file serves, which strings are cut out of the prompt and what ids they get
 * (transformers 4.57.1, T5TokenizerFast). */
#include "text/t5_open.h"

#include "base/checked.h"
#include "text/builtin.h"
#include "text/t5_json.h"
#include "text/t5_spiece.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T5_LENGTH 512
#define EXTRA_IDS 100 /* T5TokenizerFast's default */
#define EXTRA_NAME_MAX 32
#define UNKNOWN_PENALTY 10.0

/* ---- the vocabulary ---- */

/* The sentinels' names, <extra_id_0> first, each in EXTRA_NAME_MAX bytes. */
static flux1_status name_extra_ids(t5_source *s, flux1_error *err)
{
    if (s->settings.extra_ids < 0)
        s->settings.extra_ids = EXTRA_IDS;
    size_t count = (size_t)s->settings.extra_ids;
    if (!(s->extra_names = calloc(count + 1, EXTRA_NAME_MAX)))
        return error_oom(err, count * EXTRA_NAME_MAX, s->name);
    for (size_t i = 0; i < count; i++)
        snprintf(s->extra_names + i * EXTRA_NAME_MAX, EXTRA_NAME_MAX, "<extra_id_%zu>", i);
    return FLUX1_OK;
}

/* What transformers builds around a spiece.model: the sentinels behind the pieces, last one first. */
static flux1_status read_spiece(const text_file *file, t5_source *s, flux1_error *err)
{
    TRY(t5_read_spiece(file, s, err));
    for (int64_t i = s->settings.extra_ids; i-- > 0;) {
        const char *name = s->extra_names + i * EXTRA_NAME_MAX;
        TRY(t5_source_add(s, (t5_piece){name, (uint32_t)strlen(name), false, 0}, err));
    }
    prefix_scheme prefix = !s->settings.prefix_space ? PREFIX_NEVER : s->settings.legacy ? PREFIX_ALWAYS : PREFIX_FIRST;
    s->steps =
        (t5_steps){.strip_right = true, .collapse_spaces = true, .split = true, .end_token = true, .prefix = prefix};
    s->end = -1; /* "</s>", looked up when the table stands */
    return FLUX1_OK;
}

static flux1_status read_source(const tokenizer_files *files, t5_source *s, flux1_error *err)
{
    s->settings.role[ROLE_EOS] = "</s>";
    s->settings.role[ROLE_UNK] = "<unk>";
    s->settings.role[ROLE_PAD] = "<pad>";
    if (!files->model.bytes && !files->tokenizer.bytes)
        return error_set(err, FLUX1_ERR_MODEL, "%s: no such file; a T5 tokenizer needs spiece.model or tokenizer.json",
                         files->model.name);
    TRY(tokenizer_settings_read(files, !files->model.bytes, &s->settings, err));
    bool from_spiece = files->model.bytes && (s->settings.has_prefix_space || !files->tokenizer.bytes);
    s->name = from_spiece ? files->model.name : files->tokenizer.name;
    TRY(name_extra_ids(s, err));
    if (from_spiece)
        return read_spiece(&files->model, s, err);
    TRY(tokenizer_settings_load_tokenizer(files, &s->settings, err));
    return t5_read_json(s->settings.tokenizer, s->name, s, err);
}

static flux1_status build_model(const t5_source *s, t5_tokenizer *t, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t bytes = 0;
    if (s->piece_count == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the vocabulary has no pieces; is this a T5 tokenizer?", s->name);
    if (s->unknown >= (int64_t)s->piece_count)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the unknown piece's id is %lld, the vocabulary has %zu pieces",
                         s->name, (long long)s->unknown, s->piece_count);
    string_entry *entries = size_mul(s->piece_count, sizeof *entries, &bytes) ? malloc(bytes) : NULL;
    t->model.scores = malloc(s->piece_count * sizeof *t->model.scores);
    if (!entries || !t->model.scores) {
        st = error_oom(err, bytes, s->name);
        goto cleanup;
    }
    double least = s->pieces[0].score;
    for (size_t i = 0; i < s->piece_count; i++) {
        entries[i] = (string_entry){s->pieces[i].bytes, s->pieces[i].length, (uint32_t)i};
        t->model.scores[i] = s->pieces[i].score;
        if (s->pieces[i].score < least)
            least = s->pieces[i].score;
    }
    t->model.unknown = (int32_t)s->unknown;
    t->model.unknown_score = least - UNKNOWN_PENALTY;
    t->vocabulary = (int32_t)s->piece_count;
    st = string_table_build(entries, s->piece_count, s->name, &t->model.pieces, err);
cleanup:
    free(entries);
    return st;
}

/* ---- added tokens ---- */

typedef struct cut_list {
    string_entry strings[ADDED_TOKENS_MAX]; /* value: index into tokens */
    cut_token tokens[ADDED_TOKENS_MAX];
    bool normalized[ADDED_TOKENS_MAX];
    size_t count;
    int64_t next; /* the id that the next unknown string gets */
} cut_list;

/* A string the vocabulary has keeps its id, another one goes behind all; said twice, its flags are the later ones if
 * `update`. */
static flux1_status cut_list_add(cut_list *l, const t5_tokenizer *t, const char *bytes, size_t length,
                                 added_token flags, bool update, const char *name, flux1_error *err)
{
    size_t i = 0;
    uint32_t id;
    while (i < l->count && (l->strings[i].length != length || memcmp(l->strings[i].bytes, bytes, length) != 0))
        i++;
    if (length == 0 || (i < l->count && !update))
        return FLUX1_OK;
    if (i == ADDED_TOKENS_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: more than %d added tokens; remove those that no prompt uses", name,
                         ADDED_TOKENS_MAX);
    if (i == l->count) {
        l->count++;
        l->strings[i] = (string_entry){bytes, (uint32_t)length, (uint32_t)i};
        l->tokens[i].id = (int32_t)(string_table_find(&t->model.pieces, bytes, length, &id) ? (int64_t)id : l->next++);
    }
    l->tokens[i].strip_left = flags.strip_left;
    l->tokens[i].strip_right = flags.strip_right;
    l->normalized[i] = flags.normalized;
    return FLUX1_OK;
}

static flux1_status add_from_tokenizer(cut_list *l, const t5_tokenizer *t, const t5_source *s, flux1_error *err)
{
    const json_value *list = json_object_get(s->settings.tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        added_token token = {0};
        TRY(settings_parse_token(json_array_get(list, i), s->name, &token, err));
        if (token.single_word)
            return error_set(
                err, FLUX1_ERR_UNSUPPORTED,
                "%s: the added token \"%s\" has single_word set, which flux1 cannot follow; set it to false", s->name,
                token.content);
        TRY(cut_list_add(l, t, token.content, strlen(token.content), token, true, s->name, err));
    }
    return FLUX1_OK;
}

/* In the order in which transformers adds them, since new ones are numbered as they come. */
static flux1_status collect_tokens(cut_list *l, const t5_tokenizer *t, const t5_source *s, bool from_json,
                                   flux1_error *err)
{
    const tokenizer_settings *set = &s->settings;
    const added_token plain = {0};
    if (from_json)
        TRY(add_from_tokenizer(l, t, s, err));
    for (size_t i = 0; i < s->piece_count; i++)
        if (s->pieces[i].added)
            TRY(cut_list_add(l, t, s->pieces[i].bytes, s->pieces[i].length, plain, true, s->name, err));
    for (size_t i = 0; i < set->added_count; i++)
        TRY(cut_list_add(l, t, set->added[i].content, strlen(set->added[i].content), set->added[i], i < set->listed,
                         s->name, err));
    for (int64_t i = 0; i < set->extra_ids && !set->has_extra_id_tokens; i++) {
        const char *name = s->extra_names + i * EXTRA_NAME_MAX;
        TRY(cut_list_add(l, t, name, strlen(name), plain, false, s->name, err));
    }
    for (size_t i = 0; i < l->count; i++)
        if (l->normalized[i])
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: the added token \"%.*s\" is matched after normalisation, which flux1 cannot follow; "
                             "set its \"normalized\" to false",
                             s->name, (int)l->strings[i].length, l->strings[i].bytes);
    return FLUX1_OK;
}

static int64_t id_of(const t5_tokenizer *t, const char *content)
{
    uint32_t value;
    if (string_table_find(&t->cutter.strings, content, strlen(content), &value))
        return t->tokens[value].id;
    return string_table_find(&t->model.pieces, content, strlen(content), &value) ? (int64_t)value : -1;
}

static flux1_status build_cutter(const t5_source *s, t5_tokenizer *t, bool from_json, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    cut_list *list = malloc(sizeof *list);
    if (!list)
        return error_oom(err, sizeof *list, "added tokens");
    list->count = 0;
    list->next = (int64_t)s->piece_count;
    TRY_CLEANUP(collect_tokens(list, t, s, from_json, err));
    if (!(t->tokens = malloc((list->count + 1) * sizeof *t->tokens))) {
        st = error_oom(err, list->count * sizeof *t->tokens, "added tokens");
        goto cleanup;
    }
    memcpy(t->tokens, list->tokens, list->count * sizeof *t->tokens);
    t->cutter.tokens = t->tokens;
    TRY_CLEANUP(string_table_build(list->strings, list->count, "added tokens", &t->cutter.strings, err));
    t->vocabulary = (int32_t)list->next;
    t->pad = (int32_t)id_of(t, s->settings.role[ROLE_PAD]);
    t->end = (int32_t)(s->end >= 0 || !s->steps.end_token ? s->end : id_of(t, "</s>"));
    if (t->pad < 0 || (s->steps.end_token && t->end < 0))
        st = error_set(err, FLUX1_ERR_MODEL, "%s: the vocabulary has no %s", s->name,
                       t->pad < 0 ? s->settings.role[ROLE_PAD] : "</s>");
    else if (t->end >= t->vocabulary)
        st = error_set(err, FLUX1_ERR_FORMAT, "%s: the end token's id %d lies outside the vocabulary of %d", s->name,
                       t->end, t->vocabulary);
cleanup:
    free(list);
    return st;
}

/* ---- open and close ---- */

flux1_status t5_tokenizer_open_files(const tokenizer_files *files, t5_tokenizer **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    t5_source source;
    memset(&source, 0, sizeof source);
    *out = NULL;
    t5_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_oom(err, sizeof *t, "the T5 tokenizer");
    TRY_CLEANUP(read_source(files, &source, err));
    t->length = source.settings.length ? source.settings.length : T5_LENGTH;
    t->steps = source.steps;
    TRY_CLEANUP(charsmap_parse(source.charsmap, source.charsmap_bytes, source.name, &t->map, err));
    TRY_CLEANUP(build_model(&source, t, err));
    TRY_CLEANUP(build_cutter(&source, t, source.name == files->tokenizer.name, err));
    *out = t;
    t = NULL;
cleanup:
    t5_tokenizer_close(t);
    t5_source_free(&source);
    return st;
}

flux1_status t5_tokenizer_open(const char *folder, t5_tokenizer **out, flux1_error *err)
{
    tokenizer_files files;
    *out = NULL;
    flux1_status st = folder ? tokenizer_files_read(folder, &files, err) : builtin_t5_files(&files, err);
    if (st == FLUX1_OK)
        st = t5_tokenizer_open_files(&files, out, err);
    tokenizer_files_free(&files);
    return st;
}

void t5_tokenizer_close(t5_tokenizer *t)
{
    if (!t)
        return;
    charsmap_free(&t->map);
    string_table_free(&t->model.pieces);
    free(t->model.scores);
    string_table_free(&t->cutter.strings);
    free(t->tokens);
    free(t);
}

int t5_tokenizer_length(const t5_tokenizer *t) { return t->length; }
int32_t t5_tokenizer_vocabulary(const t5_tokenizer *t) { return t->vocabulary; }
