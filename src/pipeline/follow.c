/* A process that follows: it carries out the leading process's orders on sessions and models of its own, which it finds
 * by the leader's numbers. */
#include "mesh/processes.h"
#include "pipeline/profiling.h"
#include "pipeline/tasks.h"
#include "pipeline/team.h"

#include <stdlib.h>
#include <string.h>

/* A session that the leader has taken, and what a batch has left there. */
typedef struct member {
    session *session;
    const flux1_model *model;
    task_jobs jobs;
    struct member *next;
} member;

/* A model that a session has been taken for. */
typedef struct known {
    uint64_t number; /* the leader's */
    flux1_model *model;
    struct known *next;
} known;

/* Adapters of the last orders to take a session: those are opened once. */
enum { ADAPTERS_KNOWN = 2 * ADAPTERS_MAX };
typedef struct known_adapter {
    uint64_t number; /* the leader's */
    struct flux1_adapter *adapter;
} known_adapter;

typedef struct follower {
    flux1_context *context;
    member *members;
    known *models;
    known_adapter adapters[ADAPTERS_KNOWN];
    unsigned next_adapter; /* which place is used next */
} follower;

/* ---- models ---- */

static bool is_used(const follower *f, const flux1_model *m)
{
    for (const session *s = f->context->sessions; s; s = s->next)
        if (s->model == m->source.number)
            return true;
    return false;
}

/* The leader may have closed a model for which no session is taken any more. */
static void close_unused(follower *f)
{
    for (known **at = &f->models, *k; (k = *at);) {
        if (is_used(f, k->model)) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        folder_close(k->model);
        free(k);
    }
}

static flux1_status open_model(follower *f, const take_order *t, const flux1_model **out)
{
    const model_source *source = &t->source;
    flux1_error *err = &f->context->error;
    known *k;
    for (k = f->models; k; k = k->next)
        if (k->number == source->number) {
            *out = k->model;
            return FLUX1_OK;
        }
    if (!(k = calloc(1, sizeof *k)))
        return error_oom(err, sizeof *k, "a model");
    flux1_status st = folder_open_source(source, t->content, &k->model, err);
    if (st != FLUX1_OK) {
        free(k);
        return st;
    }
    k->number = source->number;
    k->next = f->models;
    f->models = k;
    *out = k->model;
    return FLUX1_OK;
}

/* ---- adapters ---- */

/* One of another content would make another picture on the ranks of this process alone. */
static flux1_status open_same_adapter(follower *f, const flux1_model *m, const char *path, uint64_t content,
                                      struct flux1_adapter **out)
{
    flux1_error *err = &f->context->error;
    TRY(adapter_open_for(m, path, out, err));
    if (store_sample((*out)->file->store) == content)
        return FLUX1_OK;
    adapter_leave(*out);
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: this adapter is not the one that the leading process has under that name; copy it to all "
                     "hosts",
                     path);
}

static bool is_among(const adapter_set *set, const struct flux1_adapter *a)
{
    for (int i = 0; i < set->count; i++)
        if (set->adapter[i] == a)
            return true;
    return false;
}

/* The one whose turn it is, and which the set at hand has not. */
static known_adapter *next_place(follower *f, const adapter_set *set)
{
    known_adapter *place;
    do
        place = &f->adapters[f->next_adapter++ % ADAPTERS_KNOWN];
    while (is_among(set, place->adapter));
    return place;
}

/* As the next one of the set. */
static flux1_status open_adapter(follower *f, const flux1_model *m, uint64_t number, const char *path, uint64_t content,
                                 adapter_set *set)
{
    struct flux1_adapter **out = &set->adapter[set->count];
    for (int i = 0; i < ADAPTERS_KNOWN; i++)
        if (f->adapters[i].adapter && f->adapters[i].number == number &&
            f->adapters[i].adapter->model == m->source.number) {
            *out = f->adapters[i].adapter;
            return FLUX1_OK;
        }
    TRY(open_same_adapter(f, m, path, content, out));
    known_adapter *place = next_place(f, set);
    adapter_leave(place->adapter);
    *place = (known_adapter){number, *out};
    return FLUX1_OK;
}

