/* The protocol between the leader and its followers. A follower speaks to the leader only; the leader passes on what
 * concerns all. `epoch` counts the agreements so far, so that a late word on an earlier order is recognised. */
#include "mesh/processes_state.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS_MAX = 1024 };
enum { TAG_GENERATION = 1 << 22, TAG_KIND = 1 << 20, TAG_FROM = 1 << 10, TAGS = 1 << 23 };
enum { CLOCK_TRIPS = 16 };

/* How an order went for one process, and for all. As it is sent, the counts and the message follow. */
typedef struct verdict {
    uint64_t epoch;
    int32_t status, origin; /* origin: of a failure, the process */
} verdict;

int processes_count(const processes *p) { return p->count; }
int processes_index(const processes *p) { return p->index; }
const process_info *processes_info(const processes *p, int index) { return &p->info[index]; }
engine *processes_engine(processes *p) { return p->engine; }
char *processes_stage(processes *p, int half) { return p->stage[half]; }

void processes_ranks(const processes *p, int index, int ranks, int *first, int *count)
{
    int each = ranks / p->count, more = ranks % p->count;
    *first = index * each + (index < more ? index : more);
    *count = each + (index < more);
}

/* 1 bit of generation, 2 of kind, 10 of each rank: MPI over InfiniBand has no more */
static int tag_generation(const processes *p) { return p->generation & 1u ? TAG_GENERATION : 0; }

int processes_tag(const processes *p, span_kind kind, int from, int to)
{
    return tag_generation(p) + (int)kind * TAG_KIND + from * TAG_FROM + to;
}

flux1_status processes_spread(processes *p, int ranks, flux1_error *err)
{
    if (ranks > RANKS_MAX || engine_tag_max(p->engine) < TAGS - 1)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "this MPI has %d message tags, the mesh needs %d",
                         engine_tag_max(p->engine) + 1, TAGS);
    pthread_mutex_lock(&p->lock);
    p->ranks = ranks;
    pthread_mutex_unlock(&p->lock);
    return FLUX1_OK;
}

void processes_name(const processes *p, int index, char who[WHO_MAX])
{
    int first, count;
    processes_ranks(p, index, p->ranks, &first, &count);
    if (count == 0)
        snprintf(who, WHO_MAX, "process %d on host %s (pid %d)", index, p->info[index].host, p->info[index].pid);
    else if (count == 1)
        snprintf(who, WHO_MAX, "rank %d (process %d on host %s, pid %d)", first, index, p->info[index].host,
                 p->info[index].pid);
    else
        snprintf(who, WHO_MAX, "ranks %d to %d (process %d on host %s, pid %d)", first, first + count - 1, index,
                 p->info[index].host, p->info[index].pid);
}

/* ---- failures; functions that end in _locked are called with the lock ---- */

/* What is computed in the order at hand nobody wants. */
static void cancel_locked(processes *p)
{
    if (p->cancel)
        atomic_store_explicit(p->cancel, 1, memory_order_relaxed);
}

void processes_break_locked(processes *p, const char *sentence)
{
    if (p->gone)
        return;
    p->gone = true;
    if (p->index > 0)
        cancel_locked(p);
    snprintf(p->sentence, sizeof p->sentence, "%s", sentence);
    pthread_cond_broadcast(&p->changed);
    if (p->engine)
        engine_break(p->engine, sentence);
    if (p->index == 0 && p->control)
        control_send(p->control, -1, FRAME_GONE, sentence, strlen(sentence));
}

static flux1_status gone_locked(const processes *p, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_COMM, "%s", p->sentence);
}

/* Another process's failure, or this one's, in the order at hand; false if it is known. */
static bool abort_locked(processes *p, int by)
{
    if (p->aborted == p->epoch + 1)
        return false;
    p->aborted = p->epoch + 1;
    if (p->first < 0)
        p->first = by;
    if (by != p->index)
        cancel_locked(p);
    if (p->engine)
        engine_abort(p->engine);
    return true;
}

/* By the leader: to all but `by`. */
static void pass_on_abort_locked(processes *p, int by)
{
    for (int i = 1; i < p->count; i++)
        if (i != by)
            control_send(p->control, i, FRAME_ABORT, &p->epoch, sizeof p->epoch);
}

