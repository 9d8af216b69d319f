/* EXIF in JPEG and WebP: the block that holds a picture's parameters, as AUTOMATIC1111's web UI writes and reads it. */
#ifndef FLUX1_IMAGE_EXIF_H
#define FLUX1_IMAGE_EXIF_H

#include "base/builder.h"

#include <stddef.h>
#include <stdint.h>

/* Adds a TIFF block with Software, and with UserComment in UTF-16 where `comment` (UTF-8) is not NULL. */
void exif_add(builder *b, const char *software, const char *comment);

/* The UserComment of a block, with or without "Exif\0\0" in front, as UTF-8: malloc'd in *out; NULL if there is none,
 * or the block is damaged: *damaged, where its header, or what leads from there to the comment, makes no sense.
 * FLUX1_ERR_MEMORY. */
flux1_status exif_comment(const uint8_t *bytes, size_t size, char **out, bool *damaged, flux1_error *err);

#endif
