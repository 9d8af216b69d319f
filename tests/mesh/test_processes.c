/* Several processes under mpirun: orders, agreements, broadcasts, failures. Each process runs all of it; those that
 * follow print only what fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mesh/span.h"
#include "support/processes_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static processes *all;
static atomic_int unwanted; /* as processes_cancels sets it */

static void ok(flux1_status st, const flux1_error *err)
{
    if (st != FLUX1_OK)
        fail_msg("process %d: %s", processes_index(all), err->message);
}

static unsigned char pattern(size_t i, unsigned seed) { return (unsigned char)((i * 2654435761u >> 7) + seed); }

static void orders_arrive_as_they_were_given(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 7, 5000, 1 << 20};
    unsigned char *bytes = malloc(1 << 20);
    flux1_error err = {0};
    for (size_t s = 0; s < 5; s++) { /* all of them before the first is carried out */
        for (size_t i = 0; i < sizes[s]; i++)
            bytes[i] = pattern(i, (unsigned)s);
        if (processes_index(all) == 0)
            ok(processes_order(all, bytes, sizes[s], &err), &err);
    }
    for (size_t s = 0; s < 5 && processes_index(all) > 0; s++) {
        const void *got;
        size_t size;
        ok(processes_next(all, &got, &size, &err), &err);
        assert_non_null(got);
        assert_int_equal(size, sizes[s]);
        for (size_t i = 0; i < size; i++)
            if (((const unsigned char *)got)[i] != pattern(i, (unsigned)s))
                fail_msg("order %d differs at byte %d", (int)s, (int)i);
    }
    if (processes_index(all) == 0)
        assert_int_equal(processes_order(all, bytes, (1 << 20) + 1, &err), FLUX1_ERR_LIMIT);
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
    free(bytes);
}

static void broadcast_of(size_t size, unsigned seed)
{
    flux1_error err = {0};
    unsigned char *bytes = malloc(size + 1);
    for (size_t i = 0; i <= size; i++)
        bytes[i] = processes_index(all) == 0 ? pattern(i, seed) : 0xee;
    bytes[size] = 0xdd;
    ok(processes_broadcast(all, bytes, size, &err), &err);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern(i, seed))
            fail_msg("byte %zu of %zu differs", i, size);
    assert_int_equal(bytes[size], 0xdd);
    free(bytes);
}

static void a_broadcast_brings_the_leaders_bytes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4097, 1 << 20, (10 << 20) + 3};
    flux1_error err = {0};
    processes_begin(all);
    for (size_t i = 0; i < 5; i++)
        broadcast_of(sizes[i], (unsigned)i);
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
}

/* Each follower's turn; what the leader has is the sender's alone, and nothing beyond. */
static void a_follower_brings_its_bytes_to_the_leader(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4097, 1 << 20, (5 << 20) + 3};
    flux1_error err = {0};
    processes_begin(all);
    for (int from = 1; from < processes_count(all); from++)
        for (size_t s = 0; s < 5; s++) {
            const bool mine = processes_index(all) == from;
            unsigned char *bytes = malloc(sizes[s] + 1);
            for (size_t i = 0; i <= sizes[s]; i++)
                bytes[i] = mine ? pattern(i, (unsigned)from + (unsigned)s) : 0xee;
            if (mine || processes_index(all) == 0)
                ok(processes_bring(all, from, bytes, sizes[s], &err), &err);
            for (size_t i = 0; i < sizes[s] && processes_index(all) == 0; i++)
                if (bytes[i] != pattern(i, (unsigned)from + (unsigned)s))
                    fail_msg("byte %zu of %zu from %d differs", i, sizes[s], from);
            if (!mine)
                assert_int_equal(bytes[sizes[s]], 0xee);
            free(bytes);
        }
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
}

/* ---- clocks: those of the followers are behind by 1000 s each, by the linker's --wrap ---- */

double __real_clock_seconds(void);
double __wrap_clock_seconds(void);

double __wrap_clock_seconds(void) { return __real_clock_seconds() - (all ? 1000 * processes_index(all) : 0); }

static void clocks_of_other_hosts_are_known(void **state)
{
    (void)state;
    flux1_error err = {0};
    for (int i = 0; processes_index(all) == 0 && i < processes_count(all); i++) {
        double offset = -1;
        ok(processes_clock(all, i, &offset, &err), &err);
        if (i == 0)
            assert_true(offset == 0);
        if (fabs(offset - 1000 * i) > 0.01)
            fail_msg("process %d's clock is taken to be off by %g s", i, offset);
    }
    processes_begin(all);
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
}

