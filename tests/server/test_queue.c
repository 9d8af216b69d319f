/* The queue of jobs: who is told of what, and when. */
#include "server/jobs.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

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
        queue_close(&q);
    }
}

static void assert_state(char *text, const char *state, bool has_ended)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"state\": \"%s\"", state);
    assert_non_null(text);
    assert_non_null(strstr(text, wanted));
    assert_int_equal(!strstr(text, "\"finished\": null"), has_ended);
    assert_int_equal(!strstr(text, "\"error\": null"), has_ended);
    free(text);
}

static char *stored(const server *s)
{
    char *text = NULL;
    assert_int_equal(history_get(s->history, "a", &text, NULL), FLUX1_OK);
    return text;
}

/* Who asks between queue_end and queue_forget, by GET (jobs_text) or by the list (job_text), reads what the job was
 * before, and does not wait for the disk; the history gets the end. */
static void an_end_that_is_not_stored_is_not_printed(void **state)
{
    (void)state;
    for (int started = 0; started < 2; started++) {
        const char *before = started ? "running" : "queued";
        server s = {0};
        fault f = {0};
        job j = {.references = 1, .id = "a", .request = {.count = 1}, .together = 1, .created = 1, .started = started};
        assert_int_equal(queue_open(&s.queue, 1, NULL), FLUX1_OK);
        assert_int_equal(history_open(NULL, 1 << 20, &s.history, NULL), FLUX1_OK);
        assert_true(queue_submit(&s.queue, &j, &f));
        j.state = started ? JOB_RUNNING : JOB_QUEUED;
        fault_set(&j.error, FAULT_SERVER, NULL, "why");
        queue_lock(&s.queue);
        queue_end(&s.queue, &j, JOB_FAILED);
        queue_unlock(&s.queue);
        assert_state(job_text(&j, 0), before, false);
        assert_state(jobs_text(&s, "a", &f), before, false);
        assert_int_equal(jobs_store(&s, &j, NULL), FLUX1_OK);
        assert_state(stored(&s), "failed", true);
        assert_state(jobs_text(&s, "a", &f), before, false);
        queue_forget(&s.queue, &j);
        assert_state(job_text(&j, 0), "failed", true); /* who still has a reference: a stream of events */
        assert_state(jobs_text(&s, "a", &f), "failed", true);
        history_close(s.history);
        queue_close(&s.queue);
    }
}

static history *ending; /* the job in it ends when the list has been read; NULL: no job does */

static int end_job(unsigned kind, void *user, void *statement, void *nanoseconds)
{
    history *h = ending;
    (void)kind, (void)user, (void)nanoseconds;
    if (!h || strncmp(sqlite3_sql(statement), "SELECT id, job, ended", 21) != 0)
        return 0;
    ending = NULL;
    assert_int_equal(history_put(h, "b", "{\"state\": \"done\"}", true, 0, NULL), FLUX1_OK);
    return 0;
}

static int watch_statements(sqlite3 *db, const char **message, const struct sqlite3_api_routines *api)
{
    (void)message, (void)api;
    return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, end_job, NULL);
}

/* It is in the queue no more when the list looks there, and was running when the list was read. */
static void a_job_that_ends_while_the_list_is_read_is_told_as_ended(void **state)
{
    (void)state;
    server s = {0};
    fault f = {0};
    assert_int_equal(sqlite3_auto_extension((void (*)(void))watch_statements), SQLITE_OK);
    assert_int_equal(queue_open(&s.queue, 1, NULL), FLUX1_OK);
    assert_int_equal(history_open(NULL, 1 << 20, &s.history, NULL), FLUX1_OK);
    assert_int_equal(history_put(s.history, "a", "{\"state\": \"queued\"}", false, 0, NULL), FLUX1_OK);
    assert_int_equal(history_put(s.history, "b", "{\"state\": \"running\"}", false, 0, NULL), FLUX1_OK);
    ending = s.history;
    char *text = jobs_list_text(&s, 10, NULL, &f);
    assert_null(ending);
    assert_string_equal(text, "{\"jobs\": [{\"state\": \"done\"}, {\"state\": \"queued\"}], \"more\": false}");
    free(text);
    sqlite3_reset_auto_extension();
    history_close(s.history);
    queue_close(&s.queue);
}

