#include "ops/cpu/stream.h"

#include "base/clock.h"
#include "base/file_map.h"
#include "base/pool.h"
#include "base/units.h"

#include <stdint.h>
#include <stdio.h>

enum {
    CHUNK = 4 << 20,       /* bytes read between two looks at `cancel` */
    LEAST_TOTAL = 64 << 20 /* of weights that all stay: fewer are not worth a thread */
};

/* ---- the thread ---- */

static bool cancelled(const stream *s) { return s->cancel && atomic_load_explicit(s->cancel, memory_order_relaxed); }

/* All of it is asked for before the first byte is waited for: a disk then reads twice as fast as where the two take
 * turns (docs/performance.md). */
static void read_block(const stream *s, const stream_block *b)
{
    for (int i = 0; i < b->ranges; i++)
        file_map_will_need(b->range[i].bytes, b->range[i].count);
    for (int i = 0; i < b->ranges; i++) {
        const stream_range *r = &b->range[i];
        for (size_t at = 0; r->dense && at < r->count && !cancelled(s); at += CHUNK)
            file_map_read(r->bytes + at, r->count - at < CHUNK ? r->count - at : CHUNK);
    }
}

static void give_back(const stream_block *b)
{
    for (int i = 0; i < b->ranges; i++)
        if (b->range[i].file)
            file_map_wont_need(b->range[i].bytes, b->range[i].count);
}

static stream_block *next_to_leave(const stream *s)
{
    for (stream_block *b = s->blocks; b; b = b->next)
        if (b->leaves)
            return b;
    return NULL;
}

/* With the lock held before and after. What leaves goes first: its memory is for what comes. */
static bool work(stream *s)
{
    stream_block *leaving = next_to_leave(s), *coming = leaving ? NULL : s->wanted;
    if (!leaving && !coming)
        return false;
    s->working = true;
    if (leaving)
        leaving->leaves = leaving->there = false;
    else
        s->wanted = NULL;
    pthread_mutex_unlock(&s->lock);
    const double begin = clock_seconds();
    if (leaving)
        give_back(leaving);
    else
        read_block(s, coming);
    const double seconds = clock_seconds() - begin;
    pthread_mutex_lock(&s->lock);
    s->working = false;
    if (coming) {
        coming->there = true;
        coming->asked = false;
        s->times.read += seconds;
        s->times.bytes += (double)coming->bytes;
    }
    pthread_cond_broadcast(&s->changed);
    return true;
}

static void *stream_main(void *arg)
{
    stream *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop)
        if (!work(s))
            pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Without a thread the same work is done by those who ask for it. */
static void order(stream *s)
{
    if (s->started)
        pthread_cond_broadcast(&s->changed);
    else
        while (work(s))
            ;
}

/* ---- the backend's thread ---- */

flux1_status stream_create(stream *s, const atomic_int *cancel, flux1_error *err)
{
    *s = (stream){.cancel = cancel, .budget = SIZE_MAX};
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        return error_oom(err, 0, "a lock");
    if (pthread_cond_init(&s->changed, NULL) != 0) {
        pthread_mutex_destroy(&s->lock);
        return error_oom(err, 0, "a condition");
    }
    s->ready = true;
    return FLUX1_OK;
}

void stream_destroy(stream *s)
{
    if (!s->ready)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    s->ready = false;
}

bool stream_is_limited(const stream *s) { return s->total > s->budget; }

static bool is_used(const stream *s) { return stream_is_limited(s) || s->total >= LEAST_TOTAL; }

/* Until the thread neither reads a block nor gives one back. The lock is held. */
static void wait_until_idle(stream *s)
{
    while (s->working)
        pthread_cond_wait(&s->changed, &s->lock);
}

void stream_take(stream *s, stream_block *blocks)
{
    pthread_mutex_lock(&s->lock);
    wait_until_idle(s);
    s->blocks = blocks;
    s->wanted = s->guess = s->last = NULL;
    s->total = s->staying = 0;
    for (stream_block *b = blocks; b; b = b->next) {
        b->then = NULL;
        b->held = b->there = b->asked = b->stays = b->leaves = b->stepped = false;
        s->total += b->bytes;
    }
    if (!s->started && is_used(s))
        s->started = thread_start(&s->thread, stream_main, s) == 0;
    pthread_mutex_unlock(&s->lock);
}

void stream_budget(stream *s, size_t bytes)
{
    pthread_mutex_lock(&s->lock);
    wait_until_idle(s);
    for (const stream_block *b = s->blocks; b && bytes < s->total && bytes <= s->budget; b = b->next)
        if (!b->held)
            give_back(b);
    s->budget = bytes;
    s->in_steps = false;
    pthread_mutex_unlock(&s->lock);
    stream_take(s, s->blocks);
}

void stream_in_steps(stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->in_steps = true;
    pthread_mutex_unlock(&s->lock);
}

