/* What pictures say about how they were made: those of flux1, of programs that write AUTOMATIC1111's parameters, and
 * of ComfyUI. The
 * pixels are not decoded, and no library is needed for JPEG and WebP. */
#ifndef FLUX1_IMAGE_PICTURE_READ_H
#define FLUX1_IMAGE_PICTURE_READ_H

#include "image/picture.h"

#include <stdbool.h>

typedef struct picture_facts {
    picture_format format;
    int width, height;
    char *parameters;             /* AUTOMATIC1111's; NULL: none */
    char *json;                   /* flux1's; NULL: none */
    char *comfy, *comfy_workflow; /* ComfyUI's graphs, of PNGs (comfy.h); NULL: none */
    char *problem;                /* one of these is there and cannot be read: why, and what to do; NULL: none */
} picture_facts;

/* Whether these first bytes of a file (12 are enough) are those of a picture, and of which format. */
bool picture_known(const uint8_t *bytes, size_t size, picture_format *format);

/* FLUX1_ERR_IO; FLUX1_ERR_FORMAT: no picture of these formats, or a broken one; FLUX1_ERR_MEMORY. *out is zeroed on
 * failure. */
flux1_status picture_facts_read(const char *path, picture_facts *out, flux1_error *err);
void picture_facts_free(picture_facts *facts); /* harmless on a zeroed one */

#endif
