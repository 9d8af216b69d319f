/* GPUs as a kind of device. A GPU is one however many contexts use it, and its weights are shared among them: hence a
 * list a process. */
#include "ops/cuda/cuda.h"
#include "ops/cuda/linear_plans.h"
#include "ops/cuda/notes.h"

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct opened {
    cuda_device *device;
    int users;
} opened;

enum { MOST = 64 };
static opened gpus[MOST]; /* by ordinal */

static flux1_status open_gpu(int ordinal, ops_device **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    *out = NULL;
    if (ordinal >= MOST)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cuda:%d: GPUs are counted from 0 to %d", ordinal,
                         MOST - 1);
    pthread_mutex_lock(&open_lock);
    opened *gpu = &gpus[ordinal];
    if (gpu->users == 0)
        st = cuda_device_create(ordinal, &gpu->device, err);
    else
        st = cuda_device_current(gpu->device, err);
    if (st == FLUX1_OK) {
        gpu->users++;
        gpu->device->head.kind = &ops_cuda_device;
        *out = &gpu->device->head;
    }
    pthread_mutex_unlock(&open_lock);
    return st;
}

static void close_gpu(ops_device *base)
{
    cuda_device *d = (cuda_device *)base;
    pthread_mutex_lock(&open_lock);
    if (--gpus[base->ordinal].users == 0) {
        d->lib->cuCtxSetCurrent(d->context);
        cuda_plans_save(d);
        cuda_plans_free(d);
        cuda_graphs_free(d);
        cuda_kept_destroy(d);
        cuda_device_destroy(d);
    }
    pthread_mutex_unlock(&open_lock);
}

static size_t free_memory(ops_device *d) { return cuda_kept_room((cuda_device *)d); }

const ops_device_kind ops_cuda_device = {
    .name = "cuda",
    .syntax = "cuda or cuda:N (the N-th GPU, from 0)",
    .count = cuda_device_count,
    .describe = cuda_device_describe,
    .open = open_gpu,
    .close = close_gpu,
    .create = ops_cuda_create,
    .sizing = &ops_cuda_sizing,
    .free_memory = free_memory,
    .kept_budget = cuda_kept_budget,
    .block_key = cuda_block_key,
    .block_export = cuda_block_export,
    .kept_adopt = cuda_kept_adopt,
    .kept_reclaim = cuda_kept_reclaim,
    .libraries = cuda_device_libraries,
    .next_note = cuda_next_note,
#if FLUX1_HAS_NCCL
    .link_possible = cuda_link_possible,
    .link_id = cuda_link_id,
    .link_create = cuda_link_create,
    .link_destroy = cuda_link_destroy,
    .link_abort = cuda_link_abort,
    .link_all_gather = cuda_link_all_gather,
    .link_reduce_scatter = cuda_link_reduce_scatter,
    .link_shift_begin = cuda_link_shift_begin,
    .link_shift_end = cuda_link_shift_end,
#endif
};
