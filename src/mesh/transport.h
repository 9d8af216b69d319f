/* Transports: where the ranks of a mesh live, and how they are joined by communicators. Each rank is a thread of some
 * process. A transport has the ranks of this process:
 *
 *   threads   all ranks, which exchange through this process's memory
 *   link      all ranks, with a device each; they exchange over their kind's own connections (NCCL between GPUs)
 *   mpi       a part of the mesh; other processes have the rest, and what goes there goes over the wire (processes.h)
 */
#ifndef FLUX1_MESH_TRANSPORT_H
#define FLUX1_MESH_TRANSPORT_H

#include "mesh/mesh.h"

typedef struct transport transport;

typedef struct transport_table {
    const char *name;
    /* Sets m->sp_comm, m->tp_comm and m->all of one of this process's ranks, whose backend is m->o. The communicators
     * belong to the transport. Called once per rank, in order; does not wait for the others. Messages go to m->err. */
    flux1_status (*connect)(transport *t, mesh *m);
    /* A rank has failed: every wait of all ranks, now and later, returns FLUX1_ERR_COMM. From any thread. */
    void (*abort)(transport *t);
    /* How a body went: `mine` and its message (may be NULL if FLUX1_OK) for this process's ranks, which have all
     * returned; the result for the ranks of all processes, with the message of the one that failed first. */
    flux1_status (*agree)(transport *t, flux1_status mine, const char *message, flux1_error *err);
    /* Destroys all communicators, aborted or not; no rank may be running. connect makes new ones. */
    void (*reset)(transport *t);
    void (*destroy)(transport *t);
} transport_table;

struct transport {
    const transport_table *fn;
    int first, ranks; /* in this process: ranks first … first + ranks − 1 */
};

/* The transport for ranks on these devices. */
flux1_status transport_open(const mesh_config *c, const mesh_device *d, transport **out, flux1_error *err);

#endif