/* The first of the batch goes on alone; the others wait for it, and one of them has been cancelled. */
static void a_skip_concerns_the_picture_that_is_being_made(void **state)
{
    (void)state;
    queue q;
    job drawn = {.state = JOB_RUNNING, .drawn = true, .made = 2, .passed = 1}, behind = {.state = JOB_RUNNING},
        cancelled = {.state = JOB_RUNNING, .drawn = true, .cancelled = true};
    job *const all[] = {&drawn, &behind, &cancelled};
    assert_int_equal(queue_open(&q, 1, NULL), FLUX1_OK);
    for (int i = 0; i < 3; i++) {
        assert_non_null(all[i]->token = flux1_cancel_token_create());
        all[i]->next = q.running;
        q.running = all[i];
    }
    queue_lock(&q);
    drawn.drawn = false; /* between two calls */
    queue_skip(&q);
    assert_false(q.skipped);
    drawn.drawn = true;
    queue_skip(&q);
    queue_skip(&q); /* before the first one has had its effect */
    queue_unlock(&q);
    assert_true(q.skipped);
    assert_int_equal(drawn.skip, 4);
    assert_int_equal(behind.skip, 0);
    assert_int_equal(cancelled.skip, 0);
    for (int i = 0; i < 3; i++)
        flux1_cancel_token_destroy(all[i]->token);
    queue_close(&q);
}

/* Nothing of its progress is left, the seconds are those that it ran, and it is counted. */
static void an_ended_job_has_no_progress(void **state)
{
    (void)state;
    for (int started = 0; started < 2; started++) {
        queue q;
        fault f = {0};
        job_picture picture = {.name = "a-1.png"};
        job j = {.references = 1,
                 .id = "a",
                 .request = {.count = 1},
                 .together = 1,
                 .stage = "denoising",
                 .fraction = 0.5,
                 .seconds = 1,
                 .seconds_left = 3,
                 .pictures = &picture,
                 .made = started},
            *taken[TOGETHER_MAX];
        const job_state end = started ? JOB_DONE : JOB_CANCELLED;
        assert_int_equal(queue_open(&q, 1, NULL), FLUX1_OK);
        assert_true(queue_submit(&q, &j, &f));
        if (started) {
            assert_int_equal(queue_take(&q, 1, taken), 1);
            assert_true(taken[0] == &j && j.state == JOB_RUNNING && q.waiting == 0 && j.references == 3);
            j.references--; /* the worker's */
            j.started -= 1000;
        }
        queue_lock(&q);
        queue_end(&q, &j, end);
        queue_unlock(&q);
        assert_true(!j.stage && j.seconds_left < 0 && j.fraction == (started ? 1 : 0.5));
        assert_true(started ? j.seconds >= 1000 && j.seconds < 1100 : j.seconds == 0);
        assert_true(q.waiting == 0 && !q.first && q.last == &q.first && !q.running);
        assert_true(q.ended[end] == 1 && q.ended[JOB_FAILED] == 0);
        queue_forget(&q, &j);
        assert_int_equal(j.stored, j.made); /* told from memory, if the history could not be written */
        assert_true(!q.closing && j.references == 1);
        queue_close(&q);
    }
}

/* Each is told of the change of its own job, once; all who are left when the server ends are told that it is over. */
static void waiters_are_woken_by_their_own_job(void **state)
{
    (void)state;
    queue q;
    job a = {.id = "a"}, b = {.id = "b"};
    waiter w[4];
    assert_int_equal(queue_open(&q, 1, NULL), FLUX1_OK);
    queue_lock(&q);
    for (int i = 0; i < 4; i++) {
        w[i] = (waiter){.job = i % 2 ? &b : &a, .wake = count, .socket = -1};
        queue_wait(&q, &w[i]);
    }
    woken = 0;
    queue_changed(&q, &a);
    assert_true(woken == 2 && !w[0].waits && w[1].waits && !w[2].waits && w[3].waits && a.version == 1);
    queue_changed(&q, &a);
    assert_true(woken == 2 && a.version == 2 && b.version == 0);
    queue_wait(&q, &w[0]);
    queue_leave(&q, &w[3]);
    queue_leave(&q, &w[3]);
    queue_dismiss(&q);
    assert_true(woken == 4 && w[0].gone && w[1].gone && !w[2].gone && !w[3].gone && !q.waiters);
    queue_unlock(&q);
    queue_close(&q);
}

static void expect_position(queue *q, const job *j, int position)
{
    queue_lock(q);
    assert_int_equal(queue_position(q, j), position);
    queue_unlock(q);
}

static bool cancel(queue *q, job *j)
{
    queue_lock(q);
    const bool waited = queue_cancel(q, j);
    queue_unlock(q);
    return waited;
}

/* The caller has a reference of its own then. */
static bool is_found(queue *q, const char *id, job *j)
{
    const int before = j->references;
    const bool found = queue_find(q, id) == j;
    assert_int_equal(j->references, before + found);
    j->references = before;
    return found;
}

