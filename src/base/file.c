#include "base/file.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
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

/* What stands at the target's name: nothing, or a regular file; anything else must not be renamed over (root could
 * replace /dev/null). */
static flux1_status check_target(const char *path, flux1_error *err)
{
    struct stat info;
    if (path[0] == '\0')
        return error_set(err, FLUX1_ERR_ARGUMENT, "the name of the file to write is empty");
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return error_set(err, FLUX1_ERR_IO, "%s: is a folder; name a file in it", path);
        if (!S_ISREG(info.st_mode))
            return error_set(err, FLUX1_ERR_IO, "%s: is not a regular file and cannot be written to", path);
        return FLUX1_OK;
    }
    if (path[strlen(path) - 1] == '/')
        return error_set(err, FLUX1_ERR_IO, "%s: names a folder; name a file in it", path);
    return FLUX1_OK;
}

/* The folder is the likely culprit when a new name cannot be made: say which. */
static flux1_status creation_fault(const char *path, flux1_error *err)
{
    int number = errno;
    const char *slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) : 1;
    const char *folder = slash ? path : ".";
    if (slash == path)
        length = 1;
    if (number == ENOENT)
        return error_set(err, FLUX1_ERR_IO, "%s: the folder %.*s does not exist; make it first", path, length, folder);
    if (number == ENOTDIR)
        return error_set(err, FLUX1_ERR_IO, "%s: %.*s is not a folder", path, length, folder);
    if (number == EACCES || number == EPERM || number == EROFS)
        return error_set(err, FLUX1_ERR_IO, "%s: no permission to write in the folder %.*s", path, length, folder);
    errno = number;
    return error_io(err, path, "create");
}

/* A hint for a free name; O_EXCL makes sure of it. */
static unsigned long long name_noise(unsigned attempt)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long x = (unsigned long long)now.tv_nsec ^ ((unsigned long long)now.tv_sec << 30) ^
                           ((unsigned long long)getpid() << 40) ^ attempt;
    x *= 0x9E3779B97F4A7C15ull;
    return x ^ (x >> 29);
}

flux1_status file_begin(const char *path, file_writer *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    int fd = -1;
    file_writer w = {0};
    *out = w;
    TRY(check_target(path, err));

    /* a link stays a link: what it points to is replaced */
    struct stat link_info;
    if (lstat(path, &link_info) == 0 && S_ISLNK(link_info.st_mode))
        w.path = realpath(path, NULL);
    if (!w.path)
        w.path = strdup(path);
    size_t room = w.path ? strlen(w.path) + 32 : 0;
    if (!w.path || !(w.temporary = malloc(room))) {
        st = error_oom(err, room, path);
        goto cleanup;
    }
    for (unsigned attempt = 0; fd < 0 && attempt < 100; attempt++) {
        snprintf(w.temporary, room, "%s.%016llx.tmp", w.path, name_noise(attempt));
        fd = open(w.temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0) {
        st = creation_fault(w.path, err);
        goto cleanup;
    }
    if (!(w.stream = fdopen(fd, "wb"))) {
        st = errno == ENOMEM ? error_oom(err, 0, path) : error_io(err, path, "open");
        close(fd);
        unlink(w.temporary);
    }
cleanup:
    if (st != FLUX1_OK) {
        free(w.temporary);
        free(w.path);
        w = (file_writer){0};
    }
    *out = w;
    return st;
}

/* Everything written is on the disk, or a status. */
static flux1_status flush_all(file_writer *writer, flux1_error *err)
{
    errno = 0;
    bool failed_before = ferror(writer->stream) != 0;
    if (fflush(writer->stream) != 0 || failed_before) {
        if (errno == 0)
            return error_set(err, FLUX1_ERR_IO, "%s: cannot write: the disk may be full", writer->path);
        return error_io(err, writer->path, "write");
    }
    /* file systems without fsync say EINVAL */
    if (fsync(fileno(writer->stream)) != 0 && errno != EINVAL && errno != ENOTSUP)
        return error_io(err, writer->path, "write");
    return FLUX1_OK;
}

flux1_status file_commit(file_writer *writer, flux1_error *err)
{
    flux1_status st = flush_all(writer, err);
    if (st == FLUX1_OK) {
        FILE *stream = writer->stream;
        writer->stream = NULL;
        if (fclose(stream) != 0)
            st = error_io(err, writer->path, "write");
        else if (rename(writer->temporary, writer->path) != 0)
            st = error_io(err, writer->path, "rename the finished file to its name");
    }
    if (st != FLUX1_OK) {
        file_abandon(writer);
        return st;
    }
    free(writer->temporary);
    free(writer->path);
    *writer = (file_writer){0};
    return FLUX1_OK;
}

void file_abandon(file_writer *writer)
{
    if (writer->stream)
        fclose(writer->stream);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (file_writer){0};
}
