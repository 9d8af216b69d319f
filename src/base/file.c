#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

file_identity file_identity_of(const struct stat *info)
{
    return (file_identity){.device = (uint64_t)info->st_dev,
                           .inode = (uint64_t)info->st_ino,
                           .size = (uint64_t)info->st_size,
                           .seconds = (int64_t)info->st_mtim.tv_sec,
                           .nanoseconds = (int64_t)info->st_mtim.tv_nsec,
                           .changed_seconds = (int64_t)info->st_ctim.tv_sec,
                           .changed_nanoseconds = (int64_t)info->st_ctim.tv_nsec};
}

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
    *identity = file_identity_of(&info);
    return FLUX1_OK;
}

bool file_identity_same(const file_identity *a, const file_identity *b) { return memcmp(a, b, sizeof *a) == 0; }

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

/* Nothing is at `path`: is it, or a folder on the way there, a link that leads nowhere? */
static flux1_status find_dangling(const char *path, flux1_error *err)
{
    struct stat info;
    char at[PATH_MAX], target[PATH_MAX];
    const int length = snprintf(at, sizeof at, "%s", path);
    bool gone = length > 0 && (size_t)length < sizeof at && stat(at, &info) != 0;
    while (gone) {
        const ssize_t n = readlink(at, target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            return error_set(err, FLUX1_ERR_IO, "%s: a link to %s, which is not there", at, target);
        }
        char *slash = strrchr(at, '/');
        if (!slash || slash == at)
            return FLUX1_OK;
        *slash = '\0';
        gone = stat(at, &info) != 0;
    }
    return FLUX1_OK;
}

flux1_status file_find(const char *path, bool *there, flux1_error *err)
{
    struct stat info;
    *there = stat(path, &info) == 0;
    if (*there || errno == ENOTDIR)
        return FLUX1_OK;
    if (errno != ENOENT)
        return error_io(err, path, "open");
    return find_dangling(path, err);
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
