#include "weights/prepared_folder.h"

#include "base/file.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ENDING ".prepared"
#define UNFINISHED ".prepared.tmp"
enum { DIGITS = 32 };

/* ---- opening ---- */

static flux1_status find_limit(uint64_t wish, uint64_t *out, flux1_error *err)
{
    const char *text = getenv("FLUX1_CACHE_SIZE");
    *out = wish ? wish : PREPARED_LIMIT;
    if (wish || !text || !*text || parse_bytes(text, out))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_ARGUMENT, "FLUX1_CACHE_SIZE is \"%s\"; it should be a size such as 80G or 512M",
                     text);
}

flux1_status prepared_open(const char *wish, uint64_t limit, bool make, prepared_folder **out, flux1_error *err)
{
    const char *path = wish ? wish : getenv("FLUX1_CACHE_DIR");
    *out = NULL;
    if (!path || !*path)
        return FLUX1_OK;
    TRY(find_limit(limit, &limit, err));
    prepared_folder *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path)) || pthread_mutex_init(&f->lock, NULL) != 0) {
        if (f)
            free(f->path);
        free(f);
        return error_oom(err, sizeof *f, "the cache of prepared weights");
    }
    f->limit = limit;
    const flux1_status st = wish && make ? prepared_make_folder(f, err) : FLUX1_OK;
    if (st == FLUX1_OK)
        *out = f;
    else
        prepared_close(f);
    return st;
}

flux1_status prepared_make_folder(const prepared_folder *f, flux1_error *err)
{
    flux1_error why = {0};
    if (file_is_directory(f->path))
        return FLUX1_OK;
    char *path = strdup(f->path);
    if (!path)
        return error_oom(err, 0, "a path");
    flux1_status st = folder_make(path, 0700, &why);
    free(path);
    if (st == FLUX1_OK)
        return st;
    const size_t n = strlen(f->path); /* the message is about the folder, or about one above it */
    const bool own = strncmp(why.message, f->path, n) == 0 && why.message[n] == ':';
    return error_set(err, st, "the cache folder %s%s%s", own ? "" : f->path, own ? "" : ": ", why.message);
}

void prepared_close(prepared_folder *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->warnings; i++)
        free(f->warning[i]);
    pthread_mutex_destroy(&f->lock);
    free(f->path);
    free(f);
}

/* ---- warnings ---- */

void prepared_warn(prepared_folder *f, const char *format, ...)
{
    flux1_error e = {0};
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    error_set(&e, FLUX1_ERR_IO, "%s", text); /* cuts at a character */
    pthread_mutex_lock(&f->lock);
    if (f->warnings < PREPARED_WARNINGS && (f->warning[f->warnings] = strdup(e.message)))
        f->warnings++;
    pthread_mutex_unlock(&f->lock);
}

char *prepared_next_warning(prepared_folder *f)
{
    char *next = NULL;
    pthread_mutex_lock(&f->lock);
    if (f->warnings > 0) {
        next = f->warning[0];
        memmove(f->warning, f->warning + 1, (size_t)--f->warnings * sizeof *f->warning);
    }
    pthread_mutex_unlock(&f->lock);
    return next;
}

void prepared_stop(prepared_folder *f, const char *reason)
{
    pthread_mutex_lock(&f->lock);
    bool before = f->full;
    f->full = true;
    pthread_mutex_unlock(&f->lock);
    if (!before)
        prepared_warn(f, "%s; prepared weights are not stored from here on", reason);
}

bool prepared_is_full(prepared_folder *f)
{
    pthread_mutex_lock(&f->lock);
    bool full = f->full;
    pthread_mutex_unlock(&f->lock);
    return full;
}

/* ---- files ---- */

void prepared_name(const uint64_t key[2], char out[PREPARED_NAME])
{
    snprintf(out, PREPARED_NAME, "%016" PRIx64 "%016" PRIx64 ENDING, key[0], key[1]);
}

/* Whether a file of this name is ours. */
static bool name_is_ours(const char *name, bool *unfinished)
{
    if (strspn(name, "0123456789abcdef") != DIGITS)
        return false;
    *unfinished = strcmp(name + DIGITS, UNFINISHED) == 0;
    return *unfinished || strcmp(name + DIGITS, ENDING) == 0;
}

static int by_use(const void *a, const void *b)
{
    const prepared_file *x = a, *y = b;
    return x->used != y->used ? (x->used < y->used ? -1 : 1) : strcmp(x->name, y->name);
}

