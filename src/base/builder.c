#include "base/builder.h"

#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `more` bytes and a NUL. */
static bool reserve(builder *b, size_t more)
{
    size_t needed, capacity = b->capacity ? b->capacity : 128;
    if (b->failed)
        return false;
    if (!size_add(b->length, more, &needed) || !size_add(needed, 1, &needed)) {
        b->failed = true;
        return false;
    }
    while (capacity < needed)
        if (!size_mul(capacity, 2, &capacity))
            capacity = needed;
    if (capacity != b->capacity) {
        char *grown = realloc(b->text, capacity);
        if (!grown) {
            b->failed = true;
            return false;
        }
        b->text = grown;
        b->capacity = capacity;
    }
    return true;
}

void builder_add_bytes(builder *b, const char *bytes, size_t count)
{
    if (!reserve(b, count))
        return;
    if (count > 0)
        memcpy(b->text + b->length, bytes, count);
    b->length += count;
    b->text[b->length] = '\0';
}

void builder_add(builder *b, const char *text) { builder_add_bytes(b, text, strlen(text)); }

void builder_format(builder *b, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    if (n < 0)
        b->failed = true;
    else if (reserve(b, (size_t)n)) {
        vsnprintf(b->text + b->length, (size_t)n + 1, format, again);
        b->length += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

int utf8_char_bytes(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC2)
        return 0;
    if (s[0] < 0xE0)
        return (s[1] & 0xC0) == 0x80 ? 2 : 0;
    if (s[0] < 0xF0) {
        unsigned char low = s[0] == 0xE0 ? 0xA0 : 0x80, high = s[0] == 0xED ? 0x9F : 0xBF;
        return s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 ? 3 : 0;
    }
    if (s[0] < 0xF5) {
        unsigned char low = s[0] == 0xF0 ? 0x90 : 0x80, high = s[0] == 0xF4 ? 0x8F : 0xBF;
        return s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 && (s[3] & 0xC0) == 0x80 ? 4 : 0;
    }
    return 0;
}

bool utf8_is_valid(const char *text)
{
    while (*text) {
        int n = utf8_char_bytes(text);
        if (n == 0)
            return false;
        text += n;
    }
    return true;
}

void builder_json_string(builder *b, const char *text)
{
    builder_add(b, "\"");
    while (*text) {
        unsigned char c = (unsigned char)*text;
        int n = utf8_char_bytes(text);
        if (n == 0) {
            builder_add(b, "\xEF\xBF\xBD");
            n = 1;
        } else if (c == '"' || c == '\\')
            builder_format(b, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            builder_add(b, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (c == '\b' || c == '\f')
            builder_add(b, c == '\b' ? "\\b" : "\\f");
        else if (c < 0x20)
            builder_format(b, "\\u%04x", c);
        else
            builder_add_bytes(b, text, (size_t)n);
        text += n;
    }
    builder_add(b, "\"");
}

void builder_float(builder *b, float value)
{
    char digits[40];
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value)
            break;
    }
    for (char *c = digits; *c; c++)
        if (!strchr("0123456789+-e", *c))
            *c = '.'; /* the locale's own point */
    builder_add(b, digits);
}

flux1_status builder_take(builder *b, const char *what, char **out, flux1_error *err)
{
    *out = NULL;
    if (!b->text && !b->failed)
        builder_add(b, "");
    if (b->failed) {
        builder_free(b);
        return error_oom(err, 0, what);
    }
    *out = b->text;
    *b = (builder){0};
    return FLUX1_OK;
}

void builder_free(builder *b)
{
    free(b->text);
    *b = (builder){0};
}
