/* Steps of a loop that are recorded once and replayed. */
#include "mesh/comm_record.h"

#include "ops/profile.h"
#include "ops/record.h"

static flux1_status give_tick(mesh *m)
{
    m->ticked = true;
    return m->tick(m->tick_arg, m);
}

static flux1_status again_tick(ops *o, const void *args)
{
    (void)o;
    return give_tick(*(mesh *const *)args);
}

flux1_status mesh_tick(void *unused, mesh *m)
{
    (void)unused;
    record_other(m->o, again_tick, &m, sizeof m);
    return give_tick(m);
}

/* The calls, and the exchanges between them, which a backend with a list records too. */
static flux1_status make_calls(mesh *m, mesh_body *calls, void *arg)
{
    recording_comms comms;
    if (!record_active(m->o))
        return calls(arg, m);
    comm_record_begin(&comms, m);
    flux1_status st = calls(arg, m);
    comm_record_end(&comms, m);
    return st;
}

flux1_status mesh_part(mesh *m, int part, mesh_body *calls, void *arg, bool *silent)
{
    bool done = false;
    m->ticked = false;
    TRY(ops_step_replay(m->o, m->recording * OPS_STEP_PARTS + (uint64_t)part, &done));
    if (!done) {
        TRY(make_calls(m, calls, arg));
        TRY(ops_step_record(m->o));
    }
    *silent = done && !m->ticked;
    return FLUX1_OK;
}

flux1_status mesh_step(mesh *m, int64_t step, uint64_t recording, const mesh_step_calls *s, bool *silent)
{
    m->tick = s->tick;
    m->tick_arg = s->arg;
    m->recording = recording;
    *silent = false;
    profile_open(m->o, SPAN_STEP, "step", step);
    TRY(ops_step_set(m->o, step));
    TRY(s->in_parts ? s->calls(s->arg, m) : mesh_part(m, 0, s->calls, s->arg, silent));
    TRY(ops_step_end(m->o, step));
    profile_close(m->o);
    return FLUX1_OK;
}

flux1_status mesh_step_wait(mesh *m, int64_t step, int *slot)
{
    profile_open(m->o, SPAN_STEP, "end of step", step);
    TRY(ops_step_wait(m->o, step, slot));
    TRY(mesh_lowest(m, slot));
    profile_close(m->o);
    return FLUX1_OK;
}
