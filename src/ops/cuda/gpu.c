#include "ops/cuda/gpu.h"
#include "ops/cuda/notes.h"

#include "base/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kernels, compiled for every architecture that the build names (CMake makes this symbol of kernels.cu). */
extern const unsigned char cuda_kernels_fatbin[];

/* ---- failures ---- */

/* What a result of the driver means beyond "the device failed". */
static const struct {
    CUresult result;
    flux1_status status;
    bool last; /* the context is of no use any more */
} meanings[] = {
    {CUDA_ERROR_OUT_OF_MEMORY, FLUX1_ERR_MEMORY, false},
    {CUDA_ERROR_NO_DEVICE, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_NOT_SUPPORTED, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_INVALID_IMAGE, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, FLUX1_ERR_UNSUPPORTED, false},
    {CUDA_ERROR_ECC_UNCORRECTABLE, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_NVLINK_UNCORRECTABLE, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_ILLEGAL_ADDRESS, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_LAUNCH_TIMEOUT, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_ASSERT, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_HARDWARE_STACK_ERROR, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_ILLEGAL_INSTRUCTION, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_MISALIGNED_ADDRESS, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_INVALID_ADDRESS_SPACE, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_INVALID_PC, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_LAUNCH_FAILED, FLUX1_ERR_DEVICE, true},
    {CUDA_ERROR_UNKNOWN, FLUX1_ERR_DEVICE, true},
};

static const char *words_of(const cuda_libraries *lib, CUresult r)
{
    const char *text = NULL;
    lib->cuGetErrorString(r, &text);
    return text ? text : "unknown error";
}

static flux1_status failed(const cuda_libraries *lib, int ordinal, CUresult r, const char *what, flux1_error *err,
                           bool *last)
{
    flux1_status st = FLUX1_ERR_DEVICE;
    char version[16];
    *last = false;
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].result == r) {
            st = meanings[i].status;
            *last = meanings[i].last;
        }
    if (st == FLUX1_ERR_MEMORY)
        return error_set(err, st, "device cuda:%d: %s: %s", ordinal, what, words_of(lib, r));
    cuda_library_version(lib, CUDA_DRIVER, version, sizeof version);
    return error_set(err, st, "device cuda:%d: %s: %s (driver %s)", ordinal, what, words_of(lib, r),
                     *version ? version : "of unknown version");
}

flux1_status cuda_device_check(cuda_device *d, CUresult r, const char *what, flux1_error *err)
{
    bool last;
    int none = 0;
    if (r == CUDA_SUCCESS)
        return FLUX1_OK;
    flux1_status st = failed(d->lib, d->head.ordinal, r, what, err, &last);
    if (last)
        atomic_compare_exchange_strong(&d->failure, &none, (int)r);
    return st;
}

flux1_status cuda_device_current(const cuda_device *d, flux1_error *err)
{
    int before = atomic_load_explicit(&d->failure, memory_order_relaxed);
    if (before)
        return error_set(err, FLUX1_ERR_DEVICE,
                         "device cuda:%d failed before (%s) and cannot be used by this process any more; start the "
                         "program again, and if that does not help reset the GPU",
                         d->head.ordinal, words_of(d->lib, (CUresult)before));
    return cuda_device_check((cuda_device *)d, d->lib->cuCtxSetCurrent(d->context), "cannot use the GPU", err);
}

#define CUDA_TRY(call, what) TRY(cuda_device_check(d, call, what, err))

/* ---- opening ---- */

static size_t nccl_version(const cuda_libraries *lib)
{
    int version = 0;
#if FLUX1_HAS_NCCL
    if (lib->nccl)
        lib->ncclGetVersion(&version);
#else
    (void)lib;
#endif
    return (size_t)version;
}

static void add_fact(ops_device_info *info, const char *name, int64_t number)
{
    ops_fact *f = &info->fact[info->facts++];
    *f = (ops_fact){.number = number};
    snprintf(f->name, sizeof f->name, "%s", name);
}

#define DESCRIBE(call, what)                                         \
    do {                                                             \
        bool last_;                                                  \
        CUresult result_ = (call);                                   \
        if (result_ != CUDA_SUCCESS)                                 \
            return failed(lib, ordinal, result_, what, err, &last_); \
    } while (0)