/* What was read ahead for nothing takes no room. */
static void drop_guess(stream *s, const stream_block *begun)
{
    stream_block *g = s->guess;
    s->guess = NULL;
    if (!g || g == begun || g->held || g->stays || !stream_is_limited(s))
        return;
    if (s->wanted == g) {
        s->wanted = NULL;
        g->asked = false;
    }
    g->leaves = g->there || g->asked;
}

static void ask(stream *s, stream_block *b)
{
    if (b->there || b->asked || b->bytes == 0)
        return;
    if (s->wanted)
        s->wanted->asked = false;
    s->wanted = b;
    b->asked = true;
    order(s);
}

static stream_block *behind(const stream_block *b) { return b->then ? b->then : b->next; }

static size_t passing(const stream_block *b, const stream_block *stays)
{
    return !b || b->stays || b == stays ? 0 : b->bytes;
}

/* What must be in memory while the held blocks are used and `next` is read. */
static size_t needed(const stream *s, const stream_block *next)
{
    size_t all = s->staying + passing(next, NULL);
    for (const stream_block *b = s->blocks; b; b = b->next)
        all += b->held && b != next ? passing(b, NULL) : 0;
    return all;
}

/* In the first step blocks stay before it is known what is begun beside others (an adapter's block). If there turns out
 * to be no room for that, they leave again. */
static void make_room(stream *s, const stream_block *next)
{
    if (!stream_is_limited(s) || needed(s, next) <= s->budget)
        return;
    for (stream_block *b = s->blocks; b && needed(s, next) > s->budget; b = b->next)
        if (b->stays && !b->held && b != next) {
            b->stays = false;
            b->leaves = true;
            s->staying -= b->bytes;
        }
    order(s);
}

/* Where all weights stay, nothing is waited for: compute finds the pages itself, read or not. */
void stream_begin(stream *s, stream_block *b)
{
    if (!is_used(s))
        return;
    pthread_mutex_lock(&s->lock);
    b->held = true;
    b->stepped = s->in_steps;
    b->leaves = false;
    b->beside = s->last && s->last != b && s->last->held;
    if (s->last)
        s->last->then = b;
    s->last = b;
    drop_guess(s, b);
    stream_block *next = behind(b);
    make_room(s, next);
    ask(s, b);
    const double begin = clock_seconds();
    while (stream_is_limited(s) && b->asked)
        pthread_cond_wait(&s->changed, &s->lock);
    s->times.waited += clock_seconds() - begin;
    if (next && next != b) {
        s->guess = next;
        ask(s, next);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Of those that do not stay, if `stays` does: one is used, with what is held beside it, while the next is read. Other
 * models' blocks are in the list before those of the steps. */
static size_t largest_pair(const stream *s, const stream_block *stays)
{
    size_t most = 0;
    const stream_block *b = s->blocks;
    while (b && !b->stepped)
        b = b->next;
    for (; b; b = b->next) {
        const stream_block *next = behind(b);
        size_t all = passing(b, stays);
        for (; next && next != b && next->beside; next = behind(next))
            all += passing(next, stays);
        all += next == b ? 0 : passing(next, stays);
        most = all > most ? all : most;
    }
    return most;
}

static bool may_stay(const stream *s, const stream_block *b)
{
    const size_t pair = s->in_steps ? largest_pair(s, b) : 0;
    return s->in_steps && s->staying <= s->budget && b->bytes <= s->budget - s->staying &&
           pair <= s->budget - s->staying - b->bytes;
}

void stream_end(stream *s, stream_block *b)
{
    if (!stream_is_limited(s))
        return;
    pthread_mutex_lock(&s->lock);
    b->held = false;
    if (!b->stays && may_stay(s, b)) {
        b->stays = true;
        s->staying += b->bytes;
    }
    if (!b->stays) {
        b->leaves = true;
        order(s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- notes ---- */

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static stream_times told; /* by all streams, and heard by nobody yet */

void stream_tell(stream *s)
{
    pthread_mutex_lock(&s->lock);
    const stream_times t = s->times;
    s->times = (stream_times){0};
    pthread_mutex_unlock(&s->lock);
    if (!stream_is_limited(s))
        return;
    pthread_mutex_lock(&told_lock);
    told.read += t.read;
    told.waited += t.waited;
    told.bytes += t.bytes;
    pthread_mutex_unlock(&told_lock);
}

bool stream_next_note(ops_note *out)
{
    char bytes[BYTES_TEXT];
    pthread_mutex_lock(&told_lock);
    const stream_times t = told;
    told = (stream_times){0};
    pthread_mutex_unlock(&told_lock);
    if (t.bytes <= 0)
        return false;
    const double hidden = t.read > 0 && t.waited < t.read ? 1 - t.waited / t.read : 0;
    *out = (ops_note){.warning = false};
    snprintf(out->text, sizeof out->text,
             "memory: %s of weights were read in %.2f s, %.0f%% of it while blocks computed (they waited for %.2f s)",
             format_bytes(bytes, sizeof bytes, t.bytes), t.read, 100 * hidden, t.waited);
    return true;
}
