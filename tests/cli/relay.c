/* What mpirun says is passed on whole, also where a signal comes while nobody reads. */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/relay.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 4096 };

static pthread_t relaying;
static int output[2]; /* of standard error */

static void ignore(int number) { (void)number; }

static void sleep_for(long milliseconds) { nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL); }

/* A pager: it is interrupted while the other waits for room, and reads only then. */
static void *read_later(void *arg)
{
    static char got[2 * ROOM];
    size_t count = 0;
    ssize_t n;
    sleep_for(50);
    pthread_kill(relaying, SIGUSR1);
    sleep_for(50);
    while ((n = read(output[0], got + count, sizeof got - count)) > 0)
        count += (size_t)n;
    *(bool *)arg = count == ROOM + 6 && memcmp(got + ROOM, "hello\n", 6) == 0;
    return NULL;
}

static void a_signal_loses_nothing(void **state)
{
    (void)state;
    const struct sigaction action = {.sa_handler = ignore};
    char full[ROOM] = {0};
    int input[2];
    bool whole = false;
    pthread_t reader;
    relaying = pthread_self();
    assert_int_equal(sigaction(SIGUSR1, &action, NULL) | pipe(input) | pipe(output), 0);
    assert_int_equal(fcntl(output[1], F_SETPIPE_SZ, ROOM), ROOM);
    assert_int_equal(write(output[1], full, sizeof full), ROOM);
    assert_int_equal(write(input[1], "hello\n", 6), 6);
    const int before = dup(STDERR_FILENO);
    assert_int_equal(dup2(output[1], STDERR_FILENO), STDERR_FILENO);
    close(output[1]);
    const int failed = pthread_create(&reader, NULL, read_later, &whole);
    relay r = {.from = input[0]};
    if (!failed)
        relay_pass(&r, 1000);
    dup2(before, STDERR_FILENO); /* closes the pipe */
    assert_int_equal(failed, 0);
    pthread_join(reader, NULL);
    assert_true(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_signal_loses_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