/* What the driver says of the GPU `handle`: the first facts. */
static flux1_status describe_gpu(const cuda_libraries *lib, CUdevice handle, int ordinal, ops_device_info *info,
                                 flux1_error *err)
{
    int major = 0, minor = 0, driver = 0, multiprocessors = 0;
    *info = (ops_device_info){.bf16 = true, .bf16_native = true, .runs_ahead = true};
    snprintf(info->id, sizeof info->id, "cuda:%d", ordinal);
    DESCRIBE(lib->cuDeviceGetName(info->name, sizeof info->name, handle), "cannot read the GPU's name");
    DESCRIBE(lib->cuDeviceTotalMem(&info->memory, handle), "cannot read the GPU's memory");
    DESCRIBE(lib->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle),
             "cannot read the GPU's capability");
    DESCRIBE(lib->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle),
             "cannot read the GPU's capability");
    DESCRIBE(lib->cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, handle),
             "cannot read the GPU's size");
    DESCRIBE(lib->cuDriverGetVersion(&driver), "cannot read the driver's version");
    info->fp8 = 10 * major + minor >= 89;
    add_fact(info, "capability", 10 * major + minor);
    add_fact(info, "multiprocessors", multiprocessors);
    add_fact(info, "driver", driver);
    return FLUX1_OK;
}

static int64_t blas_version(const cuda_libraries *lib) { return lib->blas ? (int64_t)lib->cublasLtGetVersion() : 0; }
static int64_t dnn_version(const cuda_libraries *lib) { return lib->dnn ? (int64_t)lib->cudnnGetVersion() : 0; }

static flux1_status check_capability(cuda_device *d, flux1_error *err)
{
    const ops_fact *fact = d->head.info.fact;
    d->capability = (int)fact[0].number;
    d->multiprocessors = (int)fact[1].number;
    if (d->capability < 80)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "device cuda:%d: %s has compute capability %d.%d; 8.0 (Ampere) or later is needed for bf16",
                         d->head.ordinal, d->head.info.name, d->capability / 10, d->capability % 10);
    return FLUX1_OK;
}

static void describe_versions(cuda_device *d)
{
    size_t used = 0;
    snprintf(d->identity, sizeof d->identity, "%s sm_%d driver %d cublasLt %lld cudnn %lld", d->head.info.name,
             d->capability, (int)d->head.info.fact[2].number, (long long)blas_version(d->lib),
             (long long)dnn_version(d->lib));
    for (cuda_library l = CUDA_DRIVER; l < CUDA_NVRTC; l++) {
        char version[16];
        cuda_library_version(d->lib, l, version, sizeof version);
        if (*version && used < sizeof d->versions)
            used += (size_t)snprintf(d->versions + used, sizeof d->versions - used, "%s%s %s", used ? ", " : "",
                                     cuda_library_name(l), version);
    }
}

static flux1_status load_kernels(cuda_device *d, flux1_error *err)
{
    static const char *const names[] = {
#define NAME(name, args) "flux1_" #name,
        CUDA_KERNELS(NAME)
#undef NAME
    };
    char what[160];
    snprintf(what, sizeof what, "cannot load the kernels, compiled by CUDA %d.%d for " CUDA_ARCHITECTURES ", on sm_%d",
             CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10, d->capability);
    CUDA_TRY(d->lib->cuModuleLoadData(&d->module, cuda_kernels_fatbin), what);
    for (int k = 0; k < CUDA_KERNEL_COUNT; k++)
        CUDA_TRY(d->lib->cuModuleGetFunction(&d->kernel[k], d->module, names[k]), names[k]);
    return FLUX1_OK;
}

/* On the starter's thread. cuDNN that does not start is whoever's error who asks it for something. */
static flux1_status start_libraries(cuda_device *d, flux1_error *err)
{
    const cuda_libraries *lib;
    TRY(cuda_libraries_load(&lib, err));
    TRY(cuda_device_current(d, err));
    describe_versions(d);
    cuda_note_missing(lib);
    /* cuBLASLt's CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F: since 12.9, and on Hopper only. The kernel gemm can always
     */
    d->scales_rows = !lib->blas || (d->capability == 90 && lib->cublasLtGetVersion() >= 120900);
    if (lib->blas && lib->cublasLtCreate(&d->blas) != CUBLAS_STATUS_SUCCESS)
        return error_set(err, FLUX1_ERR_DEVICE, "device cuda:%d: cuBLASLt does not start (%s)", d->head.ordinal,
                         d->versions);
    if (lib->dnn && lib->cudnnCreate(&d->dnn) != CUDNN_STATUS_SUCCESS)
        d->dnn = NULL;
    return FLUX1_OK;
}

static void *starter_main(void *device)
{
    cuda_device *d = device;
    d->ready = start_libraries(d, &d->ready_err);
    return NULL;
}

flux1_status cuda_device_ready(cuda_device *d, flux1_error *err)
{
    pthread_mutex_lock(&d->ready_lock);
    if (d->starting)
        pthread_join(d->starter, NULL);
    d->starting = false;
    if (d->ready != FLUX1_OK && err)
        *err = d->ready_err;
    flux1_status st = d->ready;
    pthread_mutex_unlock(&d->ready_lock);
    return st;
}

