/* NCCL between GPUs that hold one rank each. What is exchanged stays on the devices: all_gather and reduce_scatter in
 * the backend's stream, a shift in a stream of its own, so that it runs beside the arithmetic that is enqueued between
 * its begin and its end.
 *
 * NCCL's calls do not block here (ncclConfig_t.blocking): whoever waits for one looks, now and then, whether the link
 * was aborted. */
#include "ops/cuda/cuda.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(sizeof(ncclUniqueId) == OPS_LINK_ID, "an id is NCCL's");

struct ops_link {
    cuda_ops *o;
    ncclComm_t comm;
    int size, rank;
    CUstream stream; /* of shifts */
    CUevent packed, arrived;
    bool connected, shifting;
    pthread_mutex_t lock; /* of what follows, and of the calls on comm */
    bool aborted;
};

bool cuda_link_possible(void)
{
    const cuda_libraries *lib;
    return cuda_libraries_load(&lib, NULL) == FLUX1_OK && lib->nccl;
}

static flux1_status failure(const ops_link *l, ncclResult_t r, const char *what)
{
    return error_set(l->o->head.err, FLUX1_ERR_COMM, "rank %d: NCCL cannot %s: %s", l->rank, what,
                     l->o->lib->ncclGetErrorString(r));
}

static flux1_status gone(const ops_link *l)
{
    return error_set(l->o->head.err, FLUX1_ERR_COMM, "rank %d: another rank of the mesh has failed", l->rank);
}

/* Waits for a call that NCCL answered with `r`. */
static flux1_status await(ops_link *l, ncclResult_t r, const char *what)
{
    enum { IMPATIENT = 64 }; /* most calls are answered at once */
    const struct timespec pause = {0, 20000};
    for (int looks = 0; r == ncclInProgress; looks++) {
        if (looks >= IMPATIENT)
            nanosleep(&pause, NULL);
        TRY(cuda_begin(&l->o->head, what, NULL)); /* cancelled? */
        pthread_mutex_lock(&l->lock);
        bool aborted = l->aborted;
        ncclResult_t asked = aborted ? ncclSuccess : l->o->lib->ncclCommGetAsyncError(l->comm, &r);
        pthread_mutex_unlock(&l->lock);
        if (aborted)
            return gone(l);
        r = asked == ncclSuccess ? r : asked;
    }
    return r == ncclSuccess ? FLUX1_OK : failure(l, r, what);
}

/* Before each use; with the lock held behind it, if it succeeds. */
static flux1_status begin_use(ops_link *l, const char *what)
{
    TRY(cuda_begin(&l->o->head, what, NULL));
    if (!l->connected)
        TRY(await(l, ncclInProgress, "connect the ranks"));
    l->connected = true;
    pthread_mutex_lock(&l->lock);
    if (!l->aborted)
        return FLUX1_OK;
    pthread_mutex_unlock(&l->lock);
    return gone(l);
}

static flux1_status end_use(ops_link *l, ncclResult_t r, const char *what)
{
    pthread_mutex_unlock(&l->lock);
    return await(l, r, what);
}

flux1_status cuda_link_id(unsigned char *id, flux1_error *err)
{
    const cuda_libraries *lib;
    ncclUniqueId made;
    TRY(cuda_libraries_load(&lib, err));
    ncclResult_t r = lib->ncclGetUniqueId(&made);
    if (r != ncclSuccess)
        return error_set(err, FLUX1_ERR_COMM, "NCCL does not start: %s", lib->ncclGetErrorString(r));
    memcpy(id, &made, sizeof made);
    return FLUX1_OK;
}

/* NCCL connects ranks and takes memory at the first call of a kind, which must not happen while a step is recorded:
 * from here on every recording begins with a step that only runs (steps.c). */
