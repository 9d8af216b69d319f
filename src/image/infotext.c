#include "image/infotext.h"

#include "base/builder.h"
#include "base/json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MOST ((size_t)64 << 10) /* quotes that never close are looked for to the end, each time */
#define PAIRS_LEAST 3                /* with fewer the last line is the prompt's */
#define NEGATIVE "Negative prompt:"

/* ---- the pairs: \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$) ---- */

typedef struct match {
    const char *key, *value;
    size_t key_bytes, value_bytes;
} match;

/* Python's \w has the letters of every script: all bytes beyond ASCII are taken for them. */
static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80; }
static bool is_key(char c) { return is_word(c) || c == ' ' || c == '-' || c == '/'; }
static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The bytes of a quoted value at `s`, 0 if it is none. */
static size_t quoted_bytes(const char *s, const char *end)
{
    const char *at = s + 1;
    if (s == end || *s != '"')
        return 0;
    while (at < end && *at != '"') {
        at += *at == '\\' ? 2 : 1;
    }
    return at < end && at > s + 1 ? (size_t)(at + 1 - s) : 0;
}

/* A match that begins at `s`; returns its end, NULL if there is none. */
static const char *match_at(const char *s, const char *end, match *m)
{
    while (s < end && is_blank(*s))
        s++;
    m->key = s;
    if (s == end || !is_word(*s))
        return NULL;
    while (s < end && is_key(*s))
        s++;
    m->key_bytes = (size_t)(s - m->key);
    if (m->key_bytes < 2 || s == end || *s != ':')
        return NULL;
    for (s++; s < end && is_blank(*s);)
        s++;
    m->value = s;
    m->value_bytes = quoted_bytes(s, end);
    const char *behind = s + m->value_bytes;
    if (m->value_bytes == 0 || (behind < end && *behind != ',')) {
        const char *comma = memchr(s, ',', (size_t)(end - s));
        behind = comma ? comma : end;
        m->value_bytes = (size_t)(behind - s);
    }
    return behind < end ? behind + 1 : end;
}

/* The next match from *at on, wherever it begins: re.findall. A key that no colon follows cannot match in its midst
 * either, so that each byte is looked at a few times at most. */
static bool next_match(const char **at, const char *end, match *m)
{
    while (*at < end) {
        const char *behind = match_at(*at, end, m);
        if (behind) {
            *at = behind;
            return true;
        }
        const char *s = *at;
        while (s < end && is_blank(*s))
            s++;
        if (s < end && is_word(*s))
            while (s < end && is_key(*s))
                s++;
        *at = s < end ? s + 1 : end;
    }
    return false;
}

/* malloc'd; NULL when out of memory. */
static char *plain_value(const match *m)
{
    builder list = {0};
    json_value *parsed = NULL;
    char *value = NULL;
    if (m->value_bytes > 2 && m->value[0] == '"' && m->value[m->value_bytes - 1] == '"') {
        builder_add(&list, "[");
        builder_add_bytes(&list, m->value, m->value_bytes);
        builder_add(&list, "]");
        if (!list.failed && json_parse(list.text, list.length, "a value", &parsed, NULL) == FLUX1_OK)
            value = strdup(json_string_value(json_array_get(parsed, 0)));
        json_free(parsed);
        builder_free(&list);
    }
    return value ? value : strndup(m->value, m->value_bytes);
}

static flux1_status take_pairs(const char *line, const char *end, infotext *out, flux1_error *err)
{
    match m;
    size_t count = 0;
    if ((size_t)(end - line) > LINE_MOST)
        return FLUX1_OK;
    for (const char *at = line; next_match(&at, end, &m);)
        count++;
    if (count < PAIRS_LEAST)
        return FLUX1_OK;
    if (!(out->pairs = calloc(count, sizeof *out->pairs)))
        return error_oom(err, count * sizeof *out->pairs, "a picture's parameters");
    for (const char *at = line; next_match(&at, end, &m); out->count++) {
        infotext_pair *p = &out->pairs[out->count];
        p->key = strndup(m.key, m.key_bytes);
        p->value = plain_value(&m);
        if (!p->key || !p->value) {
            out->count++;
            return error_oom(err, 0, "a picture's parameters");
        }
    }
    return FLUX1_OK;
}

/* ---- the lines ---- */

static void strip(const char **begin, const char **end)
{
    while (*begin < *end && is_blank(**begin))
        ++*begin;
    while (*begin < *end && is_blank((*end)[-1]))
        --*end;
}

static void add_line(builder *b, const char *line, const char *end)
{
    strip(&line, &end);
    if (b->length > 0)
        builder_add(b, "\n");
    builder_add_bytes(b, line, (size_t)(end - line));
}

static flux1_status take_prompts(const char *text, const char *end, infotext *out, flux1_error *err)
{
    builder positive = {0}, negative = {0};
    bool inverted = false;
    for (const char *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line)), *line_end = newline ? newline : end;
        const char *from = line, *to = line_end;
        strip(&from, &to);
        if ((size_t)(to - from) >= strlen(NEGATIVE) && memcmp(from, NEGATIVE, strlen(NEGATIVE)) == 0) {
            inverted = true;
            from += strlen(NEGATIVE);
        }
        add_line(inverted ? &negative : &positive, from, to);
        line = newline ? newline + 1 : end;
    }
    const bool has_negative = negative.text != NULL;
    flux1_status st = builder_take(&positive, "a prompt", &out->prompt, err);
    if (st == FLUX1_OK && has_negative)
        st = builder_take(&negative, "a prompt", &out->negative_prompt, err);
    builder_free(&negative);
    return st;
}

flux1_status infotext_read(const char *text, infotext *out, flux1_error *err)
{
    const char *end = text + strlen(text), *last;
    flux1_status st = FLUX1_OK;
    *out = (infotext){0};
    strip(&text, &end);
    for (last = end; last > text && last[-1] != '\n';)
        last--;
    TRY_CLEANUP(take_pairs(last, end, out, err));
    st = take_prompts(text, out->count > 0 ? last : end, out, err);
cleanup:
    if (st != FLUX1_OK)
        infotext_free(out);
    return st;
}

void infotext_free(infotext *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->pairs[i].key);
        free(t->pairs[i].value);
    }
    free(t->pairs);
    free(t->prompt);
    free(t->negative_prompt);
    *t = (infotext){0};
}

const char *infotext_value(const infotext *t, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->pairs[i].key, key) == 0)
            value = t->pairs[i].value;
    return value;
}
