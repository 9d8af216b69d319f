/* A build without the CUDA backend (CMake's FLUX1_CUDA): what the others call says so. */
#include "ops/ops.h"

static flux1_status absent(flux1_error *err)
{
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "device cuda: this build has no CUDA; build it where CUDA 12.9 or later is installed (cmake "
                     "-DFLUX1_CUDA=ON), or use --device cpu");
}

const ops_sizing ops_cuda_sizing = {0};

flux1_status ops_cuda_list(ops_cuda_info *list, int room, int *count, flux1_error *err)
{
    (void)list, (void)room;
    *count = 0;
    return absent(err);
}

flux1_status ops_cuda_open(int ordinal, cuda_device **out, flux1_error *err)
{
    (void)ordinal;
    *out = NULL;
    return absent(err);
}

void ops_cuda_close(cuda_device *d) { (void)d; }

bool ops_cuda_multiplies_fp8(const cuda_device *d)
{
    (void)d;
    return false;
}

size_t ops_cuda_memory(const cuda_device *d)
{
    (void)d;
    return 0;
}

const char *ops_cuda_name(const cuda_device *d)
{
    (void)d;
    return "none";
}

flux1_status ops_cuda_create(const ops_config *c, ops **out)
{
    *out = NULL;
    return absent(c->err);
}
