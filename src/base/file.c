#include "base/file.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

flux1_status file_open_regular(const char *path, int *fd, file_identity *identity, flux1_error *err)
{
    struct stat info;
    /* without O_NONBLOCK a FIFO of that name would hang us before we could refuse it */
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return error_io(err, path, "open");
    if (fstat(opened, &info) != 0) {
        flux1_status st = error_io(err, path, "stat");
        close(opened);
        return st;
    }
    if (!S_ISREG(info.st_mode)) {
        close(opened);
        return error_set(err, FLUX1_ERR_IO, "%s: %s, a file is needed here", path,
                         S_ISDIR(info.st_mode) ? "is a folder" : "is not a regular file");
    }
    *fd = opened;
    *identity = (file_identity){.device = (uint64_t)info.st_dev,
                                .inode = (uint64_t)info.st_ino,
                                .size = (uint64_t)info.st_size,
                                .seconds = (int64_t)info.st_mtim.tv_sec,
                                .nanoseconds = (int64_t)info.st_mtim.tv_nsec};
    return FLUX1_OK;
}

flux1_status file_map_open(const char *path, file_map *out, flux1_error *err)
{
    int fd;
    file_identity identity;
    *out = (file_map){0};
    TRY(file_open_regular(path, &fd, &identity, err));
    flux1_status st = FLUX1_OK;
    size_t size = (size_t)identity.size;
    out->identity = identity;
    if (size > 0) {
        void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED)
            st = errno == ENOMEM ? error_oom(err, size, path) : error_io(err, path, "map");
        else
            *out = (file_map){bytes, size, identity};
    }
    close(fd);
    return st;
}

bool file_identity_same(const file_identity *a, const file_identity *b) { return memcmp(a, b, sizeof *a) == 0; }

void file_map_close(file_map *map)
{
    if (map->bytes)
        munmap((void *)(uintptr_t)map->bytes, map->size);
    *map = (file_map){0};
}

void file_map_will_need(const void *bytes, size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!bytes || length == 0 || page <= 0)
        return;
    uintptr_t begin = (uintptr_t)bytes & ~((uintptr_t)page - 1);
    posix_madvise((void *)begin, length + ((uintptr_t)bytes - begin), POSIX_MADV_WILLNEED);
}

void file_map_wont_need(const void *bytes, size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!bytes || page <= 0)
        return;
    uintptr_t mask = (uintptr_t)page - 1, begin = ((uintptr_t)bytes + mask) & ~mask,
              end = ((uintptr_t)bytes + length) & ~mask;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED); /* what is mapped is read again from the file */
}

flux1_status file_read(const char *path, size_t limit, char **bytes, size_t *size, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    int fd;
    size_t got = 0;
    file_identity identity;
    char *buffer = NULL;
    *bytes = NULL;
    *size = 0;
    TRY(file_open_regular(path, &fd, &identity, err));
    size_t expected = (size_t)identity.size;
    if (expected > limit) {
        st = error_set(err, FLUX1_ERR_LIMIT, "%s: has %zu bytes, at most %zu are read from such a file", path, expected,
                       limit);
        goto cleanup;
    }
    if (!(buffer = malloc(expected + 1))) {
        st = error_oom(err, expected + 1, path);
        goto cleanup;
    }
    while (got < expected) {
        ssize_t n = read(fd, buffer + got, expected - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = error_io(err, path, "read");
            goto cleanup;
        }
        if (n == 0)
            break; /* it shrank meanwhile: the reader sees what is there */
        got += (size_t)n;
    }
    buffer[got] = '\0';
    *bytes = buffer;
    *size = got;
    buffer = NULL;
cleanup:
    free(buffer);
    close(fd);
    return st;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_exists_in(const char *folder, const char *name)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path);
}

bool file_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *path_join(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    bool slash = la > 0 && a[la - 1] != '/';
    char *joined = malloc(la + slash + lb + 1);
    if (!joined)
        return NULL;
    memcpy(joined, a, la);
    if (slash)
        joined[la] = '/';
    memcpy(joined + la + slash, b, lb + 1);
    return joined;
}
