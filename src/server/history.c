#include "server/history.h"

#include "base/file.h"
#include "base/json.h"
#include "server/database.h"
#include "server/job.h"
#include "server/unwritten.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_VERSION 1
#define PATH_ROOM 4096
#define URL "/api/files/"

/* The database is in WAL mode: who reads does not wait for who writes, however slow the disk is. Mutexes are taken in
 * the order in which they stand here. */
struct history {
    char *folder, *pictures, *thumbnails, *database;
    bool temporary;
    uint64_t limit;
    int lock;                /* descriptor of the folder's lock */
    pthread_mutex_t writing; /* for the writer, and to change the list */
    database writer;
    pthread_mutex_t reading;
    database reader;
    pthread_mutex_t memory; /* to look at the list, and to change it: nobody waits for the disk meanwhile */
    unwritten *unwritten;
    bool has_mutexes;
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS jobs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
    "ended INTEGER NOT NULL, bytes INTEGER NOT NULL, job TEXT NOT NULL);" /* bytes: of the pictures and the text */
    "CREATE INDEX IF NOT EXISTS jobs_ended ON jobs(ended, seq);"
    "CREATE INDEX IF NOT EXISTS jobs_bytes ON jobs(bytes);" /* their sum is read after each job */
    "PRAGMA user_version=1;";

/* ---- files ---- */

/* 16 hexadecimal digits, and after them letters, digits, '-' and one '.': nothing that leads out of the folder. */
static bool is_picture_name(const char *name)
{
    const size_t n = strlen(name);
    return n < PICTURE_NAME && strspn(name, "0123456789abcdef") == RANDOM_NAME - 1 && name[RANDOM_NAME - 1] == '-' &&
           strspn(name, "0123456789abcdefgjnpw-.") == n && strstr(name, "..") == NULL;
}

char *history_picture_path(const history *s, const char *name)
{
    return is_picture_name(name) ? path_join(s->pictures, name) : NULL;
}

static char *thumbnail_path(const history *s, const char *name)
{
    return is_picture_name(name) ? path_join(s->thumbnails, name) : NULL;
}

/* Frees the path; NULL: no memory. */
static flux1_status open_file(char *path, int *descriptor, uint64_t *bytes, flux1_error *err)
{
    file_identity identity;
    bool there = false;
    flux1_status st = path ? file_find(path, &there, err) : error_oom(err, 0, "a file name");
    if (there)
        st = file_open_regular(path, descriptor, &identity, err);
    if (there && st == FLUX1_OK)
        *bytes = identity.size;
    else
        *descriptor = -1;
    free(path);
    return st;
}

flux1_status history_open_picture(const history *s, const char *name, int *descriptor, uint64_t *bytes,
                                  flux1_error *err)
{
    *descriptor = -1;
    return is_picture_name(name) ? open_file(history_picture_path(s, name), descriptor, bytes, err) : FLUX1_OK;
}

bool history_open_thumbnail(const history *s, const char *name, int *descriptor, uint64_t *bytes)
{
    *descriptor = -1;
    return is_picture_name(name) && open_file(thumbnail_path(s, name), descriptor, bytes, NULL) == FLUX1_OK &&
           *descriptor >= 0;
}

flux1_status history_read_picture(const history *s, const char *name, uint8_t **bytes, size_t *count, flux1_error *err)
{
    char *path = history_picture_path(s, name), *text = NULL;
    const flux1_status st =
        path ? file_read(path, (size_t)1 << 31, &text, count, err) : error_oom(err, 0, "a file name");
    free(path);
    *bytes = (uint8_t *)text;
    return st;
}

/* Frees the path; NULL: no memory. */
static flux1_status write_file(char *path, const void *bytes, size_t count, flux1_error *err)
{
    if (!path)
        return error_oom(err, 0, "a file name");
    const flux1_status st = file_write(path, bytes, count, err);
    free(path);
    return st;
}

flux1_status history_write_picture(history *s, const char *name, const void *bytes, size_t count, flux1_error *err)
{
    return write_file(history_picture_path(s, name), bytes, count, err);
}

bool history_write_thumbnail(history *s, const char *name, const void *bytes, size_t count)
{
    return write_file(thumbnail_path(s, name), bytes, count, NULL) == FLUX1_OK;
}

flux1_status history_write_scratch(history *s, const void *bytes, size_t count, char **path, flux1_error *err)
{
    char name[RANDOM_NAME];
    *path = random_name(name) ? path_join(s->folder, name) : NULL;
    const flux1_status st = *path ? file_write(*path, bytes, count, err) : error_oom(err, 0, "a file name");
    if (st == FLUX1_OK)
        return st;
    free(*path);
    *path = NULL;
    return st;
}

/* The files that a job's text names. */
static void remove_pictures(const history *s, const char *text)
{
    json_value *root = NULL;
    if (json_parse(text, strlen(text), "a stored job", &root, NULL) != FLUX1_OK)
        return;
    const json_value *list = json_object_get(root, "pictures");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *url = json_string_value(json_object_get(json_array_get(list, i), "url"));
        const char *name = url && strncmp(url, URL, strlen(URL)) == 0 ? url + strlen(URL) : NULL;
        char *path = name ? history_picture_path(s, name) : NULL, *small = name ? thumbnail_path(s, name) : NULL;
        if (path)
            unlink(path);
        if (small)
            unlink(small);
        free(path);
        free(small);
    }
    json_free(root);
}

