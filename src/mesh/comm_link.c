/* Ranks that have a device each, over the devices' own connections (NCCL between GPUs). Calls are enqueued; the
 * backend's next wait is theirs too. */
#include "mesh/comm.h"

#include <stdlib.h>

typedef struct link_comm {
    comm head;
    const ops_device_kind *kind;
    ops_link *link;
} link_comm;

static const ops_device_kind *kind_of(comm *c) { return ((link_comm *)c)->kind; }
static ops_link *link_of(comm *c) { return ((link_comm *)c)->link; }

static flux1_status link_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    return kind_of(c)->link_all_gather(link_of(c), send, recv, bytes);
}

static flux1_status link_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    return kind_of(c)->link_reduce_scatter(link_of(c), send, recv, count);
}

static flux1_status link_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    return kind_of(c)->link_shift_begin(link_of(c), send, recv, bytes, distance);
}

static flux1_status link_shift_end(comm *c) { return kind_of(c)->link_shift_end(link_of(c)); }

static void link_abort(comm *c) { kind_of(c)->link_abort(link_of(c)); }

static void link_destroy(comm *c)
{
    kind_of(c)->link_destroy(link_of(c));
    free(c);
}

static const comm_table link_table = {"link",         link_all_gather, link_reduce_scatter, link_shift_begin,
                                      link_shift_end, link_abort,      link_destroy,        NULL};

flux1_status comm_link_create(const ops_device_kind *kind, ops *o, const unsigned char *id, int size, int rank,
                              flux1_error *err, comm **out)
{
    link_comm *c = malloc(sizeof *c);
    if (!c)
        return error_oom(err, sizeof *c, "a communicator");
    *c = (link_comm){.head = {.fn = &link_table, .size = size, .rank = rank, .err = err}, .kind = kind};
    flux1_status st = kind->link_create(o, id, size, rank, &c->link);
    if (st != FLUX1_OK) {
        free(c);
        return st;
    }
    *out = &c->head;
    return FLUX1_OK;
}
