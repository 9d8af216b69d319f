#include "image/picture_read.h"

#include "base/file_map.h"
#include "base/stand_in.h"
#include "image/exif.h"
#include "image/png.h"
#include "image/xmp.h"

#include <stdlib.h>
#include <string.h>

#define XMP_MARK "http://ns.adobe.com/xap/1.0/"

/* A file's bytes, and where the facts go. */
typedef struct source {
    const char *path;
    const uint8_t *bytes;
    size_t size;
    picture_facts *facts;
    bool *exif_damaged, *xmp_damaged;
    flux1_error *err;
} source;

static flux1_status broken(const source *s, const char *what)
{
    return error_set(s->err, FLUX1_ERR_FORMAT, "%s: not a readable %s: %s", s->path,
                     picture_format_name(s->facts->format), what);
}

/* The first block of each kind counts. */
static flux1_status take_exif(const source *s, const uint8_t *bytes, size_t size)
{
    return s->facts->parameters ? FLUX1_OK : exif_comment(bytes, size, &s->facts->parameters, s->exif_damaged, s->err);
}

static flux1_status take_xmp(const source *s, const uint8_t *bytes, size_t size)
{
    return s->facts->json ? FLUX1_OK : xmp_json((const char *)bytes, size, &s->facts->json, s->xmp_damaged, s->err);
}

/* ---- JPEG: segments, each a marker and a length, up to the pixels ---- */

enum { JPEG_SOF0 = 0xC0, JPEG_DHT = 0xC4, JPEG_JPG = 0xC8, JPEG_DAC = 0xCC, JPEG_SOF15 = 0xCF };
enum { JPEG_RST0 = 0xD0, JPEG_SOI = 0xD8, JPEG_EOI = 0xD9, JPEG_SOS = 0xDA, JPEG_APP1 = 0xE1, JPEG_TEM = 1 };