static flux1_status open_adapters(follower *f, const flux1_model *m, const take_order *t, adapter_set *out)
{
    *out = (adapter_set){0};
    for (int i = 0; i < t->adapters; i++, out->count++) {
        out->scale[i] = t->adapter[i].scale;
        TRY(open_adapter(f, m, t->adapter[i].number, t->adapter[i].path, t->adapter[i].content, out));
    }
    return FLUX1_OK;
}

/* ---- orders ---- */

static flux1_status find_member(follower *f, uint64_t number, member **out)
{
    for (member *m = f->members; m; m = m->next)
        if (m->session->number == number) {
            *out = m;
            return FLUX1_OK;
        }
    return error_set(&f->context->error, FLUX1_ERR_COMM,
                     "an order from the leading process is for session %llu, which "
                     "does not exist",
                     (unsigned long long)number);
}

static flux1_status add_member(follower *f, session *s, member **out)
{
    for (member *m = f->members; m; m = m->next)
        if (m->session == s) {
            *out = m;
            return FLUX1_OK;
        }
    member *m = calloc(1, sizeof *m);
    if (!m)
        return error_oom(&f->context->error, sizeof *m, "a session");
    m->session = s;
    m->next = f->members;
    f->members = m;
    *out = m;
    return FLUX1_OK;
}

static flux1_status take_as_told(follower *f, uint64_t number, parcel *p, take_order *t)
{
    flux1_context *c = f->context;
    session *s = NULL;
    member *m = NULL;
    const flux1_model *model = NULL;
    adapter_set adapters;
    TRY(session_describe_take(p, t, &c->error));
    TRY(parcel_end(p, &c->error));
    if (t->text && !c->has_text_device)
        return error_set(&c->error, FLUX1_ERR_COMM, "the leading process has an encoder_device, this one has none");
    TRY(session_find(c, t->text ? &c->text_device : &c->device, number, &s));
    TRY(add_member(f, s, &m));
    TRY(open_model(f, t, &model));
    TRY(open_adapters(f, model, t, &adapters));
    session_use(c, s, model, &adapters);
    mesh_profile(s->mesh, c->profile);
    m->model = model;
    m->jobs = (task_jobs){.text.session = s, .dit.session = s, .vae.session = s};
    close_unused(f);
    return FLUX1_OK;
}

/* Its paths are too large for a small stack. */
static flux1_status take(follower *f, uint64_t number, parcel *p)
{
    take_order *t = calloc(1, sizeof *t);
    if (!t)
        return error_oom(&f->context->error, sizeof *t, "an order");
    flux1_status st = take_as_told(f, number, p, t);
    free(t);
    return st;
}

static flux1_status reserve(follower *f, uint64_t number, parcel *p)
{
    flux1_context *c = f->context;
    size_t *bytes = NULL, *weights = NULL;
    member *m = NULL;
    TRY(find_member(f, number, &m));
    TRY(session_describe_reserve(p, mesh_ranks(&c->mesh), &bytes, &weights, &c->error));
    TRY(parcel_end(p, &c->error));
    TRY(team_exchange(c, p));
    mesh_weights_budget(m->session->mesh, weights);
    return mesh_reserve(m->session->mesh, bytes, &c->error);
}

/* What a batch has left. */
static void drop_batch(follower *f, member *m)
{
    dit_job_close(&m->jobs.dit, mesh_ranks(&f->context->mesh));
    free(m->jobs.dit.rank);
    m->jobs.dit.rank = NULL;
}

/* Rank by rank, where a batch begins. */
static flux1_status prepare_batch(follower *f, member *m)
{
    int ranks = mesh_ranks(&f->context->mesh);
    drop_batch(f, m);
    m->jobs.dit.rank = calloc((size_t)ranks, sizeof *m->jobs.dit.rank);
    return m->jobs.dit.rank ? FLUX1_OK : error_oom(&f->context->error, 0, "the denoiser");
}

