#include "ops/cuda/libraries.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct entry {
    const char *name;
    size_t offset; /* of the pointer in cuda_libraries */
} entry;

#define TEXT2(x) #x
#define TEXT(x)                                                                                                      \
    TEXT2(x) /* the header renames functions (cuMemAlloc is cuMemAlloc_v2): the name after renaming is the library's \
              */
#define ENTRY(function) {TEXT(function), offsetof(cuda_libraries, function)},

static const entry driver_entries[] = {CUDA_DRIVER_FUNCTIONS(ENTRY)};
static const entry blas_entries[] = {CUDA_BLAS_FUNCTIONS(ENTRY)};
static const entry dnn_entries[] = {CUDA_DNN_FUNCTIONS(ENTRY)};
#if FLUX1_HAS_NCCL
static const entry nccl_entries[] = {CUDA_NCCL_FUNCTIONS(ENTRY)};
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_libraries loaded;
static const cuda_libraries *replacement;
static bool tried, found;
static char reason[512];

/* All functions of a library, from the first of its names that opens; false, with the reason, if one is not there.
 * Never closed: the pointers stay. */
static bool load(const char *const *names, const entry *entries, size_t count)
{
    void *handle = NULL;
    for (; *names && !handle; names++)
        handle = dlopen(*names, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        const char *why = dlerror();
        snprintf(reason, sizeof reason, "%s", why ? why : "not found");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        void *symbol = dlsym(handle, entries[i].name);
        if (!symbol) {
            snprintf(reason, sizeof reason, "the library has no %s: it is older than this build needs",
                     entries[i].name);
            return false;
        }
        memcpy((char *)&loaded + entries[i].offset, &symbol, sizeof symbol);
    }
    return true;
}

#define LOAD(names, entries) load((const char *const[]){names, NULL}, entries, sizeof entries / sizeof *entries)
#define NAMES(...) __VA_ARGS__

flux1_status cuda_libraries_load(const cuda_libraries **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&lock);
    if (replacement) {
        *out = replacement;
    } else {
        if (!tried) {
            tried = true;
            loaded.blas = LOAD(NAMES("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"), blas_entries);
            loaded.dnn = LOAD(NAMES("libcudnn.so.9", "libcudnn.so"), dnn_entries);
#if FLUX1_HAS_NCCL
            loaded.nccl = LOAD(NAMES("libnccl.so.2", "libnccl.so"), nccl_entries);
#endif
            found = LOAD(NAMES("libcuda.so.1"), driver_entries);
        }
        *out = &loaded;
        if (!found)
            st = error_set(err, FLUX1_ERR_UNSUPPORTED,
                           "device cuda: NVIDIA's driver is not usable here (%s); use --device cpu", reason);
    }
    pthread_mutex_unlock(&lock);
    return st;
}

void cuda_libraries_replace(const cuda_libraries *stand_in)
{
    pthread_mutex_lock(&lock);
    replacement = stand_in;
    pthread_mutex_unlock(&lock);
}
