/* PEFT's configuration of an adapter: in the file's metadata, as diffusers writes it, or beside it, as PEFT does. */
#ifndef FLUX1_WEIGHTS_ADAPTER_PEFT_H
#define FLUX1_WEIGHTS_ADAPTER_PEFT_H

#include "weights/adapter_change.h"

typedef struct adapter_peft adapter_peft;

/* *out is NULL if there is none. FLUX1_ERR_UNSUPPORTED: of a kind that is not applied, or of one that was trained on
 * other weights than the model's. FLUX1_ERR_FORMAT: it cannot be read. */
flux1_status adapter_peft_open(const store *s, adapter_peft **out, flux1_error *err);
void adapter_peft_close(adapter_peft *p); /* NULL is fine */

/* What it says of an entry, whose name is the first `base` bytes of its head's: *scale is changed if it has one, and
 * how OFT's rotation is made. p: NULL is fine. A key of rank_pattern or alpha_pattern is a regular expression, and the
 * first that matches counts (peft.utils.other.get_pattern_key; base/pattern.h: which ones are understood). */
flux1_status adapter_peft_apply(adapter_peft *p, model_part part, size_t base, adapter_change *c, double *scale,
                                flux1_error *err);

#endif
