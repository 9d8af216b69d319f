/* The history where the disk has no room (how a job has ended is told all the same, and written later), where it is
 * slow (who reads does not wait for who writes, nor the other way round), and where memory lacks. */
#include "server/history.h"
#include "support/failing.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "0123456789abcdef"
#define OTHER "fedcba9876543210"

typedef struct fixture {
    char folder[64];
    history *h;
    struct rlimit before;
} fixture;

/* No file may grow: to a writer this is a full disk. */
static void fill_disk(fixture *x)
{
    const struct rlimit full = {0, x->before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
}

static void free_disk(fixture *x) { assert_int_equal(setrlimit(RLIMIT_FSIZE, &x->before), 0); }

static void reopen(fixture *x)
{
    flux1_error err = {0};
    history_close(x->h);
    assert_int_equal(history_open(x->folder, 1 << 20, &x->h, &err), FLUX1_OK);
}

static int set_up(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    /* in memory where there is such a folder: a history is written through to the disk */
    snprintf(x->folder, sizeof x->folder, "%s/flux1-history-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(x->folder));
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &x->before), 0);
    reopen(x);
    assert_int_equal(history_put(x->h, ID, "{\"state\": \"running\"}", false, 0, NULL), FLUX1_OK);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "lock"};
    fixture *x = *state;
    char path[128];
    free_disk(x);
    history_close(x->h);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", x->folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/pictures", x->folder);
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof path, "%s/thumbnails", x->folder);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(x->folder), 0);
    free(x);
    return 0;
}

static void assert_told(fixture *x, const char *id, const char *words)
{
    char *text = NULL;
    assert_int_equal(history_get(x->h, id, &text, NULL), FLUX1_OK);
    assert_non_null(text);
    if (!strstr(text, words))
        fail_msg("told: %s", text);
    free(text);
}

static bool noted_end;
static bool note(void *user, const char *id, const char *text, bool ended)
{
    if (strcmp(id, ID) == 0) {
        snprintf(user, 64, "%s", text);
        noted_end = ended;
    }
    return true;
}

static void end_on_full_disk(fixture *x)
{
    flux1_error err = {0};
    fill_disk(x);
    assert_int_equal(history_put(x->h, ID, "{\"state\": \"failed\"}", true, 0, &err), FLUX1_ERR_IO);
    assert_int_equal(err.number, EFBIG);
}

static void an_ended_job_is_told_though_the_disk_is_full(void **state)
{
    fixture *x = *state;
    char listed[64] = "";
    bool more;
    end_on_full_disk(x);
    assert_told(x, ID, "failed");
    assert_int_equal(history_list(x->h, 10, SIZE_MAX, NULL, note, listed, &more, NULL), FLUX1_OK);
    assert_true(noted_end && !more);
    assert_string_equal(listed, "{\"state\": \"failed\"}");
}

/* With the next job that can be written, or at the end. */
static void it_is_written_when_there_is_room(void **state)
{
    fixture *x = *state;
    end_on_full_disk(x);
    free_disk(x);
    assert_int_equal(history_put(x->h, OTHER, "{\"state\": \"done\"}", true, 0, NULL), FLUX1_OK);
    fill_disk(x); /* the end has nothing left to write */
    history_close(x->h);
    x->h = NULL;
    free_disk(x);
    reopen(x);
    assert_told(x, ID, "failed");
}

static void or_at_the_end(void **state)
{
    fixture *x = *state;
    end_on_full_disk(x);
    free_disk(x);
    reopen(x);
    assert_told(x, ID, "failed");
}

static void what_never_was_written_is_interrupted(void **state)
{
    fixture *x = *state;
    end_on_full_disk(x);
    history_close(x->h);
    x->h = NULL;
    free_disk(x);
    reopen(x);
    assert_told(x, ID, "interrupted");
}

static void it_can_be_forgotten(void **state)
{
    fixture *x = *state;
    char *text;
    bool found = false;
    end_on_full_disk(x);
    free_disk(x);
    assert_int_equal(history_remove(x->h, ID, &found, NULL), FLUX1_OK);
    assert_true(found);
    reopen(x);
    assert_int_equal(history_get(x->h, ID, &text, NULL), FLUX1_OK);
    assert_null(text);
}

static void *put_other(void *x)
{
    flux1_error err = {0};
    const flux1_status st = history_put(((fixture *)x)->h, OTHER, "{\"state\": \"queued\"}", false, 0, &err);
    return st == FLUX1_OK ? NULL : x;
}

/* Another connection holds the database, and a put waits for it: as long as nobody lets go, which is done only after
 * the reads (a put gives up after 2 s, and fails). False: it has failed. */
