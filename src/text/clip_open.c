/* Opening a CLIP tokenizer: the vocabulary and merges of either file layout become symbols with ids and merge rules
 * between symbols. */
#include "text/clip_open.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "text/builtin.h"
#include "text/clip_normalize.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MERGE_LINES_MAX 48894 /* CLIPTokenizer reads no more of merges.txt */
#define CLIP_LENGTH 77
#define WORD_END "</w>"
#define WORD_END_LENGTH (sizeof WORD_END - 1)
#define PRINTABLE_BYTES 188 /* of Latin-1, as GPT-2 counts them */

static const char *const literal_text[2] = {"<|startoftext|>", "<|endoftext|>"};

/* One merge: two stretches of the file. */
typedef struct merge_text {
    const char *left, *right;
    size_t left_length, right_length;
} merge_text;

/* Everything that lives only while opening. */
typedef struct clip_source {
    tokenizer_settings settings;
    json_value *vocab_file;  /* vocab.json parsed; NULL when tokenizer.json serves */
    const json_value *vocab; /* borrowed */
    const char *vocab_name;
    string_table ids; /* the vocabulary: string to id */
    merge_text *merges;
    size_t merge_count;
    char *product_bytes;    /* what the merges make, one behind the other */
    char byte_text[512][8]; /* the symbols of the 256 bytes, then the same at a word's end */
    size_t byte_length[512];
    string_table symbols; /* string to symbol */
    int64_t unknown;      /* id, -1: none */
} clip_source;

static void clip_source_free(clip_source *s)
{
    tokenizer_settings_free(&s->settings);
    json_free(s->vocab_file);
    string_table_free(&s->ids);
    string_table_free(&s->symbols);
    free(s->merges);
    free(s->product_bytes);
}

/* ---- vocabulary ---- */

static flux1_status read_vocabulary(clip_source *s, clip_tokenizer *t, flux1_error *err)
{
    flux1_status st;
    size_t count = json_object_size(s->vocab), bytes = 0;
    const char *key;
    const json_value *value;
    if (!json_is_object(s->vocab) || count == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the vocabulary should be an object of strings and their ids",
                         s->vocab_name);
    string_entry *entries = size_mul(count, sizeof *entries, &bytes) ? malloc(bytes) : NULL;
    if (!entries)
        return error_oom(err, bytes, s->vocab_name);
    for (size_t i = 0; (value = json_object_at(s->vocab, i, &key)); i++) {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= INT32_MAX) {
            st = error_set(err, FLUX1_ERR_FORMAT, "%s: the id of \"%s\" should be an integer from 0 to 2147483646",
                           s->vocab_name, key);
            goto cleanup;
        }
        if (id >= t->vocabulary)
            t->vocabulary = (int32_t)id + 1;
        entries[i] = (string_entry){key, (uint32_t)strlen(key), (uint32_t)id};
    }
    st = string_table_build(entries, count, s->vocab_name, &s->ids, err);
cleanup:
    free(entries);
    return st;
}

/* ---- merges ---- */

static flux1_status bad_merge(const char *name, size_t number, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT, "%s:%zu: should be two symbols with one space between them", name, number);
}

