/* One GPU: what all backends on it share. Opened by contexts, counted, closed by the last. */
#include "ops/cuda/cuda.h"

#include "base/file.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct cuda_device {
    ops_device head;
    int users;
    const cuda_libraries *lib;
    CUdevice handle;
    CUcontext context;
    CUmodule module;
    CUfunction kernel[CUDA_KERNEL_COUNT];
    cublasLtHandle_t blas;
    int multiprocessors, capability;
    char identity[256], *folder;
    pthread_mutex_t lock; /* of what follows */
    cuda_kept *kept;
    unsigned long clock;
    cuda_device *next;
};

/* The kernels, compiled for every architecture that the build names (CMake makes this symbol of kernels.cu). */
extern const unsigned char cuda_kernels_fatbin[];

/* A GPU is one however many contexts use it, and its weights are shared among them: hence a list a process. */
static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_device *devices;

CUfunction cuda_device_kernel(const cuda_device *d, cuda_kernel k) { return d->kernel[k]; }
cublasLtHandle_t cuda_device_blas(const cuda_device *d) { return d->blas; }
int cuda_device_multiprocessors(const cuda_device *d) { return d->multiprocessors; }
int cuda_device_capability(const cuda_device *d) { return d->capability; }
/* cuBLASLt's CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F: since 12.9, and on Hopper only. The kernel gemm can always. */
bool cuda_device_scales_rows(const cuda_device *d)
{
    return !d->lib->blas || (d->capability == 90 && d->lib->cublasLtGetVersion() >= 120900);
}
const char *cuda_device_folder(const cuda_device *d) { return d->folder; }
const char *cuda_device_identity(const cuda_device *d) { return d->identity; }
const cuda_libraries *cuda_device_libraries(const cuda_device *d) { return d->lib; }

static flux1_status failed(const cuda_libraries *lib, CUresult r, const char *what, flux1_error *err)
{
    const char *text = NULL;
    lib->cuGetErrorString(r, &text);
    return error_set(err, r == CUDA_ERROR_OUT_OF_MEMORY ? FLUX1_ERR_MEMORY : FLUX1_ERR_UNSUPPORTED,
                     "device cuda: %s: %s", what, text ? text : "unknown error");
}

#define CUDA_TRY(call, what)                           \
    do {                                               \
        CUresult result_ = (call);                     \
        if (result_ != CUDA_SUCCESS)                   \
            return failed(d->lib, result_, what, err); \
    } while (0)

flux1_status cuda_device_current(const cuda_device *d, flux1_error *err)
{
    CUDA_TRY(d->lib->cuCtxSetCurrent(d->context), "cannot use the GPU");
    return FLUX1_OK;
}

/* $XDG_CACHE_HOME/flux1 or ~/.cache/flux1; NULL where neither can be. */
static char *cache_folder(void)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *parent = base && *base   ? strdup(base)
                   : home && *home ? path_join(home, ".cache")
                                   : NULL,
         *folder = parent ? path_join(parent, "flux1") : NULL;
    if (folder) {
        mkdir(parent, 0777);
        mkdir(folder, 0777);
        if (!file_is_directory(folder)) {
            free(folder);
            folder = NULL;
        }
    }
    free(parent);
    return folder;
}

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

#define DESCRIBE(call, what)                        \
    do {                                            \
        CUresult result_ = (call);                  \
        if (result_ != CUDA_SUCCESS)                \
            return failed(lib, result_, what, err); \
    } while (0)

/* What the driver says of the GPU `handle`. */
static flux1_status describe(const cuda_libraries *lib, CUdevice handle, int ordinal, ops_device_info *info,
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
    add_fact(info, "cublasLt", lib->blas ? (int64_t)lib->cublasLtGetVersion() : 0);
    add_fact(info, "cudnn", lib->dnn ? (int64_t)lib->cudnnGetVersion() : 0);
    add_fact(info, "nccl", (int64_t)nccl_version(lib));
    return FLUX1_OK;
}

static flux1_status check_capability(cuda_device *d, flux1_error *err)
{
    const ops_fact *fact = d->head.info.fact;
    d->capability = (int)fact[0].number;
    d->multiprocessors = (int)fact[1].number;
    if (d->capability < 80)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "device cuda:%d: %s has compute capability %d.%d; 8.0 (Ampere) or later is needed for bf16",
                         d->head.ordinal, d->head.info.name, d->capability / 10, d->capability % 10);
    snprintf(d->identity, sizeof d->identity, "%s sm_%d driver %d cublasLt %zu cudnn %zu", d->head.info.name,
             d->capability, (int)fact[2].number, (size_t)fact[3].number, (size_t)fact[4].number);
    return FLUX1_OK;
}

