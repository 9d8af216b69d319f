/* A profile: what each rank of a mesh did, and when, on one clock (base/clock.h). A rank's spans lie in a buffer that
 * is allocated with the profile; when it is full, further spans are counted and dropped.
 *
 * profile_attach puts a table over a backend's own, which times each call and passes it on. A call that is made of
 * others (a composite, a step that is replayed) is not kept itself. On a device that runs ahead, times are those of the
 * enqueueing. Without a profile nothing is in the way of a call. */
#ifndef FLUX1_OPS_PROFILE_H
#define FLUX1_OPS_PROFILE_H

#include "ops/ops.h"

enum { PROFILE_SPANS = 1 << 17, SPAN_NAME = 24, SPAN_BLOCK = 48 }; /* spans of a rank: memory is touched as they come */

typedef enum span_kind {
    SPAN_STAGE,   /* a body of a stage; spans of calls and steps lie within it */
    SPAN_STEP,    /* a step of the denoiser, or its end (where ranks agree); calls lie within it */
    SPAN_CALL,    /* one call of the backend */
    SPAN_EXCHANGE /* one exchange between ranks; a shift from its begin until its bytes have arrived */
} span_kind;

/* Plain data: it is sent to other processes as it is. */
typedef struct span {
    double begin, end;      /* seconds of the clock */
    double exposed, hidden; /* exchanges: seconds in which the rank waited for it, and in which it computed meanwhile */
    double processor;       /* calls: seconds of processor time, of all threads of the process */
    int64_t step;           /* −1: outside the steps */
    int64_t batch, m, n, k, heads; /* as in ops_event; int8 too */
    double flops;
    uint64_t bytes_in, bytes_out, bytes_weights, bytes_moved;
    int32_t kind, ranks, int8;
    char name[SPAN_NAME], block[SPAN_BLOCK];
} span;

typedef struct profile profile;

/* Of a mesh of `ranks` ranks; first … first + count − 1 are this process's and have room for spans. */
flux1_status profile_create(int ranks, int first, int count, profile **out, flux1_error *err);
void profile_destroy(profile *p); /* NULL is fine */

int profile_ranks(const profile *p);
const span *profile_spans(const profile *p, int rank, size_t *count); /* in order of their begin, by track */
size_t profile_dropped(const profile *p, int rank);

/* Forgets all spans and what was dropped. Only while no body runs. */
void profile_rewind(profile *p);

/* From now on o's calls, which are those of this rank, are timed; until profile_detach, which also closes open spans.
 * On the rank's own thread. */
void profile_attach(profile *p, int rank, ops *o, const ops_config *c, const ops_sizing *sizing);
void profile_detach(ops *o);

/* A stage or a step begins; it ends with profile_close, or with profile_detach. Nothing happens if o is not timed. */
void profile_open(ops *o, span_kind kind, const char *name, int64_t step);
void profile_close(ops *o);

/* An exchange that o's rank made; `step` is filled in. o must be timed. */
void profile_exchange(ops *o, const span *s);

/* A rank's spans as bytes for another process, and from there: offset is added to their times, so that they are on this
 * process's clock; spans that the rank has already are replaced. FLUX1_ERR_FORMAT unless profile_pack of the same
 * version made them. */
size_t profile_packed_bytes(const profile *p, int rank);
size_t profile_packed_most(void); /* bytes of any rank's */
void profile_pack(const profile *p, int rank, void *out);
flux1_status profile_unpack(profile *p, int rank, const void *bytes, size_t size, double offset, flux1_error *err);

#endif
