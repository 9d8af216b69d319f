/* What a part of FLUX takes of a Tenstorrent card's memory at its peak: the calls that the worker
 * (tools/ttnn/flux1_ttnn.py) makes of a recording's lines, on shapes alone. Weights and the buffers of exchanges stay;
 * tensors come and go as the worker holds them (card_tensors.h). tests/ttnn/memory.py holds the two together. */
#ifndef FLUX1_TOOLS_CARD_MEMORY_H
#define FLUX1_TOOLS_CARD_MEMORY_H

#include "mesh/mesh.h"
#include "ops/script.h"
#include "tools/machine.h"

/* Bytes of a device, in *out. stage: the part's scripts in order, each of rank 0 alone (sp and tp 1). weight_cell:
 * bytes of a value of the part's matrices. FLUX1_ERR_MEMORY. */
flux1_status card_memory(const script *stage, int stages, const mesh_config *shape, const machine *m,
                         double weight_cell, double *out, flux1_error *err);

#endif
