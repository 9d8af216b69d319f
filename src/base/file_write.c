/* Writing a file: under a temporary name beside its target, which then takes the target's name. Where a target cannot
 * be renamed over, its content is replaced instead. */
#include "base/file.h"

#include "base/sysfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINKS_MOST 40 /* as the kernel */

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
    if (errno == ENAMETOOLONG) /* the temporary name is shorter: rename would be the first to find out */
        return error_io(err, path, "create");
    if (path[strlen(path) - 1] == '/')
        return error_set(err, FLUX1_ERR_IO, "%s: names a folder; name a file in it", path);
    return FLUX1_OK;
}

/* The folder is the likely culprit when a new name cannot be made: say which. */
static flux1_status creation_fault(const char *path, flux1_error *err)
{
    const int number = errno;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash && slash > path ? (int)(slash - path) : 1, slash ? path : ".");
    if (number == ENOENT && file_is_directory(folder)) /* such as /proc */
        return error_set(err, FLUX1_ERR_IO, "%s: no file can be made in the folder %s", path, folder);
    if (number == ENOENT)
        return error_set(err, FLUX1_ERR_IO, "%s: the folder %s does not exist; make it first", path, folder);
    if (number == ENOTDIR)
        return error_set(err, FLUX1_ERR_IO, "%s: %s is not a folder", path, folder);
    if (number == EACCES || number == EPERM)
        return error_set(err, FLUX1_ERR_IO, "%s: no permission to write in the folder %s", path, folder);
    if (number == EROFS)
        return error_set(err, FLUX1_ERR_IO,
                         "%s: the folder %s is on a file system that is mounted read-only; choose another place", path,
                         folder);
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

/* Bytes of `path` in front of its last name, with the slash. */
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* folder[0..bytes) and a name, malloc'd; NULL when out of memory. */
static char *name_in(const char *folder, size_t bytes, const char *name)
{
    const size_t length = strlen(name);
    char *path = malloc(bytes + length + 1);
    if (path) {
        memcpy(path, folder, bytes);
        memcpy(path + bytes, name, length + 1);
    }
    return path;
}

/* Where a file of that name lies or will lie: links are followed, one to nothing too. malloc'd in *out. */
static flux1_status follow_links(const char *path, char **out, flux1_error *err)
{
    char next[PATH_MAX];
    struct stat info;
    *out = strdup(path);
    for (int links = 0; *out && lstat(*out, &info) == 0 && S_ISLNK(info.st_mode); links++) {
        ssize_t n = readlink(*out, next, sizeof next - 1);
        if (n < 0 || links == LINKS_MOST) {
            flux1_status st = n < 0 ? error_io(err, *out, "read the link")
                                    : error_set(err, FLUX1_ERR_IO, "%s: leads through more than %d links", path, links);
            free(*out);
            *out = NULL;
            return st;
        }
        next[n] = '\0';
        char *from = *out;
        *out = name_in(from, next[0] == '/' ? 0 : folder_bytes(from), next);
        free(from);
    }
    return *out ? FLUX1_OK : error_oom(err, strlen(path) + 1, path);
}

/* A folder's true path, malloc'd; NULL: there can be none, or no memory. Of one that is not there, that of the folder
 * above it and the name. */
static char *folder_place(const char *path)
{
    char *place = realpath(path, NULL);
    /* The depth is bounded: realpath refuses what is longer than PATH_MAX. A working folder may have been removed. */
    if (place || errno != ENOENT || strcmp(path, ".") == 0)
        return place;
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char *above = begin > 0 ? strndup(path, begin) : strdup("."), *name = strndup(path + begin, end - begin);
    char *above_place = above && name && end > 0 ? folder_place(above) : NULL;
    if (above_place && strcmp(name, ".") != 0)
        place = path_join(above_place, name);
    else if (above_place)
        place = strdup(above_place);
    free(above);
    free(above_place);
    free(name);
    return place;
}

char *file_place(const char *path)
{
    char *target, *place = NULL;
    if (follow_links(path, &target, NULL) != FLUX1_OK)
        return NULL;
    const size_t bytes = folder_bytes(target);
    char *folder = bytes > 0 ? strndup(target, bytes) : strdup("."),
         *true_folder = folder ? folder_place(folder) : NULL;
    if (true_folder)
        place = path_join(true_folder, target + bytes);
    free(folder);
    free(true_folder);
    free(target);
    return place;
}

bool file_same_place(const char *a, const char *b)
{
    char *first = file_place(a), *second = file_place(b);
    const bool same = first && second && strcmp(first, second) == 0;
    free(first);
    free(second);
    return same;
}

/* ---- targets that cannot be renamed over ---- */

