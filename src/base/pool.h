/* A thread pool: `threads` workers in all, including the caller. Waits for work and for its end block; nothing spins
 * for longer than some 50 µs but pool_await, which yields. One thread at a time calls pool_run. Work is a range of
 * indexes handed out one by one (an atomic counter). Each index writes its own outputs, so the split does not affect
 * results. */
#ifndef FLUX1_BASE_POOL_H
#define FLUX1_BASE_POOL_H

#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct pool pool;

/* fn(arg, index, worker): index in [0, count), worker in [0, threads). Must not call pool_run on the same pool. */
typedef void pool_fn(void *arg, int64_t index, int worker);

/* threads >= 1; 1 starts no thread. FLUX1_ERR_MEMORY when a thread cannot be started. */
flux1_status pool_create(int threads, pool **out, flux1_error *err);
void pool_destroy(pool *p); /* NULL is fine */
int pool_threads(const pool *p);

/* Runs all indexes and returns when the last is done. Never fails, allocates nothing. */
void pool_run(pool *p, int64_t count, pool_fn *fn, void *arg);

/* Waits until *done has reached `wanted`, by what tasks with lower indexes of the same run add to it (release). They
 * must not wait themselves: indexes are handed out in order, so each of them has begun and comes to its end. What they
 * wrote is then seen here. */
void pool_await(const atomic_int *done, int wanted);

/* pthread_create for threads that a program does not know of. Its signals belong to its own threads: this one takes
 * none (an interrupt must reach the thread that installed for it) but what it raises itself (signals.h). */
int thread_start(pthread_t *out, void *(*body)(void *), void *arg);

/* Physical cores this process may run on (affinity, cgroup quota and SMT siblings considered), at least 1. */
int cpu_physical_cores(void);
/* Processors that it may run on at once: as above, but siblings count. */
int cpu_available(void);

#endif
