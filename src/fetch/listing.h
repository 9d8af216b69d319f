/* What a repository holds at one commit: the hub's answer to api/models/<repository>/revision/<revision>. */
#ifndef FLUX1_FETCH_LISTING_H
#define FLUX1_FETCH_LISTING_H

#include "base/hub.h"

#include <stddef.h>

#define LISTING_BYTES_MAX ((size_t)64 << 20)

typedef struct hub_listing {
    char commit[HUB_COMMIT + 1];
    char **names; /* paths of files, sorted, each once, each a valid one (hub_path_valid) */
    size_t count;
    size_t left_out; /* names that cannot be files here: "..", absolute, too long */
} hub_listing;

/* `name` is what messages call the text. FLUX1_ERR_FORMAT if it is no such answer, FLUX1_ERR_LIMIT, FLUX1_ERR_MEMORY;
 * *out is empty then. */
flux1_status hub_listing_parse(const char *bytes, size_t size, const char *name, hub_listing *out, flux1_error *err);
void hub_listing_free(hub_listing *l); /* harmless on a zeroed one */

#endif