static flux1_status prepare_task(follower *f, uint64_t number, parcel *p, member **m, task *t, void **job)
{
    flux1_context *c = f->context;
    TRY(find_member(f, number, m));
    TRY(task_receive(p, (*m)->model, &(*m)->jobs, t, job, &c->error));
    if (*t == TASK_DIT_OPEN)
        TRY(prepare_batch(f, *m));
    else if (*job == &(*m)->jobs.dit && !(*m)->jobs.dit.rank)
        return error_set(&c->error, FLUX1_ERR_COMM, "the leading process orders a step where no batch is open");
    return team_exchange(c, p);
}

static flux1_status run(follower *f, uint64_t number, parcel *p)
{
    flux1_context *c = f->context;
    member *m = NULL;
    task t = 0;
    void *job = NULL;
    flux1_status st = prepare_task(f, number, p, &m, &t, &job);
    return st == FLUX1_OK ? task_run_here(m->session, t, job, &c->error) : team_give_up(c, st);
}

static flux1_status give(follower *f, uint64_t number, parcel *p)
{
    flux1_context *c = f->context;
    member *m = NULL;
    flux1_status st = find_member(f, number, &m);
    if (st == FLUX1_OK)
        st = parcel_end(p, &c->error);
    if (st != FLUX1_OK)
        return team_give_up(c, st);
    drop_batch(f, m);
    mesh_profile(m->session->mesh, NULL);
    return session_rest(m->session, &c->error);
}

/* Ends with the agreement. Its outcome is the leader's to report; it is told here only where a process is gone, which
 * the next order tells too. */
static void carry_out(follower *f, parcel *p)
{
    flux1_context *c = f->context;
    order kind = 0;
    uint64_t number = 0;
    flux1_status st = team_describe(p, &kind, &number, &c->error);
    if (st != FLUX1_OK)
        team_give_up(c, st);
    else if (kind == ORDER_RUN)
        run(f, number, p);
    else if (kind == ORDER_GIVE)
        give(f, number, p);
    else if (kind == ORDER_PROFILE)
        profiling_follow(c, p);
    else {
        st = kind == ORDER_TAKE ? take(f, number, p) : reserve(f, number, p);
        if (st == FLUX1_OK)
            team_agree(c, st);
        else
            team_give_up(c, st);
    }
}

/* The leader tells what has happened; if it is gone itself, one other does: not on its host, if there is one elsewhere,
 * since the host may be gone with it. */
static bool tells(const processes *p)
{
    const char *host = processes_info(p, 0)->host;
    int first = 1;
    while (first < processes_count(p) && strcmp(processes_info(p, first)->host, host) == 0)
        first++;
    return processes_index(p) == (first < processes_count(p) ? first : 1);
}

static flux1_status wait_for_order(flux1_context *c, const void **bytes, size_t *size)
{
    flux1_status st = processes_next(c->processes, bytes, size, &c->error);
    if (st != FLUX1_OK && (processes_lost(c->processes) != 0 || !tells(c->processes)))
        c->error.message[0] = '\0';
    return st;
}

static flux1_status follow(follower *f)
{
    flux1_context *c = f->context;
    for (;;) {
        parcel *p = c->order;
        const void *bytes;
        size_t size;
        TRY(context_begin(c)); /* a cancel is for the order at hand */
        TRY(wait_for_order(c, &bytes, &size));
        if (!bytes)
            return FLUX1_OK;
        if (parcel_open(p, bytes, size, &c->error) == FLUX1_OK)
            carry_out(f, p);
        else
            team_give_up(c, c->error.status);
        parcel_free(p);
    }
}

flux1_status flux1_context_follow(flux1_context *c)
{
    follower f = {.context = c};
    TRY(context_begin(c));
    TRY(context_computes(c));
    if (!c->processes || team_leads(c))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "this process does not follow another: it is %s",
                         c->processes ? "the first of the mesh, which leads" : "the only one of its mesh");
    flux1_status st = follow(&f);
    for (member *m = f.members, *next; m; m = next) {
        next = m->next;
        drop_batch(&f, m);
        free(m);
    }
    profiling_end(c);  /* of a call that the leader did not end */
    sessions_close(c); /* before the models that are built there */
    for (int i = 0; i < ADAPTERS_KNOWN; i++)
        adapter_leave(f.adapters[i].adapter);
    for (known *k = f.models, *next; k; k = next) {
        next = k->next;
        folder_close(k->model);
        free(k);
    }
    return st;
}
