#include "mesh/control.h"

#include "base/pool.h"
#include "mesh/sockets.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Types of our own, above the caller's. */
enum { FRAME_HELLO = CONTROL_TYPES, FRAME_WELCOME, FRAME_HEARTBEAT };
enum { HEADER = 12, STRANGERS = 32, STRANGER_SECONDS = 5, ANSWER_SECONDS = 10, CLOSE_SECONDS = 2 };
static const uint8_t MARK[4] = {'f', 'x', '1', 'c'};

typedef struct bytes {
    uint8_t *data;
    size_t size, room;
} bytes;

typedef struct link {
    int fd;  /* −1: none */
    int who; /* −1: has not said */
    bytes in, out;
    double heard, said;
} link_end;

struct control {
    control_events events;
    control_address address;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int wake[2]; /* a pipe */
    int listener[2];
    bool stop, leads;
    int count, joined; /* of followers: count − 1 */
    int links, room;
    bool *present;      /* [count] */
    struct pollfd *fds; /* [3 + room] */
    link_end link[];    /* the leader's: [count + STRANGERS] */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wake(control *c)
{
    ssize_t n = write(c->wake[1], "", 1); /* a full pipe wakes too */
    (void)n;
}

static bool reserve(bytes *b, size_t size)
{
    if (size <= b->room - b->size)
        return true;
    size_t room = 2 * (b->size + size) + 256;
    uint8_t *larger = realloc(b->data, room);
    if (!larger)
        return false;
    b->data = larger;
    b->room = room;
    return true;
}

static bool append(bytes *b, const void *data, size_t size)
{
    if (!reserve(b, size))
        return false;
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    return true;
}

static void take(bytes *b, size_t size)
{
    memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
}

static void put32(uint8_t *to, uint32_t n)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(n >> (8 * i));
}

static uint32_t get32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void end_link(link_end *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->in.data);
    free(l->out.data);
    *l = (link_end){.fd = -1, .who = -1};
}

/* ---- sending; with the lock ---- */

static void flush_link(link_end *l)
{
    while (l->out.size > 0) {
        ssize_t n = send(l->fd, l->out.data, l->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            return; /* later, or the reader notices that it has ended */
        take(&l->out, (size_t)n);
        l->said = now();
    }
}

static bool send_link(link_end *l, int type, const void *data, size_t size)
{
    uint8_t header[HEADER];
    memcpy(header, MARK, sizeof MARK);
    put32(header + 4, (uint32_t)type);
    put32(header + 8, (uint32_t)size);
    size_t before = l->out.size;
    if (!append(&l->out, header, HEADER) || !append(&l->out, data, size)) {
        l->out.size = before;
        return false;
    }
    flush_link(l);
    return true;
}

static bool is_to(const link_end *l, int to) { return l->fd >= 0 && l->who >= 0 && (to < 0 || l->who == to); }

/* To all or to none. */
bool control_send(control *c, int to, int type, const void *data, size_t size)
{
    bool ok = size <= CONTROL_FRAME_MAX;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->links && ok; i++)
        if (is_to(&c->link[i], to))
            ok = reserve(&c->link[i].out, HEADER + size);
    for (int i = 0; i < c->links && ok; i++)
        if (is_to(&c->link[i], to))
            send_link(&c->link[i], type, data, size);
    pthread_mutex_unlock(&c->lock);
    wake(c);
    return ok;
}

/* ---- receiving; on the watching thread ---- */

static void lose(control *c, link_end *l, const char *cause)
{
    int who = l->who;
    pthread_mutex_lock(&c->lock);
    end_link(l);
    pthread_mutex_unlock(&c->lock);
    if (who >= 0)
        c->events.lost(c->events.arg, who, cause);
}

