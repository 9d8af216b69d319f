/* Joining the processes, and leaving: MPI, then who is who, then the connections. */
#include "mesh/processes_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_SECONDS = 30, FINALIZE_SECONDS = 20, THREADS_MAX = 4096 };

/* The first that processes tell each other, before they know each other's versions: this layout never changes. */
typedef struct greeting {
    char host[64], version[64];
    int64_t pid;
    uint64_t memory;
    control_address address; /* the leader's */
    char more[192];          /* of a long version */
    int32_t cores, threads;
    uint8_t later[56];
} greeting;

static void end_engine(processes *p, bool finalize)
{
    pthread_mutex_lock(&p->lock);
    engine *e = p->engine;
    p->engine = NULL;
    pthread_mutex_unlock(&p->lock);
    engine_close(e, finalize, FINALIZE_SECONDS);
}

static void release(processes *p)
{
    for (order *o = p->orders; o;) {
        order *next = o->next;
        free(o);
        o = next;
    }
    for (int i = 0; p->votes && i < p->count; i++) {
        free(p->votes[i].message);
        free(p->votes[i].sent);
    }
    free(p->current);
    free(p->votes);
    free(p->expected);
    free(p->left);
    free(p->info);
    free(p->stage[0]);
    free(p->stage[1]);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static flux1_status create_processes(processes **out, flux1_error *err)
{
    processes *p = calloc(1, sizeof *p);
    if (!p || pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p);
        return error_oom(err, sizeof *p, "the processes");
    }
    if (pthread_cond_init(&p->changed, NULL) != 0) {
        pthread_mutex_destroy(&p->lock);
        free(p);
        return error_oom(err, sizeof *p, "the processes");
    }
    p->orders_end = &p->orders;
    p->first = -1;
    p->lost = -1;
    p->asked_who = -1;
    *out = p;
    return FLUX1_OK;
}

static flux1_status make_room(processes *p, flux1_error *err)
{
    size_t n = (size_t)p->count;
    p->info = calloc(n, sizeof *p->info);
    p->left = calloc(n, sizeof *p->left);
    p->expected = calloc(n, sizeof *p->expected);
    p->votes = calloc(n, sizeof *p->votes);
    p->stage[0] = malloc(PROCESSES_STAGE);
    p->stage[1] = malloc(PROCESSES_STAGE);
    bool ok = p->info && p->left && p->expected && p->votes && p->stage[0] && p->stage[1];
    for (size_t i = 0; ok && i < n; i++)
        ok = (p->votes[i].sent = calloc(n, sizeof *p->votes[i].sent)) != NULL;
    return ok ? FLUX1_OK : error_oom(err, 0, "the processes");
}

static greeting greeting_of(const process_info *mine)
{
    greeting g = {
        .pid = mine->pid, .memory = mine->memory, .cores = (int32_t)mine->cores, .threads = (int32_t)mine->threads};
    const size_t length = strnlen(mine->version, sizeof mine->version - 1),
                 head = length < sizeof g.version ? length : sizeof g.version - 1;
    snprintf(g.host, sizeof g.host, "%s", mine->host);
    memcpy(g.version, mine->version, head);
    memcpy(g.more, mine->version + head, length - head);
    return g;
}

static void take_greeting(greeting *g, process_info *to)
{
    g->host[sizeof g->host - 1] = g->version[sizeof g->version - 1] = g->more[sizeof g->more - 1] = '\0';
    *to = (process_info){.pid = (int)g->pid, .memory = g->memory, .cores = g->cores, .threads = g->threads};
    snprintf(to->host, sizeof to->host, "%s", g->host);
    snprintf(to->version, sizeof to->version, "%s%s", g->version, g->more);
}

/* Of the others nothing is believed that could not be. */
static void share_cores(process_info *p)
{
    if (p->threads < 1)
        p->threads = p->cores > p->on_host ? p->cores / p->on_host : 1;
    if (p->threads > THREADS_MAX)
        p->threads = THREADS_MAX;
}

static void take_greetings(processes *p, greeting *all)
{
    for (int i = 0; i < p->count; i++)
        take_greeting(&all[i], &p->info[i]);
    for (int i = 0; i < p->count; i++) {
        for (int j = 0; j < p->count; j++)
            p->info[i].on_host += strcmp(p->info[i].host, p->info[j].host) == 0;
        share_cores(&p->info[i]);
    }
}

