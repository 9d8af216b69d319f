/* The history's opening and closing: its folder, the database, and what a server that was killed has left there. */
#include "server/history_in.h"

#include "base/file.h"
#include "server/job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_VERSION 1
#define PATH_ROOM 4096

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS jobs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
    "ended INTEGER NOT NULL, bytes INTEGER NOT NULL, job TEXT NOT NULL);" /* bytes: of the pictures and the text */
    "CREATE INDEX IF NOT EXISTS jobs_ended ON jobs(ended, seq);"
    "CREATE INDEX IF NOT EXISTS jobs_bytes ON jobs(bytes);" /* their sum is read after each job */
    "PRAGMA user_version=1;";

/* ---- jobs that a server has left ---- */

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
        st = history_put_row(s, id, text, true, bytes, err);
    else if (id && st != FLUX1_ERR_MEMORY) /* it cannot be read: it is of no use to anybody */
        st = history_drop(s, id, "{}", err);
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

/* ---- files that a server has left ---- */

static bool is_temporary_name(const char *name)
{
    const size_t n = strlen(name);
    return n > 4 && strncmp(name, "flux1-", 6) == 0 && strcmp(name + n - 4, ".tmp") == 0;
}

/* A half-written file, or a picture that its job does not name. Files of other names are not ours. */
static bool is_left_picture(history *s, const char *name)
{
    char id[RANDOM_NAME] = {0}, url[sizeof HISTORY_URL + PICTURE_NAME + 2], *text = NULL;
    if (!history_is_picture_name(name))
        return is_temporary_name(name);
    memcpy(id, name, RANDOM_NAME - 1);
    snprintf(url, sizeof url, "\"" HISTORY_URL "%.*s\"", PICTURE_NAME, name);
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
        history_write_unwritten(s);
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
