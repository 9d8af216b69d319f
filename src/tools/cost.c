#include "tools/cost.h"

#include "base/ending.h"

#include <string.h>

const char *cost_key(cost_part p)
{
    static const char *const keys[] = {
#define COST_KEY(id, key, name) key,
        COST_MAP(COST_KEY)
#undef COST_KEY
    };
    return keys[p];
}

const char *cost_name(cost_part p)
{
    static const char *const names[] = {
#define COST_NAME(id, key, name) name,
        COST_MAP(COST_NAME)
#undef COST_NAME
    };
    return names[p];
}

cost_part cost_bound(const cost *c)
{
    cost_part most = 0;
    for (cost_part p = 1; p < COSTS; p++)
        if (c->part[p] > c->part[most])
            most = p;
    return most;
}

void cost_add(cost *sum, const cost *one)
{
    sum->seconds += one->seconds;
    for (cost_part p = 0; p < COSTS; p++)
        sum->part[p] += one->part[p];
    sum->moved += one->moved;
    sum->hidden += one->hidden;
}

static void tell(const cost_clock *c, cost_part part, const ops_event *e, double begin, double end)
{
    if (c->listener && end > begin)
        c->listener(c->user, part, e->operation, c->block, begin, end);
}

static void spend(cost_clock *c, cost_part part, const ops_event *e, double seconds)
{
    tell(c, part, e, c->now, c->now + seconds);
    c->now += seconds;
    c->into->seconds += seconds;
    c->into->part[part] += seconds;
}

/* ---- operations ---- */

static cost_part part_of(const ops_event *e, bool by_flops)
{
    if (!by_flops || e->flops <= 0)
        return COST_MEMORY;
    return strcmp(e->operation, "product") == 0 ? COST_PRODUCTS
           : strcmp(e->operation, "conv") == 0  ? COST_CONVOLUTIONS
                                                : COST_ATTENTION;
}

static void compute(cost_clock *c, const ops_event *e)
{
    bool by_flops;
    double seconds = machine_compute(c->m, c->dtype, c->share, e, &by_flops);
    if (c->m->launch > 0)
        spend(c, COST_LAUNCH, e, c->m->launch);
    spend(c, part_of(e, by_flops), e, seconds);
}

static bool copies(const char *operation) { return strcmp(operation, "pack") == 0 || strcmp(operation, "unpack") == 0; }

/* ---- exchanges ---- */

enum { AXIS_SP, AXIS_TP, AXIS_ALL };

static int axis_of(const ops_event *e)
{
    return !e->axis ? AXIS_ALL : strcmp(e->axis, "sp") == 0 ? AXIS_SP : strcmp(e->axis, "tp") == 0 ? AXIS_TP : AXIS_ALL;
}

/* What all ranks exchange goes over both axes that are in use, and at the slower one's pace. */
static int links_of(const cost_clock *c, int axis)
{
    const mesh_config *s = c->mesh;
    int sp = c->m->links[s->sp_axis], tp = c->m->links[s->tp_axis];
    if (axis == AXIS_ALL)
        return s->sp == 1 ? tp : s->tp == 1 ? sp : sp < tp ? sp : tp;
    return axis == AXIS_SP ? sp : tp;
}

/* A part of it, (1 − overlap), is this rank's own work and is done at the end. */
static void begin_shift(cost_clock *c, cost_pending *p, const ops_event *e, int axis)
{
    double seconds = machine_exchange_seconds(c->m, e, links_of(c, axis));
    *p = (cost_pending){
        .open = true, .ready = c->now + c->m->overlap * seconds, .seconds = seconds, .bytes = (double)e->bytes_moved};
    tell(c, COST_EXCHANGE_SP + axis, e, c->now, p->ready);
}

static void end_shift(cost_clock *c, cost_pending *p, const ops_event *e, int axis)
{
    double left = (p->ready > c->now ? p->ready - c->now : 0) + (1 - c->m->overlap) * p->seconds;
    if (!p->open)
        return;
    if (p->seconds > 0)
        c->into->hidden += p->bytes * (1 - left / p->seconds);
    p->open = false;
    spend(c, COST_EXCHANGE_SP + axis, e, left);
}

static void exchange(cost_clock *c, const ops_event *e)
{
    int axis = axis_of(e);
    cost_pending *p = &c->pending[axis];
    c->into->moved += (double)e->bytes_moved;
    if (e->overlaps)
        begin_shift(c, p, e, axis);
    else if (ends_in(e->operation, "_end"))
        end_shift(c, p, e, axis);
    else
        spend(c, COST_EXCHANGE_SP + axis, e, machine_exchange_seconds(c->m, e, links_of(c, axis)));
}

void cost_event(void *clock, const ops_event *e)
{
    cost_clock *c = clock;
    if (strcmp(e->operation, "block_begin") == 0)
        c->block = e->block;
    if (e->kind == EVENT_COLLECTIVE)
        exchange(c, e);
    else if (e->kind == EVENT_COMPUTE || (e->kind == EVENT_MEMORY && c->m->packs && copies(e->operation)))
        compute(c, e);
}
