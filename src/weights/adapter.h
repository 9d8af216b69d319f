/* A file of adapters (LoRA and its relatives): entries that change layers of FLUX.1, W + strength · ΔW each. Plain
 * pairs of low rank may run beside the weight; everything else is merged into it (adapter_merge.h). */
#ifndef FLUX1_WEIGHTS_ADAPTER_H
#define FLUX1_WEIGHTS_ADAPTER_H

#include "weights/adapter_change.h"

#define ADAPTER_STRAYS_NAMED 5

/* How an entry gets to its layer. */
typedef enum adapter_place {
    ADAPTER_BESIDE, /* down and up run beside the layer */
    ADAPTER_WEIGHT, /* merged into `<layer>.weight` */
    ADAPTER_BIAS    /* … `<layer>.bias` */
} adapter_place;

/* One layer's share of an entry. An entry for a fused layer has several. */
typedef struct adapter_term {
    model_part part;
    char *target; /* the layer in diffusers' naming, without ".weight" */
    adapter_place place;
    int order;                /* of adapter_targets */
    size_t change;            /* its entry's number in the file */
    int64_t first, rows;      /* of the entry's rows, the layer's own */
    bool swapped;             /* … whose halves are the other way round */
    const store_tensor *base; /* the model's tensor */
    /* ADAPTER_BESIDE: */
    const store_tensor *down; /* [rank, in] */
    store_tensor up;          /* [out, rank], the layer's own rows of it */
    store_tensor half[2];     /* of up, where `swapped` */
    float scale;              /* alpha / rank */
} adapter_term;

typedef struct adapter_file {
    store *store;
    adapter_change *change;
    size_t changes, change_room;
    adapter_term *term; /* sorted by part, target and place */
    size_t count, room;
    size_t merged[MODEL_PARTS]; /* terms of the part that are merged */
    size_t pairs;               /* entries in the file */
    size_t applied;             /* of them, those that the model has a layer for */
    unsigned kinds;             /* of these: bits by adapter_kind */
    int64_t rank_min, rank_max; /* of these; 0: none has a rank */
    store_tensor zeros;         /* as large as any `up`: where a term has no rows of a fused matrix */
    char strays[400];           /* keys that were not applied, the first of them; empty: none */
    size_t stray_count;
} adapter_file;

/* A file with the strength that a request gives it. */
typedef struct adapter_use {
    const adapter_file *file;
    float scale;
} adapter_use;

/* Opens a file for a model whose parts are `stores` (by model_part), which outlive what is merged with it. Data is not
 * read, except for alphas and DoRA's magnitudes. FLUX1_ERR_UNSUPPORTED: of a kind that is not applied, which the
 * message names. FLUX1_ERR_MODEL: nothing in it is for FLUX.1, or a shape is not the model's. FLUX1_ERR_FORMAT: part of
 * an entry is missing, or a number makes no sense. */
flux1_status adapter_open(const char *path, const store *const stores[MODEL_PARTS], adapter_file **out,
                          flux1_error *err);
void adapter_close(adapter_file *f); /* NULL is fine */

/* The term for a layer of a part in this place; NULL if there is none. */
const adapter_term *adapter_find(const adapter_file *f, model_part part, const char *target, adapter_place place);

#endif
