#define _GNU_SOURCE /* dlinfo: the file that the loader chose */
#include "ops/cuda/libraries.h"

#include "base/file.h"
#include "base/pool.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const char *name;
    size_t offset; /* of the pointer in cuda_libraries */
} entry;

/* The headers rename functions (cuMemAlloc is cuMemAlloc_v2): the name after renaming is the library's. */
#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
#define ENTRY(function) {TEXT(function), offsetof(cuda_libraries, function)},

static const entry driver_entries[] = {CUDA_DRIVER_FUNCTIONS(ENTRY)};
static const entry blas_entries[] = {CUDA_BLAS_FUNCTIONS(ENTRY)};
static const entry dnn_entries[] = {CUDA_DNN_FUNCTIONS(ENTRY)};
#if FLUX1_HAS_NCCL
static const entry nccl_entries[] = {CUDA_NCCL_FUNCTIONS(ENTRY)};
#endif

/* Functions whose name alone has changed: what a driver before 12.8 calls them. */
static const struct {
    const char *name, *before;
} renamed[] = {{"cuEventElapsedTime_v2", "cuEventElapsedTime"}};

enum { NAMES = 3 };

typedef struct library {
    cuda_library which;
    const char *names[NAMES]; /* of its file, the preferred one first */
    const entry *entries;
    size_t count;
    bool of_machine; /* the driver */
} library;

#define ENTRIES(list) list, sizeof list / sizeof *list

static const library driver = {CUDA_DRIVER, {"libcuda.so.1"}, ENTRIES(driver_entries), true};
static const library blas = {
    CUDA_BLAS, {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}, ENTRIES(blas_entries), false};
static const library dnn = {CUDA_DNN, {"libcudnn.so.9", "libcudnn.so"}, ENTRIES(dnn_entries), false};
#if FLUX1_HAS_NCCL
static const library nccl = {CUDA_NCCL, {"libnccl.so.2", "libnccl.so"}, ENTRIES(nccl_entries), false};
#endif

/* ---- one file ---- */

/* Why a library has not been found: of several files' reasons the one that says most. */
typedef enum reason { NOT_THERE, DOES_NOT_OPEN, TOO_OLD } reason;
typedef struct miss {
    reason why;
    char text[512];
} miss;

static void keep_reason(miss *m, reason why, const char *text)
{
    if (why <= m->why)
        return;
    m->why = why;
    snprintf(m->text, sizeof m->text, "%s", text);
}

static void *look_up(void *handle, const char *name)
{
    void *symbol = dlsym(handle, name);
    for (size_t i = 0; !symbol && i < sizeof renamed / sizeof *renamed; i++)
        if (strcmp(name, renamed[i].name) == 0)
            symbol = dlsym(handle, renamed[i].before);
    return symbol;
}

/* The first function that the library lacks, NULL if it has all. */
static const char *lacking(void *handle, const library *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (!look_up(handle, l->entries[i].name))
            return l->entries[i].name;
    return NULL;
}

static void take(void *handle, const library *l, const char *name, cuda_libraries *out)
{
    struct link_map *map = NULL;
    for (size_t i = 0; i < l->count; i++) {
        void *symbol = look_up(handle, l->entries[i].name);
        memcpy((char *)out + l->entries[i].offset, &symbol, sizeof symbol);
    }
    bool known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map && *map->l_name;
    snprintf(out->place[l->which].path, PATH_MAX, "%s", known ? map->l_name : name);
}

/* The loader's message where a file is simply not there begins with the name that was asked for; another name is that
 * of a library which this one needs. */
static bool says_not_there(const char *message, const char *name)
{
    return strncmp(message, name, strlen(name)) == 0 && strstr(message, "No such file");
}

static bool try_file(const library *l, const char *name, cuda_libraries *out, miss *m)
{
    char text[512];
    void *handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        const char *message = dlerror();
        if (message && !says_not_there(message, name))
            keep_reason(m, DOES_NOT_OPEN, message);
        return false;
    }
    const char *lacks = lacking(handle, l);
    if (lacks) {
        snprintf(text, sizeof text, "%s has no %s: it is older than this build needs", name, lacks);
        keep_reason(m, TOO_OLD, text);
        dlclose(handle);
        return false;
    }
    take(handle, l, name, out);
    return true;
}

/* ---- all places ---- */

static bool try_names(const library *l, const char *folder, cuda_libraries *out, miss *m)
{
    for (int i = 0; i < NAMES && l->names[i]; i++) {
        char *path = folder ? path_join(folder, l->names[i]) : NULL;
        bool found = !folder                     ? try_file(l, l->names[i], out, m)
                     : path && file_exists(path) ? try_file(l, path, out, m)
                                                 : false;
        free(path);
        if (found)
            return true;
    }
    return false;
}

static void describe_places(const library *l, const cuda_search *where, bool loader, char *out, size_t room)
{
    size_t count = l->of_machine ? where->named : where->count;
    int used = snprintf(out, room, "%s is not %s", l->names[0], loader ? "on the loader's path" : "there");
    for (size_t i = 0; i < count && (size_t)used < room; i++)
        used += snprintf(out + used, room - (size_t)used, "%s%s",
                         i == 0          ? ", nor in "
                         : i + 1 < count ? ", "
                                         : " or ",
                         where->folder[i]);
}

static bool find(const library *l, const cuda_search *where, bool loader, cuda_libraries *out)
{
    miss m = {0};
    bool found = false;
    cuda_place *p = &out->place[l->which];
    for (size_t i = 0; i < where->named && !found; i++)
        found = try_names(l, where->folder[i], out, &m);
    if (loader && !found)
        found = try_names(l, NULL, out, &m);
    for (size_t i = where->named; i < where->count && !found && !l->of_machine; i++)
        found = try_names(l, where->folder[i], out, &m);
    if (!found && m.why == NOT_THERE)
        describe_places(l, where, loader, p->missing, sizeof p->missing);
    else if (!found)
        snprintf(p->missing, sizeof p->missing, "%s", m.text);
    return found;
}

