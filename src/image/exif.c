#include "image/exif.h"

#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>

enum { TAG_SOFTWARE = 0x0131, TAG_EXIF = 0x8769, TAG_USER_COMMENT = 0x9286 };
enum { TYPE_ASCII = 2, TYPE_LONG = 4, TYPE_UNDEFINED = 7, ENTRY_BYTES = 12, CODE_BYTES = 8 };

/* ---- writing: all numbers have the high byte first, as the web UI expects of the text ---- */

static void add_u16(builder *b, unsigned v) { builder_add_bytes(b, (const char[]){(char)(v >> 8), (char)v}, 2); }

static void add_u32(builder *b, size_t v)
{
    add_u16(b, (unsigned)(v >> 16) & 0xFFFF);
    add_u16(b, (unsigned)v & 0xFFFF);
}

static void add_entry(builder *b, unsigned tag, unsigned type, size_t count, size_t value)
{
    add_u16(b, tag);
    add_u16(b, type);
    add_u32(b, count);
    add_u32(b, value);
}

static void add_utf16(builder *b, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        int32_t c = 0xFFFD;
        size_t n = utf8_decode(text, left, &c);
        if (c > 0xFFFF) {
            add_u16(b, 0xD800 + (unsigned)((c - 0x10000) >> 10));
            add_u16(b, 0xDC00 + (unsigned)((c - 0x10000) & 0x3FF));
        } else
            add_u16(b, (unsigned)c);
        n = n ? n : 1;
        text += n;
        left -= n;
    }
}

void exif_add(builder *b, const char *software, const char *comment)
{
    builder words = {0};
    const size_t entries = comment ? 2 : 1, ifd = 8, data = ifd + 2 + entries * ENTRY_BYTES + 4;
    const size_t software_bytes = strlen(software) + 1, even = software_bytes + (software_bytes & 1);
    builder_add_bytes(b, "MM\0*", 4);
    add_u32(b, ifd);
    add_u16(b, (unsigned)entries);
    add_entry(b, TAG_SOFTWARE, TYPE_ASCII, software_bytes, data); /* its text is longer than four bytes */
    if (comment)
        add_entry(b, TAG_EXIF, TYPE_LONG, 1, data + even);
    add_u32(b, 0);
    builder_add_bytes(b, software, software_bytes);
    builder_add_bytes(b, "", even - software_bytes);
    if (comment) {
        builder_add_bytes(&words, "UNICODE", CODE_BYTES);
        add_utf16(&words, comment);
        add_u16(b, 1);
        add_entry(b, TAG_USER_COMMENT, TYPE_UNDEFINED, words.length, data + even + 2 + ENTRY_BYTES + 4);
        add_u32(b, 0);
        builder_add_bytes(b, words.text, words.length);
        b->failed |= words.failed;
        builder_free(&words);
    }
}

/* ---- reading ---- */

typedef struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool low_first;
} tiff;

static unsigned u16(const tiff *t, size_t at)
{
    if (at > t->size || t->size - at < 2)
        return 0;
    return t->low_first ? t->bytes[at] | (unsigned)t->bytes[at + 1] << 8
                        : t->bytes[at + 1] | (unsigned)t->bytes[at] << 8;
}

static uint32_t u32(const tiff *t, size_t at)
{
    uint32_t first = u16(t, at), second = u16(t, at + 2);
    return t->low_first ? first | second << 16 : second | first << 16;
}

/* Where the entry of that tag lies in the directory at `ifd`; 0 if there is none. *damaged: the directory does not lie
 * in the block. */
static size_t find_entry(const tiff *t, size_t ifd, unsigned tag, bool *damaged)
{
    const unsigned entries = u16(t, ifd);
    *damaged = ifd > t->size || t->size - ifd < 2;
    for (unsigned i = 0; i < entries; i++) {
        const size_t at = ifd + 2 + (size_t)i * ENTRY_BYTES;
        *damaged |= at > t->size || t->size - at < ENTRY_BYTES;
        if (*damaged)
            return 0;
        if (u16(t, at) == tag)
            return at;
    }
    return 0;
}

/* An ASCII character whose bytes are in the wrong order: U+6100 for "a". Text has few of these characters, but for the
 * ideographic space and two common words, which are "0", "N" and "_". */
static bool is_swapped_ascii(unsigned c)
{
    const unsigned high = c >> 8;
    return (c & 0xFF) == 0 && ((high >= 0x20 && high < 0x7F) || high == '\n' || high == '\r' || high == '\t') &&
           c != 0x3000 && c != 0x4E00 && c != 0x5F00;
}