static void abort_by_locked(processes *p, int by)
{
    if (!abort_locked(p, by) || p->gone || p->count == 1)
        return;
    if (p->index == 0)
        pass_on_abort_locked(p, by);
    else
        control_send(p->control, 0, FRAME_ABORT, &p->epoch, sizeof p->epoch);
}

void processes_cancels(processes *p, atomic_int *flag)
{
    pthread_mutex_lock(&p->lock);
    p->cancel = flag;
    pthread_mutex_unlock(&p->lock);
}

void processes_abort(processes *p)
{
    pthread_mutex_lock(&p->lock);
    if (!p->failed)
        abort_by_locked(p, p->index);
    pthread_mutex_unlock(&p->lock);
}

void processes_wire_failed(void *arg, const char *why)
{
    processes *p = arg;
    char sentence[WIRE_WHY + WHO_MAX], who[WHO_MAX];
    pthread_mutex_lock(&p->lock);
    processes_name(p, p->index, who);
    snprintf(sentence, sizeof sentence, "%s cannot exchange data any more: %s", who, why);
    if (p->index > 0 && p->control && !p->gone)
        control_send(p->control, 0, FRAME_GONE, sentence, strlen(sentence));
    processes_break_locked(p, sentence);
    pthread_mutex_unlock(&p->lock);
}

/* ---- agreement ---- */

/* A frame of a verdict: its head, counts, message. NULL when out of memory. */
static unsigned char *pack(const verdict *v, const uint64_t *counts, int count, const char *message, size_t *size)
{
    size_t of_counts = (size_t)count * sizeof *counts, of_message = strnlen(message, FLUX1_MESSAGE_MAX - 1);
    unsigned char *frame = malloc(*size = sizeof *v + of_counts + of_message);
    if (!frame)
        return NULL;
    memcpy(frame, v, sizeof *v);
    memcpy(frame + sizeof *v, counts, of_counts);
    memcpy(frame + sizeof *v + of_counts, message, of_message);
    return frame;
}

/* The reverse; false if it is not one. message [FLUX1_MESSAGE_MAX] */
static bool unpack(const void *frame, size_t size, verdict *v, uint64_t *counts, int count, char *message)
{
    size_t head = sizeof *v + (size_t)count * sizeof *counts;
    if (size < head || size - head >= FLUX1_MESSAGE_MAX)
        return false;
    memcpy(v, frame, sizeof *v);
    memcpy(counts, (const char *)frame + sizeof *v, head - sizeof *v);
    memcpy(message, (const char *)frame + head, size - head);
    message[size - head] = '\0';
    return v->status >= FLUX1_OK && v->status <= FLUX1_ERR_DEVICE && v->origin >= 0 && v->origin < count;
}

static void decide_locked(processes *p, const verdict *v, const char *message)
{
    p->epoch++;
    p->status = (flux1_status)v->status;
    p->origin = v->origin;
    snprintf(p->message, sizeof p->message, "%s", message);
    p->first = -1;
    pthread_cond_broadcast(&p->changed);
}

/* The leader, when all have voted: of several failures the first one's is the cause. */
static void count_votes_locked(processes *p)
{
    if (p->voted < p->count)
        return;
    int origin = p->first >= 0 && p->votes[p->first].status != FLUX1_OK ? p->first : -1;
    for (int i = 0; i < p->count && origin < 0; i++)
        if (p->votes[i].status != FLUX1_OK)
            origin = i;
    verdict v = {.epoch = p->epoch, .origin = origin > 0 ? origin : 0};
    const char *message = "";
    if (origin >= 0) {
        v.status = p->votes[origin].status;
        message = p->votes[origin].message ? p->votes[origin].message : "";
    }
    for (int to = 0; to < p->count; to++) {
        size_t size;
        for (int from = 0; from < p->count; from++)
            p->expected[from] = p->votes[from].sent[to];
        unsigned char *frame = to ? pack(&v, p->expected, p->count, message, &size) : NULL;
        if (to && (!frame || !control_send(p->control, to, FRAME_OUTCOME, frame, size)))
            processes_break_locked(p, "the leading process is out of memory for an agreement");
        free(frame);
    }
    for (int from = 0; from < p->count; from++)
        p->expected[from] = p->votes[from].sent[0];
    decide_locked(p, &v, message);
    for (int i = 0; i < p->count; i++)
        p->votes[i].in = false;
    p->voted = 0;
}