static bool reads_while_a_put_waits(fixture *x, char listed[64])
{
    const struct timespec moment = {.tv_nsec = 100000000}; /* for the put to begin */
    sqlite3 *holder = NULL;
    pthread_t thread;
    void *failed = x;
    char path[128];
    bool more;
    snprintf(path, sizeof path, "%s/jobs.sqlite", x->folder);
    assert_int_equal(sqlite3_open(path, &holder), SQLITE_OK);
    assert_int_equal(sqlite3_exec(holder, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(pthread_create(&thread, NULL, put_other, x), 0);
    nanosleep(&moment, NULL);
    assert_told(x, ID, "running");
    assert_int_equal(history_list(x->h, 10, SIZE_MAX, NULL, note, listed, &more, NULL), FLUX1_OK);
    assert_int_equal(sqlite3_exec(holder, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(pthread_join(thread, &failed), 0);
    sqlite3_close(holder);
    return !failed;
}

static void reads_do_not_wait_for_a_write(void **state)
{
    fixture *x = *state;
    char listed[64] = "";
    int tries = 5; /* a busy machine may stop us for 2 s */
    while (!reads_while_a_put_waits(x, listed))
        assert_true(--tries > 0);
    assert_string_equal(listed, "{\"state\": \"running\"}");
    assert_told(x, OTHER, "queued");
}

/* A whole page of the longest texts would be hundreds of megabytes. */
static bool count_visit(void *user, const char *id, const char *text, bool ended)
{
    (void)id, (void)text, (void)ended;
    ++*(int *)user;
    return true;
}

static void a_list_reads_no_more_than_is_wanted(void **state)
{
    fixture *x = *state;
    static const struct {
        int limit;
        size_t most;
        int seen;
        bool more;
    } cases[] = {{1, SIZE_MAX, 1, true}, {2, SIZE_MAX, 2, false}, {3, SIZE_MAX, 2, false}, {2, 1, 1, true},
                 {2, 17, 1, true},       {2, 18, 2, false},       {1, 100, 1, true}};
    assert_int_equal(history_put(x->h, OTHER, "{\"state\": \"done\"}", true, 0, NULL), FLUX1_OK); /* 17 bytes */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int seen = 0;
        bool more;
        assert_int_equal(history_list(x->h, cases[i].limit, cases[i].most, NULL, count_visit, &seen, &more, NULL),
                         FLUX1_OK);
        assert_int_equal(seen, cases[i].seen);
        assert_int_equal(more, cases[i].more);
    }
}

/* ---- a list that is being read ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t news;
    bool holds, reads, released;
} held = {.mutex = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};

static void tell_held(bool *what)
{
    pthread_mutex_lock(&held.mutex);
    *what = true;
    pthread_cond_broadcast(&held.news);
    pthread_mutex_unlock(&held.mutex);
}

static void wait_held(const bool *what)
{
    pthread_mutex_lock(&held.mutex);
    while (!*what)
        pthread_cond_wait(&held.news, &held.mutex);
    pthread_mutex_unlock(&held.mutex);
}

/* SQLite calls it when a statement begins: the list's stays there until it is released. */
static int hold_list(unsigned kind, void *user, void *statement, void *sql)
{
    (void)kind, (void)user, (void)statement;
    if (!held.holds || strncmp(sql, "SELECT id, job, ended", 21) != 0)
        return 0;
    tell_held(&held.reads);
    wait_held(&held.released);
    return 0;
}

static int watch_statements(sqlite3 *db, const char **message, const struct sqlite3_api_routines *api)
{
    (void)message, (void)api;
    return sqlite3_trace_v2(db, SQLITE_TRACE_STMT, hold_list, NULL);
}

static void *list_all(void *x)
{
    char listed[64] = "";
    bool more;
    return history_list(((fixture *)x)->h, 10, SIZE_MAX, NULL, note, listed, &more, NULL) == FLUX1_OK ? NULL : x;
}

/* A write and a removal come to their end while the list has not come to its own. */
static void a_removal_does_not_wait_for_a_list(void **state)
{
    fixture *x = *state;
    pthread_t thread;
    void *failed = x;
    bool found = false;
    assert_int_equal(sqlite3_auto_extension((void (*)(void))watch_statements), SQLITE_OK);
    reopen(x);
    assert_int_equal(history_put(x->h, OTHER, "{\"state\": \"done\"}", true, 0, NULL), FLUX1_OK);
    held.holds = true;
    assert_int_equal(pthread_create(&thread, NULL, list_all, x), 0);
    wait_held(&held.reads);
    alarm(20); /* instead of hanging for ever */
    assert_int_equal(history_remove(x->h, OTHER, &found, NULL), FLUX1_OK);
    alarm(0);
    assert_true(found);
    tell_held(&held.released);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    held.holds = false;
    sqlite3_reset_auto_extension();
}

/* ---- opening and closing ---- */

static const char *path_in(const fixture *x, const char *name)
{
    static char path[192];
    snprintf(path, sizeof path, "%s/%s", x->folder, name);
    return path;
}

/* A statement's number, on a connection of its own; -1: it has none. */
static int64_t number_of(const fixture *x, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_open(path_in(x, "jobs.sqlite"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    const int code = sqlite3_step(q);
    const int64_t number = code == SQLITE_ROW ? sqlite3_column_int64(q, 0) : -1;
    sqlite3_finalize(q);
    sqlite3_close(db);
    assert_true(code == SQLITE_ROW || code == SQLITE_DONE);
    return number;
}

/* The pictures of a job that was running are still there, and count. */
static void an_interrupted_job_keeps_its_pictures_bytes(void **state)
{
    fixture *x = *state;
    char *text;
    assert_int_equal(
        history_put(x->h, ID,
                    "{\"state\": \"running\", \"position\": 3, \"stage\": \"denoising\", \"seconds_left\": 4, "
                    "\"seed\": \"7\", \"finished\": null, \"error\": null}",
                    false, 500, NULL),
        FLUX1_OK);
    assert_int_equal(history_put(x->h, OTHER, "no JSON", false, 0, NULL), FLUX1_OK);
    reopen(x);
    assert_told(
        x, ID,
        "{\"state\": \"interrupted\", \"position\": 0, \"stage\": null, \"seconds_left\": null, \"seed\": \"7\", "
        "\"finished\": ");
    assert_told(x, ID, ", \"error\": {\"message\": \"the server ended while this job was queued or running\"");
    assert_int_equal(number_of(x, "SELECT json_extract(job, '$.finished') > 1e9 FROM jobs WHERE id='" ID "'"), 1);
    assert_int_equal(number_of(x, "SELECT bytes - LENGTH(CAST(job AS BLOB)) FROM jobs WHERE id='" ID "' AND ended=1"),
                     500);
    assert_int_equal(history_get(x->h, OTHER, &text, NULL), FLUX1_OK); /* is of no use to anybody */
    assert_null(text);
}

static void put_file(const fixture *x, const char *name)
{
    FILE *f = fopen(path_in(x, name), "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
}

/* Half-written files, pictures that no job names, pictures that were to be read; files of other names are not ours. */
static void what_a_killed_server_left_is_removed_and_nothing_else(void **state)
{
    fixture *x = *state;
    static const char *const ours[] = {"pictures/" ID "-2.png",   "pictures/" OTHER "-1.png", "pictures/flux1-x.tmp",
                                       "thumbnails/" ID "-2.png", "0123456789abcde0",         "flux1-y.tmp"},
                             *const others[] = {"pictures/" ID "-1.png",
                                                "thumbnails/" ID "-1.png",
                                                "pictures/holiday.png",
                                                "pictures/x.tmp",
                                                "flux1-notes",
                                                "0123456789abcde",
                                                "0123456789abcde01",
                                                "0123456789abcdef.old",
                                                "notes"};
    assert_int_equal(history_put(x->h, ID, "{\"pictures\": [{\"url\": \"/api/files/" ID "-1.png\"}]}", true, 0, NULL),
                     FLUX1_OK);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        put_file(x, ours[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        put_file(x, others[i]);
    reopen(x);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (access(path_in(x, ours[i]), F_OK) == 0)
            fail_msg("%s is left", ours[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (unlink(path_in(x, others[i])) != 0)
            fail_msg("%s is gone", others[i]);
}

/* One that an earlier version made, whose pages of removed jobs stayed in the file. */
static void a_database_shrinks_by_itself(void **state)
{
    fixture *x = *state;
    history_close(x->h);
    x->h = NULL;
    assert_int_equal(number_of(x, "PRAGMA auto_vacuum"), 1);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path_in(x, "jobs.sqlite"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(number_of(x, "PRAGMA auto_vacuum"), 0);
    reopen(x);
    assert_int_equal(number_of(x, "PRAGMA auto_vacuum"), 1);
}

static void a_temporary_history_goes_with_the_server(void **state)
{
    history *h;
    char *path;
    (void)state;
    assert_int_equal(history_open(NULL, 1 << 20, &h, NULL), FLUX1_OK);
    assert_false(history_is_kept(h));
    assert_int_equal(history_write_picture(h, ID "-1.png", "x", 1, NULL), FLUX1_OK);
    assert_non_null(path = history_picture_path(h, ID "-1.png"));
    history_close(h);
    for (int i = 0; i < 2; i++) /* pictures/, and the folder around it */
        *strrchr(path, '/') = '\0';
    assert_int_equal(access(path, F_OK), -1);
    free(path);
}

/* ---- names, and what there is none of ---- */

static bool stop(void *user, const char *id, const char *text, bool ended)
{
    (void)id, (void)text, (void)ended;
    ++*(int *)user;
    return false;
}

static void what_is_not_there_is_told(void **state)
{
    fixture *x = *state;
    bool found = true, more;
    int seen = 0;
    flux1_error err = {0};
    history *second;
    assert_int_equal(history_remove(x->h, OTHER, &found, NULL), FLUX1_OK);
    assert_false(found);
    assert_int_equal(history_list(x->h, 10, SIZE_MAX, OTHER, stop, &seen, &more, &err), FLUX1_ERR_ARGUMENT);
    assert_int_equal(history_put(x->h, OTHER, "{}", true, 0, NULL), FLUX1_OK);
    assert_int_equal(history_list(x->h, 10, SIZE_MAX, NULL, stop, &seen, &more, NULL), FLUX1_OK);
    assert_true(seen == 1 && more); /* who has enough is told that there are others */
    assert_int_equal(history_list(x->h, 10, SIZE_MAX, OTHER, stop, &seen, &more, NULL), FLUX1_OK);
    assert_true(seen == 2 && !more);
    assert_int_equal(history_open(x->folder, 1 << 20, &second, &err), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "another flux1 serve uses this folder"));
    history_close(x->h);
    x->h = NULL;
    assert_int_equal(number_of(x, "PRAGMA user_version=2"), -1);
    assert_int_equal(history_open(x->folder, 1 << 20, &second, &err), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(err.message, "of a later flux1"));
}

/* A name that leads out of the folder, or is another file's, is none. */
static void a_pictures_name_is_its_jobs_and_a_number(void **state)
{
    fixture *x = *state;
    static const char *const bad[] = {"",
                                      ID,
                                      ID "_1.png",
                                      "0123456789abcde-1.png",
                                      "0123456789abcdef0-1.png",
                                      "0123456789ABCDEF-1.png",
                                      "0123456789abcdeg-1.png",
                                      ID "-1/2.png",
                                      ID "-..png",
                                      ID "-1.sqlite",
                                      ID "-11111111111111111111111111111111.png",
                                      "../" ID "-1.png"};
    char *path = history_picture_path(x->h, ID "-12.jpg");
    assert_non_null(path);
    free(path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if ((path = history_picture_path(x->h, bad[i])))
            fail_msg("%s", path);
}

/* A job that waits is not told from memory: it may yet be written. An end that was written later is told as it is now.
 */
static void memory_tells_ends_alone_and_not_for_ever(void **state)
{
    fixture *x = *state;
    char *text;
    fill_disk(x);
    assert_int_equal(history_put(x->h, OTHER, "{\"state\": \"queued\"}", false, 0, NULL), FLUX1_ERR_IO);
    assert_int_equal(history_get(x->h, OTHER, &text, NULL), FLUX1_OK);
    assert_null(text);
    end_on_full_disk(x);
    free_disk(x);
    assert_int_equal(history_put(x->h, ID, "{\"state\": \"done\"}", true, 0, NULL), FLUX1_OK);
    assert_told(x, ID, "done");
}

/* ---- room ---- */

static void the_oldest_go_where_jobs_are_too_many(void **state)
{
    fixture *x = *state;
    char sql[256];
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO jobs(id, ended, "
             "bytes, job) SELECT 'n' || i, 1, 0, '{}' FROM n",
             HISTORY_JOBS_MAX);
    assert_int_equal(number_of(x, sql), -1);
    assert_int_equal(history_put(x->h, ID, "{}", true, 0, NULL), FLUX1_OK); /* the first, which was not ended */
    assert_int_equal(number_of(x, "SELECT COUNT(*) FROM jobs"), HISTORY_JOBS_MAX);
    assert_int_equal(history_put(x->h, OTHER, "{}", false, 0, NULL), FLUX1_OK); /* makes no room: it may become none */
    assert_int_equal(number_of(x, "SELECT COUNT(*) FROM jobs"), HISTORY_JOBS_MAX + 1);
    assert_int_equal(history_put(x->h, OTHER, "{}", true, 0, NULL), FLUX1_OK);
    assert_int_equal(number_of(x, "SELECT COUNT(*) FROM jobs"), HISTORY_JOBS_MAX);
    assert_int_equal(number_of(x, "SELECT COUNT(*) FROM jobs WHERE id='" ID "'"), 0);
    assert_int_equal(number_of(x, "SELECT COUNT(*) FROM jobs WHERE id='n2'"), 1);
}

/* Of 1 MiB; the newest stays, however large it is. */
static void the_oldest_go_where_pictures_are_too_large(void **state)
{
    fixture *x = *state;
    char *text;
    assert_int_equal(history_put(x->h, ID, "{}", true, (1 << 20) - 4, NULL), FLUX1_OK); /* and 2 bytes of text */
    assert_int_equal(history_put(x->h, OTHER, "{}", true, 0, NULL), FLUX1_OK);
    assert_told(x, ID, "{}"); /* both are 1 MiB to the byte */
    assert_int_equal(history_put(x->h, OTHER, "{ }", true, 0, NULL), FLUX1_OK);
    assert_int_equal(history_get(x->h, ID, &text, NULL), FLUX1_OK);
    assert_null(text);
    assert_int_equal(history_put(x->h, ID, "{}", true, 2 << 20, NULL), FLUX1_OK);
    assert_told(x, ID, "{}");
}

static void a_removal_that_the_disk_has_no_room_for_is_no_removal(void **state)
{
    fixture *x = *state;
    bool found = false;
    fill_disk(x);
    assert_int_equal(history_remove(x->h, ID, &found, NULL), FLUX1_ERR_IO);
    free_disk(x);
    assert_true(found);
    assert_told(x, ID, "running");
}

/* ---- no memory ---- */

/* The database has an older text than memory: without room for a copy neither is told. */
static void without_memory_nothing_older_is_told(void **state)
{
    fixture *x = *state;
    char listed[64], *text;
    bool more, failed;
    flux1_error err = {0};
    end_on_full_disk(x);
    failing_after(0);
    assert_int_equal(history_get(x->h, ID, &text, &err), FLUX1_ERR_MEMORY);
    assert_true(failing_failed() && err.message[0] && !text);
    for (long count = 0;; count++) {
        listed[0] = '\0';
        failing_after(count);
        const flux1_status st = history_list(x->h, 10, SIZE_MAX, NULL, note, listed, &more, &err);
        failed = failing_failed();
        failing_after(-1);
        if (!failed)
            break;
        assert_int_equal(st, FLUX1_ERR_MEMORY);
        assert_string_equal(listed, "");
    }
    assert_string_equal(listed, "{\"state\": \"failed\"}");
}

/* A job that was running is interrupted, or the history does not open; the next start finds it. */
static void without_memory_a_start_loses_no_job(void **state)
{
    fixture *x = *state;
    bool failed = true;
    for (long count = 0; failed; count++) {
        flux1_error err = {0};
        assert_int_equal(history_put(x->h, ID, "{\"state\": \"running\"}", false, 0, NULL), FLUX1_OK);
        history_close(x->h);
        failing_after(count);
        const flux1_status st = history_open(x->folder, 1 << 20, &x->h, &err);
        failed = failing_failed();
        failing_after(-1);
        assert_true(st == FLUX1_OK || (st == FLUX1_ERR_MEMORY && failed && !x->h && err.message[0]));
        if (!x->h)
            reopen(x);
        assert_told(x, ID, "interrupted");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(an_ended_job_is_told_though_the_disk_is_full),
                                       TEST(it_is_written_when_there_is_room),
                                       TEST(or_at_the_end),
                                       TEST(what_never_was_written_is_interrupted),
                                       TEST(it_can_be_forgotten),
                                       TEST(reads_do_not_wait_for_a_write),
                                       TEST(a_list_reads_no_more_than_is_wanted),
                                       TEST(a_removal_does_not_wait_for_a_list),
                                       TEST(an_interrupted_job_keeps_its_pictures_bytes),
                                       TEST(what_a_killed_server_left_is_removed_and_nothing_else),
                                       TEST(a_database_shrinks_by_itself),
                                       cmocka_unit_test(a_temporary_history_goes_with_the_server),
                                       TEST(the_oldest_go_where_jobs_are_too_many),
                                       TEST(the_oldest_go_where_pictures_are_too_large),
                                       TEST(a_removal_that_the_disk_has_no_room_for_is_no_removal),
                                       TEST(without_memory_nothing_older_is_told),
                                       TEST(without_memory_a_start_loses_no_job),
                                       TEST(what_is_not_there_is_told),
                                       TEST(a_pictures_name_is_its_jobs_and_a_number),
                                       TEST(memory_tells_ends_alone_and_not_for_ever)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
