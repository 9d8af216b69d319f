#include "mesh/engine.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/pool.h"
#include "mesh/transfers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ITEMS_BLOCK = 64,
    SETTLE_SECONDS = 60,
    PAUSE_MIN = 10, /* microseconds */
    PAUSE_WAITED = 200,
    PAUSE_MAX = 500
};

/* A message that a rank has asked for. */
typedef struct item {
    struct item *next;
    bool done;
    transfer_key of;
    exchange *x; /* NULL: nobody waits any more */
    transfer *transfer;
} item;

typedef struct items {
    struct items *next;
    item item[ITEMS_BLOCK];
} items;

typedef enum phase { PHASE_STARTING, PHASE_READY, PHASE_FAILED, PHASE_ENDED } phase;

/* What another thread has this one do. */
typedef bool command_fn(engine *e, void *arg, char *why);

struct engine {
    const wire_table *w;
    int count, index, tag_max;
    engine_failed *failed;
    void *failed_arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, changed; /* for this thread, for the others */
    phase phase;
    char why[WIRE_WHY];
    bool stop, finalize, aborted;
    bool restless; /* what has been sent may not have left the process yet */
    atomic_bool broken;
    int waiting; /* ranks */
    command_fn *command;
    void *command_arg;
    bool command_ok;
    items *blocks;
    item *idle, *queue, **queue_end, *fresh, *active; /* fresh: being started */
    transfers transfers;
    uint64_t *sent, *received; /* [count] messages */
    int64_t moved;             /* when something moved last, in nanoseconds */
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct timespec at_time(int64_t nanoseconds)
{
    return (struct timespec){.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
}

/* ---- the thread; functions that end in _locked are called with the lock and return with it ---- */

static void fail_locked(engine *e, const char *why)
{
    bool first = !e->broken;
    if (first)
        snprintf(e->why, sizeof e->why, "%s", why);
    e->broken = true;
    pthread_cond_broadcast(&e->changed);
    engine_failed *failed = e->failed; /* NULL: closed, while this thread hung within MPI */
    if (!first || !failed)
        return;
    pthread_mutex_unlock(&e->lock);
    failed(e->failed_arg, why);
    pthread_mutex_lock(&e->lock);
}

static void start_queued_locked(engine *e)
{
    char why[WIRE_WHY];
    bool ok = true;
    item *last = NULL;
    e->fresh = e->queue;
    e->queue = NULL;
    e->queue_end = &e->queue;
    pthread_mutex_unlock(&e->lock);
    for (item *i = e->fresh; i && ok; i = i->next) {
        ok = transfers_start(&e->transfers, &i->of, &i->transfer, why);
        if (ok && i->of.send)
            e->sent[i->of.peer]++;
        last = i;
    }
    pthread_mutex_lock(&e->lock);
    if (last && ok) {
        last->next = e->active;
        e->active = e->fresh;
        e->fresh = NULL;
        e->moved = now();
    }
    pthread_cond_broadcast(&e->changed); /* for engine_sent */
    if (!ok)
        fail_locked(e, why);
}

static void finish_locked(engine *e, item *i)
{
    i->transfer->active = false;
    if (i->of.send)
        e->restless = true;
    else
        e->received[i->of.peer]++;
    if (i->x && --i->x->pending == 0)
        i->x->last = clock_seconds();
    i->x = NULL;
    i->next = e->idle;
    e->idle = i;
}

/* Whether something has arrived or gone. */
static bool test_active_locked(engine *e)
{
    char why[WIRE_WHY];
    bool ok = true, moved = false;
    pthread_mutex_unlock(&e->lock);
    for (item *i = e->active; i && ok; i = i->next)
        ok = e->w->test(i->transfer->request, &i->done, why);
    pthread_mutex_lock(&e->lock);
    if (!ok) {
        fail_locked(e, why);
        return false;
    }
    for (item **at = &e->active; *at;) {
        item *i = *at;
        if (!i->done) {
            at = &i->next;
            continue;
        }
        *at = i->next;
        finish_locked(e, i);
        moved = true;
    }
    transfers_trim(&e->transfers);
    if (moved) {
        e->moved = now();
        pthread_cond_broadcast(&e->changed);
    }
    return moved;
}

/* MPI may keep what it says is sent, and lets it go only while it is called: the other side would wait for ever. */
static bool flush_locked(engine *e)
{
    char why[WIRE_WHY];
    bool found;
    int tag;
    size_t bytes;
    pthread_mutex_unlock(&e->lock);
    bool ok = e->w->probe((e->index + 1) % e->count, &found, &tag, &bytes, why);
    pthread_mutex_lock(&e->lock);
    if (!ok)
        fail_locked(e, why);
    return false;
}

/* Grows with the time for which nothing has moved: slowly while a rank waits, whose core is idle, faster while all
 * compute. */
static void pause_locked(engine *e)
{
    int64_t at = now(), still = at - e->moved, pause = e->waiting ? still / 1024 : still / 16,
            most = e->waiting ? PAUSE_WAITED : PAUSE_MAX;
    struct timespec until = at_time(at + i64_max(1000 * PAUSE_MIN, i64_min(pause, 1000 * most)));
    pthread_cond_timedwait(&e->work, &e->lock, &until);
}

static void command_locked(engine *e)
{
    command_fn *fn = e->command;
    void *arg = e->command_arg;
    char why[WIRE_WHY] = "";
    bool ok = false;
    if (!e->broken) {
        pthread_mutex_unlock(&e->lock);
        ok = fn(e, arg, why);
        pthread_mutex_lock(&e->lock);
        if (!ok)
            fail_locked(e, why);
    }
    e->command = NULL;
    e->command_ok = ok;
    pthread_cond_broadcast(&e->changed);
}

static void serve_locked(engine *e)
{
    while (!e->stop) {
        if (e->command)
            command_locked(e);
        else if (e->broken) /* MPI is not called again: it may not return when a process is gone */
            pthread_cond_wait(&e->work, &e->lock);
        else if (e->queue)
            start_queued_locked(e);
        else if (!e->active && !e->restless)
            pthread_cond_wait(&e->work, &e->lock);
        else if (!(e->active ? test_active_locked(e) : flush_locked(e)) && !e->queue && !e->command && !e->stop)
            pause_locked(e);
    }
}

static bool begin_wire(engine *e, char *why)
{
    if (!e->w->init(why))
        return false;
    e->count = e->w->count();
    e->index = e->w->index();
    e->tag_max = e->w->tag_max();
    e->sent = calloc((size_t)e->count, sizeof *e->sent);
    e->received = calloc((size_t)e->count, sizeof *e->received);
    if (e->sent && e->received)
        return true;
    snprintf(why, WIRE_WHY, "out of memory for %d processes", e->count);
    return false;
}

static void *engine_main(void *arg)
{
    engine *e = arg;
    char why[WIRE_WHY] = "";
    bool ok = begin_wire(e, why);
    pthread_mutex_lock(&e->lock);
    e->phase = ok ? PHASE_READY : PHASE_FAILED;
    if (!ok)
        snprintf(e->why, sizeof e->why, "%s", why);
    pthread_cond_broadcast(&e->changed);
    if (ok)
        serve_locked(e);
    bool finalize = ok && e->finalize && !e->broken;
    pthread_mutex_unlock(&e->lock);
    if (finalize) {
        transfers_end(&e->transfers);
        e->w->finalize(why);
    }
    pthread_mutex_lock(&e->lock);
    e->phase = ok ? PHASE_ENDED : PHASE_FAILED;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- open, close ---- */

static bool make_conditions(engine *e)
{
    pthread_condattr_t clock;
    if (pthread_condattr_init(&clock) != 0)
        return false;
    bool ok = pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&e->work, &clock) == 0;
    if (ok && pthread_cond_init(&e->changed, &clock) != 0) {
        pthread_cond_destroy(&e->work);
        ok = false;
    }
    pthread_condattr_destroy(&clock);
    return ok;
}

static void release(engine *e)
{
    transfers_forget(&e->transfers);
    while (e->blocks) {
        items *b = e->blocks;
        e->blocks = b->next;
        free(b);
    }
    free(e->sent);
    free(e->received);
    pthread_cond_destroy(&e->changed);
    pthread_cond_destroy(&e->work);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* Waits until the thread's phase is none of this one; false: it takes longer. */
static bool leaves_phase_locked(engine *e, phase p, int seconds)
{
    struct timespec until = at_time(now() + (int64_t)seconds * 1000000000);
    while (e->phase == p)
        if (pthread_cond_timedwait(&e->changed, &e->lock, &until) != 0)
            return e->phase != p;
    return true;
}

static flux1_status create_engine(const wire_table *w, engine **out, flux1_error *err)
{
    engine *e = calloc(1, sizeof *e);
    if (!e)
        return error_oom(err, sizeof *e, "the exchange between processes");
    e->w = e->transfers.wire = w;
    e->queue_end = &e->queue;
    if (pthread_mutex_init(&e->lock, NULL) != 0) {
        free(e);
        return error_oom(err, 0, "the exchange between processes");
    }
    if (!make_conditions(e)) {
        pthread_mutex_destroy(&e->lock);
        free(e);
        return error_oom(err, 0, "the exchange between processes");
    }
    *out = e;
    return FLUX1_OK;
}

flux1_status engine_open(const wire_table *w, int seconds, engine_failed *failed, void *arg, engine **out,
                         flux1_error *err)
{
    engine *e = NULL;
    TRY(create_engine(w, &e, err));
    e->failed = failed;
    e->failed_arg = arg;
    if (thread_start(&e->thread, engine_main, e) != 0) {
        release(e);
        return error_set(err, FLUX1_ERR_MEMORY, "cannot start a thread for the exchange between processes");
    }
    pthread_mutex_lock(&e->lock);
    bool left = leaves_phase_locked(e, PHASE_STARTING, seconds), ready = left && e->phase == PHASE_READY;
    if (!left)
        e->failed = NULL;
    pthread_mutex_unlock(&e->lock);
    if (ready) {
        *out = e;
        return FLUX1_OK;
    }
    if (!left) { /* the thread hangs within MPI: it keeps the engine */
        pthread_detach(e->thread);
        return error_set(err, FLUX1_ERR_COMM,
                         "MPI has not started within %d s: not all processes have begun, or they cannot reach each "
                         "other",
                         seconds);
    }
    pthread_join(e->thread, NULL);
    flux1_status st = error_set(err, FLUX1_ERR_COMM, "MPI does not start: %s", e->why);
    release(e);
    return st;
}

void engine_close(engine *e, bool finalize, int seconds)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    e->finalize = finalize;
    pthread_cond_signal(&e->work);
    bool ended = leaves_phase_locked(e, PHASE_READY, seconds);
    if (!ended)
        e->failed = NULL;
    pthread_mutex_unlock(&e->lock);
    if (!ended) {
        pthread_detach(e->thread);
        return;
    }
    pthread_join(e->thread, NULL);
    release(e);
}

int engine_count(const engine *e) { return e->count; }
int engine_index(const engine *e) { return e->index; }
int engine_tag_max(const engine *e) { return e->tag_max; }

flux1_status engine_aborted(engine *e, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_COMM, "%s", e->broken ? e->why : "another rank of the mesh has failed");
}

/* Runs fn on the engine's thread. */
static flux1_status call(engine *e, command_fn *fn, void *arg, flux1_error *err)
{
    pthread_mutex_lock(&e->lock);
    e->command = fn;
    e->command_arg = arg;
    pthread_cond_signal(&e->work);
    while (e->command)
        pthread_cond_wait(&e->changed, &e->lock);
    flux1_status st = e->command_ok ? FLUX1_OK : engine_aborted(e, err);
    pthread_mutex_unlock(&e->lock);
    return st;
}

typedef struct gathering {
    const void *mine;
    void *all;
    size_t bytes;
    int seconds;
} gathering;

static bool gather_command(engine *e, void *arg, char *why)
{
    gathering *g = arg;
    return e->w->gather(g->mine, g->all, g->bytes, 1000 * g->seconds, why);
}

flux1_status engine_gather(engine *e, const void *mine, void *all, size_t bytes, int seconds, flux1_error *err)
{
    return call(e, gather_command, &(gathering){mine, all, bytes, seconds}, err);
}

/* ---- what ranks call ---- */

static item *take_item_locked(engine *e)
{
    if (!e->idle) {
        items *b = calloc(1, sizeof *b);
        if (!b)
            return NULL;
        b->next = e->blocks;
        e->blocks = b;
        for (int i = 0; i < ITEMS_BLOCK; i++) {
            b->item[i].next = e->idle;
            e->idle = &b->item[i];
        }
    }
    item *i = e->idle;
    e->idle = i->next;
    return i;
}

static void post(engine *e, exchange *x, bool send, int peer, int tag, char *at, size_t bytes)
{
    pthread_mutex_lock(&e->lock);
    while (bytes > 0 && x->status == FLUX1_OK && !e->aborted && !e->broken) {
        size_t n = bytes < WIRE_BYTES_MAX ? bytes : WIRE_BYTES_MAX;
        item *i = take_item_locked(e);
        if (!i) {
            x->status = FLUX1_ERR_MEMORY;
            break;
        }
        *i = (item){.of = {send, peer, tag, at, n}, .x = x};
        *e->queue_end = i;
        e->queue_end = &i->next;
        if (x->pending++ == 0)
            x->first = clock_seconds();
        at += n;
        bytes -= n;
    }
    if (bytes > 0 && x->status == FLUX1_OK)
        x->status = FLUX1_ERR_COMM;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
}

void engine_send(engine *e, exchange *x, int peer, int tag, const void *from, size_t bytes)
{
    post(e, x, true, peer, tag, (char *)(uintptr_t)from, bytes);
}

void engine_receive(engine *e, exchange *x, int peer, int tag, void *to, size_t bytes)
{
    post(e, x, false, peer, tag, to, bytes);
}

static void forget_locked(engine *e, exchange *x)
{
    item *lists[] = {e->queue, e->fresh, e->active};
    for (int l = 0; l < 3; l++)
        for (item *i = lists[l]; i; i = i->next)
            if (i->x == x)
                i->x = NULL;
    *x = (exchange){0};
}

void engine_forget(engine *e, exchange *x)
{
    pthread_mutex_lock(&e->lock);
    if (x->pending)
        forget_locked(e, x);
    pthread_mutex_unlock(&e->lock);
}

flux1_status engine_wait(engine *e, exchange *x, flux1_error *err)
{
    pthread_mutex_lock(&e->lock);
    e->waiting++;
    if (x->pending)
        pthread_cond_signal(&e->work); /* it may pause for long */
    while (x->pending && x->status == FLUX1_OK && !e->aborted && !e->broken)
        pthread_cond_wait(&e->changed, &e->lock);
    e->waiting--;
    flux1_status st = x->status;
    if (st == FLUX1_ERR_MEMORY)
        error_oom(err, sizeof(items), "an exchange between processes");
    else if (x->pending || st != FLUX1_OK)
        st = engine_aborted(e, err);
    if (x->pending)
        forget_locked(e, x);
    x->status = FLUX1_OK;
    pthread_mutex_unlock(&e->lock);
    return st;
}

/* ---- aborts ---- */

/* What has not been started is forgotten. */
static void drop_queue_locked(engine *e)
{
    while (e->queue) {
        item *i = e->queue;
        e->queue = i->next;
        i->next = e->idle;
        e->idle = i;
    }
    e->queue_end = &e->queue;
    pthread_cond_broadcast(&e->changed);
    pthread_cond_signal(&e->work);
}

void engine_abort(engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->aborted = true;
    drop_queue_locked(e);
    pthread_mutex_unlock(&e->lock);
}

void engine_break(engine *e, const char *why)
{
    pthread_mutex_lock(&e->lock);
    if (!e->broken)
        snprintf(e->why, sizeof e->why, "%s", why);
    e->broken = true;
    drop_queue_locked(e);
    pthread_mutex_unlock(&e->lock);
}

void engine_resume(engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->aborted = false;
    pthread_mutex_unlock(&e->lock);
}

void engine_sent(engine *e, uint64_t *sent)
{
    pthread_mutex_lock(&e->lock);
    while (e->fresh && !e->broken)
        pthread_cond_wait(&e->changed, &e->lock);
    memcpy(sent, e->sent, (size_t)e->count * sizeof *sent);
    pthread_mutex_unlock(&e->lock);
}

typedef struct settling {
    const uint64_t *expected;
    int mask, tags;
} settling;

/* One message that nobody receives, if there is one. A process that is done here may have begun the next order: what
 * it sends for that comes after the rest of this one. */
static bool throw_away(engine *e, int peer, const settling *s, bool *found, char *why)
{
    int tag = 0;
    size_t bytes;
    wire_request *r;
    if (!e->w->probe(peer, found, &tag, &bytes, why))
        return false;
    *found = *found && (tag & s->mask) == s->tags;
    if (!*found)
        return true;
    void *scratch = malloc(bytes + 1);
    if (!scratch) {
        snprintf(why, WIRE_WHY, "out of memory: %zu bytes for what a failed order has left", bytes);
        return false;
    }
    bool done = false, ok = e->w->create(false, peer, tag, scratch, bytes, &r, why) && e->w->start(r, why);
    while (ok && !done && !e->broken) {
        ok = e->w->test(r, &done, why);
        nanosleep(&(struct timespec){.tv_nsec = 1000 * PAUSE_MIN}, NULL);
    }
    if (!ok || !done)
        return false; /* the message may still be written into scratch: it stays */
    e->w->destroy(r);
    free(scratch);
    pthread_mutex_lock(&e->lock);
    e->received[peer]++;
    pthread_mutex_unlock(&e->lock);
    return true;
}

static bool settled_locked(engine *e, const uint64_t *expected)
{
    for (item *i = e->active; i; i = i->next)
        if (i->of.send)
            return false;
    for (int p = 0; p < e->count; p++)
        if (e->received[p] < expected[p])
            return false;
    return true;
}

/* Receives for which nothing was sent. */
static bool cancel_rest(engine *e, char *why)
{
    for (item *i = e->active; i; i = i->next)
        if (!e->w->cancel(i->transfer->request, why))
            return false;
    pthread_mutex_lock(&e->lock);
    while (e->active) {
        item *i = e->active;
        e->active = i->next;
        i->transfer->active = false;
        i->next = e->idle;
        e->idle = i;
    }
    pthread_mutex_unlock(&e->lock);
    return true;
}

static bool settle_command(engine *e, void *arg, char *why)
{
    const settling *s = arg;
    int64_t end = now() + (int64_t)SETTLE_SECONDS * 1000000000;
    bool settled = false;
    while (!settled && now() < end) {
        bool found = false;
        for (int p = 0; p < e->count; p++)
            if (e->received[p] < s->expected[p] && !throw_away(e, p, s, &found, why))
                return false;
        pthread_mutex_lock(&e->lock);
        bool moved = test_active_locked(e), broken = e->broken;
        settled = settled_locked(e, s->expected);
        pthread_mutex_unlock(&e->lock);
        if (broken)
            return false;
        if (!settled && !moved && !found)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    if (!settled)
        snprintf(why, WIRE_WHY, "what a failed order has sent has not arrived within %d s", SETTLE_SECONDS);
    return settled && cancel_rest(e, why);
}

flux1_status engine_settle(engine *e, const uint64_t *expected, int mask, int tags, flux1_error *err)
{
    return call(e, settle_command, &(settling){expected, mask, tags}, err);
}

void engine_rest(engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->restless = false;
    pthread_mutex_unlock(&e->lock);
}

/* ---- ranks of this process ---- */

void engine_lock(engine *e) { pthread_mutex_lock(&e->lock); }
void engine_unlock(engine *e) { pthread_mutex_unlock(&e->lock); }
void engine_notify(engine *e) { pthread_cond_broadcast(&e->changed); }

bool engine_await(engine *e)
{
    if (!e->aborted && !e->broken)
        pthread_cond_wait(&e->changed, &e->lock);
    return !e->aborted && !e->broken;
}
