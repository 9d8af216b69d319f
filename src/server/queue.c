#include "server/queue.h"

#include <stdlib.h>
#include <string.h>

flux1_status queue_open(queue *q, int limit, flux1_error *err)
{
    *q = (queue){.limit = limit, .last = &q->first};
    if (pthread_mutex_init(&q->lock, NULL) != 0)
        return error_oom(err, 0, "the queue");
    /* glibc's and musl's do not fail */
    if (pthread_cond_init(&q->news, NULL) != 0 || pthread_cond_init(&q->watch, NULL) != 0)
        return error_oom(err, 0, "the queue");
    return FLUX1_OK;
}

void queue_close(queue *q)
{
    pthread_cond_destroy(&q->news);
    pthread_cond_destroy(&q->watch);
    pthread_mutex_destroy(&q->lock);
}

/* ---- waiters ---- */

void queue_wait(queue *q, waiter *w)
{
    w->waits = true;
    w->next = q->waiters;
    w->link = &q->waiters;
    if (w->next)
        w->next->link = &w->next;
    q->waiters = w;
    pthread_cond_signal(&q->watch);
}

void queue_leave(queue *q, waiter *w)
{
    (void)q;
    if (!w->waits)
        return;
    w->waits = false;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
}

void queue_changed(queue *q, job *j)
{
    j->version++;
    for (waiter *w = q->waiters, *next; w; w = next) {
        next = w->next;
        if (w->job != j)
            continue;
        queue_leave(q, w);
        w->wake(w);
    }
}

void queue_dismiss(queue *q)
{
    for (waiter *w; (w = q->waiters);) {
        w->gone = true;
        queue_leave(q, w);
        w->wake(w);
    }
}

void queue_stopped(queue *q)
{
    q->stopped = true;
    pthread_cond_signal(&q->watch);
}

/* ---- jobs ---- */

static bool has_room(const queue *q, fault *f)
{
    if (q->stopping)
        return fault_set(f, FAULT_UNAVAILABLE, NULL, "the server is stopping");
    if (q->waiting >= q->limit)
        return fault_set(f, FAULT_BUSY, NULL, "%d jobs are waiting, and no more may (--queue): try again later",
                         q->waiting);
    return true;
}

bool queue_has_room(queue *q, fault *f)
{
    queue_lock(q);
    const bool room = has_room(q, f);
    queue_unlock(q);
    return room;
}

bool queue_submit(queue *q, job *j, fault *f)
{
    queue_lock(q);
    const bool room = has_room(q, f);
    if (room) {
        j->references++;
        *q->last = j;
        q->last = &j->next;
        q->waiting++;
        pthread_cond_signal(&q->news);
    }
    queue_unlock(q);
    return room;
}

static job *find_in(job *list, const char *id)
{
    while (list && strcmp(list->id, id) != 0)
        list = list->next;
    return list;
}

job *queue_find(queue *q, const char *id)
{
    queue_lock(q);
    job *j = find_in(q->first, id);
    j = j ? j : find_in(q->running, id);
    j = j ? j : find_in(q->closing, id);
    if (j)
        j->references++;
    queue_unlock(q);
    return j;
}

/* Where a list points to j; for NULL, its end. */
static job **place_in(job **list, const job *j)
{
    while (*list && *list != j)
        list = &(*list)->next;
    return list;
}

static bool drop_reference(job *j) { return --j->references == 0; }

void job_release(queue *q, job *j)
{
    if (!j)
        return;
    queue_lock(q);
    const bool last = drop_reference(j);
    queue_unlock(q);
    if (last)
        job_free(j);
}

static void begin(queue *q, job *j)
{
    *place_in(&q->running, NULL) = j; /* with the queue's reference */
    j->references++;
    j->state = JOB_RUNNING;
    j->started = job_now();
    q->waiting--;
    q->interrupted = q->skipped = false;
    queue_changed(q, j);
}

int queue_take(queue *q, int workers, job *out[TOGETHER_MAX])
{
    int count = 0;
    queue_lock(q);
    while (!q->first && !q->stopping)
        pthread_cond_wait(&q->news, &q->lock);
    if (!q->stopping) { /* who stops the queue ends those that wait */
        count = together_take(&q->first, together_share(q->first, workers), out);
        q->last = place_in(&q->first, NULL);
        for (int i = 0; i < count; i++)
            begin(q, out[i]);
        for (job *later = q->first; later; later = later->next)
            queue_changed(q, later); /* some places further */
    }
    queue_unlock(q);
    return count;
}

int queue_running(const queue *q)
{
    int count = 0;
    for (const job *j = q->running; j; j = j->next)
        count++;
    return count;
}

int queue_position(const queue *q, const job *j)
{
    int position = q->running ? 1 : 0;
    if (j->state != JOB_QUEUED)
        return 0;
    for (const job *before = q->first; before && before != j; before = before->next)
        position++;
    return position;
}

static void unlink_job(queue *q, job *j)
{
    job **at = place_in(&q->running, j);
    const bool waits = !*at;
    if (waits)
        at = place_in(&q->first, j);
    if (!*at)
        return;
    *at = j->next;
    if (waits && !j->next)
        q->last = at;
    j->next = NULL;
    q->waiting -= waits;
}

void queue_end(queue *q, job *j, job_state state)
{
    unlink_job(q, j);
    j->next = q->closing;
    q->closing = j;
    j->state = state;
    j->finished = job_now();
    j->stage = NULL;
    j->seconds = j->started > 0 ? j->finished - j->started : 0;
    j->seconds_left = -1;
    if (state == JOB_DONE)
        j->fraction = 1;
    q->ended[state]++;
    for (job *later = q->first; later; later = later->next)
        queue_changed(q, later);
}

void queue_forget(queue *q, job *j)
{
    queue_lock(q);
    job **at = place_in(&q->closing, j);
    if (*at)
        *at = j->next;
    j->kept = true;
    j->stored = j->made; /* a history that cannot be written tells of the end from memory */
    queue_changed(q, j);
    queue_unlock(q);
    job_release(q, j);
}

void queue_skip(queue *q)
{
    for (job *j = q->running; j; j = j->next) {
        if (!j->drawn || j->cancelled)
            continue;
        q->skipped = true;
        j->skip = j->made + j->passed + 1;
        flux1_cancel_token_cancel(j->token); /* work.c resets it */
    }
}

bool queue_cancel(queue *q, job *j)
{
    if (!job_state_ended(j->state)) {
        j->cancelled = true;
        flux1_cancel_token_cancel(j->token); /* its prompt may be encoded already */
    }
    if (j->state != JOB_QUEUED)
        return false;
    queue_end(q, j, JOB_CANCELLED);
    return true;
}
