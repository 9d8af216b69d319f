/* Transfers that are set up on the wire (wire.h's requests): those of a step are the same in every step, and are
 * started again instead of made. For the engine's thread. */
#ifndef FLUX1_MESH_TRANSFERS_H
#define FLUX1_MESH_TRANSFERS_H

#include "mesh/wire.h"

typedef struct transfer_key {
    bool send;
    int peer, tag;
    void *at;
    size_t bytes;
} transfer_key;

typedef struct transfer {
    struct transfer *next; /* the one that was used before */
    transfer_key key;
    bool active; /* under way; who started it says when it no longer is */
    wire_request *request;
} transfer;

/* Zeroed but for the wire. */
typedef struct transfers {
    const wire_table *wire;
    transfer *first;
    int count;
} transfers;

/* Starts the idle one of this key, or a new one. False: why not, in `why` (WIRE_WHY bytes). */
bool transfers_start(transfers *t, const transfer_key *key, transfer **out, char *why);

/* Down to as many as may stay set up; those that are active stay. */
void transfers_trim(transfers *t);

/* Takes all idle ones off the wire. */
void transfers_end(transfers *t);

/* Frees all and leaves them on the wire, which has ended, or which this process gives up. */
void transfers_forget(transfers *t);

#endif
