#include "server/database.h"

#include <errno.h>

static const struct {
    int code;
    const char *advice;
} advices[] = {{SQLITE_FULL, "make room on its disk"},
               {SQLITE_BUSY, "end the program that has locked it"},
               {SQLITE_LOCKED, "end the program that has locked it"},
               {SQLITE_READONLY, "let this user write the file and its folder"},
               {SQLITE_PERM, "let this user write the file and its folder"},
               {SQLITE_CANTOPEN, "let this user write the file and its folder"},
               {SQLITE_IOERR, "look after its disk"},
               {SQLITE_NOMEM, "leave more memory"}};

/* Of all else the cause is what the file holds. */
static const char *advice_for(int code)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (advices[i].code == (code & 0xff))
            return advices[i].advice;
    return "move it away, with jobs.sqlite-wal and jobs.sqlite-shm beside it";
}

flux1_status database_failed(const database *d, flux1_error *err)
{
    if (!d->db)
        return error_oom(err, 0, "a database");
    const int code = sqlite3_errcode(d->db);
    error_set(err, FLUX1_ERR_IO, "%s: %s; %s, or name another folder with --jobs", d->path, sqlite3_errmsg(d->db),
              advice_for(code));
    if (err && (code & 0xff) == SQLITE_FULL)
        err->number = ENOSPC;
    return FLUX1_ERR_IO;
}

flux1_status database_open(database *d, const char *path, bool writes, flux1_error *err)
{
    const int how = writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    *d = (database){.path = path};
    if (sqlite3_open_v2(path, &d->db, how | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK)
        return database_failed(d, err);
    sqlite3_busy_timeout(d->db, 2000);
    return FLUX1_OK;
}

void database_close(database *d)
{
    sqlite3_close(d->db);
    d->db = NULL;
}

flux1_status database_execute(const database *d, const char *sql, flux1_error *err)
{
    return sqlite3_exec(d->db, sql, NULL, NULL, NULL) == SQLITE_OK ? FLUX1_OK : database_failed(d, err);
}

flux1_status database_prepare(const database *d, const char *sql, const char *first, sqlite3_stmt **out,
                              flux1_error *err)
{
    if (sqlite3_prepare_v2(d->db, sql, -1, out, NULL) != SQLITE_OK)
        return database_failed(d, err);
    if (!first || sqlite3_bind_text(*out, 1, first, -1, SQLITE_TRANSIENT) == SQLITE_OK)
        return FLUX1_OK;
    const flux1_status st = database_failed(d, err);
    sqlite3_finalize(*out);
    *out = NULL;
    return st;
}

flux1_status database_finish(const database *d, sqlite3_stmt *statement, flux1_error *err)
{
    const int code = sqlite3_step(statement);
    const flux1_status st = code == SQLITE_DONE ? FLUX1_OK : database_failed(d, err);
    sqlite3_finalize(statement);
    return st;
}

flux1_status database_number(const database *d, const char *sql, int *out, flux1_error *err)
{
    sqlite3_stmt *q = NULL;
    TRY(database_prepare(d, sql, NULL, &q, err));
    const int code = sqlite3_step(q);
    *out = code == SQLITE_ROW ? sqlite3_column_int(q, 0) : 0;
    const flux1_status st = code == SQLITE_ROW ? FLUX1_OK : database_failed(d, err);
    sqlite3_finalize(q);
    return st;
}

const char *database_column(sqlite3_stmt *statement, int i)
{
    const unsigned char *text = sqlite3_column_text(statement, i);
    return text ? (const char *)text : "";
}
