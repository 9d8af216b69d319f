/* The runner `ranks`: threads that stay, one for each rank of this process, each with its backend. */
#include "mesh/comm_profile.h"
#include "mesh/runner.h"
#include "mesh/transport.h"

#include "base/checked.h"
#include "base/pool.h"
#include "ops/profile.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct rank_session rank_session;

typedef struct rank_state {
    rank_session *session;
    mesh m;
    pthread_t thread;
    bool started;
    size_t mark; /* of its arena when the body began */
    flux1_status status;
    flux1_error error;
} rank_state;

typedef void rank_job(rank_state *r);

struct rank_session {
    mesh_session head;
    mesh_config config;
    mesh_device device;
    transport *transport;
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
    rank_state rank[];  /* [head.ranks], of the mesh's from transport->first on */
};

static rank_session *self(mesh_session *s) { return (rank_session *)s; }

static void disconnect(rank_session *s)
{
    s->transport->fn->reset(s->transport);
    s->connected = false;
}

static flux1_status connect_all(rank_session *s, flux1_error *err)
{
    for (int i = 0; i < s->head.ranks; i++) {
        rank_state *r = &s->rank[i];
        flux1_status st = s->transport->fn->connect(s->transport, &r->m);
        if (st != FLUX1_OK) {
            disconnect(s);
            return error_set(err, st, "%s", r->error.message);
        }
    }
    s->connected = true;
    return FLUX1_OK;
}

/* ---- ranks ---- */

static flux1_status create_rank(rank_session *s, int i, flux1_error *err)
{
    rank_state *r = &s->rank[i];
    r->session = s;
    r->m.err = &r->error;
    r->m.bfp8 = s->device.config.bfp8;
    mesh_set_rank(&r->m, &s->config, s->transport->first + i);
    ops_config config = s->device.config;
    config.err = &r->error;
    config.threads = (int)i64_max(1, config.threads / s->head.ranks);
    config.device = s->device.own ? s->device.own[i] : s->device.device;
    flux1_status st = s->device.kind->create(&config, &r->m.o);
    return st == FLUX1_OK ? st : error_set(err, st, "%s", r->error.message);
}

static flux1_status timed_body(rank_state *r)
{
    rank_session *s = r->session;
    timed_comms comms;
    profile_attach(s->head.profile, r->m.rank, r->m.o, &s->device.config, s->device.kind->sizing);
    comm_profile_begin(&comms, &r->m);
    flux1_status st = s->body(s->arg, &r->m);
    comm_profile_end(&comms, &r->m);
    profile_detach(r->m.o);
    return st;
}

static void run_body(rank_state *r)
{
    rank_session *s = r->session;
    error_clear(&r->error);
    r->mark = ops_mark(r->m.o);
    r->status = s->head.profile ? timed_body(r) : s->body(s->arg, &r->m);
    if (r->status == FLUX1_OK)
        return;
    pthread_mutex_lock(&s->lock);
    if (!s->failed)
        s->failed = r;
    pthread_mutex_unlock(&s->lock);
    s->transport->fn->abort(s->transport);
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
    rank_session *s = r->session;
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
static void on_all_ranks(rank_session *s, rank_job *job)
{
    pthread_mutex_lock(&s->lock);
    s->job = job;
    s->running = s->head.ranks - 1;
    s->turn++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    job(&s->rank[0]);
    pthread_mutex_lock(&s->lock);
    while (s->running > 0)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static flux1_status start_threads(rank_session *s, flux1_error *err)
{
    for (int i = 1; i < s->head.ranks; i++) {
        if (thread_start(&s->rank[i].thread, rank_main, &s->rank[i]) != 0)
            return error_set(err, FLUX1_ERR_MEMORY, "cannot start a thread for rank %d of the mesh", i);
        s->rank[i].started = true;
    }
    return FLUX1_OK;
}

/* ---- the session ---- */

static bool has_backend(const ops_device_kind *kind) { return kind->create != NULL; }

static void close_ranks(mesh_session *base)
{
    rank_session *s = self(base);
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->head.ranks; i++)
        if (s->rank[i].started)
            pthread_join(s->rank[i].thread, NULL);
    s->transport->fn->destroy(s->transport);
    for (int i = 0; i < s->head.ranks; i++)
        if (s->rank[i].m.o)
            ops_destroy(s->rank[i].m.o);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* The session without ranks, on a transport that is its own from then on. */
static flux1_status create_session(const mesh_config *c, const mesh_device *d, transport *t, rank_session **out,
                                   flux1_error *err)
{
    rank_session *s = calloc(1, sizeof *s + (size_t)t->ranks * sizeof s->rank[0]);
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
    s->head = (mesh_session){.fn = &mesh_ranks_runner, .ranks = t->ranks};
    s->config = *c;
    s->device = *d;
    s->transport = t;
    *out = s;
    return FLUX1_OK;
}

static flux1_status open_ranks(const mesh_config *c, const mesh_device *d, mesh_session **out, flux1_error *err)
{
    transport *t;
    rank_session *s = NULL;
    TRY(transport_open(c, d, &t, err));
    flux1_status st = create_session(c, d, t, &s, err);
    if (st != FLUX1_OK) {
        t->fn->destroy(t);
        return st;
    }
    for (int i = 0; i < s->head.ranks; i++)
        TRY_CLEANUP(create_rank(s, i, err));
    TRY_CLEANUP(connect_all(s, err));
    TRY_CLEANUP(start_threads(s, err));
    *out = &s->head;
cleanup:
    if (st != FLUX1_OK)
        close_ranks(&s->head);
    return st;
}

static flux1_status reserve_arenas(mesh_session *base, const size_t *arena_bytes, flux1_error *err)
{
    rank_session *s = self(base);
    for (int i = 0; i < s->head.ranks; i++) {
        flux1_status st = ops_reserve(s->rank[i].m.o, arena_bytes[s->transport->first + i]);
        if (st != FLUX1_OK)
            return error_set(err, st, "%s", s->rank[i].error.message);
    }
    return FLUX1_OK;
}

static void budget_weights(mesh_session *base, const size_t *bytes)
{
    rank_session *s = self(base);
    for (int i = 0; s->device.kind->weights_budget && i < s->head.ranks; i++)
        s->device.kind->weights_budget(s->rank[i].m.o, bytes[s->transport->first + i]);
}

static flux1_status run_on_ranks(mesh_session *base, mesh_body *body, void *arg, flux1_error *err)
{
    rank_session *s = self(base);
    transport *t = s->transport;
    flux1_error own = {0};
    flux1_status st = s->connected ? FLUX1_OK : connect_all(s, &own);
    if (st != FLUX1_OK)
        return t->fn->agree(t, st, own.message, err);
    s->body = body;
    s->arg = arg;
    s->failed = NULL;
    on_all_ranks(s, run_body);
    st = s->failed ? t->fn->agree(t, s->failed->status, s->failed->error.message, err)
                   : t->fn->agree(t, FLUX1_OK, NULL, err);
    if (st == FLUX1_OK)
        return FLUX1_OK;
    on_all_ranks(s, unwind);
    disconnect(s); /* aborted communicators stay so: the next body gets new ones */
    return st;
}

const mesh_runner mesh_ranks_runner = {
    .name = "ranks",
    .serves = has_backend,
    .open = open_ranks,
    .reserve = reserve_arenas,
    .weights_budget = budget_weights,
    .run = run_on_ranks,
    .close = close_ranks,
};