static flux1_status set_up(cuda_device *d, flux1_error *err)
{
    int count = 0;
    TRY(cuda_libraries_begin(&d->lib, err));
    CUDA_TRY(d->lib->cuInit(0), "cannot start the driver");
    CUDA_TRY(d->lib->cuDeviceGetCount(&count), "cannot count the GPUs");
    if (d->head.ordinal >= count)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cuda:%d: this machine has %d GPU%s, counted from 0",
                         d->head.ordinal, count, count == 1 ? "" : "s");
    CUDA_TRY(d->lib->cuDeviceGet(&d->handle, d->head.ordinal), "cannot open the GPU");
    TRY(describe_gpu(d->lib, d->handle, d->head.ordinal, &d->head.info, err));
    TRY(check_capability(d, err));
    CUDA_TRY(d->lib->cuDevicePrimaryCtxRetain(&d->context, d->handle), "cannot make a context on the GPU");
    TRY(cuda_device_current(d, err));
    TRY(load_kernels(d, err));
    d->starting = thread_start(&d->starter, starter_main, d) == 0;
    if (!d->starting)
        starter_main(d);
    return FLUX1_OK;
}

void cuda_device_destroy(cuda_device *d)
{
    if (!d)
        return;
    cuda_device_ready(d, NULL);
    if (d->context) {
        d->lib->cuCtxSetCurrent(d->context);
        if (d->dnn)
            d->lib->cudnnDestroy(d->dnn);
        if (d->blas)
            d->lib->cublasLtDestroy(d->blas);
        if (d->module)
            d->lib->cuModuleUnload(d->module);
        d->lib->cuDevicePrimaryCtxRelease(d->handle);
    }
    pthread_mutex_destroy(&d->ready_lock);
    pthread_mutex_destroy(&d->kept_lock);
    pthread_mutex_destroy(&d->upload_lock);
    pthread_mutex_destroy(&d->plans_lock);
    free(d);
}

flux1_status cuda_device_create(int ordinal, cuda_device **out, flux1_error *err)
{
    cuda_device *d = calloc(1, sizeof *d);
    if (!d)
        return error_oom(err, sizeof *d, "the GPU");
    pthread_mutex_init(&d->ready_lock, NULL); /* default attributes: POSIX's reasons to fail are none of glibc's */
    pthread_mutex_init(&d->kept_lock, NULL);
    pthread_mutex_init(&d->upload_lock, NULL);
    pthread_mutex_init(&d->plans_lock, NULL);
    d->head.ordinal = ordinal;
    d->worth_noting = CUDA_WORTH_NOTING;
    flux1_status st = set_up(d, err);
    if (st != FLUX1_OK) {
        cuda_device_destroy(d);
        return st;
    }
    *out = d;
    return FLUX1_OK;
}

flux1_status cuda_device_count(int *count, flux1_error *err)
{
    const cuda_libraries *lib;
    *count = 0;
    if (cuda_libraries_begin(&lib, err) != FLUX1_OK)
        return FLUX1_OK;
    CUresult r = lib->cuInit(0);
    if (r == CUDA_SUCCESS)
        r = lib->cuDeviceGetCount(count);
    if (r != CUDA_SUCCESS || *count == 0) {
        bool last;
        *count = 0;
        failed(lib, 0, r == CUDA_SUCCESS ? CUDA_ERROR_NO_DEVICE : r, "the driver finds no GPU", err, &last);
    }
    return FLUX1_OK;
}

int cuda_device_libraries(ops_library out[OPS_LIBRARIES])
{
    const cuda_libraries *lib;
    cuda_libraries_load(&lib, NULL);
    if (!lib)
        return 0;
    for (cuda_library l = 0; l < CUDA_LIBRARY_COUNT; l++) {
        const cuda_place *p = &lib->place[l];
        out[l] = (ops_library){.name = cuda_library_name(l),
                               .path = *p->path ? p->path : NULL,
                               .missing = *p->missing ? p->missing : NULL};
        cuda_library_version(lib, l, out[l].version, sizeof out[l].version);
    }
    return CUDA_LIBRARY_COUNT;
}

flux1_status cuda_device_describe(int ordinal, ops_device_info *out, flux1_error *err)
{
    const cuda_libraries *lib;
    CUdevice handle;
    TRY(cuda_libraries_load(&lib, err));
    DESCRIBE(lib->cuDeviceGet(&handle, ordinal), "cannot open the GPU");
    TRY(describe_gpu(lib, handle, ordinal, out, err));
    add_fact(out, "cublasLt", blas_version(lib));
    add_fact(out, "cudnn", dnn_version(lib));
    add_fact(out, "nccl", (int64_t)nccl_version(lib));
    return FLUX1_OK;
}
