/* Branches of a step. While a step is recorded the first branch goes to a stream of its own, which the recording forks
 * to and joins: its kernels fill the processors that the other branch's leave idle. Calls that are made as they come
 * stay in order, and so do branches with weights that are decoded in front of each product, in one place for all. What
 * the first branch had of the arena stays its own until both have ended. */
#include "ops/cuda/cuda.h"

/* Without memory for a second workspace everything stays in order, and it is not asked for again. */
static flux1_status make(cuda_ops *o)
{
    cuda_branches *b = &o->branches;
    b->wanted = b->workspace || cuda_device_allocate(o->device, CUDA_WORKSPACE, "the second workspace", &b->workspace,
                                                     NULL) == FLUX1_OK;
    if (!b->wanted)
        return FLUX1_OK;
    if (!b->stream)
        TRY(cuda_check(&o->head, o->lib->cuStreamCreate(&b->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream"));
    CUevent *const events[] = {&b->forked, &b->joined};
    for (int i = 0; i < 2; i++)
        if (!*events[i])
            TRY(cuda_check(&o->head, o->lib->cuEventCreate(events[i], CU_EVENT_DISABLE_TIMING),
                           "cannot make an event"));
    return FLUX1_OK;
}

/* What is enqueued on `second` from here on comes behind everything on `first`. */
static flux1_status behind(cuda_ops *o, CUstream first, CUevent event, CUstream second)
{
    TRY(cuda_check(&o->head, o->lib->cuEventRecord(event, first), "cannot mark a branch"));
    return cuda_check(&o->head, o->lib->cuStreamWaitEvent(second, event, 0), "cannot wait for a branch");
}

static void swap(cuda_ops *o, bool first)
{
    cuda_branches *b = &o->branches;
    if (!b->beside || b->first == first)
        return;
    if (first) {
        b->main = o->stream;
        b->main_workspace = o->workspace;
    }
    o->stream = first ? b->stream : b->main;
    o->workspace = first ? b->workspace : b->main_workspace;
    b->first = first;
}

static flux1_status begin(cuda_ops *o)
{
    cuda_branches *b = &o->branches;
    if (!o->recording && !o->eager)
        TRY(make(o)); /* nothing can be allocated while a step is recorded */
    b->open = true;
    b->base = b->top = o->arena_used;
    b->beside = o->recording && b->joined && o->decoded_bytes == 0;
    return b->beside ? behind(o, o->stream, b->forked, b->stream) : FLUX1_OK;
}

flux1_status cuda_branch(ops *base, int which)
{
    cuda_ops *o = cuda_self(base);
    cuda_branches *b = &o->branches;
    TRY(cuda_begin(base, "branch", NULL));
    if (which != 0 && !b->open && b->wanted)
        TRY(begin(o));
    if (!b->open)
        return FLUX1_OK;
    swap(o, which == 1);
    o->arena_used = which == 0 ? b->base : b->top;
    if (which != 0)
        return FLUX1_OK;
    b->open = false;
    return b->beside ? behind(o, b->stream, b->joined, o->stream) : FLUX1_OK;
}

void cuda_branches_drop(cuda_ops *o)
{
    swap(o, false);
    o->branches.open = o->branches.beside = false;
}

void cuda_branches_free(cuda_ops *o)
{
    cuda_branches *b = &o->branches;
    if (b->stream)
        o->lib->cuStreamDestroy(b->stream);
    CUevent const events[] = {b->forked, b->joined};
    for (int i = 0; i < 2; i++)
        if (events[i])
            o->lib->cuEventDestroy(events[i]);
    cuda_device_release(o->device, b->workspace);
    *b = (cuda_branches){0};
}
