#include "server/base64.h"

#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(builder *b, const uint8_t *bytes, size_t count)
{
    char text[4 * 1024];
    size_t used = 0;
    for (size_t i = 0; i < count; i += 3) {
        const size_t left = count - i;
        const uint32_t three =
            (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        text[used++] = alphabet[three >> 18];
        text[used++] = alphabet[three >> 12 & 63];
        text[used++] = left > 1 ? alphabet[three >> 6 & 63] : '=';
        text[used++] = left > 2 ? alphabet[three & 63] : '=';
        if (used == sizeof text || left <= 3) {
            builder_add_bytes(b, text, used);
            used = 0;
        }
    }
}

/* 0 to 63; 64: it is none of the alphabet. */
static uint32_t value_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? (uint32_t)(c - 'A')
           : c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a' + 26)
           : c >= '0' && c <= '9' ? (uint32_t)(c - '0' + 52)
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : 64;
}

/* Bytes written to out, which has room for 3/4 of the text; false: a character that does not belong there. */
static bool decode(const char *text, size_t length, uint8_t *out, size_t *count)
{
    uint32_t bits = 0;
    int held = 0;
    bool padded = false;
    *count = 0;
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        const uint32_t v = value_of(c);
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        padded = padded || c == '=';
        if (c == '=')
            continue;
        if (v > 63 || padded)
            return false;
        bits = bits << 6 | v;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[(*count)++] = (uint8_t)(bits >> held);
        }
    }
    return held != 6; /* one character alone is no byte */
}

bool base64_read(const char *text, size_t length, uint8_t **bytes, size_t *count)
{
    *count = 0;
    *bytes = malloc(length / 4 * 3 + 4);
    if (*bytes && decode(text, length, *bytes, count)) {
        (*bytes)[*count] = '\0';
        return true;
    }
    free(*bytes);
    *bytes = NULL;
    return false;
}
