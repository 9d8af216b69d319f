#include "ops/profile.h"

#include "base/checked.h"
#include "base/clock.h"
#include "ops/work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_MOST = 4 };

struct profile_rank {
    span *spans; /* [PROFILE_SPANS], or as many as came from another process; NULL: another process's */
    size_t count, dropped;
    size_t seen; /* calls kept or dropped so far */
    int64_t step;
    span *open[OPEN_MOST]; /* NULL where it was dropped */
    int depth;
    const ops_table *under; /* what calls go on to */
    size_t cell[ACT_ROLES];
};

struct profile {
    int ranks;
    struct profile_rank rank[];
};

/* ---- the profile ---- */

flux1_status profile_create(int ranks, int first, int count, profile **out, flux1_error *err)
{
    profile *p = calloc(1, sizeof *p + (size_t)ranks * sizeof p->rank[0]);
    if (!p)
        return error_oom(err, 0, "the profile");
    p->ranks = ranks;
    for (int r = 0; r < count; r++)
        if (!(p->rank[first + r].spans = calloc(PROFILE_SPANS, sizeof(span)))) {
            profile_destroy(p);
            return error_oom(err, PROFILE_SPANS * sizeof(span), "a rank's profile");
        }
    *out = p;
    return FLUX1_OK;
}

void profile_destroy(profile *p)
{
    for (int r = 0; p && r < p->ranks; r++)
        free(p->rank[r].spans);
    free(p);
}

int profile_ranks(const profile *p) { return p->ranks; }

const span *profile_spans(const profile *p, int rank, size_t *count)
{
    *count = p->rank[rank].count;
    return p->rank[rank].spans;
}

size_t profile_dropped(const profile *p, int rank) { return p->rank[rank].dropped; }

void profile_rewind(profile *p)
{
    for (int r = 0; r < p->ranks; r++)
        p->rank[r].count = p->rank[r].dropped = 0;
}

/* ---- spans ---- */

static span *add(struct profile_rank *r, const span *s)
{
    if (r->count == PROFILE_SPANS) {
        r->dropped++;
        return NULL;
    }
    r->spans[r->count] = *s;
    return &r->spans[r->count++];
}

void profile_open(ops *o, span_kind kind, const char *name, int64_t step)
{
    struct profile_rank *r = o->profile;
    if (!r || r->depth == OPEN_MOST)
        return;
    if (kind == SPAN_STEP)
        r->step = step;
    span s = {.kind = (int32_t)kind, .step = r->step, .begin = clock_seconds()};
    s.end = s.begin;
    snprintf(s.name, sizeof s.name, "%s", name);
    r->open[r->depth++] = add(r, &s);
}

void profile_close(ops *o)
{
    struct profile_rank *r = o->profile;
    if (!r || r->depth == 0)
        return;
    span *s = r->open[--r->depth];
    if (s)
        s->end = clock_seconds();
    if (!s || s->kind == SPAN_STEP)
        r->step = -1;
}

void profile_exchange(ops *o, const span *s)
{
    struct profile_rank *r = o->profile;
    span mine = *s;
    mine.kind = SPAN_EXCHANGE;
    mine.step = r->step;
    add(r, &mine);
}

/* ---- calls ---- */

