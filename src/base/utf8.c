#include "base/utf8.h"

#include <string.h>

size_t utf8_decode(const char *s, size_t size, int32_t *c)
{
    const unsigned char *u = (const unsigned char *)s;
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = u[0] < 0x80 ? 1 : u[0] < 0xC2 ? 0 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : u[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > size)
        return 0;
    int32_t value = n == 1 ? u[0] : u[0] & (0x7F >> n);
    for (size_t i = 1; i < n; i++) {
        if (!utf8_continues(s[i]))
            return 0;
        value = value << 6 | (u[i] & 0x3F);
    }
    if (value < least[n] || (value >= 0xD800 && value < 0xE000) || value > 0x10FFFF)
        return 0;
    *c = value;
    return n;
}

size_t utf8_encode(int32_t c, char *out)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(n == 1 ? c : (0xF00 >> n & 0xF0) | c);
    return n;
}

size_t utf8_valid_prefix(const char *s, size_t size)
{
    size_t at = 0;
    int32_t c;
    while (at < size) {
        size_t n = utf8_decode(s + at, size - at, &c);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

bool utf8_valid(const char *s, size_t size) { return utf8_valid_prefix(s, size) == size; }

size_t utf8_next(const char *s, bool *control)
{
    const size_t left = strnlen(s, UTF8_BYTES_MAX);
    int32_t c = (unsigned char)s[0];
    const size_t n = left > 0 ? utf8_decode(s, left, &c) : 0;
    *control = (c > 0 && c < 0x20) || (c >= 0x7F && c < 0xA0);
    return n > 0 ? n : left > 0;
}

void utf8_blank_controls(char *text, char with, const char *kept)
{
    char *out = text;
    bool control;
    for (size_t n; (n = utf8_next(text, &control)) > 0; text += n) {
        if (control && !strchr(kept, *text))
            *out++ = with;
        else
            for (size_t i = 0; i < n; i++)
                *out++ = text[i];
    }
    *out = '\0';
}
