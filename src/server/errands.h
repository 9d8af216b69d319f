/* The thread that does, one after the other, what writes, plans or opens a model: so the HTTP library's few threads
 * need not wait for that, and go on with everybody else. */
#ifndef FLUX1_SERVER_ERRANDS_H
#define FLUX1_SERVER_ERRANDS_H

#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>

/* A member of what it is about. In the list from errands_add until `run` is called, which may add it
 * again, or free it. */
typedef struct errand {
    void (*run)(struct errand *e, void *user);
    struct errand *next;
} errand;

typedef struct errands {
    pthread_mutex_t mutex;
    pthread_cond_t news;
    pthread_t thread;
    errand *first, **last;
    void *user; /* of all of them */
    bool runs, ending;
} errands;

flux1_status errands_open(errands *l, void *user, flux1_error *err);

/* Behind the others. When the thread has ended, the caller runs it. Any thread may call. */
void errands_add(errands *l, errand *e);

void errands_end(errands *l);   /* runs what is left, and ends the thread; once more is fine */
void errands_close(errands *l); /* the same, and nobody adds any more; harmless where it was not opened */

#endif
