#include "base/pool.h"

#include "base/signals.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* How it runs: pool_run opens a job; workers that see it in time enter, everybody takes indexes from one counter until
 * they are gone; then the caller closes the job and waits only for the workers that entered. One that wakes late finds
 * the job closed: a small job never waits for a thread to be scheduled. All of this is one atomic word, so that many
 * workers who come and go at the same moment do not queue for a lock; the lock is for those who sleep. Both waits look
 * at the word for some microseconds before they block, since the next job is often that near. */
#define SPIN_TURNS 1000 /* 20 to 50 µs on x86 */

/* The word: a job's number in the upper half, and how many workers are inside. */
enum { INSIDE = 0xffffff, OPEN = 1 << 24, CALLER_SLEEPS = 1 << 25, QUIT = 1 << 26 };
static inline uint32_t number_of(uint64_t state) { return (uint32_t)(state >> 32); }

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
    int sleepers; /* under the lock */
    /* of the open job: written while nobody is inside */
    pool_fn *fn;
    void *arg;
    int64_t count;
    char apart[64]; /* what everybody writes has cache lines to itself */
    _Atomic uint64_t state;
    char apart_too[64];
    _Atomic int64_t next;
    char and_too[64];
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

/* The state, once its job is another than `seen`. */
static uint64_t await_job(pool *p, uint32_t seen)
{
    uint64_t state = atomic_load_explicit(&p->state, memory_order_acquire);
    for (int turn = 0; turn < SPIN_TURNS && number_of(state) == seen; turn++) {
        relax();
        state = atomic_load_explicit(&p->state, memory_order_acquire);
    }
    if (number_of(state) != seen)
        return state;
    pthread_mutex_lock(&p->lock);
    while (number_of(state = atomic_load_explicit(&p->state, memory_order_acquire)) == seen) {
        p->sleepers++;
        pthread_cond_wait(&p->wake, &p->lock);
        p->sleepers--;
    }
    pthread_mutex_unlock(&p->lock);
    return state;
}

/* False: the job is closed by now. */
static bool enter(pool *p, uint32_t job)
{
    uint64_t state = atomic_load_explicit(&p->state, memory_order_acquire);
    while (number_of(state) == job && (state & OPEN))
        if (atomic_compare_exchange_weak_explicit(&p->state, &state, state + 1, memory_order_acquire,
                                                  memory_order_acquire))
            return true;
    return false;
}

static void leave(pool *p)
{
    const uint64_t before = atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
    if ((before & INSIDE) != 1 || !(before & CALLER_SLEEPS))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    pool *p = w->owner;
    for (uint32_t seen = 0;;) {
        const uint64_t state = await_job(p, seen);
        if (state & QUIT)
            return NULL;
        seen = number_of(state);
        if (enter(p, seen)) {
            take_indexes(p, p->fn, p->arg, p->count, w->number);
            leave(p);
        }
    }
}

int thread_start(pthread_t *out, void *(*body)(void *), void *arg)
{
    sigset_t before;
    signals_block(&before);
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
    atomic_init(&p->state, 0);
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

/* Another job: workers that sleep wake, as many as `wanted`. */
static void publish(pool *p, uint64_t flags, int64_t wanted)
{
    const uint64_t job = (uint64_t)(uint32_t)(number_of(atomic_load_explicit(&p->state, memory_order_relaxed)) + 1);
    atomic_store_explicit(&p->state, job << 32 | flags, memory_order_release);
    pthread_mutex_lock(&p->lock); /* who has not seen it either sleeps now, or looks again before it does */
    if (wanted >= p->sleepers)
        pthread_cond_broadcast(&p->wake);
    else
        for (int64_t i = 0; i < wanted; i++)
            pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void pool_destroy(pool *p)
{
    if (!p)
        return;
    publish(p, QUIT, p->started);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

int pool_threads(const pool *p) { return p->threads; }

static bool is_empty(pool *p) { return !(atomic_load_explicit(&p->state, memory_order_acquire) & INSIDE); }

/* Nobody enters any more, and all have left. */
static void await_empty(pool *p)
{
    atomic_fetch_and_explicit(&p->state, ~(uint64_t)OPEN, memory_order_relaxed);
    for (int turn = 0; turn < SPIN_TURNS; turn++) {
        if (is_empty(p))
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_or_explicit(&p->state, CALLER_SLEEPS, memory_order_relaxed);
    while (!is_empty(p))
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(pool *p, int64_t count, pool_fn *fn, void *arg)
{
    if (p->threads == 1 || count <= 1) {
        for (int64_t i = 0; i < count; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->count = count;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    publish(p, OPEN, count - 1);
    take_indexes(p, fn, arg, count, 0);
    await_empty(p);
}

void pool_await(const atomic_int *done, int wanted)
{
    for (int turn = 0; atomic_load_explicit(done, memory_order_acquire) < wanted;)
        if (turn < SPIN_TURNS)
            turn++, relax();
        else
            sched_yield(); /* the thread that it waits for may have no processor */
}
