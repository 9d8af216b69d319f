/* The jobs that wait and those that run, in order; and who waits for news of them. One lock guards the queue, its
 * jobs and the waiters. */
#ifndef FLUX1_SERVER_QUEUE_H
#define FLUX1_SERVER_QUEUE_H

#include "server/together.h"

#include <pthread.h>

/* Somebody who waits for news of a job: a connection. The members are the queue's while it is in its list. */
typedef struct waiter {
    job *job;
    void (*wake)(struct waiter *w); /* called with the lock held, after the waiter has left the list */
    int socket;                     /* is watched: when the other side hangs up, the waiter is woken with `gone` */
    bool gone;
    double deadline; /* by clock_seconds, when it is woken without news; 0: never */
    bool waits;      /* it is in the list */
    struct waiter *next, **link;
} waiter;

typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t news;  /* for the workers: a job, or the stop */
    pthread_cond_t watch; /* for the watching thread: a waiter, or the stop */
    job *first, **last;   /* that wait */
    int waiting, limit;
    job *running;           /* those that run, the oldest first; NULL: none */
    job *closing;           /* have ended, and are not in the history yet */
    bool stopping, stopped; /* no more jobs are taken; no job runs any more */
    bool given_up;          /* those that run have had their time, and are cut off */
    waiter *waiters;
    bool interrupted, skipped;           /* by a client of AUTOMATIC1111's, since the last job (or picture) began */
    uint64_t ended[JOB_INTERRUPTED + 1]; /* how many ended in each state */
    uint64_t pictures;
} queue;

flux1_status queue_open(queue *q, int limit, flux1_error *err);
void queue_close(queue *q); /* when no other thread uses it */

static inline void queue_lock(queue *q) { pthread_mutex_lock(&q->lock); }
static inline void queue_unlock(queue *q) { pthread_mutex_unlock(&q->lock); }

/* ---- these take the lock ---- */

/* The job waits from here on; the queue has a reference of its own. FAULT_BUSY: there are `limit` already;
 * FAULT_UNAVAILABLE: the server stops. */
bool queue_submit(queue *q, job *j, fault *f);
/* One that is queued, runs, or has ended and is not in the history yet; with a reference. NULL: it is none of these. */
job *queue_find(queue *q, const char *id);
/* The job that queue_end has ended is in the history now: wakes those who wait for it, and ends the queue's reference.
 */
void queue_forget(queue *q, job *j);
void job_release(queue *q, job *j);      /* NULL is fine */
bool queue_has_room(queue *q, fault *f); /* as queue_submit would say */

/* For one of several workers: waits for a job and makes it a running one, with those that run together with it. How
 * many, each with a reference; 0: the queue stops. */
int queue_take(queue *q, int workers, job *out[TOGETHER_MAX]);

/* ---- with the lock held ---- */

void queue_changed(queue *q, job *j); /* wakes those who wait for it */
void queue_wait(queue *q, waiter *w);
void queue_leave(queue *q, waiter *w); /* without being woken; fine if it does not wait */
void queue_dismiss(queue *q);          /* wakes everybody who waits, with `gone` */
void queue_stopped(queue *q);          /* no job runs any more, nor will: ends the watching thread */
int queue_running(const queue *q);
int queue_position(const queue *q, const job *j); /* 1: the next; 0: it does not wait */
/* The job ends in that state; queue_forget must follow when its text is in the history. Until then nobody is told
 * (job_put): what a client knows to be done is done after a kill as well. */
void queue_end(queue *q, job *j, job_state state);
/* Of each job whose pictures are being made: the first that is not finished ends, and the job goes on with the next one
 * soon. Jobs that wait, also behind others of their batch or for their next call, keep all of theirs; q->skipped tells
 * whether there was any. */
void queue_skip(queue *q);
/* A job that waits ends here and now (true: the caller stores it); one that runs ends soon, by itself. */
bool queue_cancel(queue *q, job *j);

#endif