static unsigned high_first(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

static flux1_status take_segment(const source *s, int marker, const uint8_t *bytes, size_t size)
{
    const size_t mark = sizeof XMP_MARK;
    if (marker == JPEG_APP1 && size >= 6 && memcmp(bytes, "Exif\0", 6) == 0)
        return take_exif(s, bytes, size);
    if (marker == JPEG_APP1 && size >= mark && memcmp(bytes, XMP_MARK, mark) == 0)
        return take_xmp(s, bytes + mark, size - mark);
    if (marker >= JPEG_SOF0 && marker <= JPEG_SOF15 && marker != JPEG_DHT && marker != JPEG_JPG && marker != JPEG_DAC) {
        if (size < 5)
            return broken(s, "its header is cut short");
        s->facts->height = (int)high_first(bytes + 1);
        s->facts->width = (int)high_first(bytes + 3);
    }
    return FLUX1_OK;
}

static flux1_status read_jpeg(const source *s)
{
    for (size_t at = 2;;) {
        if (s->size - at < 2)
            return broken(s, "it is cut short");
        if (s->bytes[at] != 0xFF)
            return broken(s, "it has no marker where one should be");
        const int marker = s->bytes[at + 1];
        if (marker == 0xFF) { /* a filling byte */
            at++;
            continue;
        }
        at += 2;
        if (marker == JPEG_SOS || marker == JPEG_EOI)
            break;
        if (marker == JPEG_TEM || (marker >= JPEG_RST0 && marker <= JPEG_SOI)) /* no length behind these */
            continue;
        if (s->size - at < 2 || high_first(s->bytes + at) < 2 || high_first(s->bytes + at) > s->size - at)
            return broken(s, "it is cut short");
        const size_t length = high_first(s->bytes + at);
        TRY(take_segment(s, marker, s->bytes + at + 2, length - 2));
        at += length;
    }
    return s->facts->width > 0 && s->facts->height > 0 ? FLUX1_OK : broken(s, "it says no size");
}

/* ---- WebP: RIFF, chunks of a name, a length and that many bytes ---- */

static uint32_t low_first(const uint8_t *p, int bytes)
{
    uint32_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void take_size(const source *s, const uint8_t *name, const uint8_t *bytes, size_t size)
{
    int width = 0, height = 0;
    if (memcmp(name, "VP8X", 4) == 0 && size >= 10) {
        width = (int)low_first(bytes + 4, 3) + 1;
        height = (int)low_first(bytes + 7, 3) + 1;
    } else if (memcmp(name, "VP8 ", 4) == 0 && size >= 10) {
        width = (int)low_first(bytes + 6, 2) & 0x3FFF;
        height = (int)low_first(bytes + 8, 2) & 0x3FFF;
    } else if (memcmp(name, "VP8L", 4) == 0 && size >= 5) {
        const uint32_t bits = low_first(bytes + 1, 4);
        width = (int)(bits & 0x3FFF) + 1;
        height = (int)(bits >> 14 & 0x3FFF) + 1;
    }
    if (width > 0 && height > 0 && s->facts->width == 0) {
        s->facts->width = width;
        s->facts->height = height;
    }
}

static flux1_status read_webp(const source *s)
{
    const size_t end = (size_t)low_first(s->bytes + 4, 4) + 8;
    if (end > s->size)
        return broken(s, "it is cut short");
    for (size_t at = 12; at < end;) {
        if (end - at < 8)
            return broken(s, "a chunk is cut short");
        const uint8_t *name = s->bytes + at;
        const size_t length = low_first(name + 4, 4);
        at += 8;
        if (length > end - at)
            return broken(s, "a chunk is cut short");
        take_size(s, name, s->bytes + at, length);
        if (memcmp(name, "EXIF", 4) == 0)
            TRY(take_exif(s, s->bytes + at, length));
        if (memcmp(name, "XMP ", 4) == 0)
            TRY(take_xmp(s, s->bytes + at, length));
        at += length;
        at += at < end && (length & 1); /* chunks have even lengths */
    }
    return s->facts->width > 0 ? FLUX1_OK : broken(s, "it says no size");
}

/* ---- blocks that are damaged ---- */

#define FETCH_AGAIN "; get the picture again from where it came"

/* As of a PNG's texts: what could have been one of the facts is told of where there is no other. */
static flux1_status tell_damaged(const source *s)
{
    const char *text = *s->xmp_damaged && !s->facts->json ? "its XMP block, which has flux1's own text, is damaged"
                       : *s->exif_damaged && !s->facts->parameters
                           ? "its EXIF block, where the text \"parameters\" stands if it has one, is damaged"
                           : NULL;
    builder b = {0};
    if (!text)
        return FLUX1_OK;
    builder_format(&b, "%s%s", text, FETCH_AGAIN);
    return builder_take(&b, s->path, &s->facts->problem, s->err);
}

static flux1_status read_blocks(const source *s)
{
    TRY(s->facts->format == PICTURE_JPEG ? read_jpeg(s) : read_webp(s));
    return tell_damaged(s);
}

/* ---- all of them ---- */

/* Where a chunk's text belongs; NULL: it says nothing here. */
static char **place_of(picture_facts *f, const char *key)
{
    return strcmp(key, "parameters") == 0 ? &f->parameters
           : strcmp(key, "flux1") == 0    ? &f->json
           : strcmp(key, "prompt") == 0   ? &f->comfy
           : strcmp(key, "workflow") == 0 ? &f->comfy_workflow
                                          : NULL;
}

/* The first text that would have been one of the facts; one without a name could have been any, where there are none.
 */
static flux1_status tell_lost(const char *path, const png_picture *p, picture_facts *f, flux1_error *err)
{
    builder b = {0};
    const bool any = f->parameters || f->json || f->comfy || f->comfy_workflow;
    for (size_t i = 0; i < p->losses.count && !b.length; i++) {
        const png_lost *l = &p->losses.lost[i];
        const char *why = png_lost_text(l->reason);
        char **to = place_of(f, l->key);
        if (to && !*to)
            builder_format(&b, "its text \"%s\" %s", l->key, why);
        else if (!l->key[0] && !any)
            builder_format(&b, "one of its texts %s", why);
        if (b.length)
            builder_add(&b, l->reason == PNG_LOST_DAMAGED
                                ? FETCH_AGAIN
                                : "; a program that shows all of a picture's texts can read it, such as exiftool");
    }
    return b.length || b.failed ? builder_take(&b, path, &f->problem, err) : FLUX1_OK;
}

static flux1_status read_png(const char *path, picture_facts *facts, flux1_error *err)
{
    png_picture p;
    flux1_status st = FLUX1_OK;
    TRY(png_file_read_texts(path, &p, err));
    facts->width = p.width;
    facts->height = p.height;
    for (size_t i = 0; i < p.text_count && st == FLUX1_OK; i++) {
        char **to = place_of(facts, p.texts[i].key);
        if (to && !*to && !(*to = strdup(p.texts[i].text)))
            st = error_oom(err, 0, path);
    }
    if (st == FLUX1_OK)
        st = tell_lost(path, &p, facts, err);
    png_picture_free(&p);
    return st;
}

bool picture_known(const uint8_t *bytes, size_t size, picture_format *format)
{
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0)
        *format = PICTURE_PNG;
    else if (size >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0)
        *format = PICTURE_JPEG;
    else if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        *format = PICTURE_WEBP;
    else
        return false;
    return true;
}

flux1_status picture_facts_read(const char *path, picture_facts *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    file_map map = {0};
    bool exif_damaged = false, xmp_damaged = false;
    *out = (picture_facts){0};
    TRY_CLEANUP(file_map_open(path, &map, err));
    if (!picture_known(map.bytes, map.size, &out->format)) {
        const char *other = map.size == 0 ? "the file is empty" : stand_in_named(map.bytes, map.size);
        st = error_set(err, FLUX1_ERR_FORMAT, "%s: %s", path, other ? other : "is not a PNG, JPEG or WebP picture");
        goto cleanup;
    }
    const source s = {path, map.bytes, map.size, out, &exif_damaged, &xmp_damaged, err};
    st = out->format == PICTURE_PNG ? read_png(path, out, err) : read_blocks(&s);
    if (st == FLUX1_OK)
        st = file_map_check(&map, path, err);
cleanup:
    file_map_close(&map);
    if (st != FLUX1_OK)
        picture_facts_free(out);
    return st;
}

void picture_facts_free(picture_facts *facts)
{
    free(facts->parameters);
    free(facts->json);
    free(facts->comfy);
    free(facts->comfy_workflow);
    free(facts->problem);
    *facts = (picture_facts){0};
}
