#define _GNU_SOURCE /* POLLRDHUP */
#include "server/watch.h"

#include "base/clock.h"
#include "server/jobs.h"

#include <poll.h>
#include <time.h>

#define LOOK_SECONDS 0.1
#define ABANDONED_MAX 64 /* jobs that are cancelled at a look; the rest at the next one */

/* A client that has closed its side of the connection has gone: nobody who wants an answer does that. */
static bool hung_up(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
}

/* With the lock held. Wakes whom it must, and collects the jobs that nobody wants any more, with a reference each. */
static int look(queue *q, job *abandoned[ABANDONED_MAX])
{
    int count = 0;
    const double now = clock_seconds();
    for (waiter *w = q->waiters, *next; w && count < ABANDONED_MAX; w = next) {
        next = w->next;
        w->gone = hung_up(w->socket);
        w->late = w->deadline > 0 && now >= w->deadline;
        if (!w->gone && !w->late)
            continue;
        if (w->gone && w->cancels) {
            w->job->references++;
            abandoned[count++] = w->job;
        }
        queue_leave(q, w);
        w->wake(w);
    }
    return count;
}

static void *watch_over(void *arg)
{
    server *s = arg;
    queue *q = &s->queue;
    const struct timespec pause = {.tv_nsec = (long)(LOOK_SECONDS * 1e9)};
    queue_lock(q);
    while (!q->stopped) {
        job *abandoned[ABANDONED_MAX];
        const int count = look(q, abandoned);
        if (!q->waiters && count == 0) {
            pthread_cond_wait(&q->watch, &q->lock);
            continue;
        }
        queue_unlock(q);
        for (int i = 0; i < count; i++) {
            jobs_cancel(s, abandoned[i]);
            job_release(q, abandoned[i]);
        }
        nanosleep(&pause, NULL);
        queue_lock(q);
    }
    queue_unlock(q);
    return NULL;
}

flux1_status watch_start(server *s, flux1_error *err)
{
    s->has_watcher = pthread_create(&s->watcher, NULL, watch_over, s) == 0;
    return s->has_watcher ? FLUX1_OK : error_set(err, FLUX1_ERR_MEMORY, "the watching thread cannot be started");
}

void watch_join(server *s)
{
    if (s->has_watcher)
        pthread_join(s->watcher, NULL);
    s->has_watcher = false;
}