/* mountinfo writes blanks, tabs, newlines and backslashes in octal. */
static bool same_mount(const char *field, const char *path)
{
    for (; *field && *field != ' '; path++) {
        int c = (unsigned char)*field++;
        if (c == '\\' && strspn(field, "01234567") >= 3) {
            c = (field[0] - '0') * 64 + (field[1] - '0') * 8 + (field[2] - '0');
            field += 3;
        }
        if ((unsigned char)*path != c)
            return false;
    }
    return *path == '\0';
}

/* Something is mounted on this very file (docker run -v FILE:FILE). */
static bool is_mount_point(const char *path)
{
    char real[PATH_MAX];
    sysfile f;
    bool found = false;
    if (realpath(path, real) && sysfile_open(&f, "/proc/self", "/mountinfo")) {
        for (char *line; !found && (line = sysfile_line(&f));) {
            for (int blanks = 0; line && blanks < 4; blanks++) /* the fifth field is the mount point */
                line = strchr(line, ' ') ? strchr(line, ' ') + 1 : NULL;
            found = line && same_mount(line, real);
        }
        sysfile_close(&f);
    }
    return found;
}

/* A sticky folder's files are replaced by their owners only. */
static bool is_held_by_sticky_folder(const char *path, const struct stat *file)
{
    struct stat folder;
    char name[PATH_MAX];
    const int length = snprintf(name, sizeof name, "%.*s.", (int)folder_bytes(path), path);
    return length > 0 && (size_t)length < sizeof name && stat(name, &folder) == 0 && (folder.st_mode & S_ISVTX) &&
           geteuid() != 0 && geteuid() != file->st_uid && geteuid() != folder.st_uid;
}

static bool keeps_its_place(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && (is_held_by_sticky_folder(path, &info) || is_mount_point(path));
}