static flux1_status add_file(int folder, const char *name, prepared_file **list, size_t *count, flux1_error *err)
{
    struct stat info;
    bool unfinished;
    if (!name_is_ours(name, &unfinished) || fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return FLUX1_OK;
    if ((*count & (*count + 1)) == 0) { /* 0, 1, 3, 7, …: room for twice as many */
        prepared_file *more = realloc(*list, 2 * (*count + 1) * sizeof *more);
        if (!more)
            return error_oom(err, 0, "the list of the cache's files");
        *list = more;
    }
    prepared_file *f = &(*list)[(*count)++];
    const bool regular = S_ISREG(info.st_mode);
    *f = (prepared_file){.bytes = regular ? (uint64_t)info.st_size : 0,
                         .used = info.st_mtim.tv_sec,
                         .unfinished = unfinished && regular,
                         .stranger = !regular};
    snprintf(f->name, sizeof f->name, "%.*s", PREPARED_NAME - 1, name);
    return FLUX1_OK;
}

flux1_status prepared_files(const char *folder, prepared_file **out, size_t *count, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    *out = NULL;
    *count = 0;
    DIR *d = opendir(folder);
    if (!d)
        return error_io(err, folder, "list the folder");
    for (struct dirent *e; st == FLUX1_OK && (e = readdir(d));)
        st = add_file(dirfd(d), e->d_name, out, count, err);
    closedir(d);
    if (st != FLUX1_OK) {
        free(*out);
        *out = NULL;
        *count = 0;
    } else if (*count)
        qsort(*out, *count, sizeof **out, by_use);
    return st;
}

flux1_status prepared_check_regular(const char *path, flux1_error *err)
{
    struct stat info;
    if (lstat(path, &info) != 0 || S_ISREG(info.st_mode))
        return FLUX1_OK;
    const char *what = S_ISDIR(info.st_mode) ? "a folder" : S_ISLNK(info.st_mode) ? "a link" : "no regular file";
    return error_set(err, FLUX1_ERR_FORMAT, "%s: is %s, not an entry of the cache; remove it", path, what);
}

bool prepared_still_there(int fd, const char *path)
{
    struct stat opened, there;
    return fstat(fd, &opened) == 0 && stat(path, &there) == 0 && opened.st_dev == there.st_dev &&
           opened.st_ino == there.st_ino;
}

/* errno is of what failed. */
static prepared_removal remove_unused(const char *path, int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? PREPARED_IN_USE : PREPARED_STUCK;
    if (!prepared_still_there(fd, path))
        return file_exists(path) ? PREPARED_IN_USE : PREPARED_GONE; /* another process has made it again */
    return unlink(path) == 0 ? PREPARED_REMOVED : errno == ENOENT ? PREPARED_GONE : PREPARED_STUCK;
}

/* For an exclusive lock, which NFS gives to writers alone. */
static int open_for_removal(const char *path)
{
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 || errno == ENOENT ? fd : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

prepared_removal prepared_remove(const char *folder, const char *name, flux1_error *err)
{
    char *path = path_join(folder, name);
    if (!path) {
        error_oom(err, 0, "a path");
        return PREPARED_STUCK;
    }
    if (prepared_check_regular(path, err) != FLUX1_OK) {
        free(path);
        return PREPARED_STUCK;
    }
    const int fd = open_for_removal(path);
    const prepared_removal how = fd >= 0 ? remove_unused(path, fd) : errno == ENOENT ? PREPARED_GONE : PREPARED_STUCK;
    if (how == PREPARED_STUCK)
        error_io(err, path, "remove");
    if (fd >= 0)
        close(fd);
    free(path);
    return how;
}

static bool makes_room(const prepared_folder *f, const prepared_file *file)
{
    const prepared_removal how = prepared_remove(f->path, file->name, NULL);
    return how == PREPARED_REMOVED || how == PREPARED_GONE;
}

static bool left_behind(const prepared_file *f) { return f->unfinished && f->used < (int64_t)time(NULL) - 60; }

bool prepared_make_room(prepared_folder *f, uint64_t more)
{
    prepared_file *file;
    size_t count;
    uint64_t bytes = 0;
    if (more > f->limit || prepared_files(f->path, &file, &count, NULL) != FLUX1_OK)
        return more <= f->limit;
    for (size_t i = 0; i < count; i++)
        if (!left_behind(&file[i]) || !makes_room(f, &file[i]))
            bytes += file[i].bytes;
    for (size_t i = 0; i < count && (bytes > f->limit - more); i++)
        if (!file[i].unfinished && !file[i].stranger && makes_room(f, &file[i]))
            bytes -= file[i].bytes;
    free(file);
    return bytes <= f->limit - more;
}
