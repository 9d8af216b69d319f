/* Mesh shapes, and the ranks that run on them. */
#include "mesh/mesh.h"

#include "base/checked.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Two positive integers around `separator`, and nothing else. */
static bool parse_pair(const char *text, char separator, long *a, long *b)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *a = strtol(text, &end, 10);
    if (*end != separator || end[1] < '0' || end[1] > '9')
        return false;
    *b = strtol(end + 1, &end, 10);
    return *end == '\0';
}

static flux1_status parse_factor(const char *name, const char *text, const mesh_config *c, int *factor, int *axis,
                                 flux1_error *err)
{
    long f, a;
    if (!text || !*text)
        return FLUX1_OK;
    if (!parse_pair(text, '@', &f, &a) || a > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "--%s %s: it should be FACTOR@AXIS with axis 0 or 1, such as 2@0",
                         name, text);
    if (f != 1 && f != c->shape[a])
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "--%s %s: axis %ld of mesh %dx%d has %d devices, so the factor should be %d or 1", name, text,
                         a, c->shape[0], c->shape[1], c->shape[a], c->shape[a]);
    *factor = (int)f;
    *axis = (int)a;
    return FLUX1_OK;
}

flux1_status mesh_parse(const char *shape, const char *sp, const char *tp, mesh_config *out, flux1_error *err)
{
    mesh_config c = {.shape = {1, 1}};
    long rows, cols;
    if (shape && *shape) {
        if (!parse_pair(shape, 'x', &rows, &cols) || rows < 1 || cols < 1)
            return error_set(err, FLUX1_ERR_ARGUMENT, "--mesh %s: it should be ROWSxCOLUMNS, such as 2x4", shape);
        if (rows > MESH_RANKS_MAX || cols > MESH_RANKS_MAX || rows * cols > MESH_RANKS_MAX)
            return error_set(err, FLUX1_ERR_LIMIT, "--mesh %s: at most %d devices", shape, MESH_RANKS_MAX);
        c.shape[0] = (int)rows;
        c.shape[1] = (int)cols;
    }
    c.sp_axis = 0;
    c.tp_axis = 1;
    c.sp = c.tp = 0;
    TRY(parse_factor("sp", sp, &c, &c.sp, &c.sp_axis, err));
    TRY(parse_factor("tp", tp, &c, &c.tp, &c.tp_axis, err));
    bool sp_given = c.sp > 0, tp_given = c.tp > 0;
    if (!tp_given && sp_given)
        c.tp_axis = 1 - c.sp_axis;
    if (!sp_given && tp_given)
        c.sp_axis = 1 - c.tp_axis;
    c.sp = sp_given ? c.sp : c.shape[c.sp_axis];
    c.tp = tp_given ? c.tp : c.shape[c.tp_axis];
    if (c.sp_axis == c.tp_axis && c.sp > 1 && c.tp > 1)
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "--sp and --tp both take axis %d of the mesh; give them different axes", c.sp_axis);
    *out = c;
    return FLUX1_OK;
}

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
    comm *all[] = {m->sp_comm, m->tp_comm, m->all};
    for (int i = 0; i < 3; i++)
        if (all[i])
            all[i]->fn->destroy(all[i]);
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
    TRY_CLEANUP(comm_dry_create(m.sp, m.sp_rank, &exchanged, err, &m.sp_comm));
    TRY_CLEANUP(comm_dry_create(m.tp, m.tp_rank, &exchanged, err, &m.tp_comm));
    TRY_CLEANUP(comm_dry_create(m.ranks, m.rank, &exchanged, err, &m.all));
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
    flux1_status status;
    flux1_error error;
} rank_state;