/* Characters in front of a NUL that text hardly has; the number of all in *count. */
static size_t odd_characters(const tiff *text, size_t *count)
{
    size_t odd = 0;
    unsigned c;
    *count = 0;
    for (size_t at = 0; (c = u16(text, at)) != 0; at += 2, ++*count) {
        const unsigned next = u16(text, at + 2);
        if (c >= 0xD800 && c < 0xDC00 && next >= 0xDC00 && next < 0xE000)
            at += 2;
        else
            odd += is_swapped_ascii(c) || (c >= 0xD800 && c < 0xF900) || c >= 0xFFFE ||
                   (c < 0x20 && c != '\n' && c != '\r' && c != '\t');
    }
    return odd;
}

/* A byte order mark tells the order of the text's bytes. Without one it is the header's, which the standard asks for.
 * But some writers have one order for all text, and some programs turn the header over and leave the comment: where the
 * header's order makes no text, and the other order makes more of it, that one counts. Single characters prove nothing:
 * U+7A00 is a word and "z" the other way round, so it takes three and an eighth of all, or more than half. */
static bool text_is_low_first(const uint8_t *bytes, size_t size, bool header)
{
    size_t count, others;
    if (size >= 2 && ((bytes[0] == 0xFE && bytes[1] == 0xFF) || (bytes[0] == 0xFF && bytes[1] == 0xFE)))
        return bytes[0] == 0xFF;
    const size_t odd = odd_characters(&(tiff){bytes, size, header}, &count);
    if (odd * 2 <= count && (odd < 3 || odd * 8 < count))
        return header;
    return odd_characters(&(tiff){bytes, size, !header}, &others) < odd ? !header : header;
}

static void add_utf8(builder *b, const tiff *text)
{
    for (size_t at = 0; at + 1 < text->size; at += 2) {
        char encoded[UTF8_BYTES_MAX];
        uint32_t c = u16(text, at);
        const uint32_t next = u16(text, at + 2);
        if (c >= 0xD800 && c < 0xDC00 && next >= 0xDC00 && next < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (next - 0xDC00);
            at += 2;
        } else if (c >= 0xD800 && c < 0xE000)
            c = 0xFFFD;
        if (c == 0)
            break;
        if (c != 0xFEFF)
            builder_add_bytes(b, encoded, utf8_encode((int32_t)c, encoded));
    }
}

static void add_comment(builder *b, const tiff *t, const uint8_t *bytes, size_t size)
{
    const uint8_t *text = bytes + CODE_BYTES;
    const size_t length = size - CODE_BYTES;
    if (memcmp(bytes, "UNICODE", CODE_BYTES) == 0) {
        bool low = text_is_low_first(text, length, t->low_first);
        add_utf8(b, &(tiff){text, length, low});
    } else if (memcmp(bytes, "ASCII\0\0", CODE_BYTES) == 0 || memcmp(bytes, "\0\0\0\0\0\0\0", CODE_BYTES) == 0) {
        const uint8_t *end = length ? memchr(text, 0, length) : NULL;
        const size_t n = end ? (size_t)(end - text) : length;
        if (utf8_valid((const char *)text, n))
            builder_add_bytes(b, (const char *)text, n);
    }
}

/* The comment's bytes, in front of which a code tells what they are; 0: there is none. */
static size_t find_comment(const tiff *t, size_t *at, bool *damaged)
{
    const size_t pointer = find_entry(t, u32(t, 4), TAG_EXIF, damaged);
    const size_t entry = pointer ? find_entry(t, u32(t, pointer + 8), TAG_USER_COMMENT, damaged) : 0;
    if (!entry)
        return 0;
    const size_t count = u32(t, entry + 4);
    *at = u32(t, entry + 8);
    *damaged = count >= CODE_BYTES && (*at > t->size || count > t->size - *at);
    return *damaged || count < CODE_BYTES ? 0 : count;
}

flux1_status exif_comment(const uint8_t *bytes, size_t size, char **out, bool *damaged, flux1_error *err)
{
    builder b = {0};
    size_t at;
    *out = NULL;
    if (size >= 6 && memcmp(bytes, "Exif\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }
    *damaged = size < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0);
    if (*damaged)
        return FLUX1_OK;
    const tiff t = {bytes, size, bytes[0] == 'I'};
    const size_t count = find_comment(&t, &at, damaged);
    if (count > 0)
        add_comment(&b, &t, bytes + at, count);
    if (b.length == 0 && !b.failed) {
        builder_free(&b);
        return FLUX1_OK;
    }
    return builder_take(&b, "a picture's comment", out, err);
}
