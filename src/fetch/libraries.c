#include "fetch/libraries.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct entry {
    const char *name;
    size_t offset; /* of the pointer in fetch_libraries */
} entry;

#define ENTRY(function) {#function, offsetof(fetch_libraries, function)},
static const entry curl_entries[] = {FETCH_CURL_FUNCTIONS(ENTRY)};
static const entry crypto_entries[] = {FETCH_CRYPTO_FUNCTIONS(ENTRY)};
#undef ENTRY

static const char *const curl_names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", NULL};
static const char *const crypto_names[] = {"libcrypto.so.3", "libcrypto.so.1.1", NULL};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fetch_libraries loaded;
static bool tried, found;
static char reason[512];

/* All functions of a library, from the first of its names that opens. Never closed: the pointers stay. */
static bool load(const char *const *names, const entry *entries, size_t count)
{
    void *handle = NULL;
    for (int i = 0; names[i] && !handle; i++)
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        snprintf(reason, sizeof reason, "%s cannot be opened (%s)", names[0], why ? why : "not found");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        void *symbol = dlsym(handle, entries[i].name);
        if (!symbol) {
            snprintf(reason, sizeof reason, "%s has no %s: it is older than this build needs", names[0],
                     entries[i].name);
            return false;
        }
        memcpy((char *)&loaded + entries[i].offset, &symbol, sizeof symbol);
    }
    return true;
}

flux1_status fetch_libraries_load(const fetch_libraries **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&lock);
    if (!tried) {
        tried = true;
        found = load(curl_names, curl_entries, sizeof curl_entries / sizeof *curl_entries) &&
                load(crypto_names, crypto_entries, sizeof crypto_entries / sizeof *crypto_entries);
        if (found && loaded.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
            found = false;
            snprintf(reason, sizeof reason, "libcurl cannot be initialised");
        }
    }
    if (!found)
        st = error_set(err, FLUX1_ERR_UNSUPPORTED, "nothing can be fetched: %s; install libcurl4 and libssl3", reason);
    pthread_mutex_unlock(&lock);
    *out = &loaded;
    return st;
}
