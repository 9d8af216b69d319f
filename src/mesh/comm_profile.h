/* Communicators that time exchanges for a profile (ops/profile.h) and pass them on. */
#ifndef FLUX1_MESH_COMM_PROFILE_H
#define FLUX1_MESH_COMM_PROFILE_H

#include "mesh/mesh.h"

typedef struct timed_comm {
    comm head;
    comm *under;
    ops *o;
    double begin, posted; /* of the shift in flight: shift_begin was called, and returned */
    size_t bytes;
} timed_comm;

typedef struct timed_comms {
    timed_comm of[3];
    comm *under[3];
} timed_comms;

/* Puts `t` in place of the rank's communicators of more than one rank, until comm_profile_end. m->o is timed. */
void comm_profile_begin(timed_comms *t, mesh *m);
void comm_profile_end(const timed_comms *t, mesh *m);

/* Seconds of a shift that compute did not wait for: it was posted and then waited for from `enter` on, and its bytes
 * moved from `first` to `last`. */
double comm_hidden(double posted, double enter, double first, double last);

#endif
