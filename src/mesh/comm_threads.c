/* Ranks that are threads of one process. A rank publishes the address of what it sends; the others read it there. One
 * mutex and one condition serve a group: the exchanges are few and large, and waiting ranks must leave their cores to
 * the others. */
#include "mesh/comm.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    const void *send;
    unsigned long published,
        consumed; /* the number of the last shift this rank has begun, and of the last one that its receiver has read */
} slot;

struct comm_group {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int size;
    int waiting;        /* ranks at the barrier */
    unsigned long turn; /* barriers passed */
    bool aborted;
    slot rank[];
};

typedef struct thread_comm {
    comm head;
    comm_group *group;
    void *recv;
    size_t bytes;
    int distance;
    double first, last; /* when the last shift was copied */
    unsigned long
        round; /* shifts so far: the same on all ranks, which is what tells one shift's bytes from another's */
} thread_comm;

flux1_status comm_group_create(int size, flux1_error *err, comm_group **out)
{
    comm_group *g = calloc(1, sizeof *g + (size_t)size * sizeof g->rank[0]);
    if (!g)
        return error_oom(err, sizeof *g, "a communicator");
    g->size = size;
    if (pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return error_oom(err, 0, "a communicator's lock");
    }
    if (pthread_cond_init(&g->changed, NULL) != 0) {
        pthread_mutex_destroy(&g->lock);
        free(g);
        return error_oom(err, 0, "a communicator's condition");
    }
    *out = g;
    return FLUX1_OK;
}

void comm_group_destroy(comm_group *g)
{
    if (!g)
        return;
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static comm_group *group_of(comm *c) { return ((thread_comm *)c)->group; }

static void threads_abort(comm *c)
{
    comm_group *g = group_of(c);
    pthread_mutex_lock(&g->lock);
    g->aborted = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static flux1_status gone(comm *c)
{
    return error_set(c->err, FLUX1_ERR_COMM, "rank %d: another rank of the mesh has failed", c->rank);
}

/* Called with the lock held; returns with it held. */
static bool barrier_locked(comm_group *g)
{
    unsigned long turn = g->turn;
    if (++g->waiting == g->size) {
        g->waiting = 0;
        g->turn++;
        pthread_cond_broadcast(&g->changed);
    }
    while (g->turn == turn && !g->aborted)
        pthread_cond_wait(&g->changed, &g->lock);
    return !g->aborted;
}

static flux1_status publish_and_meet(comm *c, const void *send)
{
    comm_group *g = group_of(c);
    pthread_mutex_lock(&g->lock);
    g->rank[c->rank].send = send;
    bool ok = barrier_locked(g);
    pthread_mutex_unlock(&g->lock);
    return ok ? FLUX1_OK : gone(c);
}

static flux1_status meet(comm *c)
{
    comm_group *g = group_of(c);
    pthread_mutex_lock(&g->lock);
    bool ok = barrier_locked(g);
    pthread_mutex_unlock(&g->lock);
    return ok ? FLUX1_OK : gone(c);
}

static flux1_status threads_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    TRY(publish_and_meet(c, send));
    for (int r = 0; bytes && r < c->size; r++)
        memcpy((char *)recv + (size_t)r * bytes, group_of(c)->rank[r].send, bytes);
    return meet(c); /* nobody's send is reused before all have read it */
}

static flux1_status threads_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    TRY(publish_and_meet(c, send));
    for (int r = 0; r < c->size; r++) {
        const float *from = (const float *)group_of(c)->rank[r].send + (size_t)c->rank * count;
        for (size_t i = 0; i < count; i++)
            recv[i] = r ? recv[i] + from[i] : from[i];
    }
    return meet(c);
}

static flux1_status threads_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    thread_comm *t = (thread_comm *)c;
    t->recv = recv;
    t->bytes = bytes;
    t->distance = distance;
    comm_group *g = t->group;
    pthread_mutex_lock(&g->lock);
    g->rank[c->rank].send = send;
    t->round = ++g->rank[c->rank].published;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return FLUX1_OK;
}

static flux1_status threads_shift_end(comm *c)
{
    thread_comm *t = (thread_comm *)c;
    comm_group *g = t->group;
    slot *mine = &g->rank[c->rank], *from = &g->rank[((c->rank + t->distance) % c->size + c->size) % c->size];
    pthread_mutex_lock(&g->lock);
    while (from->published < t->round && !g->aborted) /* its shift of this round has not begun */
        pthread_cond_wait(&g->changed, &g->lock);
    bool ok = !g->aborted;
    const void *send = from->send;
    pthread_mutex_unlock(&g->lock);
    if (!ok)
        return gone(c);
    t->first = clock_seconds();
    if (t->bytes)
        memcpy(t->recv, send, t->bytes);
    t->last = clock_seconds();
    pthread_mutex_lock(&g->lock);
    from->consumed = t->round;
    pthread_cond_broadcast(&g->changed);
    while (mine->consumed < t->round && !g->aborted) /* my own send is still being read */
        pthread_cond_wait(&g->changed, &g->lock);
    ok = !g->aborted;
    pthread_mutex_unlock(&g->lock);
    return ok ? FLUX1_OK : gone(c);
}

static void threads_shift_moved(comm *c, double *first, double *last)
{
    *first = ((thread_comm *)c)->first;
    *last = ((thread_comm *)c)->last;
}

static void threads_destroy(comm *c) { free(c); }

static const comm_table threads_table = {"threads",           threads_all_gather, threads_reduce_scatter,
                                         threads_shift_begin, threads_shift_end,  threads_abort,
                                         threads_destroy,     threads_shift_moved};

flux1_status comm_threads_create(comm_group *g, int rank, flux1_error *err, comm **out)
{
    thread_comm *c = calloc(1, sizeof *c);
    if (!c)
        return error_oom(err, sizeof *c, "a communicator");
    c->head = (comm){.fn = &threads_table, .size = g->size, .rank = rank, .err = err};
    c->group = g;
    *out = &c->head;
    return FLUX1_OK;
}
