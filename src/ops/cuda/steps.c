/* The order of steps. A step's calls are enqueued again and again as a graph: the first time they run as they are
 * (algorithms are chosen, weights arrive), the second time they are recorded, and from then on the recording is
 * launched. Several recordings are kept, by number; one whose weights or arena have moved is dropped, and made again.
 */
#include "ops/cuda/cuda.h"

#include <stdlib.h>

enum { RECORDINGS = 8 };

typedef struct recording {
    uint64_t number;
    bool warm; /* its calls have run, and all of its weights stay */
    CUgraphExec graph;
    cuda_uses uses;
    unsigned long used; /* when last; 0: a free place */
} recording;

struct cuda_steps {
    recording recording[RECORDINGS];
    recording *now; /* whose calls are made now; or NULL */
    unsigned long clock;
};

flux1_status cuda_steps_create(cuda_ops *o)
{
    o->steps = calloc(1, sizeof *o->steps);
    return o->steps ? FLUX1_OK : error_oom(o->head.err, sizeof *o->steps, "the steps");
}

static void drop(cuda_ops *o, recording *r)
{
    if (r->graph)
        o->lib->cuGraphExecDestroy(r->graph);
    free(r->uses.use);
    *r = (recording){0};
}

/* A recording that an error or a cancel broke off. */
static void break_off(cuda_ops *o)
{
    CUgraph graph = NULL;
    cuda_branches_drop(o);
    cuda_blocks_watch(o, NULL);
    if (o->steps->now)
        o->steps->now->warm = false;
    o->steps->now = NULL;
    if (!o->recording)
        return;
    o->recording = false;
    o->lib->cuStreamEndCapture(o->stream, &graph);
    if (graph)
        o->lib->cuGraphDestroy(graph);
}

void cuda_recordings_drop(cuda_ops *o)
{
    break_off(o);
    for (int i = 0; i < RECORDINGS; i++)
        drop(o, &o->steps->recording[i]);
}

void cuda_steps_free(cuda_ops *o)
{
    if (!o->steps)
        return;
    cuda_recordings_drop(o);
    free(o->steps);
    o->steps = NULL;
}

/* The recording of that number; a new one in place of the one that was used longest ago. */
static recording *recording_of(cuda_ops *o, uint64_t number)
{
    struct cuda_steps *s = o->steps;
    recording *r = NULL;
    for (int i = 0; i < RECORDINGS; i++) {
        recording *k = &s->recording[i];
        if (k->used && k->number == number) {
            r = k;
            break;
        }
        if (!r || k->used < r->used)
            r = k;
    }
    if (!r->used || r->number != number)
        drop(o, r);
    r->number = number;
    r->used = ++s->clock;
    return r;
}

/* ---- memory that recordings use ---- */

flux1_status cuda_reserve(ops *base, size_t bytes)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_device_current(o->device, base->err));
    CUdeviceptr before = o->arena;
    break_off(o);
    cuda_rest(base); /* a stage begins: what the last one held may give way to its activations */
    flux1_status st = cuda_arena_reserve(o, bytes);
    if (o->arena != before)
        cuda_recordings_drop(o);
    return st;
}

void cuda_block_destroy(ops *base, block *b)
{
    cuda_ops *o = cuda_self(base);
    if (!b)
        return;
    for (int i = 0; i < RECORDINGS; i++) {
        recording *r = &o->steps->recording[i];
        for (size_t k = 0; k < r->uses.count; k++)
            if (r->uses.use[k].b == b) {
                if (r == o->steps->now)
                    break_off(o);
                drop(o, r);
            }
    }
    cuda_block_free(o, b);
}

/* ---- a step ---- */

flux1_status cuda_step_set(ops *base, int64_t step)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_set", NULL));
    base->step = step;
    return cuda_check(base, o->lib->cuMemsetD32Async(o->step, (unsigned)step, 1, o->stream), "cannot set the step");
}

flux1_status cuda_sync(ops *base)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "sync", NULL));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

