/* The ranks of a mesh: threads that stay, each with its backend, and the communicators between them. */
#include "mesh/mesh.h"

#include "base/checked.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void set_place(mesh *m, const mesh_config *c, int rank)
{
    m->sp = c->sp;
    m->tp = c->tp;
    m->ranks = mesh_ranks(c);
    m->rank = rank;
    m->sp_rank = rank / c->tp;
    m->tp_rank = rank % c->tp;
}

static void destroy_comms(mesh *m)
{
    comm **all[] = {&m->sp_comm, &m->tp_comm, &m->all};
    for (int i = 0; i < 3; i++) {
        if (*all[i])
            (*all[i])->fn->destroy(*all[i]);
        *all[i] = NULL;
    }
}

flux1_status mesh_dry_run(const mesh_config *c, const mesh_device *d, int rank, mesh_body *body, void *arg,
                          ops_count *count, flux1_error *err)
{
    flux1_status st;
    mesh m = {.err = err};
    set_place(&m, c, rank);
    ops_config config = d->config;
    config.err = err;
    config.threads = (int)i64_max(1, config.threads / m.ranks);
    size_t exchanged = 0;
    TRY_CLEANUP(ops_dry_create(&config, d->kind->sizing, &m.o));
    TRY_CLEANUP(comm_dry_create(m.o, &config, m.sp, m.sp_rank, &exchanged, &m.sp_comm));
    TRY_CLEANUP(comm_dry_create(m.o, &config, m.tp, m.tp_rank, &exchanged, &m.tp_comm));
    TRY_CLEANUP(comm_dry_create(m.o, &config, m.ranks, m.rank, &exchanged, &m.all));
    TRY_CLEANUP(body(arg, &m));
    *count = *ops_dry_count(m.o);
    count->exchanged = exchanged;
cleanup:
    destroy_comms(&m);
    if (m.o)
        ops_destroy(m.o);
    return st;
}

/* Where the ranks of one communicator meet: in this process's memory, or over their devices' link of this number. */
typedef struct meeting {
    comm_group *group;
    unsigned char id[OPS_LINK_ID];
} meeting;

/* All of a session: one per column of ranks, one per row, one for all. */
typedef struct meetings {
    int sp, tp;
    const ops_device_kind *linked; /* the kind whose links join the ranks; NULL: this process's memory */
    meeting *of_sp;                /* [tp]: ranks that share tp_rank */
    meeting *of_tp;                /* [sp] */
    meeting all;
} meetings;

typedef struct rank_state {
    mesh_session *session;
    mesh m;
    pthread_t thread;
    bool started;
    size_t mark; /* of its arena when the body began */
    flux1_status status;
    flux1_error error;
} rank_state;

typedef void rank_job(rank_state *r);

struct mesh_session {
    mesh_config config;
    mesh_device device;
    meetings meetings;
    bool connected; /* the ranks have communicators; not after a failure, until the next body */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned long turn; /* jobs handed out */
    int running;        /* ranks other than 0 that have not finished this turn's job */
    bool stop;
    rank_job *job;
    mesh_body *body;
    void *arg;
    rank_state *failed; /* the first to fail in this body; the others' failures may follow from it */
    int ranks;
    rank_state rank[];
};

static void meetings_destroy(meetings *g)
{
    for (int i = 0; g->of_sp && i < g->tp; i++)
        comm_group_destroy(g->of_sp[i].group);
    for (int i = 0; g->of_tp && i < g->sp; i++)
        comm_group_destroy(g->of_tp[i].group);
    comm_group_destroy(g->all.group);
    free(g->of_sp);
    free(g->of_tp);
    *g = (meetings){0};
}

static flux1_status arrange(const meetings *g, int size, meeting *m, flux1_error *err)
{
    return g->linked && size > 1 ? g->linked->link_id(m->id, err) : comm_group_create(size, err, &m->group);
}

