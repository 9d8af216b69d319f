#include "image/png.h"

#include "base/builder.h"
#include "base/checked.h"
#include "base/file_map.h"
#include "base/utf8.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#define PNG_SIDE_MAX 32768                /* of pictures read */
#define PNG_MEMORY_MAX ((size_t)64 << 20) /* what reading one takes beside its pixels, all blocks together */

/* What libpng's callbacks share with us. libpng reports errors by longjmp: everything that must survive one lives here,
 * not in locals. */
typedef struct session {
    const char *path;
    flux1_error *err;
    flux1_status st;
    png_structp png;
    png_infop info;
    builder *out;             /* writing */
    const rgb_pixels *source; /* writing */
    png_text *texts;          /* writing: what png_set_text is given */
    char **latin1;            /* writing: texts converted for tEXt */
    size_t text_count;
    file_map map;                      /* reading */
    size_t position, chunk, chunk_end; /* reading: the next byte; where the chunk of the last one begins and ends */
    png_picture *picture;
    size_t taken; /* reading: by libpng, what it gave back included */
    bool too_much, out_of_memory;
    bool full; /* reading: libpng takes no more texts */
} session;

/* malloc's failures reach us through libpng's own allocations too. libpng asks for as many bytes as a chunk says that
 * it has, before it looks whether the file does, and for all that a small compressed text grows to. */
static png_voidp session_malloc(png_structp png, png_alloc_size_t size)
{
    session *s = png_get_mem_ptr(png);
    if (s && s->picture) {
        if (size > PNG_MEMORY_MAX - s->taken) {
            s->too_much = true;
            return NULL;
        }
        s->taken += size;
    }
    void *memory = malloc(size);
    if (!memory && s)
        s->out_of_memory = true;
    return memory;
}

