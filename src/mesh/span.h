/* What communicators between processes need of them. */
#ifndef FLUX1_MESH_SPAN_H
#define FLUX1_MESH_SPAN_H

#include "mesh/engine.h"
#include "mesh/processes.h"

/* Which of a pair of ranks' communicators a message belongs to; the processes' own broadcast. */
typedef enum span_kind { SPAN_SP, SPAN_TP, SPAN_ALL, SPAN_BROADCAST } span_kind;

engine *processes_engine(processes *p);

/* Memory that is the processes' own: two halves of PROCESSES_STAGE bytes. */
enum { PROCESSES_STAGE = 1 << 20 };
char *processes_stage(processes *p, int half);

/* The tag of messages between two ranks of the mesh: another one in an order that follows a failed one, so that nothing
 * that is left over is taken for a new message. */
int processes_tag(const processes *p, span_kind kind, int from, int to);

/* The mesh in use has this many ranks: for sentences. FLUX1_ERR_UNSUPPORTED if MPI has too few tags for them. */
flux1_status processes_spread(processes *p, int ranks, flux1_error *err);

#endif
