/* The values of an entry's ΔW, as far as they are made of the file alone. */
#ifndef FLUX1_WEIGHTS_ADAPTER_VALUES_H
#define FLUX1_WEIGHTS_ADAPTER_VALUES_H

#include "weights/adapter_change.h"

/* Rows [row, row + rows), columns [col, col + cols) of an entry's ΔW. */
typedef struct adapter_window {
    int64_t row, rows, col, cols;
} adapter_window;

/* scale · ΔW of the window, to out[rows·cols]; of ADAPTER_GENERAL scale · x. From any thread. */
flux1_status adapter_change_rows(const adapter_change *c, const adapter_window *w, float *out, flux1_error *err);

/* v·f, columns [col, col + cols), of `rows` rows v[rows][f->rows]; f is a product without a core. */
flux1_status adapter_factor_times(const float *v, int64_t rows, const adapter_factor *f, int64_t col, int64_t cols,
                                  float *out, flux1_error *err);

#endif
