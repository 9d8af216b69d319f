/* XMP: the packet that marks a picture as generated (IPTC's DigitalSourceType), and carries the request as JSON. */
#ifndef FLUX1_IMAGE_XMP_H
#define FLUX1_IMAGE_XMP_H

#include "base/builder.h"

#include <stddef.h>

/* Adds the packet. json: an object, UTF-8; NULL: left out. */
void xmp_add(builder *b, const char *software, const char *json);

/* The JSON of such a packet, malloc'd in *out; NULL if it has none. *damaged: only one end of it is there.
 * FLUX1_ERR_MEMORY. */
flux1_status xmp_json(const char *bytes, size_t size, char **out, bool *damaged, flux1_error *err);

#endif
