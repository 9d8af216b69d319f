/* The time of a plan on a machine: a clock that each event of a dry run moves on.
 *
 * An operation takes what its arithmetic or its bytes take, whichever is longer. A collective takes its own time, in
 * which this rank waits; a shift runs beside what is computed until its end is asked for, and only what is then left of
 * it is waited for. Ranks run the same calls on equal or smaller shares, so the one with the largest tells for all. */
#ifndef FLUX1_TOOLS_COST_H
#define FLUX1_TOOLS_COST_H

#include "mesh/mesh.h"
#include "tools/machine.h"

/* What time goes to: enum, key, name for people. */
#define COST_MAP(X)                                   \
    X(PRODUCTS, "products", "products")               \
    X(ATTENTION, "attention", "attention")            \
    X(CONVOLUTIONS, "convolutions", "convolutions")   \
    X(MEMORY, "memory", "memory bandwidth")           \
    X(LAUNCH, "launch", "launch latency")             \
    X(EXCHANGE_SP, "exchange_sp", "exchange over sp") \
    X(EXCHANGE_TP, "exchange_tp", "exchange over tp") \
    X(EXCHANGE_ALL, "exchange_all", "exchange over all ranks")

typedef enum cost_part {
#define COST_ENUM(id, key, name) COST_##id,
    COST_MAP(COST_ENUM)
#undef COST_ENUM
        COSTS
} cost_part;

const char *cost_key(cost_part p);
const char *cost_name(cost_part p);

typedef struct cost {
    double seconds;
    double part[COSTS]; /* adds up to seconds; of exchanges, what is not hidden */
    double moved;       /* bytes that this rank sends */
    double hidden;      /* of those, behind computing */
} cost;

/* The part with most seconds. */
cost_part cost_bound(const cost *c);
void cost_add(cost *sum, const cost *one);

/* Told of each span of time, in order of its begin; may be NULL. A hidden exchange has a span of its own beside
 * others'. `block`: the block begun last, NULL before the first; both names live as long as the backend. */
typedef void cost_listener(void *user, cost_part part, const char *operation, const char *block, double begin,
                           double end);

enum { COST_AXES = 3 };

typedef struct cost_pending {
    bool open;
    double ready, seconds, bytes;
} cost_pending;

typedef struct cost_clock {
    const machine *m;
    const mesh_config *mesh;
    int dtype; /* the exact arithmetic, as machine's; an event says where int8 is in its place */
    double share;
    double now;
    cost_pending pending[COST_AXES]; /* shifts that have begun, by axis: sp, tp, all */
    cost *into;                      /* what the next event is added to */
    cost_listener *listener;
    void *user;
    const char *block;
} cost_clock;

/* An ops_event_sink; user: a cost_clock. */
void cost_event(void *clock, const ops_event *e);

#endif
