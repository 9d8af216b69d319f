/* PNG, 8-bit RGB, through libpng, with text chunks: written; of a file its texts are read. */
#ifndef FLUX1_IMAGE_PNG_H
#define FLUX1_IMAGE_PNG_H

#include "base/builder.h"
#include "image/pixels.h"
#include "image/png_lost.h"

/* One text of a PNG. Both strings are UTF-8; a keyword has 1 to 79 printable Latin-1 characters (PNG, 11.3.3). */
typedef struct image_text {
    const char *key;
    const char *text;
} image_text;

/* Adds the picture to *out as a PNG. Each text becomes a tEXt chunk if it fits Latin-1, otherwise iTXt. Width and
 * height are 1 to 2³¹ − 1. `name` is for messages. FLUX1_ERR_ARGUMENT if a text is not UTF-8; FLUX1_ERR_MEMORY. */
flux1_status png_encode(const char *name, const rgb_pixels *p, const image_text *texts, size_t text_count, builder *out,
                        flux1_error *err);

/* What a file says of its picture, texts as UTF-8. All memory is its own: png_picture_free. */
typedef struct png_picture {
    int width, height;
    image_text *texts;
    size_t text_count;
    png_losses losses; /* texts that it has and that are not among these; a large one may be among them even so */
} png_picture;

/* Its size and its texts, also those behind the pixels, which are read past. Sides of at most 32768. FLUX1_ERR_IO,
 * FLUX1_ERR_FORMAT (libpng's message, with the path), FLUX1_ERR_MEMORY; *out is zeroed on failure. */
flux1_status png_file_read_texts(const char *path, png_picture *out, flux1_error *err);
void png_picture_free(png_picture *picture); /* harmless on a zeroed one */

#endif
