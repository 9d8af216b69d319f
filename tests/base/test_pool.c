#include "base/pool.h"
#include "base/signals.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

typedef struct counts {
    _Atomic int *times; /* how often each index ran */
    _Atomic int wrong_worker;
    int threads;
} counts;

static void count_one(void *arg, int64_t index, int worker)
{
    counts *c = arg;
    if (worker < 0 || worker >= c->threads)
        atomic_fetch_add(&c->wrong_worker, 1);
    atomic_fetch_add(&c->times[index], 1);
}

static void every_index_runs_exactly_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 9; threads += 2) {
        pool *p;
        assert_int_equal(pool_create(threads, &p, NULL), FLUX1_OK);
        assert_int_equal(pool_threads(p), threads);
        static const int64_t sizes[] = {0, 1, 2, 3, 7, 64, 10007};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            counts c = {.times = calloc((size_t)sizes[s] + 1, sizeof *c.times), .threads = threads};
            assert_non_null(c.times);
            pool_run(p, sizes[s], count_one, &c);
            for (int64_t i = 0; i < sizes[s]; i++)
                assert_int_equal(c.times[i], 1);
            assert_int_equal(c.times[sizes[s]], 0);
            assert_int_equal(c.wrong_worker, 0);
            free(c.times);
        }
        pool_destroy(p);
    }
}

typedef struct chain {
    int64_t *value;
    int64_t round;
} chain;

static void add_round(void *arg, int64_t index, int worker)
{
    (void)worker;
    chain *c = arg;
    c->value[index] += c->round * (index + 1); /* plain memory: a run must see all of the one before */
}

static void many_tiny_runs_see_each_other(void **state)
{
    (void)state;
    enum { RUNS = 20000, WIDTH = 5 };
    for (int threads = 2; threads <= 4; threads++) {
        pool *p;
        int64_t value[WIDTH] = {0};
        chain c = {.value = value};
        assert_int_equal(pool_create(threads, &p, NULL), FLUX1_OK);
        for (c.round = 1; c.round <= RUNS; c.round++)
            pool_run(p, 1 + c.round % WIDTH, add_round, &c);
        pool_destroy(p);
        for (int64_t i = 0; i < WIDTH; i++) {
            int64_t expected = 0;
            for (int64_t round = 1; round <= RUNS; round++)
                expected += i < 1 + round % WIDTH ? round * (i + 1) : 0;
            assert_int_equal(value[i], expected);
        }
    }
}

typedef struct job {
    _Atomic int over, late;
    int64_t count;
} job;

static void note_if_late(void *arg, int64_t index, int worker)
{
    (void)worker;
    job *j = arg;
    for (volatile int i = 0; i < 200; i++)
        ;
    if (atomic_load(&j->over) || index >= j->count)
        atomic_fetch_add(&j->late, 1);
}

/* More threads than cores: some wake when their job is long over, and the next one is open. */
static void a_late_worker_never_runs_an_old_job(void **state)
{
    (void)state;
    enum { JOBS = 20000 };
    pool *p;
    job *jobs = calloc(JOBS, sizeof *jobs);
    assert_non_null(jobs);
    assert_int_equal(pool_create(6, &p, NULL), FLUX1_OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].count = 2 + i % 50;
        pool_run(p, jobs[i].count, note_if_late, &jobs[i]);
        atomic_store(&jobs[i].over, 1);
    }
    pool_destroy(p);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(jobs[i].late, 0);
    free(jobs);
}

typedef struct stages {
    atomic_int made;
    int wanted;
    int64_t value[64];
    atomic_int early;
} stages;

/* The first `wanted` indexes write, slowly; the others read what all of them have written. */
static void write_then_read(void *arg, int64_t index, int worker)
{
    stages *s = arg;
    (void)worker;
    if (index < s->wanted) {
        for (volatile int i = 0; i < 2000; i++)
            ;
        s->value[index] = index + 1;
        atomic_fetch_add_explicit(&s->made, 1, memory_order_release);
        return;
    }
    pool_await(&s->made, s->wanted);
    for (int i = 0; i < s->wanted; i++)
        if (s->value[i] != i + 1)
            atomic_fetch_add(&s->early, 1);
}

