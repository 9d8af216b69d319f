/* Small entries that flux1 keeps between runs (chosen algorithms, hashes of files), in $XDG_CACHE_HOME/flux1, else
 * ~/.cache/flux1. Losing one costs seconds, so no failure here stops a run. An entry appears complete or not at all.
 * Any number of processes may write it at once: one of them wins. Prepared weights, gigabytes, have a cache of their
 * own (weights/prepared.h). */
#ifndef FLUX1_WEIGHTS_SMALL_CACHE_H
#define FLUX1_WEIGHTS_SMALL_CACHE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads the entry `name` of at most `limit` bytes into malloc'd memory and appends a NUL. False if there is none, or if
 * it is cut, damaged, unreadable or too long. */
bool small_cache_get(const char *name, size_t limit, char **bytes, size_t *size);

/* Writes an entry; creates the folder (mode 0700) if needed. A name is letters, digits and "._-"; it does not begin
 * with a point or end in ".tmp" (otherwise FLUX1_ERR_ARGUMENT). FLUX1_ERR_IO if there is no folder or it cannot be
 * written, FLUX1_ERR_MEMORY: callers continue without the entry. */
flux1_status small_cache_put(const char *name, const void *bytes, size_t size, flux1_error *err);

#endif
