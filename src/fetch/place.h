/* Writing into the Hugging Face cache (base/hub.h has its layout), as huggingface_hub does: blobs under their ETag,
 * .locks/models--org--name/ETAG.lock (flock) held while one is written, snapshots as relative links, or as files where
 * the file system has no symbolic links. What is as it should be is not written again: it may not be allowed to be. */
#ifndef FLUX1_FETCH_PLACE_H
#define FLUX1_FETCH_PLACE_H

#include "base/hub.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct place {
    char *root;       /* of the cache */
    char *repository; /* ROOT/models--org--name */
    char *locks;      /* ROOT/.locks/models--org--name */
} place;

/* root: NULL for the environment's. Makes no folder yet. FLUX1_ERR_IO, FLUX1_ERR_MEMORY. */
flux1_status place_open(const char *root, const hub_name *name, place *out, flux1_error *err);
void place_close(place *p); /* harmless on a zeroed one */

/* Makes the repository's folders. FLUX1_ERR_IO. */
flux1_status place_make(const place *p, flux1_error *err);

/* FLUX1_ERR_LIMIT if the file system of the cache has less than `bytes` free. */
flux1_status place_space(const place *p, uint64_t bytes, flux1_error *err);

/* Whether an ETag can be a file's name. */
bool place_etag_valid(const char *etag);

/* BLOBS/ETAG and an ending, malloc'd; NULL when out of memory. */
char *place_blob(const place *p, const char *etag, const char *ending);

/* Takes the lock of a blob; *descriptor is -1 if another process has it. place_unlock gives it back. Where the file
 * system has no locks it is taken for free. FLUX1_ERR_IO. */
flux1_status place_lock(const place *p, const char *etag, int *descriptor, flux1_error *err);
void place_unlock(int descriptor); /* -1 is fine */

/* Makes snapshots/COMMIT/PATH a link to a blob, whole or not at all. A path that is valid (hub_path_valid). Where there
 * are no symbolic links it becomes the file itself, *plain: the blob goes there or, if it is `shared` with other paths
 * that come later, a copy of it. */
flux1_status place_link(const place *p, const char *commit, const char *path, const char *etag, bool shared,
                        bool *plain, flux1_error *err);

/* Whether snapshots/COMMIT/PATH is a file itself, of *size bytes; -1: of any number, which *size becomes. */
bool place_holds(const place *p, const char *commit, const char *path, int64_t *size);

/* refs/REVISION is COMMIT from now on; nothing to do if the revision is the commit. */
flux1_status place_reference(const place *p, const char *revision, const char *commit, flux1_error *err);

/* The snapshot's folder, malloc'd; NULL when out of memory. */
char *place_snapshot(const place *p, const char *commit);

#endif