static flux1_status meetings_create(const mesh_config *c, const ops_device_kind *linked, meetings *g, flux1_error *err)
{
    *g = (meetings){.sp = c->sp, .tp = c->tp, .linked = linked};
    g->of_sp = calloc((size_t)c->tp, sizeof *g->of_sp);
    g->of_tp = calloc((size_t)c->sp, sizeof *g->of_tp);
    if (!g->of_sp || !g->of_tp)
        return error_oom(err, 0, "the mesh");
    for (int i = 0; i < c->tp; i++)
        TRY(arrange(g, c->sp, &g->of_sp[i], err));
    for (int i = 0; i < c->sp; i++)
        TRY(arrange(g, c->tp, &g->of_tp[i], err));
    return arrange(g, c->sp * c->tp, &g->all, err);
}

static flux1_status join(const meetings *g, const meeting *at, int size, int rank, mesh *m, flux1_error *err,
                         comm **out)
{
    if (size == 1)
        return comm_self_create(err, out);
    return g->linked ? comm_link_create(g->linked, m->o, at->id, size, rank, err, out)
                     : comm_threads_create(at->group, rank, err, out);
}

/* ---- communicators ---- */

static flux1_status connect_rank(mesh_session *s, mesh *m, flux1_error *err)
{
    const meetings *g = &s->meetings;
    TRY(join(g, &g->of_sp[m->tp_rank], m->sp, m->sp_rank, m, err, &m->sp_comm));
    TRY(join(g, &g->of_tp[m->sp_rank], m->tp, m->tp_rank, m, err, &m->tp_comm));
    return join(g, &g->all, m->ranks, m->rank, m, err, &m->all);
}

static void disconnect(mesh_session *s)
{
    for (int i = 0; i < s->ranks; i++)
        destroy_comms(&s->rank[i].m);
    meetings_destroy(&s->meetings);
    s->connected = false;
}

/* Ranks that own a device each are joined by their kind's links, where it has any. */
static flux1_status connect_all(mesh_session *s, flux1_error *err)
{
    const ops_device_kind *kind = s->device.kind;
    bool linked = s->device.own && kind->link_possible && kind->link_possible();
    flux1_status st = meetings_create(&s->config, linked ? kind : NULL, &s->meetings, err);
    for (int i = 0; st == FLUX1_OK && i < s->ranks; i++) {
        rank_state *r = &s->rank[i];
        st = connect_rank(s, &r->m, &r->error);
        if (st != FLUX1_OK)
            error_set(err, st, "%s", r->error.message);
    }
    if (st == FLUX1_OK)
        s->connected = true;
    else
        disconnect(s);
    return st;
}

static void abort_all(mesh_session *s)
{
    for (int i = 0; i < s->ranks; i++) {
        comm *all[] = {s->rank[i].m.sp_comm, s->rank[i].m.tp_comm, s->rank[i].m.all};
        for (int k = 0; k < 3; k++)
            all[k]->fn->abort(all[k]);
    }
}

/* ---- ranks ---- */

static flux1_status create_rank(mesh_session *s, int rank, flux1_error *err)
{
    rank_state *r = &s->rank[rank];
    r->session = s;
    r->m.err = &r->error;
    set_place(&r->m, &s->config, rank);
    ops_config config = s->device.config;
    config.err = &r->error;
    config.threads = (int)i64_max(1, config.threads / s->ranks);
    config.device = s->device.own ? s->device.own[rank] : s->device.device;
    flux1_status st = s->device.kind->create(&config, &r->m.o);
    return st == FLUX1_OK ? st : error_set(err, st, "%s", r->error.message);
}

static void run_body(rank_state *r)
{
    mesh_session *s = r->session;
    error_clear(&r->error);
    r->mark = ops_mark(r->m.o);
    r->status = s->body(s->arg, &r->m);
    if (r->status == FLUX1_OK)
        return;
    pthread_mutex_lock(&s->lock);
    if (!s->failed)
        s->failed = r;
    pthread_mutex_unlock(&s->lock);
    abort_all(s);
}

