/* Steps of a loop that are recorded once and replayed. */
#include "mesh/mesh.h"

flux1_status mesh_step(mesh *m, int64_t step, uint64_t recording, mesh_body *calls, void *arg, bool *replayed)
{
    ops *o = m->o;
    bool done = false;
    TRY(ops_step_set(o, step));
    TRY(ops_step_replay(o, recording, &done));
    if (!done) {
        TRY(calls(arg, m));
        TRY(ops_step_record(o));
    }
    if (replayed)
        *replayed = done;
    return ops_step_end(o, step);
}

flux1_status mesh_step_wait(mesh *m, int64_t step, int *slot)
{
    TRY(ops_step_wait(m->o, step, slot));
    return mesh_lowest(m, slot);
}