/* On every process the same. */
static flux1_status compare_versions(const processes *p, flux1_error *err)
{
    char one[WHO_MAX], other[WHO_MAX];
    for (int i = 1; i < p->count; i++)
        if (strcmp(p->info[i].version, p->info[0].version) != 0) {
            processes_name(p, 0, one);
            processes_name(p, i, other);
            return error_set(err, FLUX1_ERR_COMM, "%s runs flux1 %s, but %s runs flux1 %s: all must run the same", one,
                             p->info[0].version, other, p->info[i].version);
        }
    return FLUX1_OK;
}

static flux1_status join(processes *p, const control_address *address, const control_events *events, flux1_error *err)
{
    char who[WHO_MAX];
    int missing;
    flux1_status st;
    if (p->index > 0) {
        processes_name(p, 0, who);
        st = control_connect(address, p->index, events, START_SECONDS, &p->control, err);
        return st == FLUX1_OK ? st : error_prefix(err, "%s does not answer", who);
    }
    st = control_wait(p->control, START_SECONDS, &missing, err);
    if (st == FLUX1_OK)
        return st;
    processes_name(p, missing, who);
    error_prefix(err, "%s does not answer", who);
    pthread_mutex_lock(&p->lock);
    processes_break_locked(p, err->message);
    pthread_mutex_unlock(&p->lock);
    return st;
}

static flux1_status introduce(processes *p, const process_info *mine, flux1_error *err)
{
    const control_events events = processes_events(p);
    greeting hello = greeting_of(mine), *all = calloc((size_t)p->count, sizeof *all);
    flux1_status st = FLUX1_OK;
    if (!all)
        return error_oom(err, 0, "the processes");
    if (p->index == 0 && p->count > 1)
        st = control_listen(p->count, &events, &hello.address, &p->control, err);
    flux1_status got = engine_gather(p->engine, &hello, all, sizeof hello, START_SECONDS, st == FLUX1_OK ? err : NULL);
    if (st == FLUX1_OK && (st = got) == FLUX1_OK) {
        pthread_mutex_lock(&p->lock); /* a process that joins at once may be lost at once, and named */
        take_greetings(p, all);
        pthread_mutex_unlock(&p->lock);
        st = compare_versions(p, err);
        p->alike = st != FLUX1_OK;
    }
    if (st == FLUX1_OK && p->count > 1)
        st = join(p, &all[0].address, &events, err);
    free(all);
    return st;
}

/* MPI starts once in a process, and not again when it has ended. */
static flux1_status start_once(flux1_error *err)
{
    static atomic_flag started = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&started))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_ARGUMENT,
                     "processes 1: this program has, or had, another context with processes, and MPI starts only once "
                     "in a program: use that one context for all requests");
}

flux1_status processes_open(const process_info *mine, processes **out, flux1_error *err)
{
    const wire_table *w;
    processes *p = NULL;
    TRY(wire_open(&w, err));
    TRY(create_processes(&p, err));
    flux1_status st;
    TRY_CLEANUP(start_once(err));
    TRY_CLEANUP(engine_open(w, START_SECONDS, processes_wire_failed, p, &p->engine, err));
    p->count = engine_count(p->engine);
    p->index = engine_index(p->engine);
    if (p->count == 1 && processes_launched())
        TRY_CLEANUP(error_set(err, FLUX1_ERR_UNSUPPORTED,
                              "the launcher has started several processes, but %s knows of one: start them with Open "
                              "MPI's mpirun, or srun --mpi=pmix",
                              w->library()));
    TRY_CLEANUP(make_room(p, err));
    TRY_CLEANUP(introduce(p, mine, err));
    *out = p;
cleanup:
    if (st != FLUX1_OK) {
        end_engine(p, p->alike || p->count == 1);
        control_close(p->control);
        release(p);
    }
    return st;
}

/* The leader waits until all followers have left, so that MPI ends at once everywhere. */
static bool say_goodbye(processes *p)
{
    pthread_mutex_lock(&p->lock);
    bool told = p->over; /* the follower: by the leader */
    p->over = true;
    if (p->count > 1 && !p->gone)
        control_send(p->control, p->index == 0 ? -1 : 0, FRAME_BYE, NULL, 0);
    for (int i = 1; p->index == 0 && i < p->count && !p->gone; i++)
        while (!p->left[i] && !p->gone)
            pthread_cond_wait(&p->changed, &p->lock);
    bool orderly = !p->gone && (p->index == 0 || told);
    pthread_mutex_unlock(&p->lock);
    return orderly;
}

void processes_close(processes *p)
{
    if (!p)
        return;
    bool orderly = say_goodbye(p);
    end_engine(p, orderly);
    control_close(p->control);
    release(p);
}
