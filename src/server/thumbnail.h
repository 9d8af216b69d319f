/* A picture made small, for lists of many. */
#ifndef FLUX1_SERVER_THUMBNAIL_H
#define FLUX1_SERVER_THUMBNAIL_H

#include "flux1.h"

#include <stdbool.h>

enum { THUMBNAIL_SIDE = 384 }; /* pixels of the longer side */

/* Whether the picture is larger than that. */
bool thumbnail_pays(const flux1_image *picture);

/* Its size and pixels, each the mean of those that it covers; free(small->pixels). False: no memory. */
bool thumbnail_draw(const flux1_image *picture, flux1_image *small);

#endif
