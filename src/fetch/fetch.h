/* Fetching a repository of the Hugging Face hub into the Hub's cache on disk. */
#ifndef FLUX1_FETCH_FETCH_H
#define FLUX1_FETCH_FETCH_H

#include "base/hub.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fetch_progress {
    size_t files, files_done;
    uint64_t bytes;    /* of all chosen files; 0: not known yet */
    uint64_t present;  /* bytes of them that are on disk */
    uint64_t received; /* bytes that came from the server in this run */
    const char *file;  /* one that is being fetched; NULL: none */
} fetch_progress;

typedef struct fetch_request {
    const hub_name *name;
    const char *cache_folder; /* NULL: huggingface_hub's */
    const char *variant;      /* of weights, "fp16"; NULL: the plain ones */
    const char *const *patterns;
    size_t pattern_count; /* 0: what flux1 needs (choose.h) */
    bool (*cancelled)(void *user);
    void (*progress)(void *user, const fetch_progress *now); /* often */
    void (*note)(void *user, const char *text);              /* a sentence for the log */
    void *user;
} fetch_request;

typedef struct fetch_result {
    char *folder; /* the snapshot; malloc'd */
    char commit[HUB_COMMIT + 1];
    size_t files, fetched;         /* chosen, and of those: fetched now */
    uint64_t bytes, bytes_fetched; /* the same in bytes */
} fetch_result;

/* Fetches what is not there yet. Files appear in the snapshot, and refs/REVISION moves to it, when all are there and
 * their checksums are right; what was fetched before a failure stays as blobs, to go on from.
 * FLUX1_ERR_ARGUMENT, FLUX1_ERR_IO (network and disk), FLUX1_ERR_FORMAT (an answer is not what it should be),
 * FLUX1_ERR_LIMIT (no room), FLUX1_ERR_CANCELLED, FLUX1_ERR_UNSUPPORTED (built without libcurl, or it is not
 * installed), FLUX1_ERR_MEMORY. */
flux1_status fetch_repository(const fetch_request *request, fetch_result *out, flux1_error *err);

#endif