/* "left right"; false unless there are exactly two fields. */
static bool split_merge(const char *line, size_t length, merge_text *out)
{
    const char *space = length ? memchr(line, ' ', length) : NULL;
    if (!space || space == line || space + 1 == line + length)
        return false;
    *out = (merge_text){line, space + 1, (size_t)(space - line), (size_t)(line + length - space - 1)};
    return !memchr(out->right, ' ', out->right_length);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

/* merges.txt: the first line is a version, whatever it says. */
static flux1_status read_merges_text(const text_file *file, clip_source *s, flux1_error *err)
{
    const char *at = file->bytes, *end = at + file->size;
    size_t lines = 1, number = 1, bytes;
    if (!utf8_valid(file->bytes, file->size))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: not valid UTF-8", file->name);
    for (const char *p = at; p < end; p++)
        lines += *p == '\n' || *p == '\r';
    if (!size_mul(lines, sizeof *s->merges, &bytes) || !(s->merges = malloc(bytes)))
        return error_oom(err, lines * sizeof *s->merges, file->name);
    while (at < end && is_blank(*at))
        number += *at++ == '\n';
    for (bool first = true; at < end && s->merge_count < MERGE_LINES_MAX; first = false, number++) {
        const char *stop = at;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        size_t length = (size_t)(stop - at);
        while (length > 0 && is_blank(at[length - 1]))
            length--;
        if (!first && length > 0 && !split_merge(at, length, &s->merges[s->merge_count++]))
            return bad_merge(file->name, number, err);
        at = stop + (stop + 1 < end && stop[0] == '\r' && stop[1] == '\n') + 1;
    }
    return FLUX1_OK;
}

/* tokenizer.json writes a merge as ["left", "right"], older files as "left right". */
static flux1_status read_merges_json(const json_value *list, const char *name, clip_source *s, flux1_error *err)
{
    size_t bytes, count = json_array_size(list);
    if (!json_is_array(list))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"model\" should have an array \"merges\"", name);
    if (!size_mul(count + 1, sizeof *s->merges, &bytes) || !(s->merges = malloc(bytes)))
        return error_oom(err, (count + 1) * sizeof *s->merges, name);
    for (size_t i = 0; i < count; i++) {
        const json_value *item = json_array_get(list, i), *left = json_array_get(item, 0),
                         *right = json_array_get(item, 1);
        merge_text *m = &s->merges[s->merge_count++];
        if (json_is_string(item) && split_merge(json_string_value(item), json_string_length(item), m))
            continue;
        if (json_array_size(item) != 2 || !json_is_string(left) || !json_is_string(right) ||
            !json_string_length(left) || !json_string_length(right))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: merge number %zu should be two symbols", name, i);
        *m = (merge_text){json_string_value(left), json_string_value(right), json_string_length(left),
                          json_string_length(right)};
    }
    return FLUX1_OK;
}

/* ---- symbols of bytes, and what merges make ---- */

static bool is_printable(unsigned b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; }

/* GPT-2's printable stand-in for a byte: itself where Latin-1 prints it, else the next free code point from U+0100.
 * Bytes are numbered so too: the printable ones first. */
static void name_bytes(clip_source *s, uint32_t number[256])
{
    uint32_t printable = 0, other = 0;
    for (unsigned b = 0; b < 256; b++) {
        number[b] = is_printable(b) ? printable++ : PRINTABLE_BYTES + other++;
        int32_t c = is_printable(b) ? (int32_t)b : (int32_t)(256 + number[b] - PRINTABLE_BYTES);
        s->byte_length[b] = utf8_encode(c, s->byte_text[b]);
        memcpy(s->byte_text[256 + b], s->byte_text[b], s->byte_length[b]);
        memcpy(s->byte_text[256 + b] + s->byte_length[b], WORD_END, WORD_END_LENGTH);
        s->byte_length[256 + b] = s->byte_length[b] + WORD_END_LENGTH;
    }
}

static flux1_status join_merges(clip_source *s, flux1_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < s->merge_count; i++)
        total += s->merges[i].left_length + s->merges[i].right_length;
    if (!(s->product_bytes = malloc(total + 1)))
        return error_oom(err, total + 1, "merges");
    char *next = s->product_bytes;
    for (size_t i = 0; i < s->merge_count; i++) {
        const merge_text *m = &s->merges[i];
        memcpy(next, m->left, m->left_length);
        memcpy(next + m->left_length, m->right, m->right_length);
        next += m->left_length + m->right_length;
    }
    return FLUX1_OK;
}

static uint32_t product_length(const merge_text *m) { return (uint32_t)(m->left_length + m->right_length); }

/* OpenAI's rule: the bytes, the bytes at a word's end, what each merge makes, the two literals. */
static flux1_status make_vocabulary(clip_source *s, clip_tokenizer *t, const uint32_t number[256], flux1_error *err)
{
    const size_t count = 512 + s->merge_count + 2;
    string_entry *entries = calloc(count, sizeof *entries);
    const char *product = s->product_bytes;
    if (!entries)
        return error_oom(err, count * sizeof *entries, s->vocab_name);
    for (unsigned i = 0; i < 512; i++)
        entries[i] = (string_entry){s->byte_text[i], (uint32_t)s->byte_length[i], number[i % 256] + i / 256 * 256};
    for (size_t i = 0; i < s->merge_count; product += product_length(&s->merges[i++]))
        entries[512 + i] = (string_entry){product, product_length(&s->merges[i]), (uint32_t)(512 + i)};
    for (size_t i = 0; i < 2; i++)
        entries[count - 2 + i] =
            (string_entry){literal_text[i], (uint32_t)strlen(literal_text[i]), (uint32_t)(count - 2 + i)};
    t->vocabulary = (int32_t)count;
    flux1_status st = string_table_build(entries, count, s->vocab_name, &s->ids, err);
    free(entries);
    return st;
}

