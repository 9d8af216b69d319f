#include "base/file_map.h"

#include "base/limits.h"
#include "base/units.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static flux1_status fill(int fd, const char *path, unsigned char *bytes, size_t size, flux1_error *err)
{
    for (size_t got = 0; got < size;) {
        const ssize_t n = pread(fd, bytes + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_io(err, path, "read");
        if (n == 0)
            return error_set(err, FLUX1_ERR_IO, "%s: it became shorter while it was read; is it still being copied?",
                             path);
        got += (size_t)n;
    }
    return FLUX1_OK;
}

/* Network and merged file systems may not map files. Shared memory keeps its bytes when file_map_wont_need gives pages
 * away. `out` has identity and size. */
static flux1_status read_whole(int fd, const char *path, file_map *out, flux1_error *err)
{
    char size[BYTES_TEXT], room[BYTES_TEXT];
    const uint64_t available = limits_memory();
    if (out->size > available)
        return error_set(err, FLUX1_ERR_LIMIT,
                         "%s: its file system does not map files, and it is too large to be read into memory (%s, %s "
                         "are available); copy it to a local disk",
                         path, format_bytes(size, sizeof size, (double)out->size),
                         format_bytes(room, sizeof room, (double)available));
    void *bytes = mmap(NULL, out->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return error_oom(err, out->size, path);
    out->bytes = bytes;
    out->in_memory = true;
    return fill(fd, path, bytes, out->size, err);
}

static flux1_status map(int fd, const char *path, file_map *out, flux1_error *err)
{
    void *bytes = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return errno == ENOMEM ? error_oom(err, out->size, path) : read_whole(fd, path, out, err);
    out->bytes = bytes;
    return guard_begin(bytes, out->size, out->identity.device, out->identity.inode, &out->guard, err);
}

flux1_status file_map_open(const char *path, file_map *out, flux1_error *err)
{
    int fd;
    *out = (file_map){0};
    TRY(file_open_regular(path, &fd, &out->identity, err));
    out->size = (size_t)out->identity.size;
    const flux1_status st = out->size ? map(fd, path, out, err) : FLUX1_OK;
    close(fd);
    if (st != FLUX1_OK)
        file_map_close(out);
    return st;
}

void file_map_close(file_map *map)
{
    guard_end(map->guard);
    if (map->bytes)
        munmap((void *)(uintptr_t)map->bytes, map->size);
    *map = (file_map){0};
}

/* Within a file's last page nothing is noticed but here: bytes behind the end are zeros. */
flux1_status file_map_check(const file_map *map, const char *path, flux1_error *err)
{
    struct stat now;
    if (!map->guard)
        return FLUX1_OK;
    const bool same = stat(path, &now) == 0 && (uint64_t)now.st_dev == map->identity.device &&
                      (uint64_t)now.st_ino == map->identity.inode;
    if (same && (uint64_t)now.st_size < map->size)
        return error_set(err, FLUX1_ERR_IO,
                         "%s: it became shorter while it was in use (%llu of %zu bytes are left); put the whole file "
                         "back and open it again",
                         path, (unsigned long long)now.st_size, map->size);
    if (guard_broken(map->guard))
        return error_set(err, FLUX1_ERR_IO,
                         "%s: a part of it was gone, or could not be read, while it was in use; open it again", path);
    return FLUX1_OK;
}

void file_map_will_need(const void *bytes, size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!bytes || length == 0 || page <= 0)
        return;
    uintptr_t begin = (uintptr_t)bytes & ~((uintptr_t)page - 1);
    posix_madvise((void *)begin, length + ((uintptr_t)bytes - begin), POSIX_MADV_WILLNEED);
}

#ifdef MADV_POPULATE_READ
static bool populate(uintptr_t begin, size_t length)
{
    return madvise((void *)begin, length, MADV_POPULATE_READ) == 0 || errno != EINVAL;
}
#else
static bool populate(uintptr_t begin, size_t length)
{
    (void)begin, (void)length;
    return false;
}
#endif

/* Kernels before 5.14 cannot be told: one byte of each page is read. */
void file_map_read(const void *bytes, size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!bytes || length == 0 || page <= 0)
        return;
    uintptr_t begin = (uintptr_t)bytes & ~((uintptr_t)page - 1), end = (uintptr_t)bytes + length;
    if (populate(begin, end - begin))
        return;
    for (uintptr_t at = begin; at < end; at += (uintptr_t)page)
        (void)*(const volatile unsigned char *)at;
}

/* Linux maps so many bytes around a fault, aligned, where they are in the page cache. */
#define AROUND ((uintptr_t)64 << 10)

/* Whole pages, and what was mapped around them; nothing: begin is not below end. */
static file_map_range pages_of(const void *bytes, size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!bytes || page <= 0)
        return (file_map_range){0};
    uintptr_t mask = (uintptr_t)page - 1, first, last;
    file_map_range r = {((uintptr_t)bytes + mask) & ~mask, ((uintptr_t)bytes + length) & ~mask};
    if (guard_bounds(bytes, &first, &last)) {
        const uintptr_t from = (uintptr_t)bytes & ~(AROUND - 1),
                        to = ((uintptr_t)bytes + length + AROUND - 1) & ~(AROUND - 1);
        r.begin = from > first ? from : first;
        r.end = to < last ? to : last;
    }
    return r;
}

void file_map_gathered(file_map_range *before)
{
    if (before->begin < before->end)
        madvise((void *)before->begin, before->end - before->begin, MADV_DONTNEED); /* read again from the file */
    *before = (file_map_range){0};
}

void file_map_gather(file_map_range *before, const void *bytes, size_t length)
{
    const file_map_range r = pages_of(bytes, length);
    if (r.begin >= r.end)
        return;
    if (r.begin > before->end || r.end < before->begin) {
        file_map_gathered(before);
        *before = r;
        return;
    }
    before->begin = r.begin < before->begin ? r.begin : before->begin;
    before->end = r.end > before->end ? r.end : before->end;
}

void file_map_wont_need(const void *bytes, size_t length)
{
    file_map_range r = pages_of(bytes, length);
    file_map_gathered(&r);
}
