/* Ranks that have a GPU each: NCCL over the GPUs' own connections (ops/cuda/link.c). Calls are enqueued; the backend's
 * next wait is theirs too. */
#include "mesh/comm.h"

#include "ops/ops.h"

#include <stdlib.h>

typedef struct nccl_comm {
    comm head;
    cuda_link *link;
} nccl_comm;

static cuda_link *link_of(comm *c) { return ((nccl_comm *)c)->link; }

static flux1_status nccl_all_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    return ops_cuda_link_all_gather(link_of(c), send, recv, bytes);
}

static flux1_status nccl_reduce_scatter(comm *c, const float *send, float *recv, size_t count)
{
    return ops_cuda_link_reduce_scatter(link_of(c), send, recv, count);
}

static flux1_status nccl_shift_begin(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    return ops_cuda_link_shift_begin(link_of(c), send, recv, bytes, distance);
}

static flux1_status nccl_shift_end(comm *c) { return ops_cuda_link_shift_end(link_of(c)); }

static void nccl_abort(comm *c) { ops_cuda_link_abort(link_of(c)); }

static void nccl_destroy(comm *c)
{
    ops_cuda_link_destroy(link_of(c));
    free(c);
}

static const comm_table nccl_table = {"nccl",         nccl_all_gather, nccl_reduce_scatter, nccl_shift_begin,
                                      nccl_shift_end, nccl_abort,      nccl_destroy};

flux1_status comm_nccl_create(struct ops *o, const unsigned char *id, int size, int rank, flux1_error *err, comm **out)
{
    nccl_comm *c = malloc(sizeof *c);
    if (!c)
        return error_oom(err, sizeof *c, "a communicator");
    *c = (nccl_comm){.head = {.fn = &nccl_table, .size = size, .rank = rank, .err = err}};
    flux1_status st = ops_cuda_link_create(o, id, size, rank, &c->link);
    if (st != FLUX1_OK) {
        free(c);
        return st;
    }
    *out = &c->head;
    return FLUX1_OK;
}
