/* What ranks exchange, as tensors: the parallel forms (forms.c) are made of operations of the backend and of these.
 * `exchange_bytes` moves them: it packs rows into exchange memory, calls a communicator, and unpacks. What takes a
 * whole program in place of calls has a table of its own (script_record.c writes them down). */
#ifndef FLUX1_MESH_EXCHANGE_H
#define FLUX1_MESH_EXCHANGE_H

#include "mesh/mesh.h"

typedef enum mesh_axis { AXIS_SP, AXIS_TP, AXIS_ALL } mesh_axis;

static inline int axis_size(const mesh *m, mesh_axis a)
{
    return a == AXIS_SP ? m->sp : a == AXIS_TP ? m->tp : m->ranks;
}

static inline int axis_rank(const mesh *m, mesh_axis a)
{
    return a == AXIS_SP ? m->sp_rank : a == AXIS_TP ? m->tp_rank : m->rank;
}

/* Keys and values on their way round the axis: of each rank its cut, in units of `unit` rows, of each part. */
typedef struct kv_ring {
    mesh_axis axis;
    int64_t units[2], unit; /* rows of all ranks = units · unit */
    int turn;               /* how often they were received */
    size_t bytes;           /* exchange_bytes': of k or v */
    void *here, *next;      /* likewise: what was received last, and what arrives */
} kv_ring;

/* Rows of k and v that rank `source` has. */
int64_t ring_rows(const mesh *m, const kv_ring *r, int source);

/* All ranks of the axis call these alike. x, k, v … may be windows. Exchange memory is the arena's, until the caller
 * releases it. */
struct exchange_table {
    /* full = the rows of every rank, each part by itself, cut in units of `unit` rows; x: this rank's */
    flux1_status (*gather_rows)(mesh *m, mesh_axis axis, act x, act full, int64_t unit);
    /* the same by columns, in units of 1; of one batch entry */
    flux1_status (*gather_columns)(mesh *m, mesh_axis axis, act mine, act full);
    /* sum = Σ over ranks of those rows of `partial` that are this rank's; both PARTIAL */
    flux1_status (*reduce_rows)(mesh *m, mesh_axis axis, act partial, act sum);
    /* This rank's k and v are on their way to the rank before when this returns. */
    flux1_status (*ring_begin)(mesh *m, kv_ring *r, act k, act v);
    /* k, v = those of rank + turn (1, 2 … size − 1), which go on; of ring_rows' rows of that rank. Waits. */
    flux1_status (*ring_receive)(mesh *m, kv_ring *r, act k, act v);
    /* out, a plane of one row: a row of the rank at `distance` (of all ranks, as a ring), if it is wanted; that rank
     * sends row `row` of its `in`, if it has rows */
    flux1_status (*halo_row)(mesh *m, act in, int64_t row, int distance, bool wanted, act out);
    /* mesh_share on several ranks */
    flux1_status (*share)(mesh *m, const float *mine, int64_t count, float *all);
};

extern const exchange_table exchange_bytes;

/* What `a` names of part p; no rows of the other part. */
act part_of(act a, act_part p);

/* The rows that `a` names, as a tensor of its own with the same parts. */
act_shape shape_like(act a, int64_t cols);

#endif