static void vote_locked(processes *p, int from, flux1_status status, const uint64_t *sent, const char *message)
{
    vote *v = &p->votes[from];
    if (v->in) /* it waits for the outcome of this one */
        return;
    free(v->message);
    v->in = true;
    v->status = status;
    v->message = status == FLUX1_OK ? NULL : strdup(message);
    memcpy(v->sent, sent, (size_t)p->count * sizeof *sent);
    p->voted++;
    if (status != FLUX1_OK)
        abort_by_locked(p, from);
    count_votes_locked(p);
}

static flux1_status send_vote(processes *p, flux1_status mine, const char *message, flux1_error *err)
{
    uint64_t *sent = calloc((size_t)p->count, sizeof *sent);
    unsigned char *frame = NULL;
    if (!sent) {
        processes_wire_failed(p, "out of memory for an agreement");
        return error_oom(err, 0, "an agreement of processes");
    }
    flux1_status st = FLUX1_OK;
    engine_sent(p->engine, sent);
    pthread_mutex_lock(&p->lock);
    if (p->gone) {
        st = gone_locked(p, err);
    } else if (p->index == 0) {
        vote_locked(p, 0, mine, sent, message);
    } else {
        size_t size;
        const verdict v = {.epoch = p->epoch, .status = mine, .origin = p->index};
        frame = pack(&v, sent, p->count, mine == FLUX1_OK ? "" : message, &size);
        if (!frame || !control_send(p->control, 0, FRAME_VOTE, frame, size))
            st = error_oom(err, 0, "an agreement of processes");
    }
    bool lost = st == FLUX1_ERR_MEMORY;
    pthread_mutex_unlock(&p->lock);
    if (lost)
        processes_wire_failed(p, "out of memory for an agreement");
    free(frame);
    free(sent);
    return st;
}

/* The outcome of the last agreement. */
static flux1_status tell_locked(const processes *p, flux1_error *err)
{
    char who[WHO_MAX];
    if (p->status == FLUX1_OK)
        return FLUX1_OK;
    if (p->origin == p->index)
        return error_set(err, p->status, "%s", p->message);
    processes_name(p, p->origin, who);
    return error_set(err, p->status, "%s: %s", who, p->message);
}

/* Ends what the failed order has left on the way; all processes are here. */
static flux1_status clear_away(processes *p, flux1_error *err)
{
    engine_abort(p->engine);
    flux1_status st = engine_settle(p->engine, p->expected, TAG_GENERATION, tag_generation(p), err);
    engine_rest(p->engine);
    pthread_mutex_lock(&p->lock);
    p->failed = true;
    p->generation++;
    st = p->gone ? gone_locked(p, err) : st != FLUX1_OK ? st : tell_locked(p, err);
    pthread_mutex_unlock(&p->lock);
    return st;
}

flux1_status processes_agree(processes *p, flux1_status mine, const char *message, flux1_error *err)
{
    pthread_mutex_lock(&p->lock);
    bool known = p->gone || p->failed;
    flux1_status st = p->gone ? gone_locked(p, err) : known ? tell_locked(p, err) : FLUX1_OK;
    uint64_t epoch = p->epoch;
    pthread_mutex_unlock(&p->lock);
    if (known)
        return st;
    if (mine != FLUX1_OK)
        processes_abort(p);
    TRY(send_vote(p, mine, message ? message : status_text(mine), err));
    pthread_mutex_lock(&p->lock);
    while (p->epoch == epoch && !p->gone && !p->over)
        pthread_cond_wait(&p->changed, &p->lock);
    bool decided = p->epoch != epoch && !p->gone;
    if (p->gone)
        st = gone_locked(p, err);
    else if (!decided)
        st = error_set(err, FLUX1_ERR_COMM, "the leading process has ended in the middle of an order");
    else if (p->status == FLUX1_OK && p->aborted != p->epoch + 1)
        engine_resume(p->engine); /* after an abort that came too late */
    bool failed = decided && p->status != FLUX1_OK;
    if (decided && !failed)
        engine_rest(p->engine);
    pthread_mutex_unlock(&p->lock);
    return failed ? clear_away(p, err) : st;
}

/* ---- what others say; on the control's thread ---- */

static uint64_t epoch_of(const void *bytes, size_t size)
{
    uint64_t epoch = UINT64_MAX;
    if (size == sizeof epoch)
        memcpy(&epoch, bytes, sizeof epoch);
    return epoch;
}