struct mesh_session {
    mesh_config config;
    mesh_device device;
    meetings meetings;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned long turn; /* bodies handed out */
    int running;        /* ranks other than 0 that have not finished this turn */
    bool stop, failed;
    mesh_body *body;
    void *arg;
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

static flux1_status create_rank(mesh_session *s, int rank, size_t arena_bytes, flux1_error *err)
{
    rank_state *r = &s->rank[rank];
    const meetings *g = &s->meetings;
    mesh *m = &r->m;
    r->session = s;
    m->err = err;
    set_place(m, &s->config, rank);
    ops_config config = s->device.config;
    config.err = &r->error;
    config.threads = (int)i64_max(1, config.threads / m->ranks);
    config.device = s->device.own ? s->device.own[rank] : s->device.device;
    flux1_status st = s->device.kind->create(&config, &m->o);
    if (st == FLUX1_OK)
        st = ops_reserve(m->o, arena_bytes);
    if (st == FLUX1_OK)
        st = join(g, &g->of_sp[m->tp_rank], m->sp, m->sp_rank, m, &r->error, &m->sp_comm);
    if (st == FLUX1_OK)
        st = join(g, &g->of_tp[m->sp_rank], m->tp, m->tp_rank, m, &r->error, &m->tp_comm);
    if (st == FLUX1_OK)
        st = join(g, &g->all, m->ranks, m->rank, m, &r->error, &m->all);
    if (st != FLUX1_OK)
        return error_set(err, st, "%s", r->error.message);
    m->err = &r->error;
    return FLUX1_OK;
}

static void abort_all(mesh_session *s)
{
    for (int i = 0; i < s->ranks; i++) {
        comm *all[] = {s->rank[i].m.sp_comm, s->rank[i].m.tp_comm, s->rank[i].m.all};
        for (int k = 0; k < 3; k++)
            all[k]->fn->abort(all[k]);
    }
}

static void run_body(mesh_session *s, rank_state *r)
{
    error_clear(&r->error);
    r->status = s->body(s->arg, &r->m);
    if (r->status != FLUX1_OK)
        abort_all(s);
}

/* Ranks other than 0: wait for a body, run it, say so. */
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
        run_body(s, r);
        pthread_mutex_lock(&s->lock);
        s->running--;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
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

flux1_status mesh_open(const mesh_config *c, const mesh_device *d, const size_t *arena_bytes, mesh_session **out,
                       flux1_error *err)
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
    flux1_status st = meetings_create(c, d->own && d->kind->link_possible && d->kind->link_possible() ? d->kind : NULL,
                                      &s->meetings, err);
    for (int i = 0; st == FLUX1_OK && i < ranks; i++)
        st = create_rank(s, i, arena_bytes[i], err);
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
    for (int i = 0; i < s->ranks; i++) {
        if (s->rank[i].started)
            pthread_join(s->rank[i].thread, NULL);
        destroy_comms(&s->rank[i].m);
        if (s->rank[i].m.o)
            ops_destroy(s->rank[i].m.o);
    }
    meetings_destroy(&s->meetings);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* The failure worth telling: a rank that only lost its peers says less than the one that failed. */
static flux1_status first_failure(const mesh_session *s, flux1_error *err)
{
    const rank_state *worst = NULL;
    for (int i = 0; i < s->ranks; i++) {
        const rank_state *r = &s->rank[i];
        if (r->status != FLUX1_OK && (!worst || (worst->status == FLUX1_ERR_COMM && r->status != FLUX1_ERR_COMM)))
            worst = r;
    }
    return worst ? error_set(err, worst->status, "%s", worst->error.message) : FLUX1_OK;
}

flux1_status mesh_run(mesh_session *s, mesh_body *body, void *arg, flux1_error *err)
{
    if (s->failed)
        return error_set(err, FLUX1_ERR_COMM, "the mesh has failed before; start again");
    pthread_mutex_lock(&s->lock);
    s->body = body;
    s->arg = arg;
    s->running = s->ranks - 1;
    s->turn++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    run_body(s, &s->rank[0]);
    pthread_mutex_lock(&s->lock);
    while (s->running > 0)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    flux1_status st = first_failure(s, err);
    s->failed = st != FLUX1_OK && s->ranks > 1;
    return st;
}
