#include "base/json_write.h"

#include "base/utf8.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many bytes from here on stand for themselves: a picture as base64 is one such run. */
static size_t plain_bytes(const char *bytes, size_t count)
{
    size_t n = 0;
    while (n < count && bytes[n] >= 0x20 && bytes[n] < 0x7F && bytes[n] != '"' && bytes[n] != '\\')
        n++;
    return n;
}

void json_quote(builder *b, const char *bytes, size_t count)
{
    static const char escaped[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    int32_t c = 0;
    builder_add(b, "\"");
    for (size_t n; count > 0; count -= n, bytes += n) {
        const char *escape = *bytes ? strchr(escaped, *bytes) : NULL;
        if ((n = plain_bytes(bytes, count)) > 0)
            builder_add_bytes(b, bytes, n);
        else if ((n = utf8_decode(bytes, count, &c)) == 0) {
            builder_add(b, UTF8_REPLACEMENT);
            n = 1;
        } else if (escape)
            builder_add_bytes(b, (char[]){'\\', letters[escape - escaped]}, 2);
        else if (c < 0x20 || (c >= 0x7F && c < 0xA0))
            builder_format(b, "\\u%04x", (unsigned)c);
        else
            builder_add_bytes(b, bytes, n);
    }
    builder_add(b, "\"");
}

static void new_line(json_writer *w)
{
    builder_add(&w->text, "\n");
    for (int i = 0; i < w->depth; i++)
        builder_add(&w->text, "  ");
}

/* What stands in front of a value: comma, line, key. */
static void open_value(json_writer *w, const char *key)
{
    if (w->depth > 0) {
        uint64_t bit = (uint64_t)1 << (w->depth - 1);
        if (w->filled & bit)
            builder_add(&w->text, w->style == JSON_LINE ? ", " : ",");
        w->filled |= bit;
        if (w->style == JSON_INDENTED)
            new_line(w);
    }
    if (!key)
        return;
    json_quote(&w->text, key, strlen(key));
    builder_add(&w->text, w->style == JSON_COMPACT ? ":" : ": ");
}

static void begin(json_writer *w, const char *key, const char *bracket)
{
    open_value(w, key);
    builder_add(&w->text, bracket);
    assert(w->depth < JSON_DEPTH_MAX);
    w->filled &= ~((uint64_t)1 << w->depth++);
}

static void end(json_writer *w, const char *bracket)
{
    assert(w->depth > 0);
    bool filled = w->filled >> --w->depth & 1;
    if (filled && w->style == JSON_INDENTED)
        new_line(w);
    builder_add(&w->text, bracket);
}

void json_begin_object(json_writer *w, const char *key) { begin(w, key, "{"); }
void json_end_object(json_writer *w) { end(w, "}"); }
void json_begin_array(json_writer *w, const char *key) { begin(w, key, "["); }
void json_end_array(json_writer *w) { end(w, "]"); }

static void put_word(json_writer *w, const char *key, const char *word)
{
    open_value(w, key);
    builder_add(&w->text, word);
}

void json_put_string(json_writer *w, const char *key, const char *text)
{
    if (!text) {
        json_put_null(w, key);
        return;
    }
    open_value(w, key);
    json_quote(&w->text, text, strlen(text));
}

void json_put_integer(json_writer *w, const char *key, int64_t value)
{
    open_value(w, key);
    builder_format(&w->text, "%" PRId64, value);
}

void json_put_unsigned(json_writer *w, const char *key, uint64_t value)
{
    open_value(w, key);
    builder_format(&w->text, "%" PRIu64, value);
}

void json_put_real(json_writer *w, const char *key, double value)
{
    char text[JSON_NUMBER_ROOM];
    put_word(w, key, json_real_text(value, text));
}

/* The double that reads shortest among those that round to this float. */
void json_put_float(json_writer *w, const char *key, float value)
{
    char text[JSON_NUMBER_ROOM];
    double wide = (double)value;
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, (double)value);
        wide = strtod(text, NULL);
        if ((float)wide == value)
            break;
    }
    json_put_real(w, key, wide);
}

void json_put_bool(json_writer *w, const char *key, bool value) { put_word(w, key, value ? "true" : "false"); }
void json_put_null(json_writer *w, const char *key) { put_word(w, key, "null"); }

void json_put_value(json_writer *w, const char *key, const json_value *value)
{
    const char *name;
    switch (value->kind) {
    case JSON_NULL: json_put_null(w, key); break;
    case JSON_FALSE:
    case JSON_TRUE: json_put_bool(w, key, value->kind == JSON_TRUE); break;
    case JSON_INTEGER: json_put_integer(w, key, value->integer); break;
    case JSON_UNSIGNED: json_put_unsigned(w, key, value->large); break;
    case JSON_REAL: json_put_real(w, key, value->real); break;
    case JSON_STRING: json_put_string(w, key, value->string); break;
    case JSON_ARRAY:
        json_begin_array(w, key);
        for (size_t i = 0; i < value->count; i++)
            json_put_value(w, NULL, &value->element[i]);
        json_end_array(w);
        break;
    case JSON_OBJECT:
        json_begin_object(w, key);
        for (size_t i = 0; i < value->count; i++) {
            const json_value *member = json_object_at(value, i, &name);
            json_put_value(w, name, member);
        }
        json_end_object(w);
        break;
    }
}

flux1_status json_take(json_writer *w, const char *what, char **out, flux1_error *err)
{
    assert(w->depth == 0);
    return builder_take(&w->text, what, out, err);
}

void json_abandon(json_writer *w)
{
    builder_free(&w->text);
    *w = (json_writer){.style = w->style};
}