static flux1_status open_target(file_writer *w, flux1_error *err)
{
    w->target = open(w->path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    w->in_place = w->target >= 0;
    return w->in_place ? FLUX1_OK
                       : error_set(err, FLUX1_ERR_IO,
                                   "%s: is mounted or in another user's folder, so that its content must be "
                                   "replaced, but it cannot be written: %s",
                                   w->path, strerror(errno));
}

/* ---- beginning ---- */

/* A file beside the target, in a folder that is writable. */
static int create_temporary(file_writer *w)
{
    const size_t bytes = folder_bytes(w->path);
    int fd = -1;
    errno = EEXIST;
    for (unsigned attempt = 0; fd < 0 && errno == EEXIST && attempt < 100; attempt++) {
        char name[40];
        snprintf(name, sizeof name, "flux1-%016llx.tmp", name_noise(attempt)); /* short, however long the target's is */
        free(w->temporary);
        w->temporary = name_in(w->path, bytes, name);
        if (!w->temporary) {
            errno = ENOMEM;
            return -1;
        }
        fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (fd < 0) {
        free(w->temporary);
        w->temporary = NULL;
    }
    return fd;
}

static flux1_status open_stream(file_writer *w, flux1_error *err)
{
    int fd = create_temporary(w);
    if (fd >= 0) {
        if ((w->stream = fdopen(fd, "w+b")))
            return FLUX1_OK;
        close(fd);
        return error_oom(err, 0, w->path);
    }
    const int why = errno;
    if ((why == EACCES || why == EPERM || why == EROFS) && file_exists(w->path) &&
        (w->in_place || open_target(w, NULL) == FLUX1_OK) && (w->stream = tmpfile()))
        return FLUX1_OK;
    errno = why;
    return why == ENOMEM ? error_oom(err, 0, w->path) : creation_fault(w->path, err);
}

flux1_status file_begin(const char *path, file_writer *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    *out = (file_writer){0};
    TRY(check_target(path, err));
    TRY(follow_links(path, &out->path, err));
    if (keeps_its_place(out->path))
        TRY_CLEANUP(open_target(out, err));
    st = open_stream(out, err);
cleanup:
    if (st != FLUX1_OK)
        file_abandon(out);
    return st;
}

/* ---- ending ---- */

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

static flux1_status in_place_fault(const file_writer *w, flux1_error *err)
{
    const int why = errno;
    return error_set(err, FLUX1_ERR_IO, "%s: cannot write: %s; it may be incomplete now", w->path, strerror(why));
}

/* Puts the temporary file's bytes where the target's are. Room for them is made first, so that a full disk is noticed
 * before the old content is gone. */
static flux1_status copy_over(file_writer *w, flux1_error *err)
{
    char block[1 << 16];
    const int from = fileno(w->stream);
    struct stat written, before;
    if (fstat(from, &written) != 0 || fstat(w->target, &before) != 0)
        return error_io(err, w->path, "stat");
    const int full = written.st_size > 0 ? posix_fallocate(w->target, 0, written.st_size) : 0;
    if (full == ENOSPC || full == EFBIG || full == EDQUOT) {
        errno = ftruncate(w->target, before.st_size) == 0 ? full : errno;
        return error_io(err, w->path, "write");
    }
    for (off_t at = 0; at < written.st_size;) {
        ssize_t n = pread(from, block, sizeof block, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || pwrite(w->target, block, (size_t)n, at) != n)
            return in_place_fault(w, err);
        at += n;
    }
    if (ftruncate(w->target, written.st_size) != 0 || (fsync(w->target) != 0 && errno != EINVAL && errno != ENOTSUP))
        return in_place_fault(w, err);
    return FLUX1_OK;
}

static flux1_status close_stream(file_writer *w, flux1_error *err)
{
    FILE *stream = w->stream;
    w->stream = NULL;
    return fclose(stream) == 0 ? FLUX1_OK : error_io(err, w->path, "write");
}

static flux1_status take_name(file_writer *w, flux1_error *err)
{
    if (w->in_place)
        return copy_over(w, err);
    TRY(close_stream(w, err));
    if (rename(w->temporary, w->path) == 0) {
        free(w->temporary);
        w->temporary = NULL;
        return FLUX1_OK;
    }
    const int why = errno; /* no sign of it at the beginning, or something was mounted meanwhile */
    if ((why == EBUSY || why == EPERM || why == EACCES) && (w->stream = fopen(w->temporary, "rb")) &&
        open_target(w, NULL) == FLUX1_OK)
        return copy_over(w, err);
    errno = why;
    return error_io(err, w->path, "rename the finished file to its name");
}

flux1_status file_commit(file_writer *writer, flux1_error *err)
{
    flux1_status st = flush_all(writer, err);
    if (st == FLUX1_OK)
        st = take_name(writer, err);
    file_abandon(writer);
    return st;
}

void file_abandon(file_writer *writer)
{
    if (writer->stream)
        fclose(writer->stream);
    if (writer->in_place)
        close(writer->target);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (file_writer){0};
}

flux1_status file_write(const char *path, const void *bytes, size_t size, flux1_error *err)
{
    file_writer w;
    TRY(file_begin(path, &w, err));
    if (fwrite(bytes, 1, size, w.stream) == size)
        return file_commit(&w, err);
    const flux1_status st = error_io(err, w.path, "write");
    file_abandon(&w);
    return st;
}

flux1_status file_check_writable(const char *path, flux1_error *err)
{
    file_writer w;
    flux1_status st = file_begin(path, &w, err);
    file_abandon(&w);
    return st;
}

/* Why mkdir failed, in other words where errno's would mislead. */
static flux1_status folder_fault(const char *path, int number, flux1_error *err)
{
    struct stat info;
    if (number == EEXIST && stat(path, &info) == 0)
        return error_set(err, FLUX1_ERR_IO, "%s: exists and is not a folder; move it away or name another folder",
                         path);
    if (number == EEXIST && file_find(path, &(bool){false}, err) != FLUX1_OK) /* a link to what is not there */
        return FLUX1_ERR_IO;
    if (number == ENOENT) /* those above it are there: such as /proc */
        return error_set(err, FLUX1_ERR_IO, "%s: no folder can be made there; name another one", path);
    errno = number;
    return error_io(err, path, "make the folder");
}

flux1_status folder_make(char *path, mode_t mode, flux1_error *err)
{
    for (char *slash = path[0] ? path + 1 : path;; slash++) {
        slash += strcspn(slash, "/");
        const char kept = *slash;
        const bool last = slash[strspn(slash, "/")] == '\0';
        *slash = '\0';
        const int number = mkdir(path, last ? mode : 0777) == 0 ? 0 : errno;
        const bool made = number == 0 || ((number == EEXIST || kept) && /* above, also where nothing may be written */
                                          file_is_directory(path));
        const flux1_status st = made ? FLUX1_OK : folder_fault(path, number, err);
        *slash = kept;
        if (st != FLUX1_OK || !kept)
            return st;
    }
}

flux1_status folder_make_temporary(const char *name, char *path, size_t room, flux1_error *err)
{
    const char *named = getenv("TMPDIR"), *place = named && named[0] == '/' ? named : "/tmp";
    const int length = snprintf(path, room, "%s/%s-XXXXXX", place, name);
    errno = ENAMETOOLONG;
    if (length > 0 && (size_t)length < room && mkdtemp(path))
        return FLUX1_OK;
    path[0] = '\0';
    error_io(err, place, "make a temporary folder there");
    error_append(err, "; let TMPDIR name another place");
    return FLUX1_ERR_IO;
}