/* ---- which files ---- */

/* What CLIP's model never has set. */
static flux1_status refuse_options(const json_value *model, const char *name, flux1_error *err)
{
    static const char *const keys[] = {"fuse_unk", "byte_fallback", "ignore_merges"};
    const char *prefix = "";
    bool set = false;
    TRY(json_get_string(model, name, "continuing_subword_prefix", &prefix, err));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        TRY(json_get_bool(model, name, keys[i], &set, err));
        if (set)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"%s\" is true, which no CLIP tokenizer has", name,
                             keys[i]);
    }
    return *prefix ? error_set(err, FLUX1_ERR_UNSUPPORTED,
                               "%s: \"continuing_subword_prefix\" is \"%s\", which no CLIP tokenizer has", name, prefix)
                   : FLUX1_OK;
}

static flux1_status check_model(const json_value *model, const char *name, flux1_error *err)
{
    const char *type = "", *suffix = "";
    if (!json_is_object(model))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: should have an object \"model\"", name);
    TRY(json_get_string(model, name, "type", &type, err));
    TRY(json_get_string(model, name, "end_of_word_suffix", &suffix, err));
    if ((*type && strcmp(type, "BPE") != 0) || strcmp(suffix, WORD_END) != 0)
        return error_set(
            err, FLUX1_ERR_UNSUPPORTED,
            "%s: the model is no CLIP tokenizer: its type should be \"BPE\" and its end_of_word_suffix \"" WORD_END
            "\"",
            name);
    return refuse_options(model, name, err);
}

static flux1_status read_source(const tokenizer_files *files, clip_source *s, clip_tokenizer *t, flux1_error *err)
{
    uint32_t number[256];
    bool plain = (files->vocab.bytes || files->vocabulary_of_merges) && files->merges.bytes;
    if (!plain && !files->tokenizer.bytes) {
        const text_file *gone = files->vocab.bytes ? &files->merges : &files->vocab;
        return error_set(err, FLUX1_ERR_MODEL,
                         "%s: no such file; a CLIP tokenizer needs vocab.json and merges.txt, or tokenizer.json",
                         gone->name);
    }
    s->settings.role[ROLE_BOS] = literal_text[0];
    s->settings.role[ROLE_EOS] = s->settings.role[ROLE_UNK] = s->settings.role[ROLE_PAD] = literal_text[1];
    TRY(tokenizer_settings_read(files, !plain, &s->settings, err));
    if (plain) {
        s->vocab_name = files->vocab.name;
        TRY(read_merges_text(&files->merges, s, err));
    } else {
        const json_value *model = json_object_get(s->settings.tokenizer, "model");
        s->vocab_name = files->tokenizer.name;
        TRY(check_model(model, files->tokenizer.name, err));
        TRY(clip_read_steps(s->settings.tokenizer, files->tokenizer.name, &t->steps, err));
        s->vocab = json_object_get(model, "vocab");
        TRY(read_merges_json(json_object_get(model, "merges"), files->tokenizer.name, s, err));
    }
    name_bytes(s, number);
    TRY(join_merges(s, err));
    if (files->vocabulary_of_merges)
        return make_vocabulary(s, t, number, err);
    if (plain) {
        TRY(json_parse_python(files->vocab.bytes, files->vocab.size, files->vocab.name, &s->vocab_file, err));
        s->vocab = s->vocab_file;
    }
    return read_vocabulary(s, t, err);
}

/* ---- added tokens ---- */

static int64_t added_id(const tokenizer_settings *s, const char *bytes, size_t length)
{
    for (size_t i = 0; i < s->added_count; i++)
        if (strlen(s->added[i].content) == length && memcmp(s->added[i].content, bytes, length) == 0)
            return s->added[i].id;
    return -1;
}

