/* The ranks of this process find each other at a rendezvous, one for each communicator of the mesh. */
#include "mesh/transport.h"

#include "mesh/comm_processes.h"

#include <stdlib.h>

/* Made by the first rank that comes. */
typedef struct rendezvous {
    bool made;
    comm_group *group;             /* threads */
    unsigned char id[OPS_LINK_ID]; /* link */
    span_group *span;              /* mpi */
} rendezvous;

typedef struct rank_comms {
    comm *sp, *tp, *all;
} rank_comms;

typedef struct local_transport {
    transport head;
    int sp, tp;
    const ops_device_kind *kind;
    processes *processes; /* mpi */
    rendezvous *at;       /* [tp] of the sp communicators, then [sp] of the tp communicators, then that of all ranks */
    rank_comms comms[];   /* [ranks] */
} local_transport;

static local_transport *self(transport *t) { return (local_transport *)t; }

typedef flux1_status join_fn(local_transport *t, rendezvous *at, int size, int rank, mesh *m, comm **out);

static flux1_status join_threads(local_transport *t, rendezvous *at, int size, int rank, mesh *m, comm **out)
{
    (void)t;
    if (!at->made)
        TRY(comm_group_create(size, m->err, &at->group));
    at->made = true;
    return comm_threads_create(at->group, rank, m->err, out);
}

static flux1_status join_link(local_transport *t, rendezvous *at, int size, int rank, mesh *m, comm **out)
{
    if (!at->made)
        TRY(t->kind->link_id(at->id, m->err));
    at->made = true;
    return comm_link_create(t->kind, m->o, at->id, size, rank, m->err, out);
}

static flux1_status join_processes(local_transport *t, rendezvous *at, int size, int rank, mesh *m, comm **out)
{
    int i = (int)(at - t->at), first = 0, step = 1;
    span_kind kind = i < t->tp ? SPAN_SP : i < t->tp + t->sp ? SPAN_TP : SPAN_ALL;
    if (kind == SPAN_SP) {
        first = i;
        step = t->tp;
    } else if (kind == SPAN_TP) {
        first = (i - t->tp) * t->tp;
    }
    if (!at->made)
        TRY(span_group_create(t->processes, kind, size, first, step, m->ranks, m->err, &at->span));
    at->made = true;
    return comm_processes_create(at->span, rank, m->err, out);
}

static flux1_status connect_one(local_transport *t, join_fn *join, int at, int size, int rank, mesh *m, comm **kept,
                                comm **out)
{
    TRY(size == 1 ? comm_self_create(m->err, kept) : join(t, &t->at[at], size, rank, m, kept));
    *out = *kept;
    return FLUX1_OK;
}

static flux1_status connect_with(transport *base, join_fn *join, mesh *m)
{
    local_transport *t = self(base);
    rank_comms *c = &t->comms[m->rank - base->first];
    TRY(connect_one(t, join, m->tp_rank, m->sp, m->sp_rank, m, &c->sp, &m->sp_comm));
    TRY(connect_one(t, join, t->tp + m->sp_rank, m->tp, m->tp_rank, m, &c->tp, &m->tp_comm));
    return connect_one(t, join, t->tp + t->sp, m->ranks, m->rank, m, &c->all, &m->all);
}

static flux1_status threads_connect(transport *t, mesh *m) { return connect_with(t, join_threads, m); }
static flux1_status link_connect(transport *t, mesh *m) { return connect_with(t, join_link, m); }
static flux1_status mpi_connect(transport *t, mesh *m) { return connect_with(t, join_processes, m); }

/* Does what the table's entry of that name does, with each communicator there is. */
static void each_comm(local_transport *t, void (*what)(comm **c))
{
    for (int r = 0; r < t->head.ranks; r++) {
        what(&t->comms[r].sp);
        what(&t->comms[r].tp);
        what(&t->comms[r].all);
    }
}

static void abort_comm(comm **c)
{
    if (*c)
        (*c)->fn->abort(*c);
}

static void destroy_comm(comm **c)
{
    if (*c)
        (*c)->fn->destroy(*c);
    *c = NULL;
}

static void local_abort(transport *t) { each_comm(self(t), abort_comm); }
static void mpi_abort(transport *t) { processes_abort(self(t)->processes); }

static flux1_status local_agree(transport *t, flux1_status mine, const char *message, flux1_error *err)
{
    (void)t;
    return mine == FLUX1_OK ? mine : error_set(err, mine, "%s", message);
}

static flux1_status mpi_agree(transport *t, flux1_status mine, const char *message, flux1_error *err)
{
    return processes_agree(self(t)->processes, mine, message, err);
}

static void local_reset(transport *base)
{
    local_transport *t = self(base);
    each_comm(t, destroy_comm);
    for (int i = 0; i < t->tp + t->sp + 1; i++) {
        comm_group_destroy(t->at[i].group);
        span_group_destroy(t->at[i].span);
        t->at[i] = (rendezvous){0};
    }
}

static void local_destroy(transport *base)
{
    local_reset(base);
    free(self(base)->at);
    free(base);
}

static const transport_table threads_table = {"threads",   threads_connect, local_abort,
                                              local_agree, local_reset,     local_destroy};
static const transport_table link_table = {"link", link_connect, local_abort, local_agree, local_reset, local_destroy};
static const transport_table mpi_table = {"mpi", mpi_connect, mpi_abort, mpi_agree, local_reset, local_destroy};

/* The part of the mesh that is this process's. */
static flux1_status share(processes *p, int ranks, transport *out, flux1_error *err)
{
    if (ranks < processes_count(p))
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "a mesh of %d ranks is too small for %d processes: each has at least one", ranks,
                         processes_count(p));
    TRY(processes_spread(p, ranks, err));
    out->fn = &mpi_table;
    processes_ranks(p, processes_index(p), ranks, &out->first, &out->ranks);
    return FLUX1_OK;
}

flux1_status transport_open(const mesh_config *c, const mesh_device *d, transport **out, flux1_error *err)
{
    int ranks = mesh_ranks(c), points = c->tp + c->sp + 1;
    bool linked = d->own && d->kind->link_possible && d->kind->link_possible();
    transport head = {.fn = linked ? &link_table : &threads_table, .ranks = ranks};
    if (d->processes)
        TRY(share(d->processes, ranks, &head, err));
    local_transport *t = calloc(1, sizeof *t + (size_t)head.ranks * sizeof t->comms[0]);
    rendezvous *at = calloc((size_t)points, sizeof *at);
    if (!t || !at) {
        free(t);
        free(at);
        return error_oom(err, 0, "the mesh's communicators");
    }
    t->head = head;
    t->sp = c->sp;
    t->tp = c->tp;
    t->kind = d->kind;
    t->processes = d->processes;
    t->at = at;
    *out = &t->head;
    return FLUX1_OK;
}
