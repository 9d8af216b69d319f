/* Finds and opens the plug-in. */
#define _GNU_SOURCE /* dladdr: the folder of a shared library is where its plug-ins are */
#include "mesh/wire.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN "libflux1-mpi.so"
enum { PATH_ROOM = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const wire_table *opened;

/* One file: *found if it exists; then it must open and be of this version. */
static flux1_status open_file(const char *path, bool *found, flux1_error *err)
{
    *found = access(path, F_OK) == 0;
    if (!*found)
        return FLUX1_OK;
    /* MPI loads plug-ins of its own, which need its symbols */
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        const char *why = dlerror();
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s cannot be opened: %s. Is Open MPI installed?", path,
                         why ? why : "no reason is given");
    }
    const wire_table *w = dlsym(handle, WIRE_SYMBOL);
    if (!w || w->version != WIRE_VERSION)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s belongs to another version of flux1: install both together",
                         path);
    opened = w;
    return FLUX1_OK;
}

static flux1_status open_in(const char *folder, const char *below, bool *found, flux1_error *err)
{
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%s/%s%s" PLUGIN, folder, below, *below ? "/" : "");
    *found = false;
    return n > 0 && (size_t)n < sizeof path ? open_file(path, found, err) : FLUX1_OK;
}

/* In the folder of a file, and where an installation has its plug-ins as seen from there. */
static flux1_status open_beside(const char *file, bool *found, flux1_error *err)
{
    char folder[PATH_ROOM];
    const char *end = strrchr(file, '/');
    *found = false;
    if (!end || end == file || (size_t)(end - file) >= sizeof folder)
        return FLUX1_OK;
    memcpy(folder, file, (size_t)(end - file));
    folder[end - file] = '\0';
    static const char *const below[] = {"", "flux1", FLUX1_PLUGIN_BELOW};
    for (size_t i = 0; i < sizeof below / sizeof *below && !*found; i++)
        TRY(open_in(folder, below[i], found, err));
    return FLUX1_OK;
}

/* FLUX1_PLUGINS: folders between colons. */
static flux1_status open_listed(const char *list, bool *found, flux1_error *err)
{
    char folder[PATH_ROOM];
    *found = false;
    while (list && *list && !*found) {
        size_t n = strcspn(list, ":");
        if (n > 0 && n < sizeof folder) {
            memcpy(folder, list, n);
            folder[n] = '\0';
            TRY(open_in(folder, "", found, err));
        }
        list += n + (list[n] == ':');
    }
    return FLUX1_OK;
}

static flux1_status search(flux1_error *err)
{
    bool found;
    char program[PATH_ROOM];
    Dl_info here;
    TRY(open_listed(getenv("FLUX1_PLUGINS"), &found, err));
    ssize_t n = found ? 0 : readlink("/proc/self/exe", program, sizeof program - 1);
    if (n > 0) {
        program[n] = '\0';
        TRY(open_beside(program, &found, err));
    }
    if (!found && dladdr(&opened, &here) && here.dli_fname)
        TRY(open_beside(here.dli_fname, &found, err));
    if (!found)
        TRY(open_in(FLUX1_PLUGIN_FOLDER, "", &found, err));
    if (!found)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "several processes need the plug-in " PLUGIN
                         ", which was found neither beside the program nor "
                         "in %s: install it, or set FLUX1_PLUGINS to its folder (it is built where Open MPI is "
                         "installed)",
                         FLUX1_PLUGIN_FOLDER);
    return FLUX1_OK;
}

flux1_status wire_open(const wire_table **out, flux1_error *err)
{
    pthread_mutex_lock(&lock);
    flux1_status st = opened ? FLUX1_OK : search(err);
    *out = opened;
    pthread_mutex_unlock(&lock);
    return st;
}
