/* From named tensors to prepared weights: what the four models share when they are built. The load_ functions put
 * weights into the loader's current block (load_block). */
#ifndef FLUX1_MODEL_LOADER_H
#define FLUX1_MODEL_LOADER_H

#include "mesh/mesh.h"
#include "weights/adapter_merge.h"
#include "weights/rounded.h"

/* A block of a model's own weights, and one of what adapters add to its linear layers (NULL: nothing). */
typedef struct held_block {
    block *own, *added;
} held_block;

static inline flux1_status held_begin(ops *o, const held_block *b)
{
    TRY(ops_block_begin(o, b->own));
    return b->added ? ops_block_begin(o, b->added) : FLUX1_OK;
}

static inline flux1_status held_end(ops *o, const held_block *b)
{
    if (b->added)
        TRY(ops_block_end(o, b->added));
    return ops_block_end(o, b->own);
}

typedef enum linear_cut { LINEAR_WHOLE, LINEAR_COLUMN, LINEAR_ROW } linear_cut;

#define LAYER_NAME_MAX 160
#define LINEAR_PARTS 3

/* Where a linear weight lies in a model, and how it was cut out of the file's layers. */
typedef struct linear_place {
    linear_weight *w;
    held_block *block;
    int parts; /* layers that are stacked in it: one; q, k and v; T5's two of one input */
    char name[LINEAR_PARTS][LAYER_NAME_MAX];
    int64_t out, in; /* of each of these */
    linear_cut how;
    int64_t unit;
    int64_t first;   /* LINEAR_ROW: input columns that are cut by `unit`; the others are cut by 1 */
    int tp, tp_rank; /* of the mesh that it was cut for */
} linear_place;

/* The blocks that a model has created on its backend. They are destroyed with the model; the backend stays. */
typedef struct block_list {
    ops *o;
    block **block;
    size_t count, room;
    linear_place *place;
    size_t places, place_room;
    adapter *added;          /* the lists of all places, where adapters are attached (adapters.h) */
    adapter_merges merged;   /* weights that adapters are merged into */
    rounded_weight *rounded; /* the last one; each knows the one before */
} block_list;

/* Where a model is built: on which rank, from which store. */
typedef struct loader {
    mesh *m;
    store *s;
    block_list *made; /* the model's */
    bool claim;       /* record faults in the store (opening a folder); otherwise every tensor is known to be there */
    block *block;     /* owner of what is loaded next */
    held_block *held; /* where the model keeps that block */
    bool coarse;      /* linear weights loaded next are marked so */
    bool int8;        /* and so */
    bool bfp8;        /* matrices of linear layers are rounded to it */
    store_tensor missing;    /* stands in for a tensor that is not there, while claiming */
    model_part part;         /* that the store is of */
    const adapter_use *uses; /* what is merged into its weights where it cannot run beside them */
    int use_count;
} loader;

void block_list_free(block_list *l); /* the blocks too */
void block_list_idle(const block_list *l, bool idle);
void block_list_plain(block_list *l); /* detaches adapters and destroys their blocks */

/* Called after each block of a model, on every rank, in order: reports progress, and in a dry run records the FLOPs so
 * far. */
typedef flux1_status model_tick(void *user, mesh *m);

flux1_status load_block(loader *l, held_block *out, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The tensor `name` of this shape, as a recipe, with adapters merged into it, and rounded where the loader says so. */
flux1_status load_recipe(loader *l, weight_role role, const char *name, int dims, const int64_t *shape,
                         weight_recipe *out);

/* `<name>.weight` [out, in] and, if asked, `<name>.bias`, cut by units of `unit` rows or columns. */
flux1_status load_linear(loader *l, const char *name, int64_t out, int64_t in, bool bias, linear_cut how, int64_t unit,
                         linear_weight *w);

/* The place of a weight that the model has cut itself: a layer [out, in] whose first `first` columns are cut by unit.
 */
flux1_status load_place(loader *l, const char *name, int64_t out, int64_t in, int64_t first, int64_t unit,
                        linear_weight *w);

/* q, k and v, each [heads·dim, in], cut by heads and stacked into one matrix. */
flux1_status load_qkv(loader *l, const char *q, const char *k, const char *v, int64_t heads, int64_t dim, int64_t in,
                      bool bias, linear_weight *w);

/* Two layers [out, in] of one input, each cut by its rows, the second below the first. */
flux1_status load_pair(loader *l, const char *first, const char *second, int64_t out, int64_t in, linear_weight *w);

/* `<name>.weight` [n] and, if asked, `<name>.bias`. */
flux1_status load_norm(loader *l, const char *name, int64_t n, bool bias, weight **w);

/* `<name>.weight` [out, in, kernel, kernel] and `<name>.bias`. */
flux1_status load_conv(loader *l, const char *name, int64_t out, int64_t in, int kernel, weight **w);

/* Prepares a recipe that the model made itself. bias may be NULL. */
flux1_status load_prepared(loader *l, weight_recipe *w, const weight_recipe *bias, weight **out);

/* An embedding table `name` [entries, width]. */
flux1_status load_table(loader *l, const char *name, int64_t entries, int64_t width, weight **w);

/* FLUX1_ERR_NUMERIC naming the block if one of the checks (ops_finite; slot = index into names) has failed on any rank.
 */
flux1_status finite_report(mesh *m, const char *model, const char *const *names, const char *where);
/* The same for a slot that all ranks already know, or −1. */
flux1_status finite_told(mesh *m, int slot, const char *model, const char *const *names, const char *where);

#endif
