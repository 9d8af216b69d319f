/* Steps. An operation is done when its call returns: there is nothing to wait for. A step's calls are recorded as a
 * list (ops/record.h). */
#include "ops/cpu/cpu.h"

flux1_status cpu_step_set(ops *o, int64_t step)
{
    o->step = step;
    stream_in_steps(&cpu_self(o)->stream);
    return FLUX1_OK;
}

flux1_status cpu_step_replay(ops *o, uint64_t recording, bool *done) { return record_step(o, recording, done); }

flux1_status cpu_step_record(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

flux1_status cpu_branch(ops *o, int which)
{
    (void)o, (void)which;
    return FLUX1_OK;
}

flux1_status cpu_sync(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

flux1_status cpu_finite_first(ops *base, int *slot)
{
    cpu_ops *o = cpu_self(base);
    *slot = -1;
    for (int i = OPS_SLOTS - 1; i >= 0; i--)
        if (atomic_exchange_explicit(&o->bad[i], 0, memory_order_relaxed))
            *slot = i;
    return FLUX1_OK;
}

flux1_status cpu_step_end(ops *o, int64_t step)
{
    return cpu_finite_first(o, &cpu_self(o)->ended[step % OPS_STEPS_AHEAD]);
}

flux1_status cpu_step_wait(ops *o, int64_t step, int *slot)
{
    *slot = cpu_self(o)->ended[step % OPS_STEPS_AHEAD];
    return FLUX1_OK;
}

void cpu_step_unwind(ops *o, size_t mark)
{
    record_drop(o);
    cpu_blocks_unwind(cpu_self(o));
    cpu_finite_first(o, &(int){0});
    arena_release(&cpu_self(o)->memory, mark);
}