/* Compares all bytes, so that time tells nothing of the token. */
static bool same_token(const uint8_t *a, const uint8_t *b)
{
    unsigned difference = 0;
    for (int i = 0; i < CONTROL_TOKEN; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

/* A stranger's first frame. */
static bool greet(control *c, link_end *l, uint32_t type, const uint8_t *data, size_t size)
{
    if (type != FRAME_HELLO || size != CONTROL_TOKEN + 4 || !same_token(data, c->address.token))
        return false;
    uint32_t who = get32(data + CONTROL_TOKEN);
    if (who < 1 || who >= (uint32_t)c->count || c->present[who])
        return false;
    pthread_mutex_lock(&c->lock);
    l->who = (int)who;
    c->present[who] = true;
    c->joined++;
    bool ok = send_link(l, FRAME_WELCOME, c->address.answer, CONTROL_TOKEN);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return ok;
}

static bool handle(control *c, link_end *l, uint32_t type, const uint8_t *data, size_t size)
{
    if (l->who < 0)
        return greet(c, l, type, data, size);
    if (type < CONTROL_TYPES)
        c->events.frame(c->events.arg, l->who, (int)type, data, size);
    return type < CONTROL_TYPES || type == FRAME_HEARTBEAT;
}

/* Whole frames in what has arrived; false: this is not our language. */
static bool take_frames(control *c, link_end *l)
{
    size_t at = 0;
    bool ok = true;
    while (ok && l->in.size - at >= HEADER) {
        const uint8_t *header = l->in.data + at;
        uint32_t size = get32(header + 8), most = l->who < 0 ? 64 : CONTROL_FRAME_MAX;
        if (memcmp(header, MARK, sizeof MARK) != 0 || size > most)
            return false;
        if (l->in.size - at - HEADER < size)
            break;
        ok = handle(c, l, get32(header + 4), header + HEADER, size);
        at += HEADER + size;
    }
    if (at)
        take(&l->in, at);
    return ok;
}

static void read_link(control *c, link_end *l)
{
    uint8_t room[16384];
    for (;;) {
        ssize_t n = recv(l->fd, room, sizeof room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            lose(c, l, "has ended: it was killed, or it failed");
            return;
        }
        l->heard = now();
        if (!append(&l->in, room, (size_t)n) || !take_frames(c, l)) {
            lose(c, l, "sends what is not understood");
            return;
        }
    }
}

static void accept_stranger(control *c, int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return;
    link_end *free_link = NULL;
    for (int i = 0; i < c->room && !free_link; i++)
        if (c->link[i].fd < 0)
            free_link = &c->link[i];
    if (!free_link || !socket_prepare(fd)) {
        close(fd);
        return;
    }
    pthread_mutex_lock(&c->lock);
    *free_link = (link_end){.fd = fd, .who = -1, .heard = now(), .said = now()};
    if (free_link - c->link >= c->links)
        c->links = (int)(free_link - c->link) + 1;
    pthread_mutex_unlock(&c->lock);
}

static void close_listeners(control *c)
{
    for (int i = 0; i < 2; i++) {
        if (c->listener[i] >= 0)
            close(c->listener[i]);
        c->listener[i] = -1;
    }
    for (int i = 0; i < c->links; i++)
        if (c->link[i].fd >= 0 && c->link[i].who < 0)
            lose(c, &c->link[i], "");
}

/* ---- the thread ---- */

static int list_sockets(control *c, struct pollfd *fds)
{
    int n = 0;
    fds[n++] = (struct pollfd){.fd = c->wake[0], .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = c->listener[0], .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = c->listener[1], .events = POLLIN};
    for (int i = 0; i < c->links; i++)
        fds[n++] =
            (struct pollfd){.fd = c->link[i].fd, .events = (short)(POLLIN | (c->link[i].out.size ? POLLOUT : 0))};
    return n;
}

static void serve_sockets(control *c, const struct pollfd *fds, int n)
{
    char drain[64];
    if (fds[0].revents) {
        ssize_t got = read(c->wake[0], drain, sizeof drain);
        (void)got;
    }
    for (int i = 3; i < n; i++) {
        link_end *l = &c->link[i - 3];
        if (l->fd >= 0 && l->fd == fds[i].fd && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
            read_link(c, l);
        if (l->fd >= 0 && (fds[i].revents & POLLOUT)) {
            pthread_mutex_lock(&c->lock);
            flush_link(l);
            pthread_mutex_unlock(&c->lock);
        }
    }
    for (int i = 0; i < 2; i++)
        if (fds[1 + i].revents & POLLIN)
            accept_stranger(c, c->listener[i]);
    if (c->leads && c->joined == c->count - 1)
        close_listeners(c);
}

/* Heartbeats, and who has not been heard for too long. What has come while this process was stopped is read first. */
static void keep_time(control *c)
{
    char cause[128];
    double t = now();
    for (int i = 0; i < c->links; i++) {
        link_end *l = &c->link[i];
        if (l->fd < 0)
            continue;
        double limit = l->who < 0 ? STRANGER_SECONDS : c->events.silence;
        if (t - l->heard > limit)
            read_link(c, l);
        if (l->fd >= 0 && t - l->heard > limit) {
            snprintf(cause, sizeof cause, "has been silent for %d s: its host or the network is down, or it is stopped",
                     c->events.silence);
            lose(c, l, cause);
        } else if (l->fd >= 0 && l->who >= 0) {
            pthread_mutex_lock(&c->lock);
            if (t - l->said >= c->events.heartbeat) {
                send_link(l, FRAME_HEARTBEAT, NULL, 0);
                l->said = t;
            }
            pthread_mutex_unlock(&c->lock);
        }
    }
}

static void *watch(void *arg)
{
    control *c = arg;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        bool stop = c->stop;
        int n = list_sockets(c, c->fds);
        pthread_mutex_unlock(&c->lock);
        if (stop)
            return NULL;
        if (poll(c->fds, (nfds_t)n, 1000 * c->events.heartbeat / 4 + 1) > 0)
            serve_sockets(c, c->fds, n);
        keep_time(c);
    }
}

/* ---- opening ---- */

static flux1_status create_control(int count, int room, const control_events *events, control **out, flux1_error *err)
{
    control *c = calloc(1, sizeof *c + (size_t)room * sizeof c->link[0]);
    bool *present = calloc((size_t)count, sizeof *present);
    struct pollfd *fds = calloc((size_t)room + 3, sizeof *fds);
    if (!c || !present || !fds || pthread_mutex_init(&c->lock, NULL) != 0) {
        free(c);
        free(present);
        free(fds);
        return error_oom(err, 0, "connections between processes");
    }
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &clock);
    pthread_condattr_destroy(&clock);
    c->events = *events;
    c->count = count;
    c->room = room;
    c->present = present;
    c->fds = fds;
    c->wake[0] = c->wake[1] = c->listener[0] = c->listener[1] = -1;
    for (int i = 0; i < room; i++)
        c->link[i] = (link_end){.fd = -1, .who = -1};
    *out = c;
    if (pipe(c->wake) == 0 && socket_prepare(c->wake[0]) && socket_prepare(c->wake[1]))
        return FLUX1_OK;
    control_close(c);
    *out = NULL;
    return error_set(err, FLUX1_ERR_COMM, "cannot make a pipe: too many open files?");
}

static flux1_status start_watching(control *c, flux1_error *err)
{
    if (thread_start(&c->thread, watch, c) != 0)
        return error_set(err, FLUX1_ERR_MEMORY, "cannot start a thread for the connections between processes");
    c->started = true;
    return FLUX1_OK;
}

flux1_status control_listen(int count, const control_events *events, control_address *address, control **out,
                            flux1_error *err)
{
    control *c;
    flux1_status st;
    TRY(create_control(count, count + STRANGERS, events, &c, err));
    c->leads = true;
    bool four = socket_listen(AF_INET, &c->address.port, &c->listener[0]);
    bool six = socket_listen(AF_INET6, &c->address.port, &c->listener[1]);
    if ((!four && !six) || getentropy(c->address.token, CONTROL_TOKEN) != 0 ||
        getentropy(c->address.answer, CONTROL_TOKEN) != 0) {
        control_close(c);
        return error_set(err, FLUX1_ERR_COMM, "cannot listen for the other processes: %s", strerror(errno));
    }
    socket_addresses(&c->address);
    *address = c->address;
    if ((st = start_watching(c, err)) != FLUX1_OK) {
        control_close(c);
        return st;
    }
    *out = c;
    return FLUX1_OK;
}

flux1_status control_wait(control *c, int seconds, int *missing, flux1_error *err)
{
    double end = now() + seconds;
    struct timespec until = {.tv_sec = (time_t)end, .tv_nsec = (long)(1e9 * (end - (double)(time_t)end))};
    pthread_mutex_lock(&c->lock);
    while (c->joined < c->count - 1)
        if (pthread_cond_timedwait(&c->changed, &c->lock, &until) != 0)
            break;
    *missing = 0;
    for (int i = c->count - 1; i > 0; i--)
        if (!c->present[i])
            *missing = i;
    pthread_mutex_unlock(&c->lock);
    return *missing ? error_set(err, FLUX1_ERR_COMM, "no connection within %d s", seconds) : FLUX1_OK;
}

static bool say_hello(const control_address *a, int index, int fd)
{
    link_end l = {.fd = fd};
    uint8_t hello[CONTROL_TOKEN + 4];
    memcpy(hello, a->token, CONTROL_TOKEN);
    put32(hello + CONTROL_TOKEN, (uint32_t)index);
    bool ok = send_link(&l, FRAME_HELLO, hello, sizeof hello) && l.out.size == 0;
    free(l.out.data);
    return ok;
}

/* Whether the leader has answered: it alone knows the answer. Takes no byte beyond it. */
static bool is_leader(const control_address *a, int fd)
{
    uint8_t got[HEADER + CONTROL_TOKEN];
    if (recv(fd, got, sizeof got, MSG_PEEK | MSG_DONTWAIT) < (ssize_t)sizeof got)
        return false;
    return memcmp(got, MARK, sizeof MARK) == 0 && get32(got + 4) == FRAME_WELCOME && get32(got + 8) == CONTROL_TOKEN &&
           same_token(got + HEADER, a->answer) && recv(fd, got, sizeof got, 0) == (ssize_t)sizeof got;
}

/* Of one address after the other, so that the leader takes this process once. Returns the socket, or −1. */
static int try_address(const control_address *a, int i, int index, double end)
{
    int fd = socket_connect(a, i);
    bool connected = false, welcome = false;
    while (fd >= 0 && !welcome && now() < end) {
        struct pollfd p = {.fd = fd, .events = (short)(connected ? POLLIN : POLLOUT)};
        if (poll(&p, 1, 50) <= 0)
            continue;
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error || (p.revents & (POLLHUP | POLLERR)))
            break;
        if (!connected && !say_hello(a, index, fd))
            break;
        if (!connected)
            end = now() + ANSWER_SECONDS;
        else if (!(welcome = is_leader(a, fd)))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        connected = true;
    }
    if (fd >= 0 && !welcome) {
        close(fd);
        return -1;
    }
    return fd;
}

