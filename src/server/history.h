/* The jobs' history (SQLite) and their pictures (files), in one folder: DIR/jobs.sqlite, DIR/pictures, and
 * DIR/thumbnails with small ones of the same names. Without a folder all are in a temporary one, which is removed at
 * the end. Any thread may call; history_get and history_list do not wait for those that write,
 * nor do those wait for them. */
#ifndef FLUX1_SERVER_HISTORY_H
#define FLUX1_SERVER_HISTORY_H

#include "base/builder.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct history history;

#define HISTORY_JOBS_MAX 100000

/* folder NULL: a temporary one. limit: bytes of all pictures and jobs' texts together; the
 * oldest jobs that have ended go first, also those beyond HISTORY_JOBS_MAX. Jobs
 * that a stopped server has left are marked as interrupted. FLUX1_ERR_IO, FLUX1_ERR_FORMAT, FLUX1_ERR_ARGUMENT (another
 * server uses the folder). */
flux1_status history_open(const char *folder, uint64_t limit, history **out, flux1_error *err);
void history_close(history *s); /* NULL is fine */

/* The job's text, new or in place of its last one; bytes: of its pictures, large and small. ended: it may be removed to
 * make room, and if it cannot be written (FLUX1_ERR_IO: the disk is full) it is told from memory until it can. */
flux1_status history_put(history *s, const char *id, const char *text, bool ended, uint64_t bytes, flux1_error *err);
/* malloc'd; *text NULL: there is none. FLUX1_ERR_IO, FLUX1_ERR_MEMORY. */
flux1_status history_get(history *s, const char *id, char **text, flux1_error *err);
/* The job with its pictures, which are named in its text. *found: there was one. */
flux1_status history_remove(history *s, const char *id, bool *found, flux1_error *err);

/* Newest first, those before job `before` (NULL: from the newest): visit gets each one's id and text, and
 * whether it had ended by that, and returns whether it wants the next. Texts are those of one moment before the first
 * visit: of at most `limit` jobs, 1 at least, and `most` bytes and one job more. *more: there are others.
 * FLUX1_ERR_ARGUMENT: no job `before`. */
typedef bool history_visit(void *user, const char *id, const char *text, bool ended);
flux1_status history_list(history *s, int limit, size_t most, const char *before, history_visit *visit, void *user,
                          bool *more, flux1_error *err);

/* ---- pictures ---- */

flux1_status history_write_picture(history *s, const char *name, const void *bytes, size_t count, flux1_error *err);
/* The small one of a picture, which goes with it. False: it could not be written, or there is none. */
bool history_write_thumbnail(history *s, const char *name, const void *bytes, size_t count);
bool history_open_thumbnail(const history *s, const char *name, int *descriptor, uint64_t *bytes);
/* malloc'd; NULL: no name of a picture, or no memory. */
char *history_picture_path(const history *s, const char *name);
/* A descriptor of the picture, and its size; *descriptor is -1 where there is none of that name (or it is no name that
 * history_put's texts have). FLUX1_ERR_IO: it is there and cannot be opened. */
flux1_status history_open_picture(const history *s, const char *name, int *descriptor, uint64_t *bytes,
                                  flux1_error *err);
/* malloc'd bytes. FLUX1_ERR_IO: there is none, or it cannot be read; FLUX1_ERR_MEMORY. */
flux1_status history_read_picture(const history *s, const char *name, uint8_t **bytes, size_t *count, flux1_error *err);

/* A file for a moment, of a name that nobody guesses: *path (malloc'd) is to be unlinked and freed. */
flux1_status history_write_scratch(history *s, const void *bytes, size_t count, char **path, flux1_error *err);

bool history_is_kept(const history *s); /* it is no temporary folder */

#endif
