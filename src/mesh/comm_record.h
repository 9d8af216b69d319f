/* Communicators that record exchanges among the calls of a step (ops/record.h) and pass them on. */
#ifndef FLUX1_MESH_COMM_RECORD_H
#define FLUX1_MESH_COMM_RECORD_H

#include "mesh/mesh.h"

typedef struct recording_comm {
    comm head;
    mesh *m;
    comm *under;
    int which; /* of the rank's communicators */
} recording_comm;

typedef struct recording_comms {
    recording_comm of[3];
} recording_comms;

/* Puts `r` in place of the rank's communicators, until comm_record_end. What is recorded names the rank's communicator
 * by its place in *m: after other bodies the one that is there then makes the exchange. */
void comm_record_begin(recording_comms *r, mesh *m);
void comm_record_end(const recording_comms *r, mesh *m);

#endif
