/* What the hub says of one file without sending it: a HEAD request, as huggingface_hub makes it. */
#ifndef FLUX1_FETCH_METADATA_H
#define FLUX1_FETCH_METADATA_H

#include "fetch/http.h"

typedef struct metadata {
    char etag[HTTP_ETAG_MAX]; /* a file's name (place_etag_valid) */
    int64_t size;             /* -1: not said */
    char *url;                /* where the bytes are; malloc'd */
    bool direct;              /* that is the hub itself, which gives the ETag there too */
} metadata;

/* Reads the reply of a call with `stay` that ended as HTTP_DONE; the file is `path` at `commit`. FLUX1_ERR_FORMAT,
 * FLUX1_ERR_MEMORY. */
flux1_status metadata_read(const http_call *c, const char *path, const char *commit, metadata *out, flux1_error *err);

#endif
