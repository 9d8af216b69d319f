/* Files that flux1 keeps between runs, of two kinds:
 *   - small entries (chosen algorithms, plans of libraries) in $XDG_CACHE_HOME/flux1, else ~/.cache/flux1. Losing one
 *     costs seconds, so no failure here stops a run;
 *   - prepared weights, gigabytes, only in a folder that the user names.
 * An entry appears complete or not at all. Any number of processes may write it at once: one of them wins. */
#ifndef FLUX1_WEIGHTS_CACHE_H
#define FLUX1_WEIGHTS_CACHE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads the entry `name` of at most `limit` bytes into malloc'd memory and appends a NUL. False if there is none, or if
 * it is cut, damaged, unreadable or too long. */
bool cache_get(const char *name, size_t limit, char **bytes, size_t *size);

/* Writes an entry; creates the folder (mode 0700) if needed. A name is letters, digits and "._-"; it does not begin
 * with a point or end in ".tmp" (otherwise FLUX1_ERR_ARGUMENT). FLUX1_ERR_IO if there is no folder or it cannot be
 * written, FLUX1_ERR_MEMORY: callers continue without the entry. */
flux1_status cache_put(const char *name, const void *bytes, size_t size, flux1_error *err);

/* The folder for prepared weights: `wish`, or if that is NULL the value of FLUX1_CACHE_DIR; created with mode 0700 if
 * needed. *out is malloc'd; NULL if neither names a folder: then nothing prepared is kept. FLUX1_ERR_IO,
 * FLUX1_ERR_MEMORY. */
flux1_status cache_prepared_folder(const char *wish, char **out, flux1_error *err);

#endif