static flux1_status load_kernels(cuda_device *d, flux1_error *err)
{
    static const char *const names[] = {
#define NAME(name, args) "flux1_" #name,
        CUDA_KERNELS(NAME)
#undef NAME
    };
    CUDA_TRY(d->lib->cuModuleLoadData(&d->module, cuda_kernels_fatbin),
             "cannot load the kernels (was this build made for another GPU?)");
    for (int k = 0; k < CUDA_KERNEL_COUNT; k++)
        CUDA_TRY(d->lib->cuModuleGetFunction(&d->kernel[k], d->module, names[k]), names[k]);
    return FLUX1_OK;
}

static flux1_status set_up(cuda_device *d, flux1_error *err)
{
    int count = 0;
    TRY(cuda_libraries_load(&d->lib, err));
    CUDA_TRY(d->lib->cuInit(0), "cannot start the driver");
    CUDA_TRY(d->lib->cuDeviceGetCount(&count), "cannot count the GPUs");
    if (d->head.ordinal >= count)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cuda:%d: this machine has %d GPU%s, counted from 0",
                         d->head.ordinal, count, count == 1 ? "" : "s");
    CUDA_TRY(d->lib->cuDeviceGet(&d->handle, d->head.ordinal), "cannot open the GPU");
    TRY(describe(d->lib, d->handle, d->head.ordinal, &d->head.info, err));
    TRY(check_capability(d, err));
    CUDA_TRY(d->lib->cuDevicePrimaryCtxRetain(&d->context, d->handle), "cannot make a context on the GPU");
    TRY(cuda_device_current(d, err));
    TRY(load_kernels(d, err));
    if (d->lib->blas && d->lib->cublasLtCreate(&d->blas) != CUBLAS_STATUS_SUCCESS)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device cuda:%d: cuBLASLt does not start", d->head.ordinal);
    d->folder = cache_folder();
    return FLUX1_OK;
}

static void tear_down(cuda_device *d)
{
    if (d->context) {
        d->lib->cuCtxSetCurrent(d->context);
        for (cuda_kept *k = d->kept, *next; k; k = next) {
            next = k->next;
            d->lib->cuMemFree(k->data);
            free(k);
        }
        if (d->blas)
            d->lib->cublasLtDestroy(d->blas);
        if (d->module)
            d->lib->cuModuleUnload(d->module);
        d->lib->cuDevicePrimaryCtxRelease(d->handle);
    }
    pthread_mutex_destroy(&d->lock);
    free(d->folder);
    free(d);
}

static flux1_status open_new(int ordinal, cuda_device **out, flux1_error *err)
{
    cuda_device *d = calloc(1, sizeof *d);
    if (!d)
        return error_oom(err, sizeof *d, "the GPU");
    if (pthread_mutex_init(&d->lock, NULL) != 0) {
        free(d);
        return error_oom(err, 0, "the GPU's lock");
    }
    d->head.kind = &ops_cuda_device;
    d->head.ordinal = ordinal;
    flux1_status st = set_up(d, err);
    if (st != FLUX1_OK) {
        tear_down(d);
        return st;
    }
    *out = d;
    return FLUX1_OK;
}

static flux1_status cuda_open(int ordinal, ops_device **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&devices_lock);
    cuda_device *d = devices;
    while (d && d->head.ordinal != ordinal)
        d = d->next;
    if (!d) {
        st = open_new(ordinal, &d, err);
        if (st == FLUX1_OK) {
            d->next = devices;
            devices = d;
        }
    }
    if (st == FLUX1_OK)
        d->users++;
    *out = st == FLUX1_OK ? &d->head : NULL;
    pthread_mutex_unlock(&devices_lock);
    return st;
}

static void cuda_close(ops_device *base)
{
    cuda_device *d = (cuda_device *)base;
    pthread_mutex_lock(&devices_lock);
    if (--d->users == 0) {
        cuda_device **at = &devices;
        while (*at != d)
            at = &(*at)->next;
        *at = d->next;
        tear_down(d);
    }
    pthread_mutex_unlock(&devices_lock);
}

static flux1_status cuda_count(int *count, flux1_error *err)
{
    const cuda_libraries *lib;
    *count = 0;
    if (cuda_libraries_load(&lib, err) != FLUX1_OK)
        return FLUX1_OK;
    if (lib->cuInit(0) != CUDA_SUCCESS || lib->cuDeviceGetCount(count) != CUDA_SUCCESS)
        *count = 0;
    return FLUX1_OK;
}

static flux1_status cuda_describe(int ordinal, ops_device_info *out, flux1_error *err)
{
    const cuda_libraries *lib;
    CUdevice handle;
    TRY(cuda_libraries_load(&lib, err));
    DESCRIBE(lib->cuDeviceGet(&handle, ordinal), "cannot open the GPU");
    return describe(lib, handle, ordinal, out, err);
}