/* Also with more threads than processors, and with more indexes to wait for than threads. */
static void a_task_waits_for_lower_indexes(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    for (int threads = 1; threads <= 7; threads += 3) {
        pool *p;
        assert_int_equal(pool_create(threads, &p, NULL), FLUX1_OK);
        for (int i = 0; i < RUNS; i++) {
            stages s = {.wanted = i % 64};
            pool_run(p, s.wanted + i % 11, write_then_read, &s);
            assert_int_equal(s.early, 0);
        }
        pool_destroy(p);
    }
}

typedef struct uneven {
    _Atomic int64_t sum;
} uneven;

static void work_unevenly(void *arg, int64_t index, int worker)
{
    (void)worker;
    uneven *u = arg;
    struct timespec pause = {0, index % 16 == 0 ? 300000 : 0}; /* long enough that the others block */
    if (pause.tv_nsec)
        nanosleep(&pause, NULL);
    atomic_fetch_add(&u->sum, index);
}

static void caller_waits_for_slow_workers(void **state)
{
    (void)state;
    pool *p;
    assert_int_equal(pool_create(3, &p, NULL), FLUX1_OK);
    for (int run = 0; run < 200; run++) {
        uneven u = {0};
        pool_run(p, 33, work_unevenly, &u);
        assert_int_equal(u.sum, 33 * 32 / 2);
    }
    pool_destroy(p);
}

static void run_inner_pool(void *arg, int64_t index, int worker)
{
    (void)index;
    pool **inner = arg;
    counts c = {.times = calloc(100, sizeof *c.times), .threads = 2};
    pool_run(inner[worker], 100, count_one, &c);
    for (int i = 0; i < 100; i++)
        assert_int_equal(c.times[i], 1);
    free(c.times);
}

/* A mesh's ranks are threads with a pool each. */
static void a_pool_may_run_inside_another(void **state)
{
    (void)state;
    pool *outer, *inner[3];
    assert_int_equal(pool_create(3, &outer, NULL), FLUX1_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pool_create(2, &inner[i], NULL), FLUX1_OK);
    pool_run(outer, 50, run_inner_pool, inner);
    for (int i = 0; i < 3; i++)
        pool_destroy(inner[i]);
    pool_destroy(outer);
}

static void pools_come_and_go(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) { /* destroyed before, while and after its threads come up */
        pool *p;
        counts c = {.times = calloc(4, sizeof *c.times), .threads = 4};
        assert_int_equal(pool_create(4, &p, NULL), FLUX1_OK);
        if (i % 2)
            pool_run(p, 4, count_one, &c);
        pool_destroy(p);
        free(c.times);
    }
    pool_destroy(NULL);
    pool *none;
    flux1_error err = {0};
    assert_int_equal(pool_create(0, &none, &err), FLUX1_ERR_ARGUMENT);
    assert_null(none);
}

static void *tell_mask(void *mask)
{
    pthread_sigmask(SIG_BLOCK, NULL, mask);
    return NULL;
}

static void check_mask(const sigset_t *mask)
{
    static const int own[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV}, others[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGCHLD};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (sigismember(mask, own[i]))
            fail_msg("signal %d, which a thread raises itself, is blocked", own[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!sigismember(mask, others[i]))
            fail_msg("signal %d is not blocked", others[i]);
}

static void threads_take_only_the_signals_that_they_raise(void **state)
{
    (void)state;
    pthread_t thread;
    sigset_t before, inside, after, blocked;
    tell_mask(&before);
    assert_int_equal(thread_start(&thread, tell_mask, &inside), 0);
    pthread_join(thread, NULL);
    tell_mask(&after);
    check_mask(&inside);
    for (int number = 1; number < 32; number++)
        assert_int_equal(sigismember(&after, number), sigismember(&before, number));
    signals_block(&after);
    tell_mask(&blocked);
    pthread_sigmask(SIG_SETMASK, &after, NULL);
    check_mask(&blocked);
}

static void this_machine_has_a_core(void **state)
{
    (void)state;
    assert_in_range(cpu_physical_cores(), 1, 65536);
    assert_in_range(cpu_available(), cpu_physical_cores(), 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_runs_exactly_once),
        cmocka_unit_test(many_tiny_runs_see_each_other),
        cmocka_unit_test(a_late_worker_never_runs_an_old_job),
        cmocka_unit_test(a_task_waits_for_lower_indexes),
        cmocka_unit_test(caller_waits_for_slow_workers),
        cmocka_unit_test(a_pool_may_run_inside_another),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(threads_take_only_the_signals_that_they_raise),
        cmocka_unit_test(this_machine_has_a_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