static flux1_status connect(ops_link *l, const unsigned char *id)
{
    const cuda_libraries *lib = l->o->lib;
    const ops *o = &l->o->head;
    ncclUniqueId made;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memcpy(&made, id, sizeof made);
    TRY(cuda_device_current(l->o->device, o->err));
    cuda_recordings_drop(l->o);
    TRY(cuda_check(o, lib->cuStreamCreate(&l->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream"));
    TRY(cuda_check(o, lib->cuEventCreate(&l->packed, CU_EVENT_DISABLE_TIMING), "cannot make an event"));
    TRY(cuda_check(o, lib->cuEventCreate(&l->arrived, CU_EVENT_DISABLE_TIMING), "cannot make an event"));
    ncclResult_t r = lib->ncclCommInitRankConfig(&l->comm, l->size, made, l->rank, &config);
    if (r != ncclSuccess && r != ncclInProgress)
        return failure(l, r, "connect the ranks");
    l->o->linked = true;
    return FLUX1_OK;
}

flux1_status cuda_link_create(ops *o, const unsigned char *id, int size, int rank, ops_link **out)
{
    ops_link *l = calloc(1, sizeof *l);
    if (!l)
        return error_oom(o->err, sizeof *l, "a link between GPUs");
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        free(l);
        return error_oom(o->err, 0, "a link's lock");
    }
    l->o = cuda_self(o);
    l->size = size;
    l->rank = rank;
    flux1_status st = connect(l, id);
    if (st != FLUX1_OK) {
        cuda_link_destroy(l);
        return st;
    }
    *out = l;
    return FLUX1_OK;
}

void cuda_link_abort(ops_link *l)
{
    pthread_mutex_lock(&l->lock);
    if (!l->aborted && l->comm)
        l->o->lib->ncclCommAbort(l->comm); /* frees it too */
    l->aborted = true;
    pthread_mutex_unlock(&l->lock);
}

/* ncclCommAbort, not ncclCommDestroy: when all that was enqueued is done it has nothing to break off, and it does not
 * wait for ranks that this thread has yet to close. */
void cuda_link_destroy(ops_link *l)
{
    if (!l)
        return;
    const cuda_libraries *lib = l->o->lib;
    bool usable = cuda_device_current(l->o->device, NULL) == FLUX1_OK;
    cuda_recordings_drop(l->o); /* they use the communicator */
    if (usable && l->comm && !l->aborted) {
        lib->cuStreamSynchronize(l->o->stream);
        lib->cuStreamSynchronize(l->stream);
    }
    cuda_link_abort(l);
    if (l->packed)
        lib->cuEventDestroy(l->packed);
    if (l->arrived)
        lib->cuEventDestroy(l->arrived);
    if (l->stream)
        lib->cuStreamDestroy(l->stream);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

flux1_status cuda_link_all_gather(ops_link *l, const void *send, void *recv, size_t bytes)
{
    if (bytes == 0)
        return FLUX1_OK;
    TRY(begin_use(l, "gather"));
    return end_use(l, l->o->lib->ncclAllGather(send, recv, bytes, ncclUint8, l->comm, (cudaStream_t)l->o->stream),
                   "gather");
}

flux1_status cuda_link_reduce_scatter(ops_link *l, const float *send, float *recv, size_t count)
{
    if (count == 0)
        return FLUX1_OK;
    TRY(begin_use(l, "reduce"));
    return end_use(
        l, l->o->lib->ncclReduceScatter(send, recv, count, ncclFloat32, ncclSum, l->comm, (cudaStream_t)l->o->stream),
        "reduce");
}

static ncclResult_t send_and_receive(ops_link *l, const void *send, void *recv, size_t bytes, int distance)
{
    const cuda_libraries *lib = l->o->lib;
    int from = ((l->rank + distance) % l->size + l->size) % l->size,
        to = ((l->rank - distance) % l->size + l->size) % l->size;
    ncclResult_t r = lib->ncclGroupStart();
    if (r != ncclSuccess)
        return r;
    r = lib->ncclSend(send, bytes, ncclUint8, to, l->comm, (cudaStream_t)l->stream);
    ncclResult_t s = lib->ncclRecv(recv, bytes, ncclUint8, from, l->comm, (cudaStream_t)l->stream),
                 end = lib->ncclGroupEnd();
    return r != ncclSuccess ? r : s != ncclSuccess ? s : end;
}

flux1_status cuda_link_shift_begin(ops_link *l, const void *send, void *recv, size_t bytes, int distance)
{
    const ops *o = &l->o->head;
    l->shifting = bytes > 0;
    if (!l->shifting)
        return FLUX1_OK;
    TRY(cuda_check(o, l->o->lib->cuEventRecord(l->packed, l->o->stream), "cannot mark what is sent"));
    TRY(cuda_check(o, l->o->lib->cuStreamWaitEvent(l->stream, l->packed, 0), "cannot wait for what is sent"));
    TRY(begin_use(l, "shift"));
    TRY(end_use(l, send_and_receive(l, send, recv, bytes, distance), "shift"));
    return cuda_check(o, l->o->lib->cuEventRecord(l->arrived, l->stream), "cannot mark what arrives");
}

flux1_status cuda_link_shift_end(ops_link *l)
{
    TRY(cuda_begin(&l->o->head, "shift", NULL));
    if (!l->shifting) /* nothing was sent; the event is another shift's */
        return FLUX1_OK;
    return cuda_check(&l->o->head, l->o->lib->cuStreamWaitEvent(l->o->stream, l->arrived, 0),
                      "cannot wait for what arrives");
}
