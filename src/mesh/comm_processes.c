#include "mesh/comm_processes.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    int mesh_rank, process;
    int first, count; /* ranks first … first + count − 1 are those of the same process */
    /* of this process's ranks */
    const void *send;
    void *recv;
    unsigned long published, consumed; /* shifts that it has begun; the last one that a rank beside it has read */
} member;

struct span_group {
    processes *p;
    engine *e;
    span_kind kind;
    int size, here; /* here: this process */
    int waiting;    /* ranks at the barrier */
    unsigned long turn;
    member rank[];
};

typedef struct span_comm {
    comm head;
    span_group *group;
    exchange moving;
    void *recv; /* of the shift that has begun */
    size_t bytes;
    int distance;
    unsigned long round;
} span_comm;

static span_comm *self(comm *c) { return (span_comm *)c; }
static bool is_here(const span_group *g, int rank) { return g->rank[rank].process == g->here; }

static int process_of(const processes *p, int ranks, int rank)
{
    int i = 0, first, count;
    for (processes_ranks(p, 0, ranks, &first, &count); rank >= first + count;)
        processes_ranks(p, ++i, ranks, &first, &count);
    return i;
}

flux1_status span_group_create(processes *p, span_kind kind, int size, int first, int step, int ranks, flux1_error *err,
                               span_group **out)
{
    span_group *g = calloc(1, sizeof *g + (size_t)size * sizeof g->rank[0]);
    if (!g)
        return error_oom(err, sizeof *g, "a communicator");
    g->p = p;
    g->e = processes_engine(p);
    g->kind = kind;
    g->size = size;
    g->here = processes_index(p);
    for (int r = 0; r < size; r++) {
        g->rank[r].mesh_rank = first + r * step;
        g->rank[r].process = process_of(p, ranks, first + r * step);
    }
    for (int r = 0, begin = 0; r < size; r++) { /* a process's ranks are next to each other */
        if (g->rank[r].process != g->rank[begin].process)
            begin = r;
        g->rank[r].first = begin;
        for (int i = begin; i <= r; i++)
            g->rank[i].count = r - begin + 1;
    }
    *out = g;
    return FLUX1_OK;
}

void span_group_destroy(span_group *g) { free(g); }

static void span_abort(comm *c) { processes_abort(self(c)->group->p); }

static flux1_status gone(comm *c)
{
    engine *e = self(c)->group->e;
    engine_forget(e, &self(c)->moving);
    return engine_aborted(e, c->err);
}

/* All ranks of this process. */
static bool meet_locked(comm *c)
{
    span_group *g = self(c)->group;
    unsigned long turn = g->turn;
    if (++g->waiting == g->rank[c->rank].count) {
        g->waiting = 0;
        g->turn++;
        engine_notify(g->e);
        return true;
    }
    bool ok = true;
    while (ok && g->turn == turn)
        ok = engine_await(g->e);
    return ok;
}

static flux1_status meet(comm *c)
{
    span_group *g = self(c)->group;
    engine_lock(g->e);
    bool ok = meet_locked(c);
    engine_unlock(g->e);
    return ok ? FLUX1_OK : gone(c);
}

static flux1_status publish_and_meet(comm *c, const void *send, void *recv)
{
    span_group *g = self(c)->group;
    engine_lock(g->e);
    g->rank[c->rank].send = send;
    g->rank[c->rank].recv = recv;
    bool ok = meet_locked(c);
    engine_unlock(g->e);
    return ok ? FLUX1_OK : gone(c);
}

static void send_to(comm *c, int rank, const void *from, size_t bytes)
{
    span_group *g = self(c)->group;
    int tag = processes_tag(g->p, g->kind, g->rank[c->rank].mesh_rank, g->rank[rank].mesh_rank);
    engine_send(g->e, &self(c)->moving, g->rank[rank].process, tag, from, bytes);
}

static void receive_from(comm *c, int rank, void *to, size_t bytes)
{
    span_group *g = self(c)->group;
    int tag = processes_tag(g->p, g->kind, g->rank[rank].mesh_rank, g->rank[c->rank].mesh_rank);
    engine_receive(g->e, &self(c)->moving, g->rank[rank].process, tag, to, bytes);
}

static flux1_status arrived(comm *c) { return engine_wait(self(c)->group->e, &self(c)->moving, c->err); }

/* ---- all_gather ---- */

/* Which rank of a process receives the block of rank `from`, for all ranks there. */
static int receiver(const member *there, int from) { return there->first + from % there->count; }

static void copy_block(void *to, const void *from, size_t bytes)
{
    if (bytes && to != from)
        memcpy(to, from, bytes);
}

