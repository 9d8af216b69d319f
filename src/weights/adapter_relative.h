/* The kinds of adapters whose ΔW is made of the weight W too: GLoRA, (IA)^3, OFT, BOFT. Row r of the weight, columns
 * from c, of any layer's own rows; OFT and BOFT of LyCORIS and kohya mix the rows of an entry, those of the other
 * layers of a fused matrix too. */
#ifndef FLUX1_WEIGHTS_ADAPTER_RELATIVE_H
#define FLUX1_WEIGHTS_ADAPTER_RELATIVE_H

#include "weights/adapter.h"

/* ΔW of rows [row, row + rows) of the term's layer, which are at `at` in its entry, columns [col, col + cols), to
 * out[rows·cols]. rotation: of the entry's form, if it has one. From any thread. */
flux1_status adapter_relative_rows(const adapter_file *f, const adapter_term *t, const adapter_rotation *rotation,
                                   int64_t row, int64_t at, int64_t rows, int64_t col, int64_t cols, float *out,
                                   flux1_error *err);

#endif
