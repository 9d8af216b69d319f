#include "image/jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#define FINE_COLOURS 90 /* quality from which on colours are not halved */

/* What must survive a longjmp. */
typedef struct session {
    struct jpeg_error_mgr errors;
    jmp_buf back;
    struct jpeg_compress_struct jpeg;
    unsigned char *bytes;
    unsigned long size;
} session;

static void on_error(j_common_ptr jpeg)
{
    session *s = (session *)(void *)jpeg->err; /* its first member */
    longjmp(s->back, 1);
}

static void on_message(j_common_ptr jpeg) { (void)jpeg; }

static void add_segment(session *s, const char *mark, size_t mark_bytes, const builder *content)
{
    unsigned char segment[JPEG_BLOCK_MAX + 32];
    if (!content || content->length > JPEG_BLOCK_MAX)
        return;
    memcpy(segment, mark, mark_bytes);
    memcpy(segment + mark_bytes, content->text, content->length);
    jpeg_write_marker(&s->jpeg, JPEG_APP0 + 1, segment, (unsigned)(mark_bytes + content->length));
}

/* Everything that may longjmp; no local is changed after setjmp. */
static int compress(session *s, const rgb_pixels *p, int quality, const builder *exif, const builder *xmp)
{
    if (setjmp(s->back))
        return s->errors.msg_code;
    jpeg_create_compress(&s->jpeg);
    jpeg_mem_dest(&s->jpeg, &s->bytes, &s->size);
    s->jpeg.image_width = (JDIMENSION)p->width;
    s->jpeg.image_height = (JDIMENSION)p->height;
    s->jpeg.input_components = 3;
    s->jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&s->jpeg);
    jpeg_set_quality(&s->jpeg, quality, TRUE);
    s->jpeg.optimize_coding = TRUE;
    if (quality >= FINE_COLOURS)
        s->jpeg.comp_info[0].h_samp_factor = s->jpeg.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&s->jpeg, TRUE);
    add_segment(s, "Exif\0", 6, exif);
    add_segment(s, "http://ns.adobe.com/xap/1.0/", 29, xmp);
    while (s->jpeg.next_scanline < s->jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(p->rgb + (size_t)s->jpeg.next_scanline * 3u * (size_t)p->width);
        jpeg_write_scanlines(&s->jpeg, &row, 1);
    }
    jpeg_finish_compress(&s->jpeg);
    return 0;
}

flux1_status jpeg_encode(const char *name, const rgb_pixels *p, int quality, const builder *exif, const builder *xmp,
                         builder *out, flux1_error *err)
{
    session *s = calloc(1, sizeof *s);
    flux1_status st = FLUX1_OK;
    if (!s)
        return error_oom(err, sizeof *s, name);
    s->jpeg.err = jpeg_std_error(&s->errors);
    s->errors.error_exit = on_error;
    s->errors.output_message = on_message;
    const int fault = compress(s, p, quality, exif, xmp);
    if (fault == JERR_OUT_OF_MEMORY)
        st = error_oom(err, 0, name);
    else if (fault) {
        char message[JMSG_LENGTH_MAX];
        s->errors.format_message((j_common_ptr)&s->jpeg, message);
        st = error_set(err, FLUX1_ERR_INTERNAL, "%s: libjpeg: %s", name, message);
    } else
        builder_add_bytes(out, (const char *)s->bytes, s->size);
    jpeg_destroy_compress(&s->jpeg);
    free(s->bytes);
    free(s);
    return st;
}