static void expect_taken(queue *q, job *j)
{
    job *taken[TOGETHER_MAX];
    q->interrupted = q->skipped = true;
    assert_int_equal(queue_take(q, 1, taken), 1);
    assert_ptr_equal(taken[0], j);
    assert_true(j->state == JOB_RUNNING && j->started > 0 && !q->interrupted && !q->skipped);
}

static void end_and_forget(queue *q, job *j)
{
    queue_lock(q);
    queue_end(q, j, JOB_DONE);
    queue_unlock(q);
    queue_forget(q, j);
}

/* Of six jobs, three of which may wait: in the order in which they came, each with its place, which clients hear of
 * when it changes; none is lost when one leaves from the middle or the end. */
static void jobs_wait_their_turn(void **state)
{
    (void)state;
    enum { A, B, C, D, E, F, JOBS };
    queue q;
    fault f = {0};
    job j[JOBS], *none[TOGETHER_MAX];
    assert_int_equal(queue_open(&q, 3, NULL), FLUX1_OK);
    for (int i = A; i < JOBS; i++) {
        j[i] = (job){.references = 1, .request = {.count = 1}, .together = 1, .token = flux1_cancel_token_create()};
        j[i].id[0] = (char)('a' + i);
        assert_true(i > C || queue_submit(&q, &j[i], &f));
    }
    assert_false(queue_submit(&q, &j[D], &f) || queue_has_room(&q, &f));
    assert_true(f.kind == FAULT_BUSY && strstr(f.message, "3 jobs are waiting") && q.waiting == 3);
    assert_true(j[D].references == 1 && !is_found(&q, "d", &j[D]));
    expect_position(&q, &j[A], 0), expect_position(&q, &j[C], 2);
    expect_taken(&q, &j[A]);
    assert_true(j[A].version == 1 && j[B].version == 1 && j[C].version == 1);
    expect_position(&q, &j[A], 0), expect_position(&q, &j[B], 1), expect_position(&q, &j[C], 2);
    assert_true(queue_has_room(&q, &f) && queue_submit(&q, &j[D], &f));
    expect_position(&q, &j[D], 3);
    assert_true(cancel(&q, &j[C]) && j[C].cancelled && j[C].state == JOB_CANCELLED && q.waiting == 2);
    assert_true(j[B].version == 2 && j[D].version == 1 && !cancel(&q, &j[C]) && q.ended[JOB_CANCELLED] == 1);
    assert_true(queue_submit(&q, &j[E], &f));
    expect_position(&q, &j[D], 2), expect_position(&q, &j[E], 3);
    assert_true(cancel(&q, &j[E]) && queue_submit(&q, &j[F], &f));
    expect_position(&q, &j[D], 2), expect_position(&q, &j[F], 3);
    assert_true(!cancel(&q, &j[A]) && j[A].cancelled && j[A].state == JOB_RUNNING); /* its worker ends it */
    assert_true(is_found(&q, "a", &j[A]) && is_found(&q, "b", &j[B]) && is_found(&q, "d", &j[D]));
    assert_true(is_found(&q, "c", &j[C]) && is_found(&q, "e", &j[E])); /* both are being stored */
    queue_forget(&q, &j[C]), queue_forget(&q, &j[E]);
    assert_false(q.closing || is_found(&q, "c", &j[C]));
    assert_int_equal(queue_running(&q), 1);
    end_and_forget(&q, &j[A]);
    assert_true(queue_running(&q) == 0 && !j[B].cancelled);
    expect_taken(&q, &j[B]), expect_taken(&q, &j[D]), expect_taken(&q, &j[F]);
    assert_true(q.waiting == 0 && queue_running(&q) == 3 && q.running == &j[B]);
    end_and_forget(&q, &j[D]), end_and_forget(&q, &j[B]), end_and_forget(&q, &j[F]);
    q.stopping = true;
    assert_false(queue_submit(&q, &j[C], &f));
    assert_int_equal(f.kind, FAULT_UNAVAILABLE);
    assert_int_equal(queue_take(&q, 1, none), 0);
    for (int i = A; i < JOBS; i++)
        flux1_cancel_token_destroy(j[i].token);
    queue_close(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(jobs_wait_their_turn),
                                       cmocka_unit_test(nobody_is_told_of_an_end_that_is_not_stored),
                                       cmocka_unit_test(an_end_that_is_not_stored_is_not_printed),
                                       cmocka_unit_test(a_job_that_ends_while_the_list_is_read_is_told_as_ended),
                                       cmocka_unit_test(an_ended_job_has_no_progress),
                                       cmocka_unit_test(waiters_are_woken_by_their_own_job),
                                       cmocka_unit_test(a_skip_concerns_the_picture_that_is_being_made)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
