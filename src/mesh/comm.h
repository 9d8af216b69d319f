/* Communicators: how ranks of one axis exchange data. Memory comes from the backend's `exchange`, and a communicator
 * works with the backends whose memory it can access. Calls are collective: all ranks of the communicator make them in
 * the same order with the same sizes. Waits block. */
#ifndef FLUX1_MESH_COMM_H
#define FLUX1_MESH_COMM_H

#include "ops/device.h"

typedef struct comm comm;

typedef struct comm_table {
    const char *name; /* "self", "threads", "link", "processes", "dry" */
    /* recv[r] = rank r's send; `bytes` each */
    flux1_status (*all_gather)(comm *c, const void *send, void *recv, size_t bytes);
    /* recv[i] = Σ over ranks of their send[rank·count + i], in rank order; float32. recv has room for (1 + away)·count
     * values, all of which are written to */
    flux1_status (*reduce_scatter)(comm *c, const float *send, float *recv, size_t count);
    /* Starts receiving `bytes` from rank + distance (on the ring) while this rank's `send` goes to rank − distance.
     * The caller leaves both buffers alone until shift_end. One shift at a time. */
    flux1_status (*shift_begin)(comm *c, const void *send, void *recv, size_t bytes, int distance);
    flux1_status (*shift_end)(comm *c);
    /* A rank has failed: every wait of this communicator's ranks, now and later, returns FLUX1_ERR_COMM. From any
     * thread. */
    void (*abort)(comm *c);
    void (*destroy)(comm *c);
    /* After shift_end: when the shift's bytes moved, from the first to the last (clock_seconds). NULL: it is not known,
     * and a profile takes the time from shift_begin to the end of shift_end. */
    void (*shift_moved)(comm *c, double *first, double *last);
} comm_table;

struct comm {
    const comm_table *fn;
    int size, rank;
    int away; /* ranks of other processes */
    flux1_error *err;
};

/* One rank: moves nothing (a gather copies). */
flux1_status comm_self_create(flux1_error *err, comm **out);

/* A rank of `size` in a dry run, `away` of them in other processes: moves nothing. Each call tells o, the rank's dry
 * backend, {EVENT_COLLECTIVE, name of the call, bytes sent, ranks, axis}. axis: "sp", "tp" or "all", a literal. */
flux1_status comm_dry_create(ops *o, const char *axis, int size, int rank, int away, comm **out);

/* Ranks that are threads of one process share a group. Destroy it after its communicators. */
typedef struct comm_group comm_group;
flux1_status comm_group_create(int size, flux1_error *err, comm_group **out);
void comm_group_destroy(comm_group *g);
flux1_status comm_threads_create(comm_group *g, int rank, flux1_error *err, comm **out);

/* Ranks with a device each, joined by their kind's links (ops/device.h). o is the rank's backend; `id` comes from
 * link_id and is the same on all ranks. */
flux1_status comm_link_create(const ops_device_kind *kind, ops *o, const unsigned char *id, int size, int rank,
                              flux1_error *err, comm **out);

#endif
