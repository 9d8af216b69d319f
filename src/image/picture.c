#include "image/picture.h"

#include "image/exif.h"
#include "image/jpeg.h"
#include "image/png.h"
#include "image/webp.h"
#include "image/xmp.h"

#include <string.h>

typedef struct format_row {
    const char *name;
    const char *library; /* that the build lacks; NULL: it has it */
    int side_most;
} format_row;

#ifdef FLUX1_HAS_JPEG
#define JPEG_LACKS NULL
#else
#define JPEG_LACKS "libjpeg"
#endif
#ifdef FLUX1_HAS_WEBP
#define WEBP_LACKS NULL
#else
#define WEBP_LACKS "libwebp"
#endif

static const format_row rows[PICTURE_FORMAT_COUNT] = {
    [PICTURE_PNG] = {"PNG", NULL, INT32_MAX},
    [PICTURE_JPEG] = {"JPEG", JPEG_LACKS, JPEG_SIDE_MAX},
    [PICTURE_WEBP] = {"WebP", WEBP_LACKS, WEBP_SIDE_MAX},
};

const char *picture_format_name(picture_format format) { return rows[format].name; }

flux1_status picture_check(picture_format format, int width, int height, const char *name, flux1_error *err)
{
    const format_row *row = &rows[format];
    if (row->library)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: this build cannot write %s, for it was made without %s", name,
                         row->name, row->library);
    if (width > row->side_most || height > row->side_most)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: a picture of %d×%d; %s has at most %d pixels a side", name, width,
                         height, row->name, row->side_most);
    return FLUX1_OK;
}

static flux1_status encode_png(const char *name, const rgb_pixels *p, const picture_texts *t, builder *out,
                               flux1_error *err)
{
    builder xmp = {0};
    if (!t)
        return png_encode(name, p, NULL, 0, out, err);
    xmp_add(&xmp, t->software, NULL); /* the request has a chunk of its own */
    image_text texts[3];
    int count = 0;
    if (t->parameters)
        texts[count++] = (image_text){"parameters", t->parameters};
    if (t->json)
        texts[count++] = (image_text){"flux1", t->json};
    texts[count++] = (image_text){"XML:com.adobe.xmp", xmp.text ? xmp.text : ""};
    flux1_status st = xmp.failed ? error_oom(err, 0, name) : png_encode(name, p, texts, count, out, err);
    builder_free(&xmp);
    return st;
}

typedef flux1_status encode_fn(const char *name, const rgb_pixels *p, int quality, const builder *exif,
                               const builder *xmp, builder *out, flux1_error *err);

static encode_fn *const encoders[PICTURE_FORMAT_COUNT] = {
    [PICTURE_PNG] = NULL, /* encode_png */
#ifdef FLUX1_HAS_JPEG
    [PICTURE_JPEG] = jpeg_encode,
#endif
#ifdef FLUX1_HAS_WEBP
    [PICTURE_WEBP] = webp_encode,
#endif
};

/* most: bytes that a block of either kind may have. Returns what is left out. */
static unsigned make_blocks(const picture_texts *t, size_t most, builder *exif, builder *xmp)
{
    unsigned left_out = 0;
    exif_add(exif, t->software, t->parameters);
    xmp_add(xmp, t->software, t->json);
    if (exif->length > most) {
        builder_free(exif);
        exif_add(exif, t->software, NULL);
        left_out |= PICTURE_LEFT_PARAMETERS;
    }
    if (xmp->length > most) {
        builder_free(xmp);
        xmp_add(xmp, t->software, NULL);
        left_out |= PICTURE_LEFT_JSON;
    }
    return left_out;
}

/* One rule for all formats: in EXIF, XMP and iTXt other bytes would be wrong or lost. */
static const char *repaired(const char *text, builder *b)
{
    if (text)
        builder_add_utf8(b, text);
    return text ? b->text : NULL;
}

static flux1_status encode(const char *name, const rgb_pixels *p, const picture_coding *how, builder *out,
                           unsigned *left_out, flux1_error *err)
{
    builder exif = {0}, xmp = {0};
    *left_out = 0;
    if (how->format == PICTURE_PNG)
        return encode_png(name, p, how->texts, out, err);
    if (how->texts)
        *left_out = make_blocks(how->texts, how->format == PICTURE_JPEG ? JPEG_BLOCK_MAX : SIZE_MAX, &exif, &xmp);
    flux1_status st = exif.failed || xmp.failed
                          ? error_oom(err, 0, name)
                          : encoders[how->format](name, p, how->quality, how->texts ? &exif : NULL,
                                                  how->texts ? &xmp : NULL, out, err);
    builder_free(&exif);
    builder_free(&xmp);
    if (st == FLUX1_OK && out->failed)
        st = error_oom(err, 0, name);
    return st;
}

flux1_status picture_encode(const char *name, const rgb_pixels *p, const picture_coding *how, builder *out,
                            unsigned *left_out, flux1_error *err)
{
    builder parameters = {0}, json = {0};
    picture_texts good;
    picture_coding with = *how;
    unsigned left = 0;
    TRY(picture_check(how->format, p->width, p->height, name, err));
    if (p->width < 1 || p->height < 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s: a picture of %d×%d cannot be written", name, p->width,
                         p->height);
    if (how->texts) {
        good = (picture_texts){repaired(how->texts->parameters, &parameters), repaired(how->texts->json, &json),
                               how->texts->software};
        with.texts = &good;
    }
    const flux1_status st =
        parameters.failed || json.failed ? error_oom(err, 0, name) : encode(name, p, &with, out, &left, err);
    builder_free(&parameters);
    builder_free(&json);
    if (left_out)
        *left_out = left;
    return st;
}
