#include "fetch/place.h"

#include "base/builder.h"
#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* malloc'd text in printf's form; NULL when out of memory. */
static char *text_of(const char *format, const char *a, const char *b, const char *c)
{
    builder text = {0};
    char *out = NULL;
    builder_format(&text, format, a, b, c);
    builder_take(&text, "a path", &out, NULL);
    return out;
}

flux1_status place_open(const char *root, const hub_name *name, place *out, flux1_error *err)
{
    *out = (place){0};
    if (root)
        out->root = strdup(root);
    else
        TRY(hub_cache_root(&out->root, err));
    out->repository = out->root ? hub_repository_folder(out->root, name) : NULL;
    const char *last = out->repository ? strrchr(out->repository, '/') : NULL;
    out->locks = last ? text_of("%s/.locks%s%s", out->root, last, "") : NULL;
    if (out->locks)
        return FLUX1_OK;
    place_close(out);
    return error_oom(err, 0, "the cache's paths");
}

void place_close(place *p)
{
    free(p->root);
    free(p->repository);
    free(p->locks);
    *p = (place){0};
}

static flux1_status make_folder_of(const char *folder, const char *name, flux1_error *err)
{
    char *path = path_join(folder, name);
    flux1_status st = path ? folder_make(path, 0777, err) : error_oom(err, 0, "a path");
    free(path);
    return st;
}

/* The folder of a file. */
static flux1_status make_parent(const char *file, flux1_error *err)
{
    char *folder = strndup(file, (size_t)(strrchr(file, '/') - file));
    flux1_status st = folder ? folder_make(folder, 0777, err) : error_oom(err, 0, "a path");
    free(folder);
    return st;
}

flux1_status place_make(const place *p, flux1_error *err)
{
    TRY(make_folder_of(p->repository, "blobs", err));
    TRY(make_folder_of(p->repository, "refs", err));
    return make_folder_of(p->repository, "snapshots", err);
}

flux1_status place_space(const place *p, uint64_t bytes, flux1_error *err)
{
    struct statvfs info;
    char needed[BYTES_TEXT], free_text[BYTES_TEXT];
    if (statvfs(p->repository, &info) != 0)
        return error_io(err, p->repository, "ask for free space in");
    const double available = (double)info.f_bavail * (double)info.f_frsize;
    if ((double)bytes <= available)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_LIMIT,
                     "%s: %s are to be fetched, but only %s are free there; make room, or use another cache folder",
                     p->root, format_bytes(needed, sizeof needed, (double)bytes),
                     format_bytes(free_text, sizeof free_text, available));
}

bool place_etag_valid(const char *etag)
{
    size_t n = strlen(etag);
    return n > 0 && n <= 180 && etag[0] != '.' &&
           strspn(etag, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == n;
}

char *place_blob(const place *p, const char *etag, const char *ending)
{
    return text_of("%s/blobs/%s%s", p->repository, etag, ending);
}

char *place_snapshot(const place *p, const char *commit)
{
    return text_of("%s/snapshots/%s%s", p->repository, commit, "");
}

/* What a call says that the file system does not know. */
static bool is_unsupported(int number) { return number == ENOSYS || number == EOPNOTSUPP || number == ENOTSUP; }

flux1_status place_lock(const place *p, const char *etag, int *descriptor, flux1_error *err)
{
    struct stat info;
    char *path = text_of("%s/%s%s", p->locks, etag, ".lock");
    flux1_status st = FLUX1_OK;
    *descriptor = -1;
    if (!path)
        return error_oom(err, 0, "a path");
    if ((st = make_folder_of(p->locks, "", err)) != FLUX1_OK) {
        free(path);
        return st;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0)
        errno = 0; /* it stays so for a lock file that was removed meanwhile: it is asked for again */
    if (fd < 0)
        st = error_io(err, path, "open");
    else if ((flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &info) == 0 && info.st_nlink > 0) ||
             is_unsupported(errno) || errno == ENOLCK)
        *descriptor = fd;
    else if (errno != EWOULDBLOCK && errno != EINTR && errno != 0)
        st = error_io(err, path, "lock");
    if (*descriptor < 0 && fd >= 0)
        close(fd);
    free(path);
    return st;
}

void place_unlock(int descriptor)
{
    if (descriptor >= 0)
        close(descriptor);
}

/* The link's text: out of the folders of the path, of the commit and of snapshots. */
static char *link_target(const char *path, const char *etag)
{
    builder b = {0};
    char *out;
    for (; (path = strchr(path, '/')); path++)
        builder_add(&b, "../");
    builder_format(&b, "../../blobs/%s", etag);
    builder_take(&b, "a link", &out, NULL);
    return out;
}

