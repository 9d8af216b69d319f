/* NCCL's functions over this process's memory: each rank's call waits, when its stream comes to it, for the other
 * ranks' calls, and then takes what it is to receive. Like the real one it refuses two ranks on one device, connects in
 * the background, and answers a call with ncclInProgress first. The real one connects ranks and takes memory at the
 * first call of a kind; here that may not be recorded. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#if FLUX1_HAS_NCCL

#include <map>
#include <string.h>
#include <string>
#include <vector>

namespace
{

struct call {
    const void *send;
    void *recv;
    size_t bytes;
    int to, from; /* of a shift; -1 for collectives */
};

/* The ranks of one id. */
struct party {
    int size, joined, left;
    std::vector<int> device;
    std::vector<call> now;
    int arrived, departed;
    unsigned long turn;
    bool aborted;
};

std::map<std::string, party *> parties;
unsigned long ids;

} // namespace

struct ncclComm {
    party *p;
    std::string id;
    int rank;
    bool busy;  /* the next ncclCommGetAsyncError says so once */
    bool sends; /* half of a shift has been given */
    call shift;
    cudaStream_t stream;
    bool ran[3]; /* by kind_of_call */
};

namespace
{

thread_local ncclComm *grouped; /* of a group that has begun */

enum kind_of_call { GATHER, REDUCE, SHIFT };

void first_runs_unrecorded(ncclComm_t c, kind_of_call kind)
{
    if (emulator_recording() && !c->ran[kind])
        emulate_fail("a communicator's first %s is recorded: it connects the ranks, and has to run once before",
                     kind == GATHER   ? "all_gather"
                     : kind == REDUCE ? "reduce_scatter"
                                      : "send and receive");
    c->ran[kind] = true;
}

const char *error_text(ncclResult_t r)
{
    return r == ncclInvalidUsage ? "invalid usage (two ranks on one device?)" : "an emulated failure";
}
ncclResult_t version(int *v) { return *v = NCCL_VERSION_CODE, ncclSuccess; }

ncclResult_t unique_id(ncclUniqueId *id)
{
    emulator_hold hold;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "party %lu", ++ids);
    return ncclSuccess;
}

ncclResult_t init(ncclComm_t *out, int size, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    emulator_hold hold;
    if (config->blocking != 0 || rank < 0 || rank >= size)
        return ncclInvalidArgument;
    party *&p = parties[id.internal];
    if (!p)
        p = new party{size, 0, 0, {}, std::vector<call>((size_t)size), 0, 0, 0, false};
    for (int d : p->device)
        if (d == emulator_device())
            return ncclInvalidUsage;
    p->device.push_back(emulator_device());
    p->joined++;
    *out = new ncclComm{p, id.internal, rank, true, false, {}, nullptr, {}};
    emulator_object(1);
    return ncclInProgress;
}

ncclResult_t async_error(ncclComm_t c, ncclResult_t *r)
{
    emulator_hold hold;
    *r = c->busy || c->p->joined < c->p->size ? ncclInProgress : ncclSuccess;
    c->busy = false;
    return ncclSuccess;
}

ncclResult_t abort(ncclComm_t c)
{
    emulator_hold hold;
    party *p = c->p;
    p->aborted = true;
    emulator_changed();
    /* work of this rank that is still queued names the party: it is kept */
    emulator_object(-1);
    delete c;
    return ncclSuccess;
}

/* Runs when a rank's stream comes to its call: `take` copies once all have come, and nobody leaves before all have
 * copied. */
template <class F> void meet(party *p, int rank, const call &mine, F take)
{
    emulator_wait([=]() { return p->departed == 0 || p->aborted; }); /* the meeting before has ended */
    p->now[(size_t)rank] = mine;
    p->arrived++;
    emulator_changed();
    emulator_wait([=]() { return p->arrived == p->size || p->aborted; });
    if (p->aborted)
        return;
    take();
    if (++p->departed == p->size) {
        p->arrived = p->departed = 0;
        p->turn++;
        emulator_changed();
        return;
    }
    const unsigned long turn = p->turn;
    emulator_wait([=]() { return p->turn != turn || p->aborted; });
}