/* The calls that follow are made for the first time, or recorded. */
static flux1_status begin_calls(cuda_ops *o, recording *r)
{
    if (!cuda_blocks_hold(o, &r->uses, false))
        r->warm = false;
    r->uses.count = 0;
    r->uses.streamed = false;
    cuda_blocks_watch(o, &r->uses);
    o->steps->now = r;
    if (!r->warm)
        return FLUX1_OK;
    TRY(cuda_check(&o->head, o->lib->cuStreamBeginCapture(o->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                   "cannot record a step"));
    o->recording = true;
    return FLUX1_OK;
}

flux1_status cuda_step_replay(ops *base, uint64_t number, bool *done)
{
    cuda_ops *o = cuda_self(base);
    *done = false;
    TRY(cuda_begin(base, "step_replay", NULL));
    break_off(o);
    if (o->eager)
        return FLUX1_OK;
    recording *r = recording_of(o, number);
    if (r->graph && cuda_blocks_hold(o, &r->uses, true)) {
        *done = true;
        return cuda_check(base, o->lib->cuGraphLaunch(r->graph, o->stream), "cannot replay a step");
    }
    if (r->graph)
        o->lib->cuGraphExecDestroy(r->graph);
    r->graph = NULL;
    return begin_calls(o, r);
}

static flux1_status end_recording(cuda_ops *o, recording *r)
{
    CUgraph graph = NULL;
    o->recording = false;
    r->warm = false; /* should this fail, from the beginning */
    TRY(cuda_check(&o->head, o->lib->cuStreamEndCapture(o->stream, &graph), "cannot record a step"));
    flux1_status st =
        cuda_check(&o->head, o->lib->cuGraphInstantiate(&r->graph, graph, 0), "cannot make a graph of a step");
    o->lib->cuGraphDestroy(graph);
    TRY(st);
    r->warm = true;
    return cuda_check(&o->head, o->lib->cuGraphLaunch(r->graph, o->stream), "cannot replay a step");
}

flux1_status cuda_step_record(ops *base)
{
    cuda_ops *o = cuda_self(base);
    recording *r = o->steps->now;
    cuda_blocks_watch(o, NULL);
    o->steps->now = NULL;
    if (!r)
        return FLUX1_OK;
    if (o->recording)
        return end_recording(o, r);
    r->warm = !r->uses.streamed && !o->eager;
    return FLUX1_OK;
}

void cuda_step_unwind(ops *base, size_t mark)
{
    cuda_ops *o = cuda_self(base);
    if (cuda_device_current(o->device, NULL) != FLUX1_OK)
        return;
    break_off(o);
    o->lib->cuStreamSynchronize(o->stream);
    cuda_blocks_unwind(o);
    cuda_release(base, mark);
    o->lib->cuMemsetD8Async(o->flags, 0, CUDA_SLOTS * sizeof(int32_t), o->stream);
}

/* ---- checks ---- */

flux1_status cuda_flag(const cuda_ops *o, int slot, int32_t **out)
{
    TRY(cuda_fits(&o->head, slot >= 0 && slot < CUDA_SLOTS, "finite"));
    *out = (int32_t *)(uintptr_t)o->flags + slot;
    return FLUX1_OK;
}

flux1_status cuda_finite(ops *base, act a, int slot)
{
    cuda_ops *o = cuda_self(base);
    cuda_element_args j = {.in = cuda_view_of(a), .batch = act_batch(a)};
    TRY(cuda_begin(base, "finite", NULL));
    TRY(cuda_flag(o, slot, &j.flag));
    return cuda_launch_elements(o, CUDA_KERNEL_finite, &j);
}

/* The flags into one of the host's rows, and none of them on the device any more. */
static flux1_status take_flags(cuda_ops *o, int row)
{
    int32_t *to = o->host_flags + (size_t)row * CUDA_SLOTS;
    TRY(cuda_check(&o->head, o->lib->cuMemcpyDtoHAsync(to, o->flags, CUDA_SLOTS * sizeof *to, o->stream),
                   "cannot copy from the GPU"));
    return cuda_check(&o->head, o->lib->cuMemsetD8Async(o->flags, 0, CUDA_SLOTS * sizeof *to, o->stream),
                      "cannot clear the flags");
}

static int lowest_flag(const cuda_ops *o, int row)
{
    const int32_t *flags = o->host_flags + (size_t)row * CUDA_SLOTS;
    for (int i = 0; i < CUDA_SLOTS; i++)
        if (flags[i])
            return i;
    return -1;
}

flux1_status cuda_finite_first(ops *base, int *slot)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "finite_first", NULL));
    TRY(take_flags(o, 0));
    TRY(cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure"));
    *slot = lowest_flag(o, 0);
    return FLUX1_OK;
}

static int row_of(int64_t step) { return 1 + (int)(step % OPS_STEPS_AHEAD); }

flux1_status cuda_step_end(ops *base, int64_t step)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_end", NULL));
    TRY(take_flags(o, row_of(step)));
    return cuda_check(base, o->lib->cuEventRecord(o->ended[row_of(step) - 1], o->stream), "cannot mark a step's end");
}

flux1_status cuda_step_wait(ops *base, int64_t step, int *slot)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_wait", NULL));
    TRY(cuda_check(base, o->lib->cuEventSynchronize(o->ended[row_of(step) - 1]), "the GPU reports a failure"));
    *slot = lowest_flag(o, row_of(step));
    return FLUX1_OK;
}