/* ---- jobs ---- */

static flux1_status put(history *s, const char *id, const char *text, bool ended, uint64_t bytes, flux1_error *err)
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
static flux1_status drop(history *s, const char *id, const char *text, flux1_error *err)
{
    const bool deleted = delete_row(s, id, NULL) == FLUX1_OK;
    drop_unwritten(s, id);
    remove_pictures(s, text);
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
            st = drop(s, id, text, err);
        free(id);
        free(text);
        if (enough || st != FLUX1_OK)
            return st;
    }
}

/* What the disk had no room for when it came. */
static void write_unwritten(history *s)
{
    while (s->unwritten && put(s, s->unwritten->id, s->unwritten->text, true, s->unwritten->bytes, NULL) == FLUX1_OK)
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
    flux1_status st = put(s, id, text, ended, bytes, err);
    if (st == FLUX1_OK) {
        drop_unwritten(s, id);
        write_unwritten(s);
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
        st = drop(s, id, text, err);
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

/* ---- opening ---- */

/* One job that the last server has left unfinished; *done: there is none. */
static flux1_status mark_one_interrupted(history *s, bool *done, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    char *id = NULL, *text = NULL;
    uint64_t bytes = 0;
    TRY(database_prepare(&s->writer,
                         "SELECT id, job, MAX(bytes - LENGTH(CAST(job AS BLOB)), 0) FROM jobs WHERE ended=0 LIMIT 1",
                         NULL, &q, err));
    const int code = sqlite3_step(q);
    flux1_status st = code == SQLITE_ROW || code == SQLITE_DONE ? FLUX1_OK : database_failed(&s->writer, err);
    *done = code != SQLITE_ROW;
    if (code == SQLITE_ROW) {
        bytes = (uint64_t)sqlite3_column_int64(q, 2);
        id = strdup(database_column(q, 0));
        st = id ? job_text_interrupted(database_column(q, 1), &text, err) : error_oom(err, 0, "a job");
    }
    sqlite3_finalize(q);
    if (text)
        st = put(s, id, text, true, bytes, err);
    else if (id && st != FLUX1_ERR_MEMORY) /* it cannot be read: it is of no use to anybody */
        st = drop(s, id, "{}", err);
    free(text);
    free(id);
    return st;
}

static flux1_status mark_interrupted(history *s, flux1_error *err)
{
    for (bool done = false; !done;)
        TRY(mark_one_interrupted(s, &done, err));
    return FLUX1_OK;
}

/* ---- what a server that was killed has left ---- */

static bool is_temporary_name(const char *name)
{
    const size_t n = strlen(name);
    return n > 4 && strncmp(name, "flux1-", 6) == 0 && strcmp(name + n - 4, ".tmp") == 0;
}

/* A half-written file, or a picture that its job does not name. Files of other names are not ours. */
static bool is_left_picture(history *s, const char *name)
{
    char id[RANDOM_NAME] = {0}, url[sizeof URL + PICTURE_NAME + 2], *text = NULL;
    if (!is_picture_name(name))
        return is_temporary_name(name);
    memcpy(id, name, RANDOM_NAME - 1);
    snprintf(url, sizeof url, "\"" URL "%.*s\"", PICTURE_NAME, name);
    const bool left = history_get(s, id, &text, NULL) == FLUX1_OK && !(text && strstr(text, url));
    free(text);
    return left;
}

static bool is_left_scratch(history *s, const char *name)
{
    (void)s;
    return is_temporary_name(name) ||
           (strlen(name) == RANDOM_NAME - 1 && strspn(name, "0123456789abcdef") == RANDOM_NAME - 1);
}

static void sweep(history *s, const char *folder, bool (*is_left)(history *s, const char *name))
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *path = is_left(s, e->d_name) ? path_join(folder, e->d_name) : NULL;
        if (path)
            unlink(path);
        free(path);
    }
    if (d)
        closedir(d);
}

/* ---- the database ---- */