static void session_free(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

/* Why libpng got no memory; FLUX1_OK: it got all that it asked for. */
static flux1_status why_no_memory(session *s)
{
    if (s->too_much)
        return error_set(s->err, FLUX1_ERR_FORMAT, "%s: its chunks beside the pixels take more than %zu MiB", s->path,
                         PNG_MEMORY_MAX >> 20);
    return s->out_of_memory ? error_oom(s->err, 0, s->path) : FLUX1_OK;
}

static void on_error(png_structp png, png_const_charp message)
{
    session *s = png_get_error_ptr(png);
    if (s->st == FLUX1_OK && (s->st = why_no_memory(s)) == FLUX1_OK)
        s->st = error_set(s->err, FLUX1_ERR_FORMAT, "%s: not a readable PNG: %s", s->path, message);
    png_longjmp(png, 1);
}

/* libpng warns of oddities it can live with, such as an unknown colour profile; so can we. A text that it leaves out is
 * one of them; where memory is lacking for it that is the end, for it would inflate all that follow as well, to learn
 * their sizes. */
static void on_warning(png_structp png, png_const_charp message)
{
    session *s = png_get_error_ptr(png);
    if (s->too_much)
        png_error(png, message);
    if (s->picture && s->chunk > 0)
        png_lost_add(&s->picture->losses, s->map.bytes + s->chunk, s->map.size - s->chunk, false);
    s->full |= strstr(message, "no space") != NULL; /* of those that follow libpng says nothing */
}

static void session_end(session *s)
{
    if (s->png && s->picture)
        png_destroy_read_struct(&s->png, &s->info, NULL);
    else if (s->png)
        png_destroy_write_struct(&s->png, &s->info);
    for (size_t i = 0; s->latin1 && i < s->text_count; i++)
        free(s->latin1[i]);
    free(s->latin1);
    free(s->texts);
    file_map_close(&s->map);
}

/* ---- writing ---- */

static void write_bytes(png_structp png, png_bytep bytes, size_t count)
{
    session *s = png_get_io_ptr(png);
    builder_add_bytes(s->out, (const char *)bytes, count);
    if (!s->out->failed)
        return;
    s->out_of_memory = true;
    png_error(png, "out of memory");
}

static void flush_bytes(png_structp png) { (void)png; }

/* UTF-8 text as Latin-1, malloc'd in *out; *out is NULL if a character has no place there. PNG forbids control
 * characters other than newline in tEXt. */
static flux1_status latin1_from_utf8(const char *text, char **out, flux1_error *err)
{
    *out = NULL;
    char *latin1 = malloc(strlen(text) + 1), *to = latin1;
    if (!latin1)
        return error_oom(err, strlen(text) + 1, "a PNG's text");
    for (const char *from = text, *end = text + strlen(text); from < end; to++) {
        int32_t c = 0x100;
        from += utf8_decode(from, (size_t)(end - from), &c);
        if (c > 0xFF || (c < 0x20 && c != '\n') || (c >= 0x7F && c < 0xA0)) {
            free(latin1);
            return FLUX1_OK;
        }
        *to = (char)c;
    }
    *to = '\0';
    *out = latin1;
    return FLUX1_OK;
}

/* Fills s->texts. Pointers into the caller's strings are copied by png_set_text. */
static flux1_status prepare_texts(session *s, const image_text *texts, size_t count)
{
    if (count == 0)
        return FLUX1_OK;
    s->texts = calloc(count, sizeof *s->texts);
    s->latin1 = calloc(count, sizeof *s->latin1);
    if (!s->texts || !s->latin1)
        return error_oom(s->err, count * sizeof *s->texts, s->path);
    s->text_count = count;
    for (size_t i = 0; i < count; i++) {
        png_text *t = &s->texts[i];
        if (!utf8_valid(texts[i].text, strlen(texts[i].text)))
            return error_set(s->err, FLUX1_ERR_ARGUMENT, "%s: the text \"%s\" is not valid UTF-8", s->path,
                             texts[i].key);
        TRY(latin1_from_utf8(texts[i].text, &s->latin1[i], s->err));
        t->key = (png_charp)(uintptr_t)texts[i].key;
        t->text = s->latin1[i] ? s->latin1[i] : (png_charp)(uintptr_t)texts[i].text;
        t->compression = s->latin1[i] ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        /* libpng fills text_length (tEXt) and itxt_length (iTXt) itself */
    }
    return FLUX1_OK;
}

/* Everything that may longjmp; no local is changed after setjmp. */
static flux1_status write_through(session *s)
{
    const rgb_pixels *p = s->source;
    if (setjmp(png_jmpbuf(s->png)))
        return s->st;
    png_set_write_fn(s->png, s, write_bytes, flush_bytes);
    png_set_user_limits(s->png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(s->png, s->info, (png_uint_32)p->width, (png_uint_32)p->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_sRGB(s->png, s->info, PNG_sRGB_INTENT_PERCEPTUAL);
    if (s->text_count > 0)
        png_set_text(s->png, s->info, s->texts, (int)s->text_count);
    if (s->out_of_memory)
        png_error(s->png, "out of memory"); /* png_set_text only warns */
    png_write_info(s->png, s->info);
    for (int y = 0; y < p->height; y++)
        png_write_row(s->png, p->rgb + (size_t)y * 3u * (size_t)p->width);
    png_write_end(s->png, s->info);
    return FLUX1_OK;
}

flux1_status png_encode(const char *name, const rgb_pixels *p, const image_text *texts, size_t text_count, builder *out,
                        flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    session s = {.path = name, .err = err, .source = p, .out = out};
    size_t bytes;
    if (p->width < 1 || p->height < 1 || !size_mul((size_t)p->width, 3, &bytes) ||
        !size_mul(bytes, (size_t)p->height, &bytes))
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s: a picture of %d×%d cannot be written", name, p->width,
                         p->height);
    TRY_CLEANUP(prepare_texts(&s, texts, text_count));
    s.png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning, &s, session_malloc, session_free);
    if (!s.png || !(s.info = png_create_info_struct(s.png))) {
        st = error_oom(err, 0, name);
        goto cleanup;
    }
    st = write_through(&s);
cleanup:
    session_end(&s);
    return st;
}

/* ---- reading ---- */

enum { SIGNATURE_BYTES = 8 };

static void read_bytes(png_structp png, png_bytep bytes, size_t count)
{
    session *s = png_get_io_ptr(png);
    if (count > s->map.size - s->position)
        png_error(png, "it is cut short");
    if (s->position >= SIGNATURE_BYTES && s->position >= s->chunk_end && s->map.size - s->position >= PNG_CHUNK_HEAD) {
        const unsigned char *chunk = s->map.bytes + s->position;
        s->chunk = s->position;
        s->chunk_end = s->chunk + PNG_CHUNK_HEAD + png_get_uint_32(chunk) + PNG_CHUNK_CHECK;
        if (s->full)
            png_lost_add(&s->picture->losses, chunk, s->map.size - s->chunk, true);
    }
    memcpy(bytes, s->map.bytes + s->position, count);
    s->position += count;
}

/* tEXt and zTXt are Latin-1, iTXt is UTF-8. */
static char *text_to_utf8(const png_text *t)
{
    builder b = {0};
    char *text = NULL;
    bool latin1 = t->compression < PNG_ITXT_COMPRESSION_NONE;
    for (const unsigned char *c = (const unsigned char *)t->text; c && *c; c++) {
        char encoded[UTF8_BYTES_MAX] = {(char)*c};
        builder_add_bytes(&b, encoded, latin1 ? utf8_encode(*c, encoded) : 1);
    }
    builder_take(&b, "a PNG's text", &text, NULL);
    return text;
}

static flux1_status take_texts(session *s)
{
    png_textp texts = NULL;
    int count = 0;
    png_get_text(s->png, s->info, &texts, &count);
    if (count <= 0)
        return FLUX1_OK;
    if (!(s->picture->texts = calloc((size_t)count, sizeof *s->picture->texts)))
        return error_oom(s->err, 0, s->path);
    for (size_t i = 0; i < (size_t)count; i++) {
        image_text *t = &s->picture->texts[i];
        t->key = strdup(texts[i].key);
        t->text = text_to_utf8(&texts[i]);
        s->picture->text_count = i + 1;
        if (!t->key || !t->text)
            return error_oom(s->err, 0, s->path);
    }
    return FLUX1_OK;
}

static flux1_status read_header(session *s)
{
    if (setjmp(png_jmpbuf(s->png)))
        return s->st;
    png_set_read_fn(s->png, s, read_bytes);
    png_set_user_limits(s->png, PNG_SIDE_MAX, PNG_SIDE_MAX);
    png_set_chunk_malloc_max(s->png, PNG_TEXT_MAX);
    png_set_chunk_cache_max(s->png, PNG_TEXTS_MAX);
    png_read_info(s->png, s->info);
    png_read_update_info(s->png, s->info);
    return FLUX1_OK;
}

/* libpng skips the pixels' chunks where nobody asks for rows. */
static flux1_status read_rest(session *s)
{
    if (setjmp(png_jmpbuf(s->png)))
        return s->st;
    png_read_end(s->png, s->info);
    return FLUX1_OK;
}

flux1_status png_file_read_texts(const char *path, png_picture *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    session s = {.path = path, .err = err, .picture = out};
    *out = (png_picture){0};
    TRY_CLEANUP(file_map_open(path, &s.map, err));
    s.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning, &s, session_malloc, session_free);
    if (!s.png || !(s.info = png_create_info_struct(s.png))) {
        st = error_oom(err, 0, path);
        goto cleanup;
    }
    TRY_CLEANUP(read_header(&s));
    out->width = (int)png_get_image_width(s.png, s.info);
    out->height = (int)png_get_image_height(s.png, s.info);
    TRY_CLEANUP(read_rest(&s));
    TRY_CLEANUP(why_no_memory(&s)); /* libpng leaves out a text that it gets no memory for, with a warning */
    TRY_CLEANUP(take_texts(&s));
    st = file_map_check(&s.map, path, err);
cleanup:
    session_end(&s);
    if (st != FLUX1_OK)
        png_picture_free(out);
    return st;
}

void png_picture_free(png_picture *picture)
{
    for (size_t i = 0; i < picture->text_count; i++) {
        free((void *)(uintptr_t)picture->texts[i].key);
        free((void *)(uintptr_t)picture->texts[i].text);
    }
    free(picture->texts);
    *picture = (png_picture){0};
}
