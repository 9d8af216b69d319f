/* Weights with adapters merged into them, as tensors whose values are computed: W + Σ strength · (f(W) − W), where f(W)
 * is W + ΔW, or with DoRA's magnitude m · (W + ΔW) / ‖W + ΔW‖ (ΔW: adapter_values.h, adapter_relative.h). Each adapter
 * sees the model's own W, so their order does not matter. Values are float32 whatever types the model and the file
 * have; nothing is stored. */
#ifndef FLUX1_WEIGHTS_ADAPTER_MERGE_H
#define FLUX1_WEIGHTS_ADAPTER_MERGE_H

#include "weights/adapter.h"

typedef struct adapter_merged adapter_merged;

typedef enum adapter_merge_what {
    ADAPTER_MERGE_OTHERS, /* what cannot run beside a layer */
    ADAPTER_MERGE_ALL     /* plain pairs too */
} adapter_merge_what;

/* `base`, a tensor of the part's store, as it is with these adapters. *out is NULL if none of them changes it. base and
 * the files outlive it. */
flux1_status adapter_merge(const adapter_use *uses, int count, model_part part, const store_tensor *base,
                           adapter_merge_what what, adapter_merged **out, flux1_error *err);

/* In place of base: of its name and shape, and type COMPUTED. Rows that follow each other are computed fastest
 * (tensor_decode of many of them). From any thread. */
const store_tensor *adapter_merged_tensor(const adapter_merged *m);

void adapter_merged_free(adapter_merged *m); /* NULL is fine */

/* Those of a model, each once; zeroed, there are none. */
typedef struct adapter_merges {
    adapter_merged **merged;
    size_t count, room;
} adapter_merges;

/* *t becomes what stands in its place with these adapters, always the same ones for a list, if they change it. */
flux1_status adapter_merges_take(adapter_merges *l, const adapter_use *uses, int count, model_part part,
                                 adapter_merge_what what, const store_tensor **t, flux1_error *err);
void adapter_merges_free(adapter_merges *l);

#endif
