/* What lies in the place of a file that was not fetched: a Git LFS pointer, a web page, a server's answer. */
#ifndef FLUX1_BASE_STAND_IN_H
#define FLUX1_BASE_STAND_IN_H

#include "base/status.h"

#include <stddef.h>

/* What it is and what to do, to follow "path: "; NULL for anything else. `bytes`: at least the file's beginning. */
const char *stand_in_named(const void *bytes, size_t size);

/* FLUX1_ERR_FORMAT with that sentence. */
flux1_status stand_in_check(const char *path, const void *bytes, size_t size, flux1_error *err);

#endif
