/* Files that are not weights in a form that flux1 reads, told by their first bytes. */
#ifndef FLUX1_WEIGHTS_FOREIGN_H
#define FLUX1_WEIGHTS_FOREIGN_H

#include <stddef.h>

/* What the file is and what to fetch instead, to follow "path: "; NULL if its beginning is not known here. */
const char *foreign_file(const unsigned char *bytes, size_t size);

/* The same for a tensor's name that only a packed form which flux1 does not read has. */
const char *foreign_tensor(const char *name);

#endif