/* Bookkeeping of the arena and of steps is left out. */
static bool takes_time(const char *operation)
{
    static const char *const none[] = {"create", "exchange", "block_create", "block_end",
                                       "branch", "step_set", "step_record",  "step_end"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (!strcmp(operation, none[i]))
            return false;
    return true;
}

static void keep(struct profile_rank *r, double begin, double processor, ops_event e)
{
    if (!takes_time(e.operation))
        return;
    span s = {.begin = begin,
              .end = clock_seconds(),
              .processor = clock_processor() - processor,
              .kind = SPAN_CALL,
              .step = r->step,
              .batch = e.batch,
              .m = e.m,
              .n = e.n,
              .k = e.k,
              .heads = e.heads,
              .int8 = e.int8,
              .flops = e.flops,
              .bytes_in = e.bytes_in,
              .bytes_out = e.bytes_out,
              .bytes_weights = e.bytes_weights};
    snprintf(s.name, sizeof s.name, "%s", e.operation);
    snprintf(s.block, sizeof s.block, "%s", e.block ? e.block : "");
    add(r, &s);
    r->seen++;
}

#define TIMED_void(name, args, call) \
    static void timed_##name args { o->profile->under->name call; }
#define TIMED_size_t(name, args, call) \
    static size_t timed_##name args { return o->profile->under->name call; }
#define TIMED_flux1_status(name, args, call)                           \
    static flux1_status timed_##name args                              \
    {                                                                  \
        struct profile_rank *r = o->profile;                           \
        size_t seen = r->seen;                                         \
        double begin = clock_seconds(), processor = clock_processor(); \
        TRY(r->under->name call);                                      \
        if (r->seen == seen)                                           \
            keep(r, begin, processor, work_##name call);               \
        return FLUX1_OK;                                               \
    }
#define TIMED(ret, name, args, call) TIMED_##ret(name, args, call)
OPS_PRIMITIVES(TIMED)
OPS_COMPOSITES(TIMED)

static const ops_table profile_table = {.name = "profile",
#define ROW(ret, name, args, call) .name = timed_##name,
                                        OPS_PRIMITIVES(ROW) OPS_COMPOSITES(ROW)
#undef ROW
};

void profile_attach(profile *p, int rank, ops *o, const ops_config *c, const ops_sizing *sizing)
{
    struct profile_rank *r = &p->rank[rank];
    r->step = -1;
    r->under = o->fn;
    work_cells(c, sizing, r->cell);
    o->profile = r;
    o->cell = r->cell;
    o->fn = &profile_table;
}

void profile_detach(ops *o)
{
    while (o->profile->depth > 0)
        profile_close(o);
    o->fn = o->profile->under;
    o->profile = NULL;
    o->cell = NULL;
}

/* ---- between processes ---- */

#define PACKED "flux1 spans"

typedef struct packed_head {
    char magic[16];
    uint64_t span_bytes, count, dropped;
} packed_head;

size_t profile_packed_bytes(const profile *p, int rank)
{
    return sizeof(packed_head) + p->rank[rank].count * sizeof(span);
}

size_t profile_packed_most(void) { return sizeof(packed_head) + PROFILE_SPANS * sizeof(span); }

void profile_pack(const profile *p, int rank, void *out)
{
    const struct profile_rank *r = &p->rank[rank];
    const packed_head head = {PACKED, sizeof(span), r->count, r->dropped};
    memcpy(out, &head, sizeof head);
    if (r->count)
        memcpy((char *)out + sizeof head, r->spans, r->count * sizeof(span));
}

static bool is_span(const span *s)
{
    return isfinite(s->begin) && isfinite(s->end) && s->end >= s->begin && isfinite(s->exposed) &&
           isfinite(s->hidden) && isfinite(s->processor) && isfinite(s->flops) && s->kind >= SPAN_STAGE &&
           s->kind <= SPAN_EXCHANGE && memchr(s->name, '\0', sizeof s->name) && memchr(s->block, '\0', sizeof s->block);
}

flux1_status profile_unpack(profile *p, int rank, const void *bytes, size_t size, double offset, flux1_error *err)
{
    packed_head head = {0};
    if (size >= sizeof head)
        memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, PACKED, sizeof PACKED) != 0 || head.span_bytes != sizeof(span) ||
        head.count > PROFILE_SPANS || size != sizeof head + head.count * sizeof(span))
        return error_set(err, FLUX1_ERR_FORMAT, "rank %d sent a profile that is not this version's", rank);
    span *spans = calloc(head.count + 1, sizeof *spans);
    if (!spans)
        return error_oom(err, head.count * sizeof *spans, "a rank's profile");
    memcpy(spans, (const char *)bytes + sizeof head, head.count * sizeof *spans);
    for (size_t i = 0; i < head.count; i++) {
        if (!is_span(&spans[i])) {
            free(spans);
            return error_set(err, FLUX1_ERR_FORMAT, "rank %d sent a damaged profile", rank);
        }
        spans[i].begin += offset;
        spans[i].end += offset;
    }
    struct profile_rank *r = &p->rank[rank];
    free(r->spans);
    *r = (struct profile_rank){.spans = spans, .count = head.count, .dropped = head.dropped};
    return FLUX1_OK;
}
