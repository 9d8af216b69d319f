/* bitsandbytes' tensors beside a weight. */
#ifndef FLUX1_WEIGHTS_SCALES_BNB_H
#define FLUX1_WEIGHTS_SCALES_BNB_H

#include "weights/store_base.h"

/* `weight` is `<base>.weight`, `base_length` the length of base. *found: whether it was one of bitsandbytes'. */
flux1_status scales_bnb(store *s, store_raw *weight, size_t base_length, bool *found, flux1_error *err);

#endif
