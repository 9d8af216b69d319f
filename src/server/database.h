/* A connection with a database of SQLite's, whose errors are sentences that name the file. One thread at a time. */
#ifndef FLUX1_SERVER_DATABASE_H
#define FLUX1_SERVER_DATABASE_H

#include "base/status.h"

#include <sqlite3.h>
#include <stdbool.h>

typedef struct database {
    sqlite3 *db; /* NULL: not open */
    const char *path;
} database;

/* path: borrowed. writes: the file is made if there is none; else there must be one, and the connection only reads.
 * Where another connection has locked the file, each statement waits for up to 2 s. FLUX1_ERR_IO. */
flux1_status database_open(database *d, const char *path, bool writes, flux1_error *err);
void database_close(database *d); /* fine if it is not open */

/* What went wrong last, and what to do about it: FLUX1_ERR_IO. */
flux1_status database_failed(const database *d, flux1_error *err);

flux1_status database_execute(const database *d, const char *sql, flux1_error *err);
/* A statement, to be finalised, with its first text bound, if there is one. */
flux1_status database_prepare(const database *d, const char *sql, const char *first, sqlite3_stmt **out,
                              flux1_error *err);
/* Runs a statement that has no rows and finalises it. */
flux1_status database_finish(const database *d, sqlite3_stmt *statement, flux1_error *err);
/* The number that a statement such as "PRAGMA user_version" gives. */
flux1_status database_number(const database *d, const char *sql, int *out, flux1_error *err);
/* The text of a column, "" for NULL: until the next step. */
const char *database_column(sqlite3_stmt *statement, int i);

#endif