static void expect_failure(flux1_status got, const flux1_error *err, int by, flux1_status status, const char *message)
{
    char want[512];
    const process_info *info = processes_info(all, by);
    if (by == processes_index(all))
        snprintf(want, sizeof want, "%s", message);
    else
        snprintf(want, sizeof want, "process %d on host %s (pid %d): %s", by, info->host, info->pid, message);
    if (got != status || strcmp(err->message, want) != 0)
        fail_msg("process %d: status %d, \"%s\", not \"%s\"", processes_index(all), (int)got, err->message, want);
}

/* One process fails, and the others wait for data of its order. */
static void fails_in(int by)
{
    flux1_error err = {0};
    char byte = 'x';
    atomic_store(&unwanted, 0);
    processes_begin(all);
    flux1_status st = FLUX1_OK;
    if (processes_index(all) == by) {
        st = error_set(&err, FLUX1_ERR_IO, "the disk of %d is full", by);
    } else {
        exchange x = {0};
        engine_receive(processes_engine(all), &x, by, processes_tag(all, SPAN_ALL, by, 0), &byte, 1);
        st = engine_wait(processes_engine(all), &x, &err);
        assert_int_equal(st, FLUX1_ERR_COMM);
        processes_abort(all);
    }
    char message[128], own[FLUX1_MESSAGE_MAX];
    snprintf(message, sizeof message, "the disk of %d is full", by);
    snprintf(own, sizeof own, "%s", err.message);
    expect_failure(processes_agree(all, st, own, &err), &err, by, FLUX1_ERR_IO, message);
    assert_int_equal(atomic_load(&unwanted), processes_index(all) != by);
    /* the order is over: nothing more happens in it */
    expect_failure(processes_agree(all, FLUX1_OK, NULL, &err), &err, by, FLUX1_ERR_IO, message);
    if (processes_count(all) > 1)
        assert_int_equal(processes_broadcast(all, &byte, 1, &err), FLUX1_ERR_COMM);
}

static void a_failure_ends_the_order_everywhere_and_the_next_one_works(void **state)
{
    (void)state;
    flux1_error err = {0};
    for (int round = 0; round < 3; round++)
        for (int by = 0; by < processes_count(all); by++) {
            fails_in(by);
            processes_begin(all);
            broadcast_of(3000, (unsigned)by);
            ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
        }
}

/* What a follower has set back before it takes the order counts again then. */
static void an_order_that_has_failed_before_it_is_taken_is_cancelled(void **state)
{
    (void)state;
    flux1_error err = {0};
    flux1_status st = FLUX1_ERR_CANCELLED;
    atomic_store(&unwanted, 0);
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err); /* nobody is behind */
    if (processes_index(all) == 0) {
        processes_begin(all);
        processes_abort(all);
    } else {
        while (!atomic_load(&unwanted)) /* the order and its end are there */
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        atomic_store(&unwanted, 0);
        processes_begin(all);
        assert_int_equal(atomic_load(&unwanted), 1);
        st = FLUX1_ERR_COMM;
    }
    expect_failure(processes_agree(all, st, "cancelled", &err), &err, 0, FLUX1_ERR_CANCELLED, "cancelled");
    assert_int_equal(atomic_load(&unwanted), processes_index(all) > 0);
}

/* Agrees that the order has failed, on a stack that lies where the frames of earlier calls were. */
static __attribute__((noinline)) void agree_on_a_stack_that_is_used(void)
{
    enum { WORDS = 4096 };
    volatile int stack[WORDS];
    flux1_error err = {0};
    for (int i = 0; i < WORDS; i++)
        stack[i] = i + 1;
    assert_int_equal(processes_agree(all, FLUX1_ERR_CANCELLED, "cancelled", &err), FLUX1_ERR_CANCELLED);
    for (int i = 0; i < WORDS; i++)
        if (stack[i] != i + 1)
            fail_msg("process %d: word %d of the stack became %d", processes_index(all), i, stack[i]);
}

/* What it had begun to send arrives while the order is cleared away, when nobody waits for it any more. */
static void a_broadcast_that_fails_writes_nothing_later(void **state)
{
    (void)state;
    enum { SIZE = 4 << 20 };
    flux1_error err = {0};
    char *bytes = calloc(1, SIZE);
    for (int round = 0; round < 3 && processes_count(all) > 1; round++) {
        processes_begin(all);
        if (processes_index(all) == 0)
            assert_int_equal(processes_broadcast(all, bytes, SIZE, &err), FLUX1_ERR_COMM);
        else
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* two pieces are under way */
        if (processes_index(all) == processes_count(all) - 1)
            processes_abort(all);
        agree_on_a_stack_that_is_used();
    }
    free(bytes);
}

