#define _GNU_SOURCE /* POLLRDHUP */
#include "server/watch.h"

#include "base/clock.h"

#include <poll.h>
#include <time.h>

#define LOOK_SECONDS 0.1

/* A client that has closed its side of the connection has gone: nobody who wants an answer does that. */
static bool hung_up(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
}

/* With the lock held: wakes whom it must. */
static void look(queue *q)
{
    const double now = clock_seconds();
    for (waiter *w = q->waiters, *next; w; w = next) {
        next = w->next;
        w->gone = hung_up(w->socket);
        if (!w->gone && !(w->deadline > 0 && now >= w->deadline))
            continue;
        queue_leave(q, w);
        w->wake(w);
    }
}

static void *watch_over(void *arg)
{
    queue *q = &((server *)arg)->queue;
    const struct timespec pause = {.tv_nsec = (long)(LOOK_SECONDS * 1e9)};
    queue_lock(q);
    while (!q->stopped) {
        look(q);
        if (!q->waiters) {
            pthread_cond_wait(&q->watch, &q->lock);
            continue;
        }
        queue_unlock(q);
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
