/* A file of low-rank adapters (LoRA): pairs of matrices that change layers of FLUX.1, W + scale · up·down each. */
#ifndef FLUX1_WEIGHTS_ADAPTER_H
#define FLUX1_WEIGHTS_ADAPTER_H

#include "weights/store.h"

#define ADAPTER_RANK_MAX 16384
#define ADAPTER_STRAYS_NAMED 5

/* One layer's term. A pair for a fused layer makes several, which share `down`. */
typedef struct adapter_term {
    model_part part;
    char *target;             /* the layer in diffusers' naming, without ".weight" */
    const store_tensor *down; /* [rank, in] */
    store_tensor up;          /* [out, rank], the layer's own rows of it */
    store_tensor half[2];     /* of up, where it has its halves the other way round */
    float scale;              /* alpha / rank */
    size_t pair;              /* number of its pair in the file */
} adapter_term;

typedef struct adapter_file {
    store *store;
    adapter_term *term; /* sorted by part and target */
    size_t count, room;
    size_t pairs;   /* in the file */
    size_t applied; /* of them, those all of whose layers the model has */
    int64_t rank_min, rank_max;
    store_tensor zeros; /* as large as any `up`: where a term has no rows of a fused matrix */
    char strays[400];   /* keys that were not applied, the first of them; empty: none */
    size_t stray_count;
} adapter_file;

/* Opens a file for a model whose parts are `stores` (by model_part). Data is not read, except for the alphas.
 * FLUX1_ERR_UNSUPPORTED: of another kind than low-rank, which the message names. FLUX1_ERR_MODEL: nothing in it is for
 * FLUX.1, or a shape is not the model's. FLUX1_ERR_FORMAT: half of a pair is missing, or a number makes no sense. */
flux1_status adapter_open(const char *path, const store *const stores[MODEL_PARTS], adapter_file **out,
                          flux1_error *err);
void adapter_close(adapter_file *f); /* NULL is fine */

/* The term for a layer of a part; NULL if there is none. */
const adapter_term *adapter_find(const adapter_file *f, model_part part, const char *target);

#endif
