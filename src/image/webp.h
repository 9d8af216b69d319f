/* WebP through libwebp, where the build has it. */
#ifndef FLUX1_IMAGE_WEBP_H
#define FLUX1_IMAGE_WEBP_H

#include "base/builder.h"
#include "image/pixels.h"

#define WEBP_SIDE_MAX 16383

/* Adds the picture to *out as a lossy WebP of quality 1 to 99, or a lossless one of quality 100. exif and xmp may be
 * NULL. FLUX1_ERR_MEMORY, FLUX1_ERR_INTERNAL. */
flux1_status webp_encode(const char *name, const rgb_pixels *p, int quality, const builder *exif, const builder *xmp,
                         builder *out, flux1_error *err);

#endif
