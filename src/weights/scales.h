/* Scales that lie in tensors of their own beside a weight, in the forms that FLUX.1's files have:
 *   ComfyUI, old:   X.scale_weight, X.scale_input, a marker `scaled_fp8`
 *   ComfyUI, new:   X.weight_scale, X.input_scale, X.comfy_quant (JSON), or `_quantization_metadata` in the file's
 *                   own metadata: fp8, and int8 with one scale or one per row
 *   bitsandbytes:   X.weight.absmax, .quant_map, .quant_state.bitsandbytes__nf4, .nested_*: 4 bits; X.SCB: int8
 * (ComfyUI: comfy/utils.py convert_old_quants, comfy/ops.py; bitsandbytes: functional.py QuantState.) Scales of
 * activations (scale_input, input_scale) do not change what is computed here. */
#ifndef FLUX1_WEIGHTS_SCALES_H
#define FLUX1_WEIGHTS_SCALES_H

#include "weights/store_base.h"

/* Attaches every scale to its weight's view and marks the tensors that held them. FLUX1_ERR_FORMAT for a scale that
 * does not fit its weight, FLUX1_ERR_UNSUPPORTED, naming the form, for packed forms that cannot be read. */
flux1_status scales_attach(store *s, flux1_error *err);

#endif
