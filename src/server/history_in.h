/* The history's insides, for its three files: history.c (jobs), history_files.c, history_open.c. */
#ifndef FLUX1_SERVER_HISTORY_IN_H
#define FLUX1_SERVER_HISTORY_IN_H

#include "server/database.h"
#include "server/history.h"
#include "server/unwritten.h"

#include <pthread.h>

#define HISTORY_URL "/api/files/" /* of a picture, in jobs' texts */

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

/* ---- history.c; with `writing` held, or where nobody else has the history yet ---- */

flux1_status history_put_row(history *s, const char *id, const char *text, bool ended, uint64_t bytes,
                             flux1_error *err);
flux1_status history_drop(history *s, const char *id, const char *text, flux1_error *err); /* with its pictures */
void history_write_unwritten(history *s); /* what the disk had no room for when it came */

/* ---- history_files.c ---- */

/* 16 hexadecimal digits, and after them letters, digits, '-' and one '.': nothing that leads out of the folder. */
bool history_is_picture_name(const char *name);
/* The files that a job's text names. */
void history_remove_pictures(const history *s, const char *text);

#endif
