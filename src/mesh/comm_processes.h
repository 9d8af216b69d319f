/* Communicators whose ranks are threads of several processes. Within a process ranks read each other's memory; between
 * processes the engine moves what they exchange, also while they compute. */
#ifndef FLUX1_MESH_COMM_PROCESSES_H
#define FLUX1_MESH_COMM_PROCESSES_H

#include "mesh/comm.h"
#include "mesh/span.h"

/* What the ranks of this process share. Rank r of the communicator is rank first + r·step of the mesh of `ranks`.
 * Destroy it after its communicators. */
typedef struct span_group span_group;
flux1_status span_group_create(processes *p, span_kind kind, int size, int first, int step, int ranks, flux1_error *err,
                               span_group **out);
void span_group_destroy(span_group *g); /* NULL is fine */

/* `rank` is one of this process. A call that fails leaves its buffers in use until processes_agree. Abort is that of
 * all the processes' communicators (processes_abort), until the next order. */
flux1_status comm_processes_create(span_group *g, int rank, flux1_error *err, comm **out);

#endif
