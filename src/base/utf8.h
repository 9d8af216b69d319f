/* UTF-8, the only text encoding here. Well-formed as in Unicode's table 3-7: no overlong forms, no surrogates, nothing
 * beyond U+10FFFF. */
#ifndef FLUX1_BASE_UTF8_H
#define FLUX1_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BYTES_MAX 4 /* of one character */

/* Length in bytes of the character at `s` (`size` > 0 bytes) and its code point; 0 if it is not well-formed or cut off.
 */
size_t utf8_decode(const char *s, size_t size, int32_t *c);

/* Writes the 1 to 4 bytes of a code point that is no surrogate. */
size_t utf8_encode(int32_t c, char *out);

/* Number of bytes before the first that does not belong to a well-formed character; `size` if there is none. */
size_t utf8_valid_prefix(const char *s, size_t size);
bool utf8_valid(const char *s, size_t size);

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD, in place of each byte that belongs to no character */

/* Length in bytes of the character at the beginning of `s`, which ends with a NUL: 1 for a byte that belongs to none, 0
 * at the end. *control: it is U+0001 to U+001F or U+007F to U+009F (U+009B begins a terminal's commands as ESC [ does),
 * or a byte 0x80 to 0x9F that belongs to no character, which a terminal of 8-bit characters takes for these. */
size_t utf8_next(const char *s, bool *control);

/* Puts `with` in place of each control character of `text` that is not in `kept`. */
void utf8_blank_controls(char *text, char with, const char *kept);

/* Whether this is a continuation byte. */
static inline bool utf8_continues(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }

/* Where the last character of s[0..size) begins, size > 0. */
static inline size_t utf8_last(const char *s, size_t size)
{
    size_t at = size - 1;
    while (at > 0 && utf8_continues(s[at]))
        at--;
    return at;
}

#endif
