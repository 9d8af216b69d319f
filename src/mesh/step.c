/* Steps of a loop that are recorded once and replayed. */
#include "mesh/mesh.h"

#include "ops/profile.h"

flux1_status mesh_step(mesh *m, int64_t step, uint64_t recording, mesh_body *calls, void *arg, bool *replayed)
{
    ops *o = m->o;
    bool done = false;
    profile_open(o, SPAN_STEP, "step", step);
    TRY(ops_step_set(o, step));
    TRY(ops_step_replay(o, recording, &done));
    if (!done) {
        TRY(calls(arg, m));
        TRY(ops_step_record(o));
    }
    if (replayed)
        *replayed = done;
    TRY(ops_step_end(o, step));
    profile_close(o);
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
