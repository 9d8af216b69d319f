#include "image/png_lost.h"

#include <string.h>
#include <zlib.h>

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

enum { KEY_ROOM = sizeof((png_lost *)0)->key };

/* A chunk of the file, as far as it is there. */
typedef struct text_chunk {
    const uint8_t *type, *data;
    size_t length, there;
} text_chunk;

const char *png_lost_text(png_lost_reason reason)
{
    static const char *const texts[] = {
        [PNG_LOST_DAMAGED] = "is damaged",
        [PNG_LOST_LARGE] = "takes more than " TEXT(PNG_TEXT_MAX) " bytes",
        [PNG_LOST_BEHIND_OTHERS] = "comes behind so many others that it is not read (" TEXT(PNG_TEXTS_MAX) " are)"};
    return texts[reason];
}

static uint32_t high_first(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_whole(const text_chunk *c)
{
    return c->there >= c->length + PNG_CHUNK_CHECK &&
           crc32_z(crc32_z(0, c->type, 4), c->data, c->length) == high_first(c->data + c->length);
}

/* Whether these bytes unpack to more than PNG_TEXT_MAX; what they unpack to is not kept. */
static bool unpacks_large(const uint8_t *packed, size_t size)
{
    uint8_t some[16384];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)packed, .avail_in = (uInt)size}; /* a chunk has less than 2³¹ */
    int result = inflateInit(&z);
    if (result != Z_OK)
        return false;
    while (result == Z_OK && z.total_out <= PNG_TEXT_MAX) {
        z.next_out = some;
        z.avail_out = sizeof some;
        result = inflate(&z, Z_NO_FLUSH);
    }
    const bool large = z.total_out > PNG_TEXT_MAX;
    inflateEnd(&z);
    return large;
}

/* PNG, 11.3.3: the keyword, a NUL; zTXt: the method; iTXt: a flag, the method, language and translation, each with a
 * NUL. `at`: behind the keyword's NUL. */
static bool is_large(const text_chunk *c, size_t at)
{
    if (memcmp(c->type, "tEXt", 4) == 0 || c->length - at < 2)
        return c->length > PNG_TEXT_MAX;
    if (memcmp(c->type, "zTXt", 4) == 0)
        return unpacks_large(c->data + at + 1, c->length - at - 1);
    const bool packed = c->data[at] == 1;
    at += 2;
    for (int names = 0; names < 2; names++) {
        const uint8_t *end = memchr(c->data + at, 0, c->length - at);
        if (!end)
            return false;
        at = (size_t)(end - c->data) + 1;
    }
    return packed ? unpacks_large(c->data + at, c->length - at) : c->length - at > PNG_TEXT_MAX;
}

void png_lost_add(png_losses *l, const uint8_t *chunk, size_t left, bool behind_others)
{
    const text_chunk c = {chunk + 4, chunk + PNG_CHUNK_HEAD, high_first(chunk), left - PNG_CHUNK_HEAD};
    if (l->count == PNG_LOST_MAX ||
        (memcmp(c.type, "tEXt", 4) != 0 && memcmp(c.type, "zTXt", 4) != 0 && memcmp(c.type, "iTXt", 4) != 0))
        return;
    png_lost *one = &l->lost[l->count];
    const size_t most = c.length < c.there ? c.length : c.there;
    const uint8_t *end = memchr(c.data, 0, most < KEY_ROOM ? most : KEY_ROOM);
    const size_t key = end ? (size_t)(end - c.data) : 0;
    memcpy(one->key, c.data, key);
    one->key[key] = '\0';
    if (l->count > 0 && strcmp(one[-1].key, one->key) == 0)
        return; /* several words about one text, or the same again */
    one->reason = behind_others                                  ? PNG_LOST_BEHIND_OTHERS
                  : is_whole(&c) && end && is_large(&c, key + 1) ? PNG_LOST_LARGE
                                                                 : PNG_LOST_DAMAGED;
    l->count++;
}
