#include "base/pool.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* How it runs: pool_run opens a job under the lock; workers that see it in time enter, everybody takes indexes from one
 * counter until they are gone; then the caller closes the job and waits only for the workers that entered. One that
 * wakes late finds the job closed: a small job never waits for a thread to be scheduled. Both waits look at an atomic
 * for a few microseconds before they block, since the next small job is often that near. */
#define SPIN_TURNS 100

typedef struct worker {
    pool *owner;
    pthread_t thread;
    int number;
} worker;

struct pool {
    int threads;
    int started; /* worker threads that exist: threads - 1 once created */
    worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    /* under the lock */
    bool open, quit, caller_waits;
    int sleepers;
    pool_fn *fn;
    void *arg;
    int64_t count;
    /* read while spinning */
    _Atomic unsigned generation;
    _Atomic int inside;
    char apart[64]; /* the counter everybody writes has a cache line to itself */
    _Atomic int64_t next;
    char apart_too[64];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_indexes(pool *p, pool_fn *fn, void *arg, int64_t count, int number)
{
    for (;;) {
        int64_t index = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (index >= count)
            return;
        fn(arg, index, number);
    }
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    pool *p = w->owner;
    unsigned seen = 0;
    for (;;) {
        for (int turn = 0; turn < SPIN_TURNS && atomic_load_explicit(&p->generation, memory_order_relaxed) == seen;
             turn++)
            relax();
        pthread_mutex_lock(&p->lock);
        while (!p->quit && atomic_load_explicit(&p->generation, memory_order_relaxed) == seen) {
            p->sleepers++;
            pthread_cond_wait(&p->wake, &p->lock);
            p->sleepers--;
        }
        seen = atomic_load_explicit(&p->generation, memory_order_relaxed);
        if (p->quit) {
            pthread_mutex_unlock(&p->lock);
            return NULL;
        }
        bool enter = p->open;
        pool_fn *fn = p->fn;
        void *arg = p->arg;
        int64_t count = p->count;
        if (enter)
            atomic_fetch_add_explicit(&p->inside, 1, memory_order_relaxed);
        pthread_mutex_unlock(&p->lock);
        if (!enter)
            continue;

        take_indexes(p, fn, arg, count, w->number);

        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_sub_explicit(&p->inside, 1, memory_order_release) == 1 && p->caller_waits)
            pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

int thread_start(pthread_t *out, void *(*body)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int fault = pthread_create(out, NULL, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return fault;
}

flux1_status pool_create(int threads, pool **out, flux1_error *err)
{
    *out = NULL;
    if (threads < 1)
        return error_set(err, FLUX1_ERR_ARGUMENT, "%d threads asked for, at least 1 is needed", threads);
    pool *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(err, sizeof *p, "the thread pool");
    p->threads = threads;
    atomic_init(&p->generation, 0);
    atomic_init(&p->inside, 0);
    atomic_init(&p->next, 0);
    if (threads > 1 && !(p->workers = calloc((size_t)threads - 1, sizeof *p->workers))) {
        free(p);
        return error_oom(err, ((size_t)threads - 1) * sizeof *p->workers, "the thread pool");
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 0; i < threads - 1; i++) {
        p->workers[i] = (worker){.owner = p, .number = i + 1};
        if (thread_start(&p->workers[i].thread, worker_main, &p->workers[i]) != 0) {
            pool_destroy(p);
            return error_set(err, FLUX1_ERR_MEMORY, "cannot start thread %d of %d; try fewer threads", i + 2, threads);
        }
        p->started++;
    }
    *out = p;
    return FLUX1_OK;
}

void pool_destroy(pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_relaxed);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

int pool_threads(const pool *p) { return p->threads; }

void pool_run(pool *p, int64_t count, pool_fn *fn, void *arg)
{
    if (p->threads == 1 || count <= 1) {
        for (int64_t i = 0; i < count; i++)
            fn(arg, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->arg = arg;
    p->count = count;
    p->open = true;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed); /* nobody is inside: the last job waited for that */
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_relaxed);
    int wanted = count - 1 < p->sleepers ? (int)(count - 1) : p->sleepers;
    if (wanted == p->sleepers && wanted > 1)
        pthread_cond_broadcast(&p->wake);
    else
        for (int i = 0; i < wanted; i++)
            pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);

    take_indexes(p, fn, arg, count, 0);

    pthread_mutex_lock(&p->lock);
    p->open = false; /* from here on nobody enters */
    pthread_mutex_unlock(&p->lock);
    for (int turn = 0; turn < SPIN_TURNS; turn++) {
        if (atomic_load_explicit(&p->inside, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    p->caller_waits = true;
    while (atomic_load_explicit(&p->inside, memory_order_acquire) != 0)
        pthread_cond_wait(&p->done, &p->lock);
    p->caller_waits = false;
    pthread_mutex_unlock(&p->lock);
}
