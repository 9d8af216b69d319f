#include "ops/script_text.h"

#include "base/half.h"
#include "ops/script_names.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = 2147483647, RANKS_READ = 1024 };

typedef struct token {
    const char *key, *value;
    bool used;
} token;

typedef struct reading {
    script *s;
    const char *name; /* the call's */
    token token[SCRIPT_FIELDS];
    int tokens;
    flux1_error *err;
} reading;

bool script_number(const char **text, int64_t *out)
{
    const char *t = *text;
    int64_t n = 0;
    if (*t < '0' || *t > '9')
        return false;
    for (; *t >= '0' && *t <= '9'; t++)
        if ((n = 10 * n + (*t - '0')) > NUMBER_MAX)
            return false;
    *text = t;
    *out = n;
    return true;
}

static bool signed_number(const char **text, int64_t *out)
{
    const char *t = *text + (**text == '-');
    if (!script_number(&t, out))
        return false;
    if (**text == '-')
        *out = -*out;
    *text = t;
    return true;
}

static flux1_status wrong(const reading *r, const token *t, const char *expected)
{
    return error_set(r->err, FLUX1_ERR_FORMAT, "%s: %s=%.60s should be %s", r->name, t->key, t->value, expected);
}

static script_vary vary_named(const char **text)
{
    static const struct {
        const char *text;
        script_vary vary;
    } names[] = {{"sp(", VARY_SP}, {"tp(", VARY_TP}, {"all(", VARY_ALL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(*text, names[i].text, strlen(names[i].text)) == 0) {
            *text += strlen(names[i].text);
            return names[i].vary;
        }
    return VARY_NOT;
}

/* A number, or one for each rank: vary and v[width], or v[0]. */
static bool read_numbers(const script *s, const char **text, script_vary *vary, int64_t *v)
{
    *vary = vary_named(text);
    const int n = script_width(s, *vary);
    for (int i = 0; i < n; i++) {
        if (!signed_number(text, &v[i]))
            return false;
        if (*vary != VARY_NOT && *(*text)++ != (i + 1 < n ? ',' : ')'))
            return false;
    }
    return true;
}

static void put_numbers(script *s, script_vary vary, const int64_t *v)
{
    script_put(s, vary == VARY_NOT ? v[0] : (int64_t)script_add_values(s, v, script_width(s, vary)));
    if (!s->failed)
        s->vary[s->cells - 1] = (unsigned char)vary;
}

static bool read_number_cell(script *s, const char **text)
{
    int64_t v[RANKS_READ];
    script_vary vary;
    if (!read_numbers(s, text, &vary, v))
        return false;
    put_numbers(s, vary, v);
    return true;
}

static bool read_id(const char **text, char letter, int64_t *out)
{
    if (**text != letter)
        return false;
    ++*text;
    return script_number(text, out) && *out < SCRIPT_IDS;
}

/* The number, where it is used: −1 where `?` says 0. */
static bool read_presence(script *s, const char **text, int64_t id)
{
    int64_t v[RANKS_READ];
    script_vary vary;
    bool used = false;
    if (**text != '?') {
        script_put(s, id);
        return true;
    }
    ++*text;
    if (!read_numbers(s, text, &vary, v) || vary == VARY_NOT)
        return false;
    for (int i = 0; i < script_width(s, vary); i++) {
        if (v[i] != 0 && v[i] != 1)
            return false;
        used = used || v[i];
        v[i] = v[i] ? id : -1;
    }
    put_numbers(s, vary, v);
    return used;
}

/* "[ROW+ROWS]" or ":COL+COLS"; everything where it is left out. */
static bool read_window(script *s, const char **text, char open, char close)
{
    if (**text != open) {
        script_put(s, 0);
        script_put(s, -1);
        return true;
    }
    ++*text;
    if (!read_number_cell(s, text) || *(*text)++ != '+' || !read_number_cell(s, text))
        return false;
    if (close && **text != close)
        return false;
    *text += close ? 1 : 0;
    return true;
}

static bool skip(const char **text, const char *word)
{
    const size_t n = strlen(word);
    if (strncmp(*text, word, n) != 0)
        return false;
    *text += n;
    return true;
}

static bool read_act(script *s, const char **text, bool optional)
{
    int64_t id;
    if (!read_id(text, 'a', &id) || (**text == '?' && !optional) || !read_presence(s, text, id))
        return false;
    script_put(s, skip(text, ".text") ? PART_TEXT : skip(text, ".image") ? PART_IMAGE : PART_WHOLE);
    return read_window(s, text, '[', ']') && read_window(s, text, ':', '\0');
}

static bool read_word(script *s, script_kind kind, const char **text)
{
    const char *const *words = script_words(kind);
    for (int64_t i = 0; words[i]; i++)
        if (strcmp(words[i], *text) == 0) {
            *text += strlen(*text);
            script_put(s, i);
            return true;
        }
    return false;
}

bool script_real(const char **text, float *out)
{
    char copy[32], *end;
    const size_t n = strspn(*text, "0123456789.-+e");
    if (n == 0 || n >= sizeof copy)
        return false;
    memcpy(copy, *text, n);
    copy[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (copy[i] == '.')
            copy[i] = *localeconv()->decimal_point; /* what strtof reads */
    *out = strtof(copy, &end);
    *text += n;
    return end == copy + n && isfinite(*out);
}

static bool read_real(script *s, const char **text)
{
    float v;
    if (!script_real(text, &v))
        return false;
    script_put(s, f32_bits(v));
    return true;
}

static bool read_text(script *s, const char **text)
{
    if (!**text)
        return false;
    script_put_text(s, *text);
    *text += strlen(*text);
    return true;
}

static bool read_new(script *s, const char **text, char letter)
{
    int64_t id;
    if (!read_id(text, letter, &id))
        return false;
    script_put(s, id);
    return true;
}

/* What a kind's value is, for messages. */
static const char *expected(script_kind kind)
{
    switch (kind) {
    case KIND_ACT: return "an activation below a32768, such as a3.image[0+64]:0+128";
    case KIND_OPT: return "an activation below a32768, such as a3.image[0+64]:0+128 or a3?tp(0,1)";
    case KIND_NEW: return "an activation below a32768, such as a3";
    case KIND_WEIGHT:
    case KIND_OPTW: return "a weight below w32768, such as w3";
    case KIND_BLOCK: return "a block below b32768, such as b3";
    case KIND_MARK: return "a mark below m32768, such as m3";
    case KIND_INT:
    case KIND_ZERO: return "a whole number below 2^31, or one for each rank such as tp(1,2)";
    case KIND_REAL: return "a number";
    case KIND_ROLE: return "residual, linear, heads, partial, plane, table, stats, rope or ids";
    case KIND_WROLE: return "linear, qkv, vector, conv or table";
    case KIND_F: return "none, gelu_tanh, quick_gelu, gelu or silu";
    case KIND_AXIS: return "sp, tp or all";
    case KIND_TEXT: return "a name";
    }
    return "something else";
}

static bool read_value(script *s, script_kind kind, const char **text)
{
    switch (kind) {
    case KIND_ACT: return read_act(s, text, false);
    case KIND_OPT: return read_act(s, text, true);
    case KIND_NEW: return read_new(s, text, 'a');
    case KIND_WEIGHT:
    case KIND_OPTW: return read_new(s, text, 'w');
    case KIND_BLOCK: return read_new(s, text, 'b');
    case KIND_MARK: return read_new(s, text, 'm');
    case KIND_INT:
    case KIND_ZERO: return read_number_cell(s, text);
    case KIND_REAL: return read_real(s, text);
    case KIND_TEXT: return read_text(s, text);
    case KIND_ROLE:
    case KIND_WROLE:
    case KIND_F:
    case KIND_AXIS: return read_word(s, kind, text);
    }
    return false;
}

/* A field that the line does not have. */
static bool put_default(script *s, script_kind kind)
{
    switch (kind) {
    case KIND_ZERO:
    case KIND_F: script_put(s, 0); return true;
    case KIND_OPTW:
    case KIND_TEXT: script_put(s, -1); return true;
    case KIND_OPT:
        for (int i = 0; i < SCRIPT_ACT_CELLS; i++)
            script_put(s, i == CELL_ACT || i == CELL_PART || i == CELL_ROWS || i == CELL_COLS ? -1 : 0);
        return true;
    default: return false;
    }
}

static flux1_status read_field(reading *r, const script_field *f)
{
    token *t = r->token;
    while (t < r->token + r->tokens && strcmp(t->key, f->key) != 0)
        t++;
    if (t == r->token + r->tokens)
        return put_default(r->s, f->kind) ? FLUX1_OK
                                          : error_set(r->err, FLUX1_ERR_FORMAT, "%s: %s= is missing", r->name, f->key);
    const char *at = t->value;
    t->used = true;
    return read_value(r->s, f->kind, &at) && !*at ? FLUX1_OK : wrong(r, t, expected(f->kind));
}

static flux1_status split(reading *r, char *text)
{
    while (*text) {
        char *end = text + strcspn(text, " "), *equals = memchr(text, '=', (size_t)(end - text));
        if (!equals || equals == text)
            return error_set(r->err, FLUX1_ERR_FORMAT, "%s: \"%.*s\" should be KEY=VALUE, with one space in front",
                             r->name, (int)(end - text < 60 ? end - text : 60), text);
        if (r->tokens == SCRIPT_FIELDS)
            return error_set(r->err, FLUX1_ERR_FORMAT, "%s: too many keys", r->name);
        *equals = '\0';
        r->token[r->tokens++] = (token){.key = text, .value = equals + 1};
        for (int i = 0; i + 1 < r->tokens; i++)
            if (strcmp(r->token[i].key, text) == 0)
                return error_set(r->err, FLUX1_ERR_FORMAT, "%s: %.60s= is given twice", r->name, text);
        text = *end ? end + 1 : end;
        *end = '\0';
    }
    return FLUX1_OK;
}

/* "@0,2 " in front. */
static flux1_status read_ranks(script *s, char **text, int64_t *ranks, int *count, flux1_error *err)
{
    const char *at = *text;
    *count = 0;
    if (*at != '@')
        return FLUX1_OK;
    do {
        at++;
        if (*count == s->sp * s->tp || !script_number(&at, &ranks[*count]) || ranks[*count] >= s->sp * s->tp ||
            (*count && ranks[*count] <= ranks[*count - 1]))
            return error_set(err, FLUX1_ERR_FORMAT, "\"%.60s\" should begin with ranks of the mesh, such as @0,2",
                             *text);
        ++*count;
    } while (*at == ',');
    if (*at != ' ')
        return error_set(err, FLUX1_ERR_FORMAT, "\"%.60s\" should begin with ranks of the mesh, such as @0,2", *text);
    *text += at + 1 - *text;
    return FLUX1_OK;
}

static flux1_status read_call(reading *r, char *text, script_call *out)
{
    char *end = text + strcspn(text, " ");
    const bool more = *end != '\0';
    *end = '\0';
    r->name = text;
    for (int i = 0; i < SCRIPT_CALLS_COUNT; i++)
        if (strcmp(script_entries[i].name, text) == 0) {
            *out = (script_call)i;
            return split(r, more ? end + 1 : end);
        }
    return error_set(r->err, FLUX1_ERR_FORMAT, "unknown call \"%.60s\"", text);
}

static flux1_status read_fields(reading *r, script_call call)
{
    script_begin(r->s, call);
    for (const script_field *f = script_entries[call].field; f->key; f++)
        TRY(read_field(r, f));
    for (int i = 0; i < r->tokens; i++)
        if (!r->token[i].used)
            return error_set(r->err, FLUX1_ERR_FORMAT, "%s: unknown key %.60s=", r->name, r->token[i].key);
    return script_end(r->s, r->err);
}

flux1_status script_read(script *s, char *text, int number, flux1_error *err)
{
    reading r = {.s = s, .err = err};
    int64_t ranks[RANKS_READ];
    int count;
    script_call call = CALL_CHECK;
    if (s->sp * s->tp > RANKS_READ)
        return error_set(err, FLUX1_ERR_FORMAT, "a mesh of %d ranks: at most %d", s->sp * s->tp, RANKS_READ);
    TRY(read_ranks(s, &text, ranks, &count, err));
    TRY(read_call(&r, text, &call));
    if (count && script_entries[call].together)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: all ranks make it together; it cannot be of some", r.name);
    TRY(read_fields(&r, call));
    script_line *l = &s->line[s->lines - 1];
    l->number = number;
    if (count && count < s->sp * s->tp) {
        l->ranks = script_add_values(s, ranks, count);
        l->rank_count = count;
    }
    return script_end(s, err);
}
