#include "server/connections.h"

#include "base/clock.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct connection_entry {
    connection_entry *next, **link;
    int socket;
    double since; /* the header of a request is awaited; negative: there is one */
    bool limited;
    unsigned char place[8]; /* of the address */
};

/* ---- addresses ---- */

/* False: there is no limit for it. */
static bool place_of(const struct sockaddr *address, unsigned char place[8])
{
    memset(place, 0, 8);
    if (address && address->sa_family == AF_INET) {
        struct sockaddr_in a;
        memcpy(&a, address, sizeof a);
        memcpy(place + 4, &a.sin_addr, 4);
        return place[4] != 127;
    }
    if (!address || address->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 a;
    memcpy(&a, address, sizeof a);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&a.sin6_addr);
    memcpy(place + (mapped ? 4 : 0), a.sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
    return !IN6_IS_ADDR_LOOPBACK(&a.sin6_addr) && !(mapped && place[4] == 127);
}

bool connections_admit(connections *c, const struct sockaddr *address)
{
    unsigned char place[8];
    int same = 0;
    if (!place_of(address, place))
        return true;
    pthread_mutex_lock(&c->mutex);
    for (const connection_entry *e = c->first; e; e = e->next)
        same += e->limited && memcmp(e->place, place, sizeof place) == 0;
    pthread_mutex_unlock(&c->mutex);
    return same < CONNECTIONS_PER_ADDRESS;
}

/* ---- their lives ---- */

connection_entry *connections_add(connections *c, int socket, const struct sockaddr *address)
{
    connection_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->socket = socket;
    e->since = clock_seconds();
    e->limited = place_of(address, e->place);
    pthread_mutex_lock(&c->mutex);
    e->next = c->first;
    e->link = &c->first;
    if (e->next)
        e->next->link = &e->next;
    c->first = e;
    c->count++;
    pthread_mutex_unlock(&c->mutex);
    return e;
}

void connections_remove(connections *c, connection_entry *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&c->mutex);
    *e->link = e->next;
    if (e->next)
        e->next->link = e->link;
    c->count--;
    pthread_mutex_unlock(&c->mutex);
    free(e);
}

static void set_since(connections *c, connection_entry *e, double since)
{
    if (!e)
        return;
    pthread_mutex_lock(&c->mutex);
    e->since = since;
    pthread_mutex_unlock(&c->mutex);
}

void connections_begin(connections *c, connection_entry *e) { set_since(c, e, -1); }
void connections_done(connections *c, connection_entry *e) { set_since(c, e, clock_seconds()); }

/* ---- the thread ---- */

/* The library finds the end of the connection and closes it. */
void connections_end_late(connections *c, double now)
{
    const bool crowded = c->count >= c->limit - c->limit / 4;
    const double patience = crowded ? CONNECTIONS_HURRY_SECONDS : CONNECTIONS_HEADER_SECONDS;
    for (const connection_entry *e = c->first; e; e = e->next)
        if (e->since >= 0 && now - e->since > patience)
            shutdown(e->socket, SHUT_RDWR);
}

static void *look_each_second(void *arg)
{
    connections *c = arg;
    pthread_mutex_lock(&c->mutex);
    while (!c->ending) {
        struct timespec next;
        clock_gettime(CLOCK_REALTIME, &next);
        next.tv_sec++;
        pthread_cond_timedwait(&c->end, &c->mutex, &next);
        connections_end_late(c, clock_seconds());
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

flux1_status connections_open(connections *c, unsigned limit, flux1_error *err)
{
    *c = (connections){.limit = limit};
    if (pthread_mutex_init(&c->mutex, NULL) != 0)
        return error_oom(err, 0, "the connections");
    if (pthread_cond_init(&c->end, NULL) == 0) {
        c->runs = pthread_create(&c->thread, NULL, look_each_second, c) == 0;
        if (c->runs)
            return FLUX1_OK;
        pthread_cond_destroy(&c->end);
    }
    pthread_mutex_destroy(&c->mutex);
    return error_set(err, FLUX1_ERR_MEMORY, "the thread that looks after connections cannot be started");
}

void connections_close(connections *c)
{
    if (!c->runs)
        return;
    pthread_mutex_lock(&c->mutex);
    c->ending = true;
    pthread_cond_signal(&c->end);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->end);
    pthread_mutex_destroy(&c->mutex);
    c->runs = false;
}