static void sentence_locked(processes *p, const void *bytes, size_t size)
{
    char sentence[FLUX1_MESSAGE_MAX];
    size_t n = size < sizeof sentence ? size : sizeof sentence - 1;
    memcpy(sentence, bytes, n);
    sentence[n] = '\0';
    processes_break_locked(p, sentence);
}

static void name_and_break_locked(processes *p, int who, const char *cause)
{
    char sentence[WHO_MAX + 256], name[WHO_MAX];
    processes_name(p, who, name);
    snprintf(sentence, sizeof sentence, "%s %s", name, cause);
    if (!p->gone)
        p->lost = who;
    processes_break_locked(p, sentence);
}

static void take_vote_locked(processes *p, int from, const void *bytes, size_t size)
{
    char message[FLUX1_MESSAGE_MAX];
    verdict v;
    uint64_t *sent = calloc((size_t)p->count, sizeof *sent);
    if (!sent)
        processes_break_locked(p, "the leading process is out of memory for an agreement");
    else if (!unpack(bytes, size, &v, sent, p->count, message) || v.epoch != p->epoch)
        name_and_break_locked(p, from, "has lost count of the orders");
    else
        vote_locked(p, from, (flux1_status)v.status, sent, message);
    free(sent);
}

/* An answer that is not awaited any more is none. */
static void take_clock_locked(processes *p, int from, const void *bytes, size_t size)
{
    clock_frame f = {.time = NAN};
    if (size == sizeof f)
        memcpy(&f, bytes, sizeof f);
    if (!isfinite(f.time)) {
        name_and_break_locked(p, from, "does not know the time");
    } else if (p->asked_who == from && f.number == p->asked.number) {
        p->asked_who = -1;
        p->heard = clock_seconds();
        p->told = f.time;
        pthread_cond_broadcast(&p->changed);
    }
}

static void tell_clock_locked(processes *p, const void *bytes, size_t size)
{
    clock_frame f;
    if (size != sizeof f) {
        name_and_break_locked(p, 0, "sends what is not understood");
        return;
    }
    memcpy(&f, bytes, sizeof f);
    f.time = clock_seconds();
    control_send(p->control, 0, FRAME_CLOCK, &f, sizeof f);
}

static void hear_follower_locked(processes *p, int from, int type, const void *bytes, size_t size)
{
    switch (type) {
    case FRAME_ABORT:
        if (epoch_of(bytes, size) == p->epoch && !p->failed)
            abort_by_locked(p, from);
        break;
    case FRAME_VOTE: take_vote_locked(p, from, bytes, size); break;
    case FRAME_CLOCK: take_clock_locked(p, from, bytes, size); break;
    case FRAME_GONE: sentence_locked(p, bytes, size); break;
    case FRAME_BYE:
        p->left[from] = true;
        if (!p->over)
            name_and_break_locked(p, from, "has ended on its own");
        pthread_cond_broadcast(&p->changed);
        break;
    default: name_and_break_locked(p, from, "sends what is not understood");
    }
}

static void take_order_locked(processes *p, const void *bytes, size_t size)
{
    order *o = malloc(sizeof *o + size);
    if (!o) {
        name_and_break_locked(p, p->index, "is out of memory for an order");
        return;
    }
    *o = (order){.size = size};
    if (size)
        memcpy(o->bytes, bytes, size);
    *p->orders_end = o;
    p->orders_end = &o->next;
    pthread_cond_broadcast(&p->changed);
}

static void hear_leader_locked(processes *p, int type, const void *bytes, size_t size)
{
    verdict v;
    char message[FLUX1_MESSAGE_MAX];
    switch (type) {
    case FRAME_ORDER: take_order_locked(p, bytes, size); break;
    case FRAME_CLOCK: tell_clock_locked(p, bytes, size); break;
    case FRAME_ABORT:
        if (epoch_of(bytes, size) == p->epoch)
            abort_locked(p, 0);
        break;
    case FRAME_OUTCOME:
        if (unpack(bytes, size, &v, p->expected, p->count, message) && v.epoch == p->epoch)
            decide_locked(p, &v, message);
        else
            name_and_break_locked(p, 0, "has lost count of the orders");
        break;
    case FRAME_GONE: sentence_locked(p, bytes, size); break;
    case FRAME_BYE:
        p->over = p->left[0] = true;
        cancel_locked(p);
        if (p->engine)
            engine_abort(p->engine); /* nobody answers any more */
        pthread_cond_broadcast(&p->changed);
        break;
    default: name_and_break_locked(p, 0, "sends what is not understood");
    }
}

