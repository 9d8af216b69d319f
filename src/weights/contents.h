/* What lies in a file, told by the names of its tensors. */
#ifndef FLUX1_WEIGHTS_CONTENTS_H
#define FLUX1_WEIGHTS_CONTENTS_H

#include "weights/store_base.h"

/* `s` has its raw tensors. FLUX1_ERR_MODEL if they belong to no part of FLUX.1. */
flux1_status contents_of(const store *s, store_contents *out, flux1_error *err);

/* Whether all-in-one files have such a tensor beside the parts: no weight of FLUX.1, but nothing strange. */
bool contents_is_extra(const char *name);

/* The map of the part that the tensors belong to, where it is one alone; *prefix: what stands in front of its names.
 * NULL: no part's sign is among them. */
const name_map *contents_map(const store *s, const char **prefix);

/* FLUX1_ERR_MODEL: the file lacks the part; says which it has. */
flux1_status contents_lack(const char *path, const store_contents *c, model_part part, flux1_error *err);

#endif
