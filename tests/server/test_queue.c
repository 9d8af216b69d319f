/* The queue of jobs: who is told of what, and when. */
#include "server/queue.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int woken;

static void count(waiter *w)
{
    (void)w;
    woken++;
}

/* Between queue_end and queue_forget the job's end is being stored: a server that is killed there lists it as
 * interrupted. */
static void nobody_is_told_of_an_end_that_is_not_stored(void **state)
{
    (void)state;
    static const job_state ends[] = {JOB_DONE, JOB_FAILED, JOB_CANCELLED, JOB_INTERRUPTED};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        queue q;
        fault f = {0};
        flux1_error err;
        job j = {.references = 1, .id = "a", .request = {.count = 1}, .together = 1}; /* the test's: it is not freed */
        waiter w = {.job = &j, .wake = count, .socket = -1};
        assert_int_equal(queue_open(&q, 1, &err), FLUX1_OK);
        assert_true(queue_submit(&q, &j, &f));
        woken = 0;
        queue_lock(&q);
        queue_wait(&q, &w);
        queue_end(&q, &j, ends[i]);
        queue_unlock(&q);
        assert_int_equal(woken, 0);
        assert_false(j.kept);
        queue_forget(&q, &j);
        assert_int_equal(woken, 1);
        assert_true(j.kept);
        assert_int_equal(j.references, 1);
        queue_wait_closed(&q, &j);
        queue_close(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_is_told_of_an_end_that_is_not_stored)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
