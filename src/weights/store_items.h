/* From a file's tensors to a part's, by our names. */
#ifndef FLUX1_WEIGHTS_STORE_ITEMS_H
#define FLUX1_WEIGHTS_STORE_ITEMS_H

#include "weights/store_base.h"

/* Puts scales to their tensors and makes the store's items: what stands behind `prefix`, mapped. map NULL: as it is.
 * FLUX1_ERR_MODEL, FLUX1_ERR_FORMAT, FLUX1_ERR_UNSUPPORTED, FLUX1_ERR_MEMORY. */
flux1_status store_make_items(store *s, const name_map *map, const char *prefix, flux1_error *err);

#endif