static bool is_link_to(const char *path, const char *target)
{
    char text[4 * HUB_PATH_MAX];
    const ssize_t n = readlink(path, text, sizeof text);
    return n > 0 && (size_t)n == strlen(target) && memcmp(text, target, (size_t)n) == 0;
}

/* A new link under another name takes the place of what was there. *none: there are no symbolic links here. */
static flux1_status make_link(const char *target, const char *path, bool *none, flux1_error *err)
{
    char number[24];
    snprintf(number, sizeof number, "%ld", (long)getpid());
    char *temporary = text_of("%s.%s%s", path, number, ".tmp");
    flux1_status st = FLUX1_OK;
    if (!temporary)
        return error_oom(err, 0, "a path");
    unlink(temporary);
    if (symlink(target, temporary) != 0) {
        *none = errno == EPERM || is_unsupported(errno);
        st = *none ? FLUX1_OK : error_io(err, path, "make a symbolic link at");
    } else if (rename(temporary, path) != 0) {
        st = error_io(err, path, "make a symbolic link at");
        unlink(temporary);
    }
    free(temporary);
    return st;
}

static flux1_status copy_file(const char *from, const char *to, flux1_error *err)
{
    char bytes[1 << 16];
    size_t n;
    file_writer w = {0};
    FILE *in = fopen(from, "rb");
    if (!in)
        return error_io(err, from, "open");
    flux1_status st = file_begin(to, &w, err);
    while (st == FLUX1_OK && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
        fwrite(bytes, 1, n, w.stream); /* file_commit looks whether all of it went well */
    if (st == FLUX1_OK && ferror(in))
        st = error_io(err, from, "read");
    if (st == FLUX1_OK)
        st = file_commit(&w, err);
    else
        file_abandon(&w);
    fclose(in);
    return st;
}

/* The blob, or a copy of it, at `path`. */
static flux1_status put_file(const place *p, const char *etag, const char *path, bool shared, flux1_error *err)
{
    char *from = place_blob(p, etag, "");
    flux1_status st = FLUX1_OK;
    if (!from)
        return error_oom(err, 0, "a path");
    if (shared)
        st = copy_file(from, path, err);
    else if (rename(from, path) != 0)
        st = error_io(err, path, "put the file at");
    free(from);
    return st;
}

flux1_status place_link(const place *p, const char *commit, const char *path, const char *etag, bool shared,
                        bool *plain, flux1_error *err)
{
    char *snapshot = place_snapshot(p, commit), *target = link_target(path, etag);
    char *full = snapshot ? path_join(snapshot, path) : NULL;
    flux1_status st = full && target ? FLUX1_OK : error_oom(err, 0, "a path");
    *plain = false;
    if (st == FLUX1_OK && !is_link_to(full, target)) {
        st = make_parent(full, err);
        if (st == FLUX1_OK)
            st = make_link(target, full, plain, err);
        if (st == FLUX1_OK && *plain)
            st = put_file(p, etag, full, shared, err);
    }
    free(full);
    free(target);
    free(snapshot);
    return st;
}

bool place_holds(const place *p, const char *commit, const char *path, int64_t *size)
{
    struct stat info;
    char *snapshot = place_snapshot(p, commit), *full = snapshot ? path_join(snapshot, path) : NULL;
    const bool there = full && lstat(full, &info) == 0 && S_ISREG(info.st_mode);
    free(full);
    free(snapshot);
    if (!there || (*size >= 0 && info.st_size != *size))
        return false;
    *size = (int64_t)info.st_size;
    return true;
}

flux1_status place_reference(const place *p, const char *revision, const char *commit, flux1_error *err)
{
    file_writer w = {0};
    char now[HUB_COMMIT + 1];
    if (strcmp(revision, commit) == 0 ||
        (hub_commit(p->repository, revision, now, NULL) == FLUX1_OK && strcmp(now, commit) == 0))
        return FLUX1_OK;
    char *path = text_of("%s/refs/%s%s", p->repository, revision, "");
    if (!path)
        return error_oom(err, 0, "a path");
    flux1_status st = make_parent(path, err);
    if (st == FLUX1_OK)
        st = file_begin(path, &w, err);
    if (st == FLUX1_OK) {
        fputs(commit, w.stream);
        st = file_commit(&w, err);
    }
    free(path);
    return st;
}
