/* Large data between processes outside the mesh's collectives: from the leading one to all, and back to it. Pieces go
 * through memory of the processes' own, which stays when an order fails. */
#include "mesh/span.h"

#include <string.h>

static flux1_status pass_on(processes *p, char *at, size_t size, exchange out[2], exchange *in, flux1_error *err)
{
    engine *e = processes_engine(p);
    const int i = processes_index(p), last = processes_count(p) - 1;
    for (int turn = 0; size > 0 && last > 0; turn ^= 1) {
        size_t n = size < PROCESSES_STAGE ? size : PROCESSES_STAGE;
        TRY(engine_wait(e, &out[turn], err));
        if (i > 0) {
            engine_receive(e, in, i - 1, processes_tag(p, SPAN_BROADCAST, i - 1, i), processes_stage(p, turn), n);
            TRY(engine_wait(e, in, err));
            memcpy(at, processes_stage(p, turn), n);
        } else {
            memcpy(processes_stage(p, turn), at, n);
        }
        if (i < last)
            engine_send(e, &out[turn], i + 1, processes_tag(p, SPAN_BROADCAST, i, i + 1), processes_stage(p, turn), n);
        at += n;
        size -= n;
    }
    TRY(engine_wait(e, &out[0], err));
    return engine_wait(e, &out[1], err);
}

/* A chain: each process passes a piece on while it receives the next one. Pieces go through memory of our own, which
 * stays when an order fails. */
flux1_status processes_broadcast(processes *p, void *bytes, size_t size, flux1_error *err)
{
    engine *e = processes_engine(p);
    exchange out[2] = {{0}}, in = {0};
    flux1_status st = pass_on(p, bytes, size, out, &in, err);
    engine_forget(e, &out[0]); /* after a failure they may be under way */
    engine_forget(e, &out[1]);
    return st;
}

static flux1_status bring(processes *p, int from, void *bytes, size_t size, exchange *moving, flux1_error *err)
{
    engine *e = processes_engine(p);
    char *at = bytes;
    int tag = processes_tag(p, SPAN_BROADCAST, from, 0);
    for (int turn = 0; size > 0; turn ^= 1) {
        size_t n = size < PROCESSES_STAGE ? size : PROCESSES_STAGE;
        TRY(engine_wait(e, &moving[turn], err));
        if (processes_index(p) == from) {
            memcpy(processes_stage(p, turn), at, n);
            engine_send(e, &moving[turn], 0, tag, processes_stage(p, turn), n);
        } else {
            engine_receive(e, &moving[turn], from, tag, processes_stage(p, turn), n);
            TRY(engine_wait(e, &moving[turn], err));
            memcpy(at, processes_stage(p, turn), n);
        }
        at += n;
        size -= n;
    }
    TRY(engine_wait(e, &moving[0], err));
    return engine_wait(e, &moving[1], err);
}

/* Through memory of our own too, a piece in each half in turn. */
flux1_status processes_bring(processes *p, int from, void *bytes, size_t size, flux1_error *err)
{
    engine *e = processes_engine(p);
    exchange moving[2] = {{0}};
    flux1_status st = bring(p, from, bytes, size, moving, err);
    engine_forget(e, &moving[0]);
    engine_forget(e, &moving[1]);
    return st;
}
