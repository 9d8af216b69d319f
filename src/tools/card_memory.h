/* What a part of FLUX takes of a Tenstorrent card's memory at its peak: the calls that the worker
 * (tools/ttnn/flux1_ttnn.py) makes of a recording's lines, on shapes alone. Weights and the buffers
 * of exchanges stay; tensors come and go as the worker holds them (card_tensors.h).
 * tests/ttnn/memory.py holds the two together. */
#ifndef FLUX1_TOOLS_CARD_MEMORY_H
#define FLUX1_TOOLS_CARD_MEMORY_H

#include "pipeline/recording.h"
#include "tools/machine.h"

/* Bytes of a device. */
typedef struct card_held {
    double most; /* behind any call of the part, with its weights */
    double kept; /* behind the part, until the next picture's: weights, filters, buffers of exchanges, and the
                  * activations that nothing has released, with the result */
} card_held;

/* r: of rank 0 alone (recording_make_first); `stages` of its stages from
 * `first` on, which are one part. weight_cell: bytes of a value of the part's matrices.
 * FLUX1_ERR_MEMORY. */
flux1_status card_memory(const recording *r, recording_stage first, int stages, const machine *m, double weight_cell,
                         card_held *out, flux1_error *err);

#endif
