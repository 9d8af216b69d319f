/* The dry runs of a mesh's ranks, where most ranks do the same: a gather or a ring over n ranks makes n calls on each
 * of them, so running all of a large mesh takes a time that grows with the square of n. */
#ifndef FLUX1_PIPELINE_ALIKE_H
#define FLUX1_PIPELINE_ALIKE_H

#include "mesh/mesh.h"

typedef struct rank_counts {
    ops_count count;
    ops_count before; /* of it, what *opening had grown by */
    uint64_t heard;   /* sum of a hash of each event: the order does not count */
    bool known;
} rank_counts;

/* Runs `body` dry on as few ranks as show what all of them do, and fills all[ranks]. A rank is alike the two that it
 * lies between, in one row or one column of sp × tp, if these tell the same events: shares never grow from one rank to
 * the next. The first of each row and column is run by itself. `opening`: a sum that the body adds to; it is left as it
 * was. */
flux1_status alike_run(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ops_count *opening,
                       rank_counts *all, flux1_error *err);

#endif
