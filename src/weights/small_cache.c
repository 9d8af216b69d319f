#include "weights/small_cache.h"

#include "base/checked.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

/* An entry's file: magic, length and checksum, then its bytes. */
#define HEADER_BYTES ((size_t)24)
static const char magic[8] = {'f', 'l', 'u', 'x', '1', 'c', '1', '\n'};

static void put_u64(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

/* FNV-1a: finds damage, not intent. */
static uint64_t checksum(const void *bytes, size_t size)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return hash;
}

static void make_header(const void *bytes, size_t size, unsigned char header[HEADER_BYTES])
{
    memcpy(header, magic, sizeof magic);
    put_u64(header + 8, size);
    put_u64(header + 16, checksum(bytes, size));
}

/* ---- the folder ---- */

/* The folder above ours: $XDG_CACHE_HOME (absolute, as its specification demands), or ~/.cache. */
static flux1_status find_parent(char **out, flux1_error *err)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *out = NULL;
    if (base && base[0] == '/')
        *out = strdup(base);
    else if (home && home[0] == '/')
        *out = path_join(home, ".cache");
    else
        return error_set(err, FLUX1_ERR_IO, "neither XDG_CACHE_HOME nor HOME names a folder to keep files in");
    return *out ? FLUX1_OK : error_oom(err, 0, "a path");
}

static bool name_is_good(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(name), ending = strlen(".tmp");
    return length > 0 && name[0] != '.' && strspn(name, allowed) == length &&
           (length < ending || strcmp(name + length - ending, ".tmp") != 0);
}

/* The path of an entry; its folder is made if `make`. */
static flux1_status entry_path(const char *name, bool make, char **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    char *parent = NULL, *folder = NULL;
    *out = NULL;
    if (!name_is_good(name))
        return error_set(err, FLUX1_ERR_ARGUMENT, "\"%s\" cannot be the name of a kept file", name);
    TRY(find_parent(&parent, err));
    if (!(folder = path_join(parent, "flux1"))) {
        st = error_oom(err, 0, "a path");
        goto cleanup;
    }
    if (make) {
        TRY_CLEANUP(folder_make(parent, 0700, err));
        TRY_CLEANUP(folder_make(folder, 0700, err));
    }
    if (!(*out = path_join(folder, name)))
        st = error_oom(err, 0, "a path");
cleanup:
    free(parent);
    free(folder);
    return st;
}

/* ---- entries ---- */

bool small_cache_get(const char *name, size_t limit, char **bytes, size_t *size)
{
    char *path = NULL, *whole = NULL;
    size_t got = 0, most;
    unsigned char header[HEADER_BYTES];
    *bytes = NULL;
    *size = 0;
    if (!size_add(limit, HEADER_BYTES, &most) || entry_path(name, false, &path, NULL) != FLUX1_OK)
        return false;
    flux1_status st = file_read(path, most, &whole, &got, NULL);
    free(path);
    bool good = st == FLUX1_OK && got >= HEADER_BYTES;
    if (good) {
        make_header(whole + HEADER_BYTES, got - HEADER_BYTES, header);
        good = memcmp(whole, header, HEADER_BYTES) == 0;
    }
    if (!good) {
        free(whole);
        return false;
    }
    *size = got - HEADER_BYTES;
    memmove(whole, whole + HEADER_BYTES, *size + 1);
    *bytes = whole;
    return true;
}

flux1_status small_cache_put(const char *name, const void *bytes, size_t size, flux1_error *err)
{
    flux1_status st;
    char *path;
    file_writer w = {0};
    unsigned char header[HEADER_BYTES];
    TRY(entry_path(name, true, &path, err));
    TRY_CLEANUP(file_begin(path, &w, err));
    make_header(bytes, size, header);
    fwrite(header, 1, sizeof header, w.stream); /* a failed write is remembered by the stream and told by file_commit */
    fwrite(bytes, 1, size, w.stream);
    st = file_commit(&w, err);
cleanup:
    free(path);
    return st;
}
