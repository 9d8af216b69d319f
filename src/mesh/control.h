/* Connections between the leading process and each follower, for messages that must not wait for MPI: orders, failures,
 * heartbeats. One thread watches them. A connection that ends, or on which nothing was heard for `silence` seconds, is
 * reported as lost. Only who knows the token is taken for a follower; of others nothing is believed. */
#ifndef FLUX1_MESH_CONTROL_H
#define FLUX1_MESH_CONTROL_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { CONTROL_ADDRESSES = 16, CONTROL_TOKEN = 16, CONTROL_FRAME_MAX = 1 << 20, CONTROL_TYPES = 16 };

/* Where the leader listens; without padding, to be sent as bytes. */
typedef struct control_address {
    uint8_t token[CONTROL_TOKEN], answer[CONTROL_TOKEN]; /* of the follower, of the leader */
    uint16_t port, count;
    struct {
        uint16_t family; /* 4 or 6 */
        uint8_t bytes[16];
    } at[CONTROL_ADDRESSES];
} control_address;

typedef struct control control;

/* On the watching thread. Nothing comes from a process after it is lost. */
typedef struct control_events {
    /* type: as given to control_send; the bytes are the caller's no longer than the call */
    void (*frame)(void *arg, int from, int type, const void *bytes, size_t size);
    void (*lost)(void *arg, int who, const char *cause);
    void *arg;
    int heartbeat, silence; /* seconds: between two signs of life of ours; without any of a process until it is lost */
} control_events;

/* Leader: listens on all addresses of this host, and begins to take followers 1 … count − 1. */
flux1_status control_listen(int count, const control_events *events, control_address *address, control **out,
                            flux1_error *err);
/* Waits for all followers; *missing is the first that has not come within `seconds`. FLUX1_ERR_COMM */
flux1_status control_wait(control *c, int seconds, int *missing, flux1_error *err);
/* Follower number `index`. FLUX1_ERR_COMM */
flux1_status control_connect(const control_address *address, int index, const control_events *events, int seconds,
                             control **out, flux1_error *err);

/* To one process, or to all that are connected if `to` is negative. Does not wait: what does not fit into the socket is
 * kept. type < CONTROL_TYPES, size ≤ CONTROL_FRAME_MAX. From any thread, not after control_close has begun. False if it
 * could not be kept. */
bool control_send(control *c, int to, int type, const void *bytes, size_t size);

/* Sends what is kept, for at most two seconds, and ends. NULL is fine. */
void control_close(control *c);

#endif
