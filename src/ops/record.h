/* Recorded steps for backends that execute each call as it comes: a list of the calls of a step, with their arguments,
 * that is made once and gone through again without the model's code; or several, one for each part of a step. A backend
 * that has a list begins its entries step_replay, step_unwind and reserve with the calls below; everything else happens
 * in a table that lies over the backend's own while a step is recorded.
 *
 * The list lies at the end of the backend's arena, so it takes no allocation; the dry run measures it. Arguments behind
 * pointers (epilogue, attention_args, linear_weight, …) are copied; acts, weights and exchange memory are at the same
 * addresses in every step of a number, which the arena's mark at the begin of a step confirms. A composite is recorded
 * by the calls it makes, or as itself if it makes none. What cannot be repeated (upload, prepare, …) ends the
 * recording; the step is then made by its calls every time, as it is if the list does not fit. */
#ifndef FLUX1_OPS_RECORD_H
#define FLUX1_OPS_RECORD_H

#include "ops/ops.h"

typedef struct recorded recorded;

/* The calls of a step, or of a part of it that is replayed by itself. */
typedef struct call_part {
    recorded *first, *latest;
    size_t mark;   /* of the arena, when it began */
    bool complete; /* it may be replayed */
} call_part;

/* Zeroed but for `memory`; o->calls points to it, or is NULL where steps are not recorded. */
typedef struct call_list {
    arena *memory; /* the backend's. Measuring: calls are counted, not kept */
    const ops_table *under;
    call_part part[OPS_STEP_PARTS], *now; /* by number % OPS_STEP_PARTS; that is recorded */
    size_t count, bytes;                  /* of calls so far, of all parts */
    uint64_t step;                        /* number / OPS_STEP_PARTS, of all parts */
    bool recording, spoiled;
} call_list;

/* step_replay: goes through the part of this number if it is complete, or begins to record it. */
flux1_status record_step(ops *o, uint64_t number, bool *done);

/* Forgets all parts, finished or not. */
void record_drop(ops *o);

/* A call between those of the backend that is to be made again in its place (an exchange, a tick): while a step is
 * recorded, `bytes` of args are copied, and fn gets them. The caller makes the call itself this time. */
typedef flux1_status recorded_fn(ops *o, const void *args);
void record_other(ops *o, recorded_fn *fn, const void *args, size_t bytes);

static inline bool record_active(const ops *o) { return o->calls && o->calls->recording; }

#endif
