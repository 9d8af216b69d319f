/* The folder of the cache of prepared weights: its files, their total size, and what went wrong in it.
 *
 * An entry is a file `<32 hexadecimal digits>.prepared`. Who uses it has a shared lock (flock) on it, who removes it
 * takes an exclusive one: an entry in use stays, unless it was found wrong. While it is written it is called
 * `….prepared.tmp`, with an exclusive lock: such a file that nobody has locked was left by a process that was killed.
 * Other files are left alone, and so is what has such a name and is no regular file: a folder, a FIFO, a link. */
#ifndef FLUX1_WEIGHTS_PREPARED_FOLDER_H
#define FLUX1_WEIGHTS_PREPARED_FOLDER_H

#include "weights/prepared_format.h"

#include <pthread.h>
#include <stdbool.h>

#define PREPARED_NAME 64
#define PREPARED_LIMIT ((uint64_t)100 << 30) /* bytes of all entries together, if nobody says otherwise */

enum { PREPARED_WARNINGS = 8 };

typedef struct prepared_folder {
    char *path;
    uint64_t limit;
    pthread_mutex_t lock; /* of what follows, and of removing what is wrong */
    bool full;            /* writing has failed: nothing more is stored */
    char *warning[PREPARED_WARNINGS];
    int warnings;
} prepared_folder;

/* The folder `wish`, or if that is NULL the one that FLUX1_CACHE_DIR names. `wish` is made if `make`
 * says so, with mode 0700, and must be there then: FLUX1_ERR_IO; otherwise, and the environment's, when something is to
 * be stored, as most runs do not. *out is NULL if neither names one. limit 0: FLUX1_CACHE_SIZE from the environment
 * (512M, 80G), else PREPARED_LIMIT. FLUX1_ERR_ARGUMENT, FLUX1_ERR_MEMORY. */
flux1_status prepared_open(const char *wish, uint64_t limit, bool make, prepared_folder **out, flux1_error *err);

/* Makes it, and those above it, where it is not there. FLUX1_ERR_IO, FLUX1_ERR_MEMORY. */
flux1_status prepared_make_folder(const prepared_folder *f, flux1_error *err);
void prepared_close(prepared_folder *f); /* NULL is fine; entries that are open stay */

/* Remembers a sentence, from any thread, for who can tell it. The next that comes out, malloc'd; NULL: none is left. */
void prepared_warn(prepared_folder *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *prepared_next_warning(prepared_folder *f);

/* Nothing more is stored from now on, with this warning the first time. prepared_is_full: whether that was said. */
void prepared_stop(prepared_folder *f, const char *reason);
bool prepared_is_full(prepared_folder *f);

void prepared_name(const uint64_t key[2], char out[PREPARED_NAME]);

/* A file of the cache. */
typedef struct prepared_file {
    char name[PREPARED_NAME];
    uint64_t bytes;
    int64_t used; /* seconds since 1970: when it was opened last */
    bool unfinished;
    bool stranger; /* no regular file: flux1 did not make it. Of 0 bytes */
} prepared_file;

/* All of them, and the strangers under such names, the one that was used longest ago first; free *out. */
flux1_status prepared_files(const char *folder, prepared_file **out, size_t *count, flux1_error *err);

/* Whether the path still names the opened file: another process may have removed or replaced it before it was locked.
 */
bool prepared_still_there(int fd, const char *path);

typedef enum prepared_removal {
    PREPARED_REMOVED,
    PREPARED_GONE,   /* by another process */
    PREPARED_IN_USE, /* it stays */
    PREPARED_STUCK   /* it could not be removed: err says why */
} prepared_removal;

/* FLUX1_ERR_FORMAT, with a sentence, where something is at `path` that is no regular file. */
flux1_status prepared_check_regular(const char *path, flux1_error *err);

/* Removes a file unless it is in use, or no regular file. */
prepared_removal prepared_remove(const char *folder, const char *name, flux1_error *err);

/* Removes what killed processes have left (not in the last minute: it may be about to be locked), and then, while the
 * entries and `more` bytes exceed the limit, the entry that was used longest ago. False if `more` bytes do not fit even
 * so. */
bool prepared_make_room(prepared_folder *f, uint64_t more);

#endif