enum { BIG = 3 << 20, SMALL = 100 };

/* Everybody sends to everybody, large and small; of what is sent, `by` receives nothing, the others the small ones
 * only. What is left must not reach the next order, which uses the same memory and the same tags. */
static void leaves_messages_behind(int by, char *out, char *in)
{
    const int n = processes_count(all), me = processes_index(all);
    exchange x = {0};
    flux1_error err = {0};
    processes_begin(all);
    for (int p = 0; p < n; p++) {
        if (p == me)
            continue;
        engine_send(processes_engine(all), &x, p, processes_tag(all, SPAN_SP, me, p), out, BIG);
        engine_send(processes_engine(all), &x, p, processes_tag(all, SPAN_ALL, me, p), out, SMALL);
        if (me != by) {
            engine_receive(processes_engine(all), &x, p, processes_tag(all, SPAN_ALL, p, me), in + p * BIG, SMALL);
            engine_receive(processes_engine(all), &x, p, processes_tag(all, SPAN_TP, p, me), in + p * BIG, BIG);
        }
    }
    if (me == by) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        assert_int_equal(processes_agree(all, FLUX1_ERR_CANCELLED, "cancelled", &err), FLUX1_ERR_CANCELLED);
        return;
    }
    assert_int_equal(engine_wait(processes_engine(all), &x, &err), FLUX1_ERR_COMM);
    char own[FLUX1_MESSAGE_MAX];
    snprintf(own, sizeof own, "%s", err.message);
    assert_int_equal(processes_agree(all, FLUX1_ERR_COMM, own, &err), FLUX1_ERR_CANCELLED);
}

static void exchange_all(char *out, char *in, char value)
{
    const int n = processes_count(all), me = processes_index(all);
    exchange x = {0};
    flux1_error err = {0};
    processes_begin(all);
    memset(out, value + me, BIG);
    memset(in, 0, (size_t)n * BIG);
    for (int p = 0; p < n; p++) {
        if (p == me)
            continue;
        for (span_kind k = SPAN_SP; k <= SPAN_ALL; k++)
            engine_receive(processes_engine(all), &x, p, processes_tag(all, k, p, me), in + p * BIG + (int)k * SMALL,
                           SMALL);
        for (span_kind k = SPAN_SP; k <= SPAN_ALL; k++)
            engine_send(processes_engine(all), &x, p, processes_tag(all, k, me, p), out, SMALL);
    }
    ok(engine_wait(processes_engine(all), &x, &err), &err);
    for (int p = 0; p < n; p++)
        for (int i = 0; p != me && i < BIG; i++)
            if (in[p * BIG + i] != (i < 3 * SMALL ? value + p : 0))
                fail_msg("process %d has something else from %d at %d", me, p, i);
    ok(processes_agree(all, FLUX1_OK, NULL, &err), &err);
}

static void nothing_of_a_failed_order_is_left(void **state)
{
    (void)state;
    char *out = calloc(1, BIG), *in = calloc((size_t)processes_count(all), BIG);
    for (int by = 0; by < processes_count(all); by++) {
        leaves_messages_behind(by, out, in);
        exchange_all(out, in, (char)(10 * by + 1));
        exchange_all(out, in, (char)(10 * by + 5));
    }
    free(out);
    free(in);
}

static void ranks_are_spread_evenly(void **state)
{
    (void)state;
    const int n = processes_count(all);
    for (int ranks = 1; ranks < 20; ranks++) {
        int next = 0, first, count;
        for (int p = 0; p < n; p++, next += count) {
            processes_ranks(all, p, ranks, &first, &count);
            assert_int_equal(first, next);
            assert_true(count == ranks / n || count == ranks / n + 1);
        }
        assert_int_equal(next, ranks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_spread_evenly),
        cmocka_unit_test(orders_arrive_as_they_were_given),
        cmocka_unit_test(a_broadcast_brings_the_leaders_bytes),
        cmocka_unit_test(a_follower_brings_its_bytes_to_the_leader),
        cmocka_unit_test(clocks_of_other_hosts_are_known),
        cmocka_unit_test(a_failure_ends_the_order_everywhere_and_the_next_one_works),
        cmocka_unit_test(an_order_that_has_failed_before_it_is_taken_is_cancelled),
        cmocka_unit_test(a_broadcast_that_fails_writes_nothing_later),
        cmocka_unit_test(nothing_of_a_failed_order_is_left),
    };
    all = processes_start("1");
    processes_cancels(all, &unwanted);
    processes_exit(all, cmocka_run_group_tests(tests, NULL, NULL));
}
