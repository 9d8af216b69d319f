/* Whether bytes are what an ETag of the hub says: of a large file it is the SHA-256, of a small one git's hash of the
 * blob (a mirror may give the plain SHA-1 there). Other ETags say nothing about the bytes. */
#ifndef FLUX1_FETCH_DIGEST_H
#define FLUX1_FETCH_DIGEST_H

#include "base/status.h"
#include "fetch/libraries.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct digest digest;

/* Bytes of a file of `size` bytes follow. FLUX1_ERR_MEMORY. */
flux1_status digest_begin(const fetch_libraries *lib, const char *etag, int64_t size, digest **out, flux1_error *err);
void digest_add(digest *d, const void *bytes, size_t count);

/* True also for an ETag that says nothing. Adds no more afterwards. */
bool digest_matches(digest *d);
void digest_end(digest *d); /* NULL is fine */

#endif
