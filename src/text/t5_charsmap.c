/* The character map of sentencepiece models, applied as the tokenizers library does it: by grapheme clusters, shortest
 * matching prefix first. */
#include "text/t5_charsmap.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- Darts units ---- */

static bool unit_has_leaf(uint32_t u) { return (u >> 8) & 1; }
static uint32_t unit_value(uint32_t u) { return u & 0x7FFFFFFF; }
static uint32_t unit_label(uint32_t u) { return u & 0x800000FF; }
static uint32_t unit_offset(uint32_t u) { return (u >> 10) << ((u & 0x200) >> 6); }

static uint32_t read_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

flux1_status charsmap_parse(const char *bytes, size_t size, const char *name, charsmap *out, flux1_error *err)
{
    memset(out, 0, sizeof *out);
    if (size == 0)
        return FLUX1_OK;
    size_t trie = size >= 4 ? read_u32(bytes) : 0;
    if (size < 4 || trie == 0 || trie % 4 || trie > size - 4)
        return error_set(
            err, FLUX1_ERR_FORMAT,
            "%s: the character map says its trie has %zu bytes, which do not fit its %zu bytes; fetch the file again",
            name, trie, size);
    if (!utf8_valid(bytes + 4 + trie, size - 4 - trie))
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: the character map's replacements are not valid UTF-8; fetch the file again", name);
    out->unit_count = trie / 4;
    out->replacement_bytes = size - 4 - trie;
    out->units = malloc(trie);
    out->replacements = malloc(out->replacement_bytes + 1);
    if (!out->units || !out->replacements) {
        charsmap_free(out);
        return error_oom(err, size, name);
    }
    for (size_t i = 0; i < out->unit_count; i++)
        out->units[i] = read_u32(bytes + 4 + 4 * i);
    memcpy(out->replacements, bytes + 4 + trie, out->replacement_bytes);
    out->replacements[out->replacement_bytes] = '\0';
    return FLUX1_OK;
}

void charsmap_free(charsmap *m)
{
    free(m->units);
    free(m->replacements);
    memset(m, 0, sizeof *m);
}

/* Replacement of the shortest prefix of `text` that the trie knows; NULL if there is none. A trie that points outside
 * itself knows nothing there. */
static const char *replacement_of(const charsmap *m, const char *text, size_t bytes)
{
    size_t place = unit_offset(m->units[0]);
    for (size_t i = 0; i < bytes && text[i]; i++) {
        place ^= (unsigned char)text[i];
        if (place >= m->unit_count || unit_label(m->units[place]) != (unsigned char)text[i])
            return NULL;
        uint32_t unit = m->units[place];
        place ^= unit_offset(unit);
        if (!unit_has_leaf(unit))
            continue;
        if (place >= m->unit_count)
            return NULL;
        size_t at = unit_value(m->units[place]);
        bool inside = at < m->replacement_bytes && !utf8_continues(m->replacements[at]);
        return inside ? m->replacements + at : NULL;
    }
    return NULL;
}

/* ---- applying ---- */

flux1_status byte_buffer_reserve(byte_buffer *b, size_t more, flux1_error *err)
{
    if (more <= b->capacity - b->size)
        return FLUX1_OK;
    if (more > T5_NORMALIZED_MAX - b->size)
        return error_set(err, FLUX1_ERR_LIMIT, "the prompt grows beyond %zu bytes when normalised: shorten it",
                         T5_NORMALIZED_MAX);
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity < b->size + more)
        capacity *= 2;
    char *bytes = realloc(b->bytes, capacity);
    if (!bytes)
        return error_oom(err, capacity, "a normalised prompt");
    b->bytes = bytes;
    b->capacity = capacity;
    return FLUX1_OK;
}

static flux1_status append(byte_buffer *b, const char *bytes, size_t size, flux1_error *err)
{
    if (size == 0) /* a dropped character, perhaps before anything is reserved */
        return FLUX1_OK;
    TRY(byte_buffer_reserve(b, size, err));
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
    return FLUX1_OK;
}

flux1_status charsmap_apply(const charsmap *m, const char *text, size_t bytes, byte_buffer *out, flux1_error *err)
{
    int32_t c;
    if (!m->units)
        return append(out, text, bytes, err);
    for (size_t at = 0; at < bytes;) {
        size_t cluster = unicode_cluster(text + at, bytes - at);
        const char *whole = cluster < 6 ? replacement_of(m, text + at, cluster) : NULL;
        if (whole) {
            TRY(append(out, whole, strlen(whole), err));
            at += cluster;
            continue;
        }
        for (size_t end = at + cluster; at < end;) {
            size_t n = utf8_decode(text + at, end - at, &c);
            if (n == 0)
                n = 1; /* never in checked text */
            const char *one = replacement_of(m, text + at, n);
            TRY(append(out, one ? one : text + at, one ? strlen(one) : n, err));
            at += n;
        }
    }
    return FLUX1_OK;
}
