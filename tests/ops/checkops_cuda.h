/* What the tests of ops/cuda share: a device, emulated (cuda_emulator/: the same kernels compiled for this processor,
 * NVIDIA's libraries made of plain C) or with --gpu a real one, and runs on it. */
#ifndef FLUX1_TESTS_CHECKOPS_CUDA_H
#define FLUX1_TESTS_CHECKOPS_CUDA_H

#define ARENA (24 << 20)
#include "ops/checkops.h"
#include "ops/cuda/cuda.h"
#include "ops/cuda_emulator/emulator.h"

static ops_device *gpu;
static bool emulated = true;

static void open_fp8(run *r, dtype arithmetic, ops_fp8 fp8, bool rounded, uint64_t seed)
{
    start_run(r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = arithmetic, .fp8 = fp8, .threads = 2, .device = gpu}, rounded, seed);
}

static void open_cuda(run *r, dtype arithmetic, bool rounded, uint64_t seed)
{
    open_fp8(r, arithmetic, FP8_NO, rounded, seed);
}

static int open_gpu(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (emulated)
        cuda_libraries_replace(cuda_emulator());
    if (ops_cuda_device.open(0, &gpu, &err) != FLUX1_OK || cuda_device_ready((cuda_device *)gpu, &err) != FLUX1_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    const cuda_device *d = (cuda_device *)gpu;
    print_message("%s, %s\n", gpu->info.name, d->versions);
    if (!d->lib->blas || !d->lib->dnn) { /* kernels of our own would answer in their place, and all would pass */
        print_error("cuBLASLt and cuDNN are needed to check them: %s%s\n", d->lib->place[CUDA_BLAS].missing,
                    d->lib->place[CUDA_DNN].missing);
        return 1;
    }
    return 0;
}

static int close_gpu(void **state)
{
    (void)state;
    ops_cuda_device.close(gpu);
    if (emulated)
        assert_int_equal(cuda_emulator_counts().live_allocations, 0);
    return 0;
}

/* --gpu; --only NAME: the tests of that name, which may end in an asterisk. */
static void use_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--gpu"))
            emulated = false;
        if (!strcmp(argv[i], "--only") && i + 1 < argc)
            cmocka_set_test_filter(argv[++i]);
    }
}

static bool argued(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], word))
            return true;
    return false;
}

/* ---- for --bench ---- */

/* Bytes a second, read and written, of the driver's own copy between two pieces of 1 GiB. */
static double copy_rate(void)
{
    enum { CALLS = 10 };
    const size_t bytes = (size_t)1 << 30;
    const cuda_libraries *lib = ((cuda_device *)gpu)->lib;
    run r;
    CUdeviceptr at[2];
    open_cuda(&r, DTYPE_BF16, false, 1);
    cuda_ops *o = cuda_self(r.o);
    for (int i = 0; i < 2; i++)
        ok(&r, cuda_device_allocate((cuda_device *)gpu, bytes, "a copy", &at[i], &r.err));
    double best = INFINITY;
    for (int turn = 0; turn < 6; turn++) {
        double begin = seconds();
        for (int k = 0; k < CALLS; k++)
            assert_int_equal(lib->cuMemcpyDtoDAsync(at[1], at[0], bytes, o->stream), CUDA_SUCCESS);
        ok(&r, ops_sync(r.o));
        best = turn > 0 ? fmin(best, (seconds() - begin) / CALLS) : best;
    }
    for (int i = 0; i < 2; i++)
        cuda_device_release((cuda_device *)gpu, at[i]);
    close_run(&r);
    return 2.0 * (double)bytes / best;
}

#endif
