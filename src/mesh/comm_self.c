/* Communicators that move nothing: `self` is a mesh of one rank, `dry` reports what a rank would send. */
#include "mesh/comm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static flux1_status self_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    (void)c;
    memcpy(recv, send, bytes);
    return FLUX1_OK;
}

static flux1_status self_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    (void)c;
    memcpy(recv, send, count * sizeof *recv);
    return FLUX1_OK;
}

static flux1_status self_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    (void)distance;
    return self_all_gather(c, send, recv, bytes);
}

static flux1_status no_wait(comm *c)
{
    (void)c;
    return FLUX1_OK;
}

static void nobody_to_tell(comm *c) { (void)c; }

static void plain_destroy(comm *c) { free(c); }

static const comm_table self_table = {"self",  self_all_gather, self_reduce_scatter, self_shift_begin,
                                      no_wait, nobody_to_tell,  plain_destroy,       NULL};

flux1_status comm_self_create(flux1_error *err, comm **out)
{
    comm *c = malloc(sizeof *c);
    if (!c)
        return error_oom(err, sizeof *c, "a communicator");
    *c = (comm){.fn = &self_table, .size = 1, .err = err};
    *out = c;
    return FLUX1_OK;
}

typedef struct dry_comm {
    comm head;
    ops *o;
    const char *axis;
} dry_comm;

/* A communicator of one moves nothing and tells nothing. */
static flux1_status told(comm *c, const char *operation, size_t bytes, bool overlaps)
{
    const dry_comm *d = (const dry_comm *)c;
    if (c->size > 1)
        ops_dry_tell(d->o, (ops_event){.kind = EVENT_COLLECTIVE,
                                       .operation = operation,
                                       .bytes_moved = bytes,
                                       .ranks = c->size,
                                       .axis = d->axis,
                                       .overlaps = overlaps});
    return FLUX1_OK;
}

static flux1_status dry_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    (void)send, (void)recv;
    return told(c, "all_gather", bytes * (size_t)(c->size - 1), false);
}

static flux1_status dry_reduce_scatter(comm *c, const float *send, float *recv, size_t elements)
{
    (void)send, (void)recv;
    return told(c, "reduce_scatter", elements * sizeof(float) * (size_t)(c->size - 1), false);
}

static flux1_status dry_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    (void)send, (void)recv, (void)distance;
    return told(c, "shift_begin", bytes, true);
}

static flux1_status dry_shift_end(comm *c) { return told(c, "shift_end", 0, false); }

static const comm_table dry_table = {"dry",         dry_all_gather, dry_reduce_scatter, dry_shift_begin,
                                     dry_shift_end, nobody_to_tell, plain_destroy,      NULL};

flux1_status comm_dry_create(ops *o, const char *axis, int size, int rank, int away, comm **out)
{
    dry_comm *c = malloc(sizeof *c);
    if (!c)
        return error_oom(o->err, sizeof *c, "a communicator");
    *c = (dry_comm){
        .head = {.fn = &dry_table, .size = size, .rank = rank, .away = away, .err = o->err}, .o = o, .axis = axis};
    *out = &c->head;
    return FLUX1_OK;
}
