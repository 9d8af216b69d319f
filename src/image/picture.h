/* A picture in one of the formats that are written, with what it was made from; and what the pictures of this and other
 * programs say about that. */
#ifndef FLUX1_IMAGE_PICTURE_H
#define FLUX1_IMAGE_PICTURE_H

#include "base/builder.h"
#include "image/pixels.h"

typedef enum picture_format { PICTURE_PNG, PICTURE_JPEG, PICTURE_WEBP, PICTURE_FORMAT_COUNT } picture_format;

#define PICTURE_QUALITY 90 /* where none is asked for */

/* "PNG" */
const char *picture_format_name(picture_format format);

/* Whether this build can write such a picture, and one of that size. FLUX1_ERR_UNSUPPORTED, FLUX1_ERR_LIMIT. */
flux1_status picture_check(picture_format format, int width, int height, const char *name, flux1_error *err);

/* UTF-8; each byte that is none is written as U+FFFD. */
typedef struct picture_texts {
    const char *parameters, *json; /* metadata.h */
    const char *software;          /* "flux1 0.1.0" */
} picture_texts;

/* Texts that a picture has no room for. */
enum { PICTURE_LEFT_PARAMETERS = 1, PICTURE_LEFT_JSON = 2 };

typedef struct picture_coding {
    picture_format format;
    int quality;                /* 1 to 100, of JPEG and WebP (100: a WebP without loss) */
    const picture_texts *texts; /* NULL: none. PNG carries them as text chunks, JPEG and WebP as EXIF and XMP; with them
                                   comes IPTC's mark of a generated picture */
} picture_coding;

/* Adds the picture to *out. A JPEG holds 64 KiB of each text (of parameters as UTF-16): one that takes more is left
 * out, and *left_out (may be NULL) says which of them, 0 for none. `name` is for messages. As picture_check, and
 * FLUX1_ERR_ARGUMENT, FLUX1_ERR_MEMORY. */
flux1_status picture_encode(const char *name, const rgb_pixels *p, const picture_coding *how, builder *out,
                            unsigned *left_out, flux1_error *err);

#endif
