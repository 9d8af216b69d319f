#include "base/builder.h"

#include "base/checked.h"
#include "base/utf8.h"

#include <stdarg.h>
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

void builder_add_utf8(builder *b, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        const size_t good = utf8_valid_prefix(text, left), taken = good < left ? good + 1 : good;
        builder_add_bytes(b, text, good);
        if (good < left)
            builder_add(b, UTF8_REPLACEMENT);
        text += taken;
        left -= taken;
    }
}

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