static flux1_status give_ids(clip_source *s, clip_tokenizer *t, flux1_error *err)
{
    tokenizer_settings *set = &s->settings;
    uint32_t id;
    int64_t next = (int64_t)s->ids.count;
    const char *unknown = set->role[ROLE_UNK];
    for (size_t i = 0; i < set->listed; i++)
        next += !string_table_find(&s->ids, set->added[i].content, strlen(set->added[i].content), &id);
    for (size_t i = 0; i < set->added_count; i++) {
        if (set->added[i].id < 0)
            set->added[i].id = string_table_find(&s->ids, set->added[i].content, strlen(set->added[i].content), &id)
                                   ? (int64_t)id
                                   : next++;
        if (set->added[i].id >= t->vocabulary)
            t->vocabulary = (int32_t)set->added[i].id + 1;
    }
    if (t->steps.stated) /* what the model says itself */
        unknown = json_string_value(json_object_get(json_object_get(set->tokenizer, "model"), "unk_token"));
    s->unknown = unknown && string_table_find(&s->ids, unknown, strlen(unknown), &id) ? (int64_t)id : -1;
    t->bos = (int32_t)added_id(set, set->role[ROLE_BOS], strlen(set->role[ROLE_BOS]));
    t->eos = (int32_t)added_id(set, set->role[ROLE_EOS], strlen(set->role[ROLE_EOS]));
    t->pad = (int32_t)added_id(set, set->role[ROLE_PAD], strlen(set->role[ROLE_PAD]));
    if (t->steps.stated) {
        t->bos = t->steps.bos;
        t->eos = t->steps.eos;
        const int32_t last = t->bos > t->eos ? t->bos : t->eos;
        t->vocabulary = last >= t->vocabulary ? last + 1 : t->vocabulary;
    }
    if (t->bos < 0 || t->eos < 0 || t->pad < 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the start, end and padding tokens must not be empty",
                         s->vocab_name);
    return FLUX1_OK;
}

/* The added tokens that are matched in the raw prompt, or (`later`) in the normalised text, themselves normalised. */
static flux1_status collect_cuts(const tokenizer_settings *set, const clip_tokenizer *t, bool later,
                                 string_entry *entries, char **owned, size_t *count, flux1_error *err)
{
    *count = 0;
    for (size_t i = 0; i < set->added_count; i++) {
        const added_token *a = &set->added[i];
        const char *content = a->content;
        size_t length = strlen(content);
        if ((t->steps.stated && a->normalized) != later)
            continue;
        if (later) {
            TRY(clip_normalize(&t->steps, content, length, &owned[i], &length, err));
            content = owned[i];
        }
        entries[(*count)++] = (string_entry){content, (uint32_t)length, (uint32_t)i};
    }
    return FLUX1_OK;
}

static flux1_status build_cutters(const tokenizer_settings *set, clip_tokenizer *t, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t count;
    string_entry *entries = malloc(set->added_count * sizeof *entries); /* at least the roles: never empty */
    char **owned = calloc(set->added_count, sizeof *owned);
    t->tokens = malloc(set->added_count * sizeof *t->tokens);
    if (!entries || !owned || !t->tokens) {
        st = error_oom(err, 0, "added tokens");
        goto cleanup;
    }
    for (size_t i = 0; i < set->added_count; i++)
        t->tokens[i] = (cut_token){(int32_t)set->added[i].id, set->added[i].strip_left, set->added[i].strip_right};
    t->cutter.tokens = t->later.tokens = t->tokens;
    for (int later = 0; later < 2; later++) {
        TRY_CLEANUP(collect_cuts(set, t, later, entries, owned, &count, err));
        TRY_CLEANUP(
            string_table_build(entries, count, "added tokens", later ? &t->later.strings : &t->cutter.strings, err));
    }
cleanup:
    for (size_t i = 0; owned && i < set->added_count; i++)
        free(owned[i]);
    free(owned);
    free(entries);
    return st;
}

/* ---- symbols ---- */

/* All symbols there are: 256 bytes, the same at a word's end, and what the merges name and make. */
static flux1_status collect_symbols(clip_source *s, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t count, bytes, n = 0;
    string_entry *entries =
        size_mul(s->merge_count, 3, &count) && size_add(count, 512, &count) && size_mul(count, sizeof *entries, &bytes)
            ? malloc(bytes)
            : NULL;
    if (!entries)
        return error_oom(err, 0, "symbols");
    for (unsigned i = 0; i < 512; i++)
        entries[n++] = (string_entry){s->byte_text[i], (uint32_t)s->byte_length[i], 0};
    const char *product = s->product_bytes;
    for (size_t i = 0; i < s->merge_count; i++) {
        const merge_text *m = &s->merges[i];
        entries[n++] = (string_entry){m->left, (uint32_t)m->left_length, 0};
        entries[n++] = (string_entry){m->right, (uint32_t)m->right_length, 0};
        entries[n++] = (string_entry){product, product_length(m), 0};
        product += product_length(m);
    }
    TRY_CLEANUP(string_table_build(entries, n, "symbols", &s->symbols, err));
    for (size_t i = 0; i < s->symbols.count; i++)
        s->symbols.entries[i].value = (uint32_t)i;
cleanup:
    free(entries);
    return st;
}

