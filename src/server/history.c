#include "server/history_in.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

flux1_status history_put_row(history *s, const char *id, const char *text, bool ended, uint64_t bytes, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    TRY(database_prepare(&s->writer,
                         "INSERT INTO jobs(id, ended, bytes, job) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE SET "
                         "ended=excluded.ended, bytes=excluded.bytes, job=excluded.job",
                         id, &q, err));
    sqlite3_bind_int(q, 2, ended);
    sqlite3_bind_int64(q, 3, (sqlite3_int64)(bytes + strlen(text)));
    sqlite3_bind_text(q, 4, text, -1, SQLITE_TRANSIENT);
    return database_finish(&s->writer, q, err);
}

/* Of a job that the disk had no room for: malloc'd; *copy NULL: there is none. */
static flux1_status unwritten_copy(history *s, const char *id, char **copy, flux1_error *err)
{
    pthread_mutex_lock(&s->memory);
    const char *text = unwritten_text(s->unwritten, id);
    *copy = text ? strdup(text) : NULL;
    pthread_mutex_unlock(&s->memory);
    return text && !*copy ? error_oom(err, 0, "a job") : FLUX1_OK; /* what the database has is older */
}

static void drop_unwritten(history *s, const char *id)
{
    pthread_mutex_lock(&s->memory);
    unwritten_drop(&s->unwritten, id);
    pthread_mutex_unlock(&s->memory);
}

static flux1_status read_text(const database *d, const char *id, char **text, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    TRY(database_prepare(d, "SELECT job FROM jobs WHERE id=?1", id, &q, err));
    const int code = sqlite3_step(q);
    flux1_status st = code == SQLITE_ROW || code == SQLITE_DONE ? FLUX1_OK : database_failed(d, err);
    if (code == SQLITE_ROW && !(*text = strdup(database_column(q, 0))))
        st = error_oom(err, 0, "a job");
    sqlite3_finalize(q);
    return st;
}

flux1_status history_get(history *s, const char *id, char **text, flux1_error *err)
{
    flux1_status st = unwritten_copy(s, id, text, err);
    if (st != FLUX1_OK || *text)
        return st;
    pthread_mutex_lock(&s->reading);
    st = read_text(&s->reader, id, text, err);
    pthread_mutex_unlock(&s->reading);
    return st;
}

static flux1_status delete_row(history *s, const char *id, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    TRY(database_prepare(&s->writer, "DELETE FROM jobs WHERE id=?1", id, &q, err));
    return database_finish(&s->writer, q, err);
}

/* The pictures go last, so that none is named that is gone; but on a full disk the database has no room for a change
 * until they have. */
flux1_status history_drop(history *s, const char *id, const char *text, flux1_error *err)
{
    const bool deleted = delete_row(s, id, NULL) == FLUX1_OK;
    drop_unwritten(s, id);
    history_remove_pictures(s, text);
    return deleted ? FLUX1_OK : delete_row(s, id, err);
}

/* The oldest job that has ended; *id NULL: there is none. Both are malloc'd. total: bytes of all jobs; count: of them.
 */
static flux1_status oldest(history *s, uint64_t *total, int *count, char **id, char **text, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    *id = *text = NULL;
    *total = 0;
    *count = 0;
    TRY(database_prepare(
        &s->writer,
        "SELECT id, job, (SELECT SUM(bytes) FROM jobs), (SELECT COUNT(*) FROM jobs) FROM jobs WHERE ended=1 "
        "ORDER BY seq LIMIT 1",
        NULL, &q, err));
    if (sqlite3_step(q) == SQLITE_ROW) {
        *id = strdup(database_column(q, 0));
        *text = strdup(database_column(q, 1));
        *total = (uint64_t)sqlite3_column_int64(q, 2);
        *count = sqlite3_column_int(q, 3);
    }
    sqlite3_finalize(q);
    return FLUX1_OK;
}

/* The job that was just written stays, however large it is. */
static flux1_status make_room(history *s, const char *keep, flux1_error *err)
{
    for (;;) {
        char *id = NULL, *text = NULL;
        uint64_t total = 0;
        int count = 0;
        flux1_status st = oldest(s, &total, &count, &id, &text, err);
        const bool fits = total <= s->limit && count <= HISTORY_JOBS_MAX;
        const bool enough = st != FLUX1_OK || !id || !text || fits || strcmp(id, keep) == 0;
        if (!enough)
            st = history_drop(s, id, text, err);
        free(id);
        free(text);
        if (enough || st != FLUX1_OK)
            return st;
    }
}

/* What the disk had no room for when it came. */
void history_write_unwritten(history *s)
{
    while (s->unwritten &&
           history_put_row(s, s->unwritten->id, s->unwritten->text, true, s->unwritten->bytes, NULL) == FLUX1_OK)
        drop_unwritten(s, s->unwritten->id);
}

/* SQLite knows of ENOSPC alone, and keeps no errno of a commit: where a small file cannot be written either, its errno
 * is the database's. */
