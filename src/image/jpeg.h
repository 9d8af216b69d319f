/* JPEG through libjpeg, where the build has it. */
#ifndef FLUX1_IMAGE_JPEG_H
#define FLUX1_IMAGE_JPEG_H

#include "base/builder.h"
#include "image/pixels.h"

#define JPEG_SIDE_MAX 65500  /* libjpeg's JPEG_MAX_DIMENSION */
#define JPEG_BLOCK_MAX 65504 /* bytes of exif and of xmp: a segment without the longest mark */

/* Adds the picture to *out as a JPEG of quality 1 to 100; from 90 on colours keep their full resolution. exif and xmp
 * may be NULL, and have at most JPEG_BLOCK_MAX bytes. FLUX1_ERR_MEMORY, FLUX1_ERR_INTERNAL. */
flux1_status jpeg_encode(const char *name, const rgb_pixels *p, int quality, const builder *exif, const builder *xmp,
                         builder *out, flux1_error *err);

#endif
