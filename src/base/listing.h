/* The names in a folder. */
#ifndef FLUX1_BASE_LISTING_H
#define FLUX1_BASE_LISTING_H

#include "base/status.h"

#include <stdbool.h>

#define LISTING_MAX 65536 /* names; the rest of a larger folder is not listed */

typedef struct listing {
    char **name; /* sorted by bytes, without those that begin with a dot */
    size_t count;
    bool cut; /* there are more than LISTING_MAX */
} listing;

/* FLUX1_ERR_IO for a folder that cannot be read, FLUX1_ERR_MEMORY; *out is empty then. */
flux1_status listing_read(const char *folder, listing *out, flux1_error *err);
void listing_free(listing *l); /* harmless on a zeroed one */

#endif