/* A block goes to each process once; then its ranks copy it from each other. */
static flux1_status span_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    span_group *g = self(c)->group;
    const member *me = &g->rank[c->rank];
    char *to = recv;
    for (int r = 0; r < c->size; r++)
        if (!is_here(g, r) && receiver(me, r) == c->rank)
            receive_from(c, r, to + (size_t)r * bytes, bytes);
    for (int r = 0; r < c->size; r += g->rank[r].count)
        if (!is_here(g, r))
            send_to(c, receiver(&g->rank[r], c->rank), send, bytes);
    TRY(publish_and_meet(c, send, recv));
    for (int r = me->first; r < me->first + me->count; r++)
        copy_block(to + (size_t)r * bytes, g->rank[r].send, bytes);
    TRY(arrived(c));
    if (me->count == 1)
        return FLUX1_OK;
    TRY(meet(c));
    for (int r = 0; r < c->size; r++)
        if (!is_here(g, r) && receiver(me, r) != c->rank)
            copy_block(to + (size_t)r * bytes, (char *)g->rank[receiver(me, r)].recv + (size_t)r * bytes, bytes);
    return meet(c); /* nobody's memory is reused before all have read it */
}

/* ---- reduce_scatter ---- */

/* Each rank's part goes to its owner, behind the room for its sum, and is added there in rank order: the same sum as
 * within one process. */
static flux1_status span_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    span_group *g = self(c)->group;
    const member *me = &g->rank[c->rank];
    float *stage = recv + count;
    for (int r = 0, at = 0; r < c->size; r++)
        if (!is_here(g, r))
            receive_from(c, r, stage + (size_t)at++ * count, count * sizeof *recv);
    for (int i = 1; i < c->size; i++) { /* not all to rank 0 first */
        int r = (c->rank + i) % c->size;
        if (!is_here(g, r))
            send_to(c, r, send + (size_t)r * count, count * sizeof *send);
    }
    TRY(publish_and_meet(c, send, NULL));
    TRY(arrived(c));
    for (int r = 0; r < c->size; r++) {
        const float *from = stage;
        if (is_here(g, r))
            from = (const float *)g->rank[r].send + (size_t)c->rank * count;
        else
            stage += count;
        for (size_t i = 0; i < count; i++)
            recv[i] = r ? recv[i] + from[i] : from[i];
    }
    return me->count > 1 ? meet(c) : FLUX1_OK;
}

/* ---- shift ---- */

static int around(const comm *c, int distance) { return ((c->rank + distance) % c->size + c->size) % c->size; }

static flux1_status span_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    span_comm *s = self(c);
    span_group *g = s->group;
    int from = around(c, distance), to = around(c, -distance);
    s->recv = recv;
    s->bytes = bytes;
    s->distance = distance;
    engine_lock(g->e);
    g->rank[c->rank].send = send;
    s->round = ++g->rank[c->rank].published;
    engine_notify(g->e);
    engine_unlock(g->e);
    if (!is_here(g, from))
        receive_from(c, from, recv, bytes);
    if (!is_here(g, to))
        send_to(c, to, send, bytes);
    return FLUX1_OK;
}

/* From a rank of this process, once its shift of this round has begun. */
static bool read_beside(span_comm *s, member *from)
{
    engine *e = s->group->e;
    bool ok = true;
    engine_lock(e);
    while (ok && from->published < s->round)
        ok = engine_await(e);
    const void *send = from->send;
    engine_unlock(e);
    if (!ok)
        return false;
    copy_block(s->recv, send, s->bytes);
    engine_lock(e);
    from->consumed = s->round;
    engine_notify(e);
    engine_unlock(e);
    return true;
}

static bool read_by_another(span_comm *s, const member *me)
{
    engine *e = s->group->e;
    bool ok = true;
    engine_lock(e);
    while (ok && me->consumed < s->round)
        ok = engine_await(e);
    engine_unlock(e);
    return ok;
}

static flux1_status span_shift_end(comm *c)
{
    span_comm *s = self(c);
    span_group *g = s->group;
    int from = around(c, s->distance), to = around(c, -s->distance);
    if (is_here(g, from) && !read_beside(s, &g->rank[from]))
        return gone(c);
    if (is_here(g, to) && !read_by_another(s, &g->rank[c->rank]))
        return gone(c);
    return arrived(c);
}

static void span_shift_moved(comm *c, double *first, double *last)
{
    *first = self(c)->moving.first;
    *last = self(c)->moving.last;
}

/* A shift that was begun in a body that failed may be under way. */
static void span_destroy(comm *c)
{
    engine_forget(self(c)->group->e, &self(c)->moving);
    free(c);
}

static const comm_table span_table = {"processes",    span_all_gather, span_reduce_scatter, span_shift_begin,
                                      span_shift_end, span_abort,      span_destroy,        span_shift_moved};

flux1_status comm_processes_create(span_group *g, int rank, flux1_error *err, comm **out)
{
    span_comm *c = calloc(1, sizeof *c);
    if (!c)
        return error_oom(err, sizeof *c, "a communicator");
    c->head = (comm){.fn = &span_table, .size = g->size, .rank = rank, .err = err};
    c->head.away = g->size - g->rank[rank].count;
    c->group = g;
    *out = &c->head;
    return FLUX1_OK;
}