/* Pages of removed jobs go back to the disk. A file that was made without that is written anew, if there is room. */
static flux1_status shrink_by_itself(history *s, flux1_error *err)
{
    int now, pages;
    TRY(database_number(&s->writer, "PRAGMA auto_vacuum", &now, err));
    TRY(database_number(&s->writer, "PRAGMA page_count", &pages, err));
    if (now == 0)
        TRY(database_execute(&s->writer, "PRAGMA auto_vacuum=FULL", err));
    if (now == 0 && pages > 0)
        database_execute(&s->writer, "VACUUM", NULL);
    return FLUX1_OK;
}

static flux1_status open_database(history *s, flux1_error *err)
{
    int version;
    TRY(database_open(&s->writer, s->database, true, err));
    TRY(database_number(&s->writer, "PRAGMA user_version", &version, err));
    if (version > HISTORY_VERSION)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: it is of version %d, of a later flux1; name another folder with --jobs", s->database,
                         version);
    TRY(shrink_by_itself(s, err));
    TRY(database_execute(
        &s->writer, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=4194304;", err));
    TRY(database_execute(&s->writer, schema, err));
    TRY(mark_interrupted(s, err));
    TRY(database_open(&s->reader, s->database, false, err));
    sweep(s, s->pictures, is_left_picture);
    sweep(s, s->thumbnails, is_left_picture);
    sweep(s, s->folder, is_left_scratch);
    return FLUX1_OK;
}

static flux1_status lock_folder(history *s, flux1_error *err)
{
    char *path = path_join(s->folder, "lock");
    if (!path)
        return error_oom(err, 0, "a path");
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    flux1_status st = FLUX1_OK;
    if (s->lock < 0) {
        st = error_io(err, path, "open");
        error_append(err, "; let this user write in its folder, or name another folder with --jobs");
    }
    if (st == FLUX1_OK && flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        st = error_set(err, FLUX1_ERR_ARGUMENT, "%s: another flux1 serve uses this folder", s->folder);
    free(path);
    return st;
}

/* For their owner alone, as prompts and pictures are; a folder that is there keeps its mode. */
static flux1_status make_folder(history *s, const char *folder, flux1_error *err)
{
    char temporary[PATH_ROOM];
    s->temporary = !folder;
    if (!folder) {
        TRY(folder_make_temporary("flux1-serve", temporary, sizeof temporary, err));
        folder = temporary;
    }
    s->folder = strdup(folder);
    s->pictures = path_join(folder, "pictures");
    s->thumbnails = path_join(folder, "thumbnails");
    s->database = path_join(folder, "jobs.sqlite");
    if (!s->folder || !s->pictures || !s->thumbnails || !s->database)
        return error_oom(err, 0, "a path");
    TRY(folder_make(s->folder, 0700, err));
    TRY(folder_make(s->thumbnails, 0700, err));
    return folder_make(s->pictures, 0700, err);
}

flux1_status history_open(const char *folder, uint64_t limit, history **out, flux1_error *err)
{
    history *s = calloc(1, sizeof *s);
    flux1_status st;
    *out = NULL;
    if (!s)
        return error_oom(err, 0, "the history");
    s->limit = limit;
    s->lock = -1;
    s->has_mutexes = pthread_mutex_init(&s->writing, NULL) == 0 && pthread_mutex_init(&s->reading, NULL) == 0 &&
                     pthread_mutex_init(&s->memory, NULL) == 0; /* glibc's and musl's do not fail */
    st = s->has_mutexes ? make_folder(s, folder, err) : error_oom(err, 0, "the history");
    if (st == FLUX1_OK)
        st = lock_folder(s, err);
    if (st == FLUX1_OK)
        st = open_database(s, err);
    if (st == FLUX1_OK)
        *out = s;
    else
        history_close(s);
    return st;
}

bool history_is_kept(const history *s) { return !s->temporary; }

/* A temporary folder has one level of folders. */
static void remove_folder(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *path = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 ? path_join(folder, e->d_name) : NULL;
        if (path && unlink(path) != 0 && errno == EISDIR)
            remove_folder(path);
        free(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

void history_close(history *s)
{
    if (!s)
        return;
    if (s->writer.db)
        write_unwritten(s);
    unwritten_free(&s->unwritten);
    database_close(&s->reader);
    database_close(&s->writer); /* the last to close puts all into the database's own file */
    if (s->lock >= 0)
        close(s->lock);
    if (s->temporary && s->folder)
        remove_folder(s->folder);
    if (s->has_mutexes) {
        pthread_mutex_destroy(&s->writing);
        pthread_mutex_destroy(&s->reading);
        pthread_mutex_destroy(&s->memory);
    }
    free(s->folder);
    free(s->pictures);
    free(s->thumbnails);
    free(s->database);
    free(s);
}