/* After a failure, when no rank is at work any more. On the rank's own thread: what a backend has begun to record, it
 * can only drop there. */
static void unwind(rank_state *r)
{
    ops_step_unwind(r->m.o, r->mark);
    error_clear(&r->error);
}

/* Ranks other than 0: wait for a job, do it, say so. */
static void *rank_main(void *arg)
{
    rank_state *r = arg;
    mesh_session *s = r->session;
    unsigned long seen = 0;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->turn == seen && !s->stop)
            pthread_cond_wait(&s->changed, &s->lock);
        if (s->stop)
            break;
        seen = s->turn;
        pthread_mutex_unlock(&s->lock);
        s->job(r);
        pthread_mutex_lock(&s->lock);
        s->running--;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* On every rank, rank 0's on this thread; returns when all are done. */
static void on_all_ranks(mesh_session *s, rank_job *job)
{
    pthread_mutex_lock(&s->lock);
    s->job = job;
    s->running = s->ranks - 1;
    s->turn++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    job(&s->rank[0]);
    pthread_mutex_lock(&s->lock);
    while (s->running > 0)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static flux1_status start_threads(mesh_session *s, flux1_error *err)
{
    for (int i = 1; i < s->ranks; i++) {
        if (pthread_create(&s->rank[i].thread, NULL, rank_main, &s->rank[i]) != 0)
            return error_set(err, FLUX1_ERR_MEMORY, "cannot start a thread for rank %d of the mesh", i);
        s->rank[i].started = true;
    }
    return FLUX1_OK;
}

/* ---- the session ---- */

flux1_status mesh_open(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err)
{
    int ranks = mesh_ranks(c);
    mesh_session *s = calloc(1, sizeof *s + (size_t)ranks * sizeof s->rank[0]);
    if (!s)
        return error_oom(err, 0, "the mesh's ranks");
    if (pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return error_oom(err, 0, "the mesh's lock");
    }
    if (pthread_cond_init(&s->changed, NULL) != 0) {
        pthread_mutex_destroy(&s->lock);
        free(s);
        return error_oom(err, 0, "the mesh's condition");
    }
    s->config = *c;
    s->device = *d;
    s->ranks = ranks;
    flux1_status st = FLUX1_OK;
    for (int i = 0; st == FLUX1_OK && i < ranks; i++)
        st = create_rank(s, i, err);
    if (st == FLUX1_OK)
        st = connect_all(s, err);
    if (st == FLUX1_OK)
        st = start_threads(s, err);
    if (st != FLUX1_OK) {
        mesh_close(s);
        return st;
    }
    *out = s;
    return FLUX1_OK;
}

void mesh_close(mesh_session *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->ranks; i++)
        if (s->rank[i].started)
            pthread_join(s->rank[i].thread, NULL);
    disconnect(s);
    for (int i = 0; i < s->ranks; i++)
        if (s->rank[i].m.o)
            ops_destroy(s->rank[i].m.o);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int mesh_session_ranks(const mesh_session *s) { return s->ranks; }

flux1_status mesh_reserve(mesh_session *s, const size_t *arena_bytes, flux1_error *err)
{
    for (int i = 0; i < s->ranks; i++) {
        flux1_status st = ops_reserve(s->rank[i].m.o, arena_bytes[i]);
        if (st != FLUX1_OK)
            return error_set(err, st, "%s", s->rank[i].error.message);
    }
    return FLUX1_OK;
}

flux1_status mesh_run(mesh_session *s, mesh_body *body, void *arg, flux1_error *err)
{
    if (!s->connected)
        TRY(connect_all(s, err));
    s->body = body;
    s->arg = arg;
    s->failed = NULL;
    on_all_ranks(s, run_body);
    if (!s->failed)
        return FLUX1_OK;
    flux1_status st = error_set(err, s->failed->status, "%s", s->failed->error.message);
    on_all_ranks(s, unwind);
    disconnect(s); /* aborted communicators stay so: the next body gets new ones */
    return st;
}
