#include "mesh/comm_profile.h"

#include "base/clock.h"
#include "ops/profile.h"

#include <stdio.h>

double comm_hidden(double posted, double enter, double first, double last)
{
    double from = first > posted ? first : posted, to = last < enter ? last : enter;
    return to > from ? to - from : 0;
}

static timed_comm *self(comm *c) { return (timed_comm *)c; }

static void tell(const timed_comm *t, const char *name, const span *times, size_t bytes_moved)
{
    span s = *times;
    s.bytes_moved = bytes_moved;
    s.ranks = t->head.size;
    snprintf(s.name, sizeof s.name, "%s", name);
    profile_exchange(t->o, &s);
}

/* The rank waits from the beginning to the end. */
static void tell_waited(const timed_comm *t, const char *name, double begin, size_t bytes_moved)
{
    double end = clock_seconds();
    tell(t, name, &(span){.begin = begin, .end = end, .exposed = end - begin}, bytes_moved);
}

static flux1_status timed_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    const timed_comm *t = self(c);
    double begin = clock_seconds();
    TRY(t->under->fn->all_gather(t->under, send, recv, bytes));
    tell_waited(t, "all_gather", begin, bytes * (size_t)(c->size - 1));
    return FLUX1_OK;
}

static flux1_status timed_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    const timed_comm *t = self(c);
    double begin = clock_seconds();
    TRY(t->under->fn->reduce_scatter(t->under, send, recv, count));
    tell_waited(t, "reduce_scatter", begin, count * sizeof *recv * (size_t)(c->size - 1));
    return FLUX1_OK;
}

static flux1_status timed_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    timed_comm *t = self(c);
    t->bytes = bytes;
    t->begin = clock_seconds();
    TRY(t->under->fn->shift_begin(t->under, send, recv, bytes, distance));
    t->posted = clock_seconds();
    return FLUX1_OK;
}

static flux1_status timed_shift_end(comm *c)
{
    const timed_comm *t = self(c);
    double enter = clock_seconds(), first = t->begin;
    TRY(t->under->fn->shift_end(t->under));
    double leave = clock_seconds(), last = leave;
    if (t->under->fn->shift_moved)
        t->under->fn->shift_moved(t->under, &first, &last);
    tell(t, "shift",
         &(span){.begin = t->begin,
                 .end = last > t->posted && last < enter ? last : leave,
                 .exposed = t->posted - t->begin + leave - enter,
                 .hidden = comm_hidden(t->posted, enter, first, last)},
         t->bytes);
    return FLUX1_OK;
}

static void nothing(comm *c) { (void)c; } /* whoever made the communicator aborts and destroys it */

static const comm_table timed_table = {.name = "profile",
                                       .all_gather = timed_all_gather,
                                       .reduce_scatter = timed_reduce_scatter,
                                       .shift_begin = timed_shift_begin,
                                       .shift_end = timed_shift_end,
                                       .abort = nothing,
                                       .destroy = nothing};

void comm_profile_begin(timed_comms *t, mesh *m)
{
    comm **at[] = {&m->sp_comm, &m->tp_comm, &m->all};
    for (int i = 0; i < 3; i++) {
        comm *c = *at[i];
        t->under[i] = c;
        t->of[i] = (timed_comm){.head = *c, .under = c, .o = m->o};
        t->of[i].head.fn = &timed_table;
        if (c->size > 1)
            *at[i] = &t->of[i].head;
    }
}

void comm_profile_end(const timed_comms *t, mesh *m)
{
    m->sp_comm = t->under[0];
    m->tp_comm = t->under[1];
    m->all = t->under[2];
}
