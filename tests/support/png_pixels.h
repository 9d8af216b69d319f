/* The pixels of a PNG, by libpng's own simplified reader: the product reads texts alone. */
#ifndef FLUX1_TESTS_PNG_PIXELS_H
#define FLUX1_TESTS_PNG_PIXELS_H

#include <png.h>
#include <stdlib.h>

/* 3·width·height bytes, malloc'd; NULL: it cannot be read. */
static inline uint8_t *png_pixels(const char *path, int *width, int *height)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t *rgb = NULL;
    if (png_image_begin_read_from_file(&image, path)) {
        image.format = PNG_FORMAT_RGB;
        *width = (int)image.width;
        *height = (int)image.height;
        rgb = malloc(PNG_IMAGE_SIZE(image));
        if (rgb && !png_image_finish_read(&image, NULL, rgb, 0, NULL)) {
            free(rgb);
            rgb = NULL;
        }
    }
    png_image_free(&image);
    return rgb;
}

#endif