static void find_number(history *s, flux1_error *err)
{
    static const char trial[1 << 16];
    flux1_error why = {0};
    char *path = NULL;
    if (!err || err->status != FLUX1_ERR_IO || err->number)
        return;
    if (history_write_scratch(s, trial, sizeof trial, &path, &why) == FLUX1_OK)
        unlink(path);
    free(path);
    err->number = why.number;
}

flux1_status history_put(history *s, const char *id, const char *text, bool ended, uint64_t bytes, flux1_error *err)
{
    pthread_mutex_lock(&s->writing);
    flux1_status st = history_put_row(s, id, text, ended, bytes, err);
    if (st == FLUX1_OK) {
        drop_unwritten(s, id);
        history_write_unwritten(s);
    } else if (ended) {
        pthread_mutex_lock(&s->memory);
        unwritten_add(&s->unwritten, id, text, bytes);
        pthread_mutex_unlock(&s->memory);
    }
    if (st == FLUX1_OK && ended)
        st = make_room(s, id, err);
    if (st != FLUX1_OK)
        find_number(s, err);
    pthread_mutex_unlock(&s->writing);
    return st;
}

flux1_status history_remove(history *s, const char *id, bool *found, flux1_error *err)
{
    char *text = NULL;
    pthread_mutex_lock(&s->writing);
    flux1_status st = unwritten_copy(s, id, &text, err);
    if (st == FLUX1_OK && !text)
        st = read_text(&s->writer, id, &text, err); /* the reader may have a long list in hand */
    *found = text != NULL;
    if (text)
        st = history_drop(s, id, text, err);
    if (st != FLUX1_OK)
        find_number(s, err);
    pthread_mutex_unlock(&s->writing);
    free(text);
    return st;
}

static flux1_status sequence_of(history *s, const char *id, sqlite3_int64 *out, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    TRY(database_prepare(&s->reader, "SELECT seq FROM jobs WHERE id=?1", id, &q, err));
    const bool found = sqlite3_step(q) == SQLITE_ROW;
    *out = found ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return found ? FLUX1_OK : error_set(err, FLUX1_ERR_ARGUMENT, "there is no job \"%.40s\"", id);
}

/* A row of the list. */
typedef struct listed {
    char *id, *text;
    bool ended;
} listed;

/* Up to `limit` rows, and up to `most` bytes of texts and one row more; *count: how many. *more: there are others. */
static flux1_status list_rows(history *s, int limit, size_t most, const char *before, listed *rows, int *count,
                              bool *more, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    sqlite3_int64 sequence = INT64_MAX;
    int code;
    size_t bytes = 0;
    bool memory = true;
    if (before)
        TRY(sequence_of(s, before, &sequence, err));
    TRY(database_prepare(&s->reader, "SELECT id, job, ended FROM jobs WHERE seq<?1 ORDER BY seq DESC LIMIT ?2", NULL,
                         &q, err));
    sqlite3_bind_int64(q, 1, sequence);
    sqlite3_bind_int(q, 2, limit + 1);
    while (memory && (code = sqlite3_step(q)) == SQLITE_ROW && !(*more = *count == limit || bytes >= most)) {
        listed *row = &rows[(*count)++];
        row->id = strdup(database_column(q, 0));
        row->text = strdup(database_column(q, 1));
        row->ended = sqlite3_column_int(q, 2) != 0;
        memory = row->id && row->text;
        bytes += memory ? strlen(row->text) : 0;
    }
    const flux1_status st = !memory                                     ? error_oom(err, 0, "a job")
                            : code == SQLITE_ROW || code == SQLITE_DONE ? FLUX1_OK
                                                                        : database_failed(&s->reader, err);
    sqlite3_finalize(q);
    return st;
}

/* Visits are behind the reading, so that who visits may read again. */
flux1_status history_list(history *s, int limit, size_t most, const char *before, history_visit *visit, void *user,
                          bool *more, flux1_error *err)
{
    int count = 0, seen = 0;
    listed *rows = calloc((size_t)limit, sizeof *rows);
    *more = false;
    if (!rows)
        return error_oom(err, (size_t)limit * sizeof *rows, "a list of jobs");
    pthread_mutex_lock(&s->reading);
    flux1_status st = list_rows(s, limit, most, before, rows, &count, more, err);
    pthread_mutex_unlock(&s->reading);
    for (bool wanted = true; st == FLUX1_OK && wanted && seen < count; seen++) {
        char *later = NULL;
        st = unwritten_copy(s, rows[seen].id, &later, err);
        if (st == FLUX1_OK)
            wanted = visit(user, rows[seen].id, later ? later : rows[seen].text, later || rows[seen].ended);
        free(later);
    }
    *more |= seen < count;
    for (int i = 0; i < count; i++) {
        free(rows[i].id);
        free(rows[i].text);
    }
    free(rows);
    return st;
}
