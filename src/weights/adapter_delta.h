/* What an adapter adds to a weight, for writing merged files. */
#ifndef FLUX1_WEIGHTS_ADAPTER_DELTA_H
#define FLUX1_WEIGHTS_ADAPTER_DELTA_H

#include "weights/adapter.h"

/* Adds to `delta` what the adapter, times `strength`, changes in rows [first, first + rows) of the layer's weight of
 * `cols` columns; in fp32. `scratch`: room for `cols` floats. A layer that the adapter does not have: nothing is added,
 * and *changes is false. FLUX1_ERR_UNSUPPORTED if its matrices cannot be decoded. */
flux1_status adapter_delta_rows(const adapter_file *f, model_part part, const char *layer, float strength,
                                int64_t first, int64_t rows, int64_t cols, float *delta, float *scratch, bool *changes,
                                flux1_error *err);

#endif
