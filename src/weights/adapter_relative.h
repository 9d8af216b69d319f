/* The kinds of adapters whose ΔW is made of the weight W too: GLoRA, (IA)^3, OFT, BOFT, and what replaces W. Most need
 * a layer's own rows alone; OFT and BOFT of LyCORIS and kohya mix all rows of an entry, those of the other layers of a
 * fused matrix too.
 */
#ifndef FLUX1_WEIGHTS_ADAPTER_RELATIVE_H
#define FLUX1_WEIGHTS_ADAPTER_RELATIVE_H

#include "weights/adapter.h"
#include "weights/adapter_values.h"

/* ΔW of a window of the term's entry, whose rows are those of the term's layer from layer_row on, to out[rows·cols].
 * rotation: of the entry's form, if it has one. From any thread. */
flux1_status adapter_relative_rows(const adapter_file *f, const adapter_term *t, const adapter_rotation *rotation,
                                   int64_t layer_row, const adapter_window *w, float *out, flux1_error *err);

#endif