flux1_status control_connect(const control_address *address, int index, const control_events *events, int seconds,
                             control **out, flux1_error *err)
{
    control *c;
    double end = now() + seconds;
    int fd = -1, count = address->count < CONTROL_ADDRESSES ? address->count : CONTROL_ADDRESSES;
    for (double patience = 1; fd < 0 && now() < end; patience *= 2) /* an address may lead nowhere */
        for (int i = 0; i < count && fd < 0 && now() < end; i++)
            fd = try_address(address, i, index, now() + patience < end ? now() + patience : end);
    if (fd < 0)
        return error_set(err, FLUX1_ERR_COMM, "no connection at port %d of any of its %d addresses within %d s",
                         address->port, count, seconds);
    flux1_status st = create_control(1, 1, events, &c, err);
    if (st != FLUX1_OK) {
        close(fd);
        return st;
    }
    c->link[0] = (link_end){.fd = fd, .heard = now(), .said = now()};
    c->links = 1;
    if ((st = start_watching(c, err)) != FLUX1_OK) {
        control_close(c);
        return st;
    }
    *out = c;
    return FLUX1_OK;
}

/* What the sockets have not taken yet. */
static void flush_all(control *c)
{
    double end = now() + CLOSE_SECONDS;
    for (int i = 0; i < c->links; i++)
        while (c->link[i].fd >= 0 && c->link[i].out.size > 0 && now() < end) {
            struct pollfd p = {.fd = c->link[i].fd, .events = POLLOUT};
            if (poll(&p, 1, 100) > 0 && (p.revents & (POLLERR | POLLHUP)))
                break;
            flush_link(&c->link[i]);
        }
}

void control_close(control *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_mutex_unlock(&c->lock);
    if (c->started) {
        wake(c);
        pthread_join(c->thread, NULL);
    }
    flush_all(c);
    for (int i = 0; i < c->links; i++)
        end_link(&c->link[i]);
    for (int i = 0; i < 2; i++) {
        if (c->listener[i] >= 0)
            close(c->listener[i]);
        if (c->wake[i] >= 0)
            close(c->wake[i]);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c->present);
    free(c->fds);
    free(c);
}
