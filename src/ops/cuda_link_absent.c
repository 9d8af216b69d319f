/* A build without NCCL: ranks on GPUs exchange through the host. */
#include "ops/ops.h"

static flux1_status absent(flux1_error *err)
{
    return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cuda: this build has no NCCL");
}

bool ops_cuda_link_possible(void) { return false; }

flux1_status ops_cuda_link_id(unsigned char *id, flux1_error *err)
{
    (void)id;
    return absent(err);
}

flux1_status ops_cuda_link_create(ops *o, const unsigned char *id, int size, int rank, cuda_link **out)
{
    (void)id, (void)size, (void)rank, (void)out;
    return absent(o->err);
}

void ops_cuda_link_destroy(cuda_link *l) { (void)l; }

void ops_cuda_link_abort(cuda_link *l) { (void)l; }

flux1_status ops_cuda_link_all_gather(cuda_link *l, const void *send, void *recv, size_t bytes)
{
    (void)l, (void)send, (void)recv, (void)bytes;
    return absent(NULL);
}

flux1_status ops_cuda_link_reduce_scatter(cuda_link *l, const float *send, float *recv, size_t count)
{
    (void)l, (void)send, (void)recv, (void)count;
    return absent(NULL);
}

flux1_status ops_cuda_link_shift_begin(cuda_link *l, const void *send, void *recv, size_t bytes, int distance)
{
    (void)l, (void)send, (void)recv, (void)bytes, (void)distance;
    return absent(NULL);
}

flux1_status ops_cuda_link_shift_end(cuda_link *l)
{
    (void)l;
    return absent(NULL);
}