/* The id of a string that merging produced: an added token's, the vocabulary's, the unknown token's; -1 when none of
 * these is there. */
static int64_t id_of(const clip_source *s, const clip_tokenizer *t, const char *bytes, size_t length)
{
    uint32_t value;
    if (string_table_find(&t->cutter.strings, bytes, length, &value))
        return t->tokens[value].id;
    return string_table_find(&s->ids, bytes, length, &value) ? (int64_t)value : s->unknown;
}

static flux1_status give_symbol_ids(const clip_source *s, clip_tokenizer *t, flux1_error *err)
{
    bpe *b = &t->pairs;
    b->symbol_count = s->symbols.count;
    if (!(b->ids = malloc((s->symbols.count + 1) * sizeof *b->ids)))
        return error_oom(err, 0, "symbols");
    for (size_t i = 0; i < s->symbols.count; i++) {
        int64_t id = id_of(s, t, s->symbols.entries[i].bytes, s->symbols.entries[i].length);
        if (id < 0)
            return error_set(err, FLUX1_ERR_MODEL,
                             "%s: the symbol \"%.*s\" has no id, and neither has the unknown token \"%s\"; the "
                             "vocabulary is incomplete",
                             s->vocab_name, (int)s->symbols.entries[i].length, s->symbols.entries[i].bytes,
                             s->settings.role[ROLE_UNK]);
        b->ids[i] = (int32_t)id;
    }
    for (int i = 0; i < 2; i++) {
        int64_t id = id_of(s, t, literal_text[i], strlen(literal_text[i]));
        t->literal[i] = (int32_t)(id < 0 ? t->eos : id); /* without an unknown token every symbol has an id: these two
                                                            strings alone may lack one */
    }
    return FLUX1_OK;
}

static flux1_status build_pairs(clip_source *s, clip_tokenizer *t, flux1_error *err)
{
    uint32_t left = 0, right = 0, product = 0;
    TRY(collect_symbols(s, err));
    TRY(give_symbol_ids(s, t, err));
    for (unsigned i = 0; i < 512; i++)
        (void)string_table_find(&s->symbols, s->byte_text[i], s->byte_length[i],
                                i < 256 ? &t->pairs.byte[i] : &t->pairs.last_byte[i - 256]);
    TRY(bpe_reserve(&t->pairs, s->merge_count, err));
    const char *made = s->product_bytes;
    for (size_t i = 0; i < s->merge_count; i++) {
        const merge_text *m = &s->merges[i];
        (void)string_table_find(&s->symbols, m->left, m->left_length, &left);
        (void)string_table_find(&s->symbols, m->right, m->right_length, &right);
        (void)string_table_find(&s->symbols, made, product_length(m), &product);
        bpe_add_rule(&t->pairs, (merge_rule){left, right, (uint32_t)i, product});
        made += product_length(m);
    }
    return FLUX1_OK;
}

/* ---- open and close ---- */

flux1_status clip_tokenizer_open_files(const tokenizer_files *files, clip_tokenizer **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    clip_source source;
    memset(&source, 0, sizeof source);
    *out = NULL;
    clip_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_oom(err, sizeof *t, "the CLIP tokenizer");
    TRY_CLEANUP(read_source(files, &source, t, err));
    t->length = source.settings.length ? source.settings.length : CLIP_LENGTH;
    TRY_CLEANUP(give_ids(&source, t, err));
    TRY_CLEANUP(build_cutters(&source.settings, t, err));
    TRY_CLEANUP(build_pairs(&source, t, err));
    *out = t;
    t = NULL;
cleanup:
    clip_tokenizer_close(t);
    clip_source_free(&source);
    return st;
}

flux1_status clip_tokenizer_open(const char *folder, clip_tokenizer **out, flux1_error *err)
{
    tokenizer_files files;
    *out = NULL;
    flux1_status st = folder ? tokenizer_files_read(folder, &files, err) : builtin_clip_files(&files, err);
    if (st == FLUX1_OK)
        st = clip_tokenizer_open_files(&files, out, err);
    tokenizer_files_free(&files);
    return st;
}

void clip_tokenizer_close(clip_tokenizer *t)
{
    if (!t)
        return;
    bpe_free(&t->pairs);
    string_table_free(&t->cutter.strings);
    string_table_free(&t->later.strings);
    free(t->tokens);
    free(t);
}

int clip_tokenizer_length(const clip_tokenizer *t) { return t->length; }
int32_t clip_tokenizer_vocabulary(const clip_tokenizer *t) { return t->vocabulary; }
