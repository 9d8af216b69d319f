#include "mesh/comm_record.h"

#include "ops/record.h"

/* An exchange and its arguments, as they are recorded. */
typedef struct exchange {
    mesh *m;
    int which;
    const void *send;
    void *recv;
    size_t size; /* bytes or values, as the entry has it */
    int distance;
} exchange;

static comm **place_of(mesh *m, int which)
{
    comm **const at[] = {&m->sp_comm, &m->tp_comm, &m->all};
    return at[which];
}

static recording_comm *self(comm *c) { return (recording_comm *)c; }

static void record(comm *c, recorded_fn *again, exchange e)
{
    e.m = self(c)->m;
    e.which = self(c)->which;
    record_other(e.m->o, again, &e, sizeof e);
}

static flux1_status again_all_gather(ops *o, const void *args)
{
    const exchange *e = args;
    comm *c = *place_of(e->m, e->which);
    (void)o;
    return c->fn->all_gather(c, e->send, e->recv, e->size);
}

static flux1_status again_reduce_scatter(ops *o, const void *args)
{
    const exchange *e = args;
    comm *c = *place_of(e->m, e->which);
    (void)o;
    return c->fn->reduce_scatter(c, e->send, e->recv, e->size);
}

static flux1_status again_shift_begin(ops *o, const void *args)
{
    const exchange *e = args;
    comm *c = *place_of(e->m, e->which);
    (void)o;
    return c->fn->shift_begin(c, e->send, e->recv, e->size, e->distance);
}

static flux1_status again_shift_end(ops *o, const void *args)
{
    const exchange *e = args;
    comm *c = *place_of(e->m, e->which);
    (void)o;
    return c->fn->shift_end(c);
}

static flux1_status record_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    record(c, again_all_gather, (exchange){.send = send, .recv = recv, .size = bytes});
    return self(c)->under->fn->all_gather(self(c)->under, send, recv, bytes);
}

static flux1_status record_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    record(c, again_reduce_scatter, (exchange){.send = send, .recv = recv, .size = count});
    return self(c)->under->fn->reduce_scatter(self(c)->under, send, recv, count);
}

static flux1_status record_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    record(c, again_shift_begin, (exchange){.send = send, .recv = recv, .size = bytes, .distance = distance});
    return self(c)->under->fn->shift_begin(self(c)->under, send, recv, bytes, distance);
}

static flux1_status record_shift_end(comm *c)
{
    record(c, again_shift_end, (exchange){0});
    return self(c)->under->fn->shift_end(self(c)->under);
}

static void nothing(comm *c) { (void)c; } /* whoever made the communicator aborts and destroys it */

static const comm_table recording_table = {.name = "record",
                                           .all_gather = record_all_gather,
                                           .reduce_scatter = record_reduce_scatter,
                                           .shift_begin = record_shift_begin,
                                           .shift_end = record_shift_end,
                                           .abort = nothing,
                                           .destroy = nothing};

void comm_record_begin(recording_comms *r, mesh *m)
{
    for (int i = 0; i < 3; i++) {
        comm **at = place_of(m, i);
        r->of[i] = (recording_comm){.head = **at, .m = m, .under = *at, .which = i};
        r->of[i].head.fn = &recording_table;
        *at = &r->of[i].head;
    }
}

void comm_record_end(const recording_comms *r, mesh *m)
{
    for (int i = 0; i < 3; i++)
        *place_of(m, i) = r->of[i].under;
}