static void hear(void *arg, int from, int type, const void *bytes, size_t size)
{
    processes *p = arg;
    pthread_mutex_lock(&p->lock);
    if (p->index == 0)
        hear_follower_locked(p, from, type, bytes, size);
    else
        hear_leader_locked(p, type, bytes, size);
    pthread_mutex_unlock(&p->lock);
}

static void lost(void *arg, int who, const char *cause)
{
    processes *p = arg;
    pthread_mutex_lock(&p->lock);
    if (!p->left[who])
        name_and_break_locked(p, who, cause);
    p->left[who] = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

control_events processes_events(processes *p)
{
    return (control_events){
        .frame = hear, .lost = lost, .arg = p, .heartbeat = PROCESSES_HEARTBEAT, .silence = PROCESSES_SILENCE};
}

/* ---- orders ---- */

/* A follower may have heard of its failure before it takes the order. */
static void begin_order_locked(processes *p)
{
    p->failed = false;
    if (p->aborted != p->epoch + 1 && !p->over)
        engine_resume(p->engine);
    else
        cancel_locked(p);
}

flux1_status processes_order(processes *p, const void *bytes, size_t size, flux1_error *err)
{
    if (size > CONTROL_FRAME_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "an order of %zu bytes is larger than %d", size, CONTROL_FRAME_MAX);
    pthread_mutex_lock(&p->lock);
    flux1_status st = p->gone ? gone_locked(p, err) : FLUX1_OK;
    if (st == FLUX1_OK && p->count > 1 && !control_send(p->control, -1, FRAME_ORDER, bytes, size))
        st = error_oom(err, size, "an order");
    if (st == FLUX1_OK)
        begin_order_locked(p);
    pthread_mutex_unlock(&p->lock);
    return st;
}

flux1_status processes_next(processes *p, const void **bytes, size_t *size, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&p->lock);
    while (!p->orders && !p->over && !p->gone)
        pthread_cond_wait(&p->changed, &p->lock);
    free(p->current);
    p->current = p->gone ? NULL : p->orders;
    if (p->current) {
        p->orders = p->current->next;
        if (!p->orders)
            p->orders_end = &p->orders;
        begin_order_locked(p);
    }
    if (p->gone)
        st = gone_locked(p, err);
    *bytes = p->current ? p->current->bytes : NULL;
    *size = p->current ? p->current->size : 0;
    pthread_mutex_unlock(&p->lock);
    return st;
}

/* ---- clocks ---- */

static flux1_status ask_clock_locked(processes *p, int index, flux1_error *err)
{
    p->asked_who = index;
    p->asked = (clock_frame){p->asked.number + 1, clock_seconds()};
    if (!p->gone && !control_send(p->control, index, FRAME_CLOCK, &p->asked, sizeof p->asked))
        return error_oom(err, sizeof p->asked, "a question for the time");
    while (p->asked_who >= 0 && !p->gone)
        pthread_cond_wait(&p->changed, &p->lock);
    return p->gone ? gone_locked(p, err) : FLUX1_OK;
}

/* The other looked at its clock between the question and the answer: taken for the middle, it is wrong by half of the
 * trip at most. */
flux1_status processes_clock(processes *p, int index, double *offset, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    double quickest = INFINITY;
    *offset = 0;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < CLOCK_TRIPS && st == FLUX1_OK && index != p->index; i++) {
        st = ask_clock_locked(p, index, err);
        double trip = p->heard - p->asked.time;
        if (st != FLUX1_OK || trip >= quickest)
            continue;
        quickest = trip;
        *offset = p->asked.time + trip / 2 - p->told;
    }
    pthread_mutex_unlock(&p->lock);
    if (fabs(*offset) <= quickest / 2)
        *offset = 0;
    return st;
}

/* ---- what has become of them ---- */

int processes_lost(processes *p)
{
    pthread_mutex_lock(&p->lock);
    int lost = p->lost;
    pthread_mutex_unlock(&p->lock);
    return lost;
}

bool processes_gone(processes *p)
{
    pthread_mutex_lock(&p->lock);
    bool gone = p->gone;
    pthread_mutex_unlock(&p->lock);
    return gone;
}
