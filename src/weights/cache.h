/* The files that flux1 keeps between runs. Two kinds, in two places:
 *   - small entries (algorithm choices, plans of libraries), in $XDG_CACHE_HOME/flux1, else ~/.cache/flux1: losing one
 *     costs seconds, so nothing here stops a run;
 *   - prepared weights, gigabytes, only where the user names a folder.
 * An entry appears whole or not at all, and any number of processes may write it at once: one of them wins. */
#ifndef FLUX1_WEIGHTS_CACHE_H
#define FLUX1_WEIGHTS_CACHE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads the entry `name` of at most `limit` bytes into malloc'd memory with a NUL behind it. False when there is none,
 * or none that is whole, readable and short enough: an entry that was cut or damaged is absent. */
bool cache_get(const char *name, size_t limit, char **bytes, size_t *size);

/* Writes it, and makes the folder (mode 0700) when it is not there. A name is letters, digits and "._-", not beginning
 * with a point nor ending in ".tmp"; another is FLUX1_ERR_ARGUMENT. FLUX1_ERR_IO where no folder can be had or it
 * cannot be written, FLUX1_ERR_MEMORY: callers go on without. */
flux1_status cache_put(const char *name, const void *bytes, size_t size, flux1_error *err);

/* The folder for prepared weights: `wish` (--cache DIR), or if that is NULL what FLUX1_CACHE_DIR says; made with mode
 * 0700 when it is not there. *out is malloc'd, NULL when neither names one: then nothing prepared is kept.
 * FLUX1_ERR_IO, FLUX1_ERR_MEMORY. */
flux1_status cache_prepared_folder(const char *wish, char **out, flux1_error *err);

#endif
