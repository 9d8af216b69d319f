/* Transports: where the ranks of a mesh live, and what joins them by communicators. Each rank is a thread of some
 * process; a transport holds this process's ranks, today all of them:
 *
 *   threads   ranks exchange through this process's memory
 *   link      ranks with a device each exchange over their kind's own connections (NCCL between GPUs)
 *
 * Between processes comes a third row, whose first and ranks are a part of the mesh. */
#ifndef FLUX1_MESH_TRANSPORT_H
#define FLUX1_MESH_TRANSPORT_H

#include "mesh/mesh.h"

typedef struct transport transport;

typedef struct transport_table {
    const char *name;
    /* m->sp_comm, tp_comm and all of one of this process's ranks, whose backend is m->o; they are the transport's.
     * Called once for each rank, in order, and does not wait for the others. Messages go to m->err. */
    flux1_status (*connect)(transport *t, mesh *m);
    /* A rank has failed: every wait of this process's ranks, now and later, returns FLUX1_ERR_COMM. From any thread. */
    void (*abort)(transport *t);
    /* Ends all communicators, aborted or not, when no rank is at work: connect gives new ones. */
    void (*reset)(transport *t);
    void (*destroy)(transport *t);
} transport_table;

struct transport {
    const transport_table *fn;
    int first, ranks; /* this process's: first … first + ranks − 1 */
};

/* The transport for ranks on these devices. */
flux1_status transport_open(const mesh_config *c, const mesh_device *d, transport **out, flux1_error *err);

#endif
