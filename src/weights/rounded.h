/* Weights rounded to another form's values, as tensors whose values are computed: what pictures lose by it can then be
 * seen on any device. Matrices [outputs, inputs] are rounded to bfp8 as Tenstorrent's cards hold them (tensor/tiles.h):
 * turned, so that 16 outputs of one input share an exponent, counted from the tensor's first row, also where ranks have
 * parts of it. */
#ifndef FLUX1_WEIGHTS_ROUNDED_H
#define FLUX1_WEIGHTS_ROUNDED_H

#include "weights/store.h"

typedef struct rounded_weight rounded_weight;

/* `base`, which outlives it, may be computed itself. *list becomes the new one, which holds what *list was.
 * FLUX1_ERR_MEMORY. */
flux1_status rounded_add(rounded_weight **list, const store_tensor *base, flux1_error *err);

/* In place of base: of its name and shape, and type COMPUTED. Rows that follow each other are computed fastest. From
 * any thread. */
const store_tensor *rounded_tensor(const rounded_weight *r);

void rounded_free(rounded_weight *list); /* all of it; NULL is fine */

#endif
