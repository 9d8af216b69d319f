#include "text/pieces.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <string.h>

/* Longest added token that begins at `s`; 0 if none does. */
static size_t longest_token(const prompt_cutter *c, const char *s, size_t size, uint32_t *index)
{
    size_t longest = 0;
    const string_entry *entry;
    string_walk walk = string_walk_begin(&c->strings);
    for (size_t i = 0; i < size && string_walk_step(&c->strings, &walk, (unsigned char)s[i], &entry); i++) {
        if (entry) {
            longest = i + 1;
            *index = entry->value;
        }
    }
    return longest;
}

static size_t white_space_before(const char *s, size_t begin, size_t end)
{
    while (end > begin) {
        size_t at = begin + utf8_last(s + begin, end - begin);
        int32_t c;
        if (utf8_decode(s + at, end - at, &c) == 0 || !unicode_is_white_space(c))
            break;
        end = at;
    }
    return end;
}

static size_t white_space_behind(const char *s, size_t at, size_t end)
{
    int32_t c;
    size_t n;
    while (at < end && (n = utf8_decode(s + at, end - at, &c)) > 0 && unicode_is_white_space(c))
        at += n;
    return at;
}

bool prompt_cut(const prompt_cutter *c, const char *prompt, size_t bytes, cut_position *p, prompt_piece *out)
{
    if (p->pending.begin < p->pending.end) {
        *out = p->pending;
        p->pending.begin = p->pending.end = 0;
        return true;
    }
    if (p->at >= bytes)
        return false;
    size_t begin = p->at, found = begin, length = 0;
    uint32_t index = 0;
    while (found < bytes && (length = longest_token(c, prompt + found, bytes - found, &index)) == 0)
        found++;
    if (length == 0) {
        *out = (prompt_piece){begin, bytes, -1};
        p->at = bytes;
        return true;
    }
    const cut_token *token = &c->tokens[index];
    size_t end = token->strip_right ? white_space_behind(prompt, found + length, bytes) : found + length;
    size_t start = token->strip_left ? white_space_before(prompt, begin, found) : found;
    prompt_piece piece = {start, end, token->id};
    p->at = end;
    if (start > begin) {
        p->pending = piece;
        *out = (prompt_piece){begin, start, -1};
    } else {
        *out = piece;
    }
    return true;
}