/* cuDNN opens NVRTC by name, and finds it in its own folder or beside that as pip lays them out (its RUNPATH). Anywhere
 * else it has to be there already when cuDNN asks. */
static void find_nvrtc(const cuda_search *where, bool loader, cuda_libraries *out)
{
    static const char *const beside[] = {"", "../../cu13/lib/", "../../cuda_nvrtc/lib/"};
    cuda_place *p = &out->place[CUDA_NVRTC];
    const char *dnn_path = out->place[CUDA_DNN].path, *slash = strrchr(dnn_path, '/');
    char name[32], path[PATH_MAX];
    if (!out->dnn) {
        snprintf(p->missing, sizeof p->missing, "it was not looked for: cuDNN, which calls it, is missing");
        return;
    }
    snprintf(name, sizeof name, "libnvrtc.so.%zu", out->cudnnGetCudartVersion() / 1000);
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        int length = snprintf(path, sizeof path, "%.*s/%s%s", (int)(slash - dnn_path), dnn_path, beside[i], name);
        if (length < (int)sizeof path && realpath(path, p->path))
            return;
    }
    p->path[0] = 0; /* a realpath that failed leaves anything */
    find(&(library){.which = CUDA_NVRTC, .names = {name}}, where, loader, out);
}

static void find_others(const cuda_search *where, bool loader, cuda_libraries *out)
{
    out->blas = find(&blas, where, loader, out);
    out->dnn = find(&dnn, where, loader, out);
    find_nvrtc(where, loader, out);
#if FLUX1_HAS_NCCL
    out->nccl = find(&nccl, where, loader, out);
#else
    snprintf(out->place[CUDA_NCCL].missing, sizeof out->place[CUDA_NCCL].missing, "this build was made without nccl.h");
#endif
}

void cuda_libraries_find(const cuda_search *where, bool loader, cuda_libraries *out)
{
    out->driver = find(&driver, where, loader, out);
    find_others(where, loader, out);
}

/* ---- names and versions ---- */

const char *cuda_library_name(cuda_library which)
{
    static const char *const names[] = {[CUDA_DRIVER] = "driver",
                                        [CUDA_BLAS] = "cuBLASLt",
                                        [CUDA_DNN] = "cuDNN",
                                        [CUDA_NVRTC] = "NVRTC",
                                        [CUDA_NCCL] = "NCCL"};
    return names[which];
}

/* 0: not known. */
static int number_of(const cuda_libraries *lib, cuda_library which)
{
    int number = 0;
    if (which == CUDA_DRIVER && lib->cuDriverGetVersion)
        lib->cuDriverGetVersion(&number);
    if (which == CUDA_BLAS && lib->blas)
        number = (int)lib->cublasLtGetVersion();
    if (which == CUDA_DNN && lib->dnn)
        number = (int)lib->cudnnGetVersion();
#if FLUX1_HAS_NCCL
    if (which == CUDA_NCCL && lib->nccl)
        lib->ncclGetVersion(&number);
#endif
    return number;
}

void cuda_library_version(const cuda_libraries *lib, cuda_library which, char *out, size_t room)
{
    int n = number_of(lib, which);
    out[0] = 0;
    if (n > 0 && which == CUDA_DRIVER)
        snprintf(out, room, "%d.%d", n / 1000, n % 1000 / 10);
    else if (n > 0)
        snprintf(out, room, "%d.%d.%d", n / 10000, n / 100 % 100, n % 100);
}

/* ---- once a process ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_libraries loaded;
static const cuda_libraries *replacement;
static bool begun, complete; /* begun: the driver has been looked for; complete: so have the others */
static cuda_search places;   /* from the one to the other */
static pthread_t finder;     /* looks for the others */
static bool finding;         /* it was started, and not waited for */

static void *find_in_background(void *none)
{
    find_others(&places, true, &loaded);
    return none;
}

/* The driver; where there is one, whoever asks will want the others too. */
static flux1_status begin_once(flux1_error *err)
{
    if (begun)
        return FLUX1_OK;
    TRY(cuda_search_folders(&places, err));
    loaded.driver = find(&driver, &places, true, &loaded);
    finding = loaded.driver && thread_start(&finder, find_in_background, NULL) == 0;
    begun = true;
    return FLUX1_OK;
}

static void complete_once(void)
{
    if (complete)
        return;
    if (finding)
        pthread_join(finder, NULL);
    else
        find_others(&places, true, &loaded);
    finding = false;
    cuda_search_free(&places);
    complete = true;
}

static flux1_status load(bool all, const cuda_libraries **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&lock);
    *out = replacement;
    if (!replacement && (st = begin_once(err)) == FLUX1_OK) {
        if (all)
            complete_once();
        *out = &loaded;
        if (!loaded.driver)
            st = error_set(err, FLUX1_ERR_UNSUPPORTED,
                           "device cuda: NVIDIA's driver is not usable here (%s); device cpu works without it",
                           loaded.place[CUDA_DRIVER].missing);
    }
    pthread_mutex_unlock(&lock);
    return st;
}

flux1_status cuda_libraries_begin(const cuda_libraries **out, flux1_error *err) { return load(false, out, err); }
flux1_status cuda_libraries_load(const cuda_libraries **out, flux1_error *err) { return load(true, out, err); }

void cuda_libraries_replace(const cuda_libraries *stand_in)
{
    pthread_mutex_lock(&lock);
    replacement = stand_in;
    pthread_mutex_unlock(&lock);
}
