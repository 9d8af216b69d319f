/* A picture as bytes, and a decoded one's numbers as those. */
#ifndef FLUX1_IMAGE_PIXELS_H
#define FLUX1_IMAGE_PIXELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct rgb_pixels {
    int width, height;
    const uint8_t *rgb; /* 3·width·height bytes, rows from the top */
} rgb_pixels;

/* diffusers' postprocess (VaeImageProcessor.denormalize, numpy_to_pil): x/2 + 1/2, clamped to [0, 1], times 255,
 * rounded half to even. A NaN becomes some byte. */
void pixels_to_bytes(const float *values, size_t count, uint8_t *bytes);

#endif