ncclResult_t answer(ncclComm_t c)
{
    c->busy = true;
    return ncclInProgress;
}

ncclResult_t all_gather(const void *send, void *recv, size_t count, ncclDataType_t type, ncclComm_t c, cudaStream_t s)
{
    party *p = c->p;
    int rank = c->rank;
    if (type != ncclUint8)
        return ncclInvalidArgument;
    emulator_check(send, count, "all_gather's input");
    emulator_check(recv, count * (size_t)p->size, "all_gather's output");
    first_runs_unrecorded(c, GATHER);
    emulator_enqueue((CUstream)s, [=]() {
        meet(p, rank, {send, recv, count, -1, -1}, [=]() {
            for (int r = 0; r < p->size; r++)
                memmove((char *)recv + (size_t)r * count, p->now[(size_t)r].send, count);
        });
    });
    return answer(c);
}

ncclResult_t reduce_scatter(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
                            ncclComm_t c, cudaStream_t s)
{
    party *p = c->p;
    int rank = c->rank;
    if (type != ncclFloat32 || op != ncclSum)
        return ncclInvalidArgument;
    emulator_check(send, count * (size_t)p->size * sizeof(float), "reduce_scatter's input");
    emulator_check(recv, count * sizeof(float), "reduce_scatter's output");
    first_runs_unrecorded(c, REDUCE);
    emulator_enqueue((CUstream)s, [=]() {
        meet(p, rank, {send, recv, count, -1, -1}, [=]() {
            for (size_t i = 0; i < count; i++) {
                float sum = 0;
                for (int r = 0; r < p->size; r++)
                    sum += ((const float *)p->now[(size_t)r].send)[(size_t)rank * count + i];
                ((float *)recv)[i] = sum;
            }
        });
    });
    return answer(c);
}

ncclResult_t group_start(void) { return grouped = nullptr, ncclSuccess; }

ncclResult_t send(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
    emulator_check(from, count, "what is sent");
    if (type != ncclUint8)
        return ncclInvalidArgument;
    c->shift.send = from, c->shift.bytes = count, c->shift.to = peer;
    c->stream = s;
    grouped = c;
    return ncclSuccess;
}

ncclResult_t receive(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
    emulator_check(to, count, "what is received");
    if (type != ncclUint8 || grouped != c || count != c->shift.bytes || s != c->stream)
        return ncclInvalidUsage;
    c->shift.recv = to, c->shift.from = peer;
    return ncclSuccess;
}

ncclResult_t group_end(void)
{
    ncclComm_t c = grouped;
    grouped = nullptr;
    if (!c)
        return ncclInvalidUsage;
    first_runs_unrecorded(c, SHIFT);
    party *p = c->p;
    int rank = c->rank;
    const call mine = c->shift;
    emulator_enqueue((CUstream)c->stream, [=]() {
        meet(p, rank, mine, [=]() {
            const call &theirs = p->now[(size_t)mine.from];
            if (theirs.to != rank || theirs.bytes != mine.bytes)
                emulate_fail("rank %d receives from rank %d, which sends to rank %d", rank, mine.from, theirs.to);
            memcpy(mine.recv, theirs.send, mine.bytes);
        });
    });
    return answer(c);
}

} // namespace

void emulator_fill_nccl(cuda_libraries *t)
{
    t->ncclGetVersion = version, t->ncclGetErrorString = error_text, t->ncclGetUniqueId = unique_id,
    t->ncclCommInitRankConfig = init, t->ncclCommAbort = abort;
    t->ncclCommGetAsyncError = async_error, t->ncclAllGather = all_gather, t->ncclReduceScatter = reduce_scatter,
    t->ncclSend = send, t->ncclRecv = receive;
    t->ncclGroupStart = group_start, t->ncclGroupEnd = group_end;
    t->nccl = true;
}

#else
void emulator_fill_nccl(cuda_libraries *) {}
#endif