static size_t cuda_free_memory(ops_device *d) { return cuda_device_free_bytes((cuda_device *)d); }

const ops_device_kind ops_cuda_device = {
    .name = "cuda",
    .syntax = "cuda or cuda:N (the N-th GPU, from 0)",
    .count = cuda_count,
    .describe = cuda_describe,
    .open = cuda_open,
    .close = cuda_close,
    .create = ops_cuda_create,
    .sizing = &ops_cuda_sizing,
    .free_memory = cuda_free_memory,
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

/* ---- memory ---- */

/* Gives back the unused block that was used longest ago; false if there is none. */
static bool drop_one(cuda_device *d)
{
    cuda_kept **oldest = NULL;
    for (cuda_kept **at = &d->kept; *at; at = &(*at)->next)
        if ((*at)->users == 0 && (!oldest || (*at)->used < (*oldest)->used))
            oldest = at;
    if (!oldest)
        return false;
    cuda_kept *k = *oldest;
    *oldest = k->next;
    d->lib->cuMemFree(k->data);
    free(k);
    return true;
}

/* CUDA_SUCCESS, or the failure that is left when no unused block is. */
static CUresult allocate(cuda_device *d, size_t bytes, CUdeviceptr *out)
{
    CUresult r;
    do
        r = d->lib->cuMemAlloc(out, bytes ? bytes : 1);
    while (r == CUDA_ERROR_OUT_OF_MEMORY && drop_one(d));
    return r;
}

flux1_status cuda_device_allocate(cuda_device *d, size_t bytes, const char *what, CUdeviceptr *out, flux1_error *err)
{
    pthread_mutex_lock(&d->lock);
    CUresult r = allocate(d, bytes, out);
    size_t left = 0, all = 0;
    if (r != CUDA_SUCCESS)
        d->lib->cuMemGetInfo(&left, &all);
    pthread_mutex_unlock(&d->lock);
    if (r == CUDA_ERROR_OUT_OF_MEMORY)
        return error_set(err, FLUX1_ERR_MEMORY,
                         "device cuda:%d: %s needs %zu MiB, %zu of %zu MiB are free; ask for a smaller picture, end "
                         "other programs on the GPU, or use --device cpu",
                         d->head.ordinal, what, bytes >> 20, left >> 20, all >> 20);
    return r == CUDA_SUCCESS ? FLUX1_OK : failed(d->lib, r, what, err);
}

void cuda_device_release(cuda_device *d, CUdeviceptr p)
{
    if (p)
        d->lib->cuMemFree(p);
}

size_t cuda_device_free_bytes(cuda_device *d)
{
    size_t left = 0, all = 0;
    pthread_mutex_lock(&d->lock);
    d->lib->cuMemGetInfo(&left, &all);
    for (const cuda_kept *k = d->kept; k; k = k->next)
        left += k->users == 0 ? k->bytes : 0;
    pthread_mutex_unlock(&d->lock);
    return left;
}

static cuda_kept *find(const cuda_device *d, const uint64_t key[2])
{
    cuda_kept *k = d->kept;
    while (k && (k->key[0] != key[0] || k->key[1] != key[1]))
        k = k->next;
    return k;
}

cuda_kept *cuda_device_find(cuda_device *d, const uint64_t key[2])
{
    pthread_mutex_lock(&d->lock);
    cuda_kept *k = find(d, key);
    if (k && !k->whole)
        k = NULL;
    if (k) {
        k->users++;
        k->used = ++d->clock;
    }
    pthread_mutex_unlock(&d->lock);
    return k;
}

flux1_status cuda_device_keep(cuda_device *d, const uint64_t key[2], size_t bytes, cuda_kept **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&d->lock);
    cuda_kept *k = find(d, key);
    if (!k && !(k = calloc(1, sizeof *k))) {
        st = error_oom(err, sizeof *k, "a block of weights");
    } else if (!k->data) {
        if (allocate(d, bytes, &k->data) == CUDA_SUCCESS) {
            k->key[0] = key[0], k->key[1] = key[1];
            k->bytes = bytes;
            k->next = d->kept;
            d->kept = k;
        } else {
            free(k);
            k = NULL;
        }
    }
    if (k) {
        k->users++;
        k->used = ++d->clock;
    }
    *out = k;
    pthread_mutex_unlock(&d->lock);
    return st;
}

void cuda_device_unkeep(cuda_device *d, cuda_kept *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&d->lock);
    k->users--;
    if (!k->whole && k->users == 0) /* its upload never ended: nobody else may take it for weights */
        k->key[0] = k->key[1] = 0, k->used = 0;
    pthread_mutex_unlock(&d->lock);
}
