#include "weights/prepared.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/guard.h"
#include "base/hash.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- reading ---- */

struct prepared_entry {
    int fd; /* its shared lock says that the entry is in use */
    void *bytes;
    guard *guard;
    char *path;
    prepared_header header;
    atomic_int users;
};

/* All `size` bytes at `at`: FLUX1_ERR_FORMAT where the file ends before. */
static flux1_status read_at(int fd, uint64_t at, void *out, size_t size, flux1_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)out + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, FLUX1_ERR_IO, "it cannot be read: %s", strerror(errno));
        if (n == 0)
            return error_set(err, FLUX1_ERR_FORMAT, "it was cut");
        done += (size_t)n;
    }
    return FLUX1_OK;
}

static flux1_status read_header(int fd, uint64_t file_bytes, prepared_header *out, flux1_error *err)
{
    unsigned char head[PREPARED_HEAD], *bytes = NULL;
    *out = (prepared_header){0};
    TRY(read_at(fd, 0, head, sizeof head, err));
    const size_t size = prepared_header_bytes(head);
    if (size == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "it does not begin as an entry of the cache");
    if (!(bytes = malloc(size)))
        return error_oom(err, size, "an entry of the cache");
    flux1_status st = read_at(fd, 0, bytes, size, err);
    if (st == FLUX1_OK)
        st = prepared_header_read(bytes, size, out, err);
    free(bytes);
    if (st == FLUX1_OK && out->file_bytes != file_bytes) {
        st = error_set(err, FLUX1_ERR_FORMAT, "it has %llu bytes instead of the %llu that it should have",
                       (unsigned long long)file_bytes, (unsigned long long)out->file_bytes);
        prepared_header_free(out);
    }
    return st;
}

/* Read, not mapped: a disk that fails is a status here, and what is only checked does not count as this process's
 * memory. */
static flux1_status read_block(int fd, const prepared_header *h, size_t i, void *out, flux1_error *err)
{
    const prepared_block *b = &h->block[i];
    TRY(read_at(fd, b->offset, out, (size_t)b->bytes, err));
    if (hash_bytes(out, (size_t)b->bytes) != b->checksum)
        return error_set(err, FLUX1_ERR_FORMAT, "the checksum of block %zu does not match", i);
    return FLUX1_OK;
}

/* The buffer is no malloc's: what that gets back of a few MiB it keeps, beside what a plan counts. */
static flux1_status check_blocks(int fd, const prepared_header *h, const atomic_int *cancel, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    arena memory;
    void *bytes;
    size_t room = 1;
    for (size_t i = 0; i < h->count; i++)
        room = h->block[i].bytes > room ? (size_t)h->block[i].bytes : room;
    if (arena_create(room, &memory, NULL) != FLUX1_OK)
        return error_oom(err, room, "checking an entry of the cache");
    st = arena_alloc(&memory, room, &bytes, err);
    for (size_t i = 0; st == FLUX1_OK && i < h->count; i++)
        st = cancel && atomic_load_explicit(cancel, memory_order_relaxed)
                 ? error_set(err, FLUX1_ERR_CANCELLED, "cancelled")
                 : read_block(fd, h, i, bytes, err);
    arena_destroy(&memory);
    return st;
}

/* Who has an entry locked against readers has just finished it, or removes it, which takes a moment. */
static bool lock_shared(int fd)
{
    enum { TRIES = 100 };
    const struct timespec pause = {.tv_nsec = 10000000};
    bool locked = flock(fd, LOCK_SH | LOCK_NB) == 0;
    for (int i = 0; !locked && errno == EWOULDBLOCK && i < TRIES; i++) {
        nanosleep(&pause, NULL);
        locked = flock(fd, LOCK_SH | LOCK_NB) == 0;
    }
    return locked;
}

/* A file of the cache, with a shared lock. FLUX1_ERR_IO with errno where it cannot be had. */
static flux1_status open_entry(const char *path, int *fd, uint64_t *bytes, flux1_error *err)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd >= 0 && lock_shared(*fd) && fstat(*fd, &info) == 0 && S_ISREG(info.st_mode)) {
        *bytes = (uint64_t)info.st_size;
        return FLUX1_OK;
    }
    flux1_status st = error_io(err, path, "open");
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return st;
}

static bool same_blocks(const prepared_header *h, const prepared_block *block, size_t count)
{
    bool same = h->count == count;
    for (size_t i = 0; same && i < count; i++)
        same = h->block[i].key[0] == block[i].key[0] && h->block[i].key[1] == block[i].key[1] &&
               h->block[i].bytes == block[i].bytes;
    return same;
}

static bool guard_entry(prepared_entry *e, int fd, size_t bytes)
{
    struct stat info;
    return fstat(fd, &info) == 0 &&
           guard_begin(e->bytes, bytes, (uint64_t)info.st_dev, (uint64_t)info.st_ino, &e->guard, NULL) == FLUX1_OK;
}

/* Takes over fd and the header. */
static prepared_entry *map_entry(const char *path, int fd, prepared_header *h)
{
    prepared_entry *e = calloc(1, sizeof *e);
    char *name = strdup(path);
    void *bytes = e && name ? mmap(NULL, (size_t)h->file_bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    const bool mapped = bytes != MAP_FAILED;
    if (mapped)
        e->bytes = bytes;
    if (!mapped || !guard_entry(e, fd, (size_t)h->file_bytes)) {
        if (mapped)
            munmap(bytes, (size_t)h->file_bytes);
        free(name);
        free(e);
        return NULL;
    }
    e->fd = fd;
    e->path = name;
    e->header = *h;
    atomic_init(&e->users, 1);
    futimens(fd, NULL); /* used now; where we may not say so, it counts as old */
    return e;
}

static flux1_status check_entry(int fd, uint64_t bytes, const prepared_block *block, size_t count, bool all,
                                prepared_header *h, flux1_error *err)
{
    TRY(read_header(fd, bytes, h, err));
    if (!same_blocks(h, block, count))
        return error_set(err, FLUX1_ERR_FORMAT, "it is another entry, renamed");
    return all ? check_blocks(fd, h, NULL, err) : FLUX1_OK;
}

/* An entry that is wrong goes, whoever reads it at the moment, and that is told: ranks find it wrong at the same time,
 * and one of them has to make it again. By now another file may have its name, which stays. */
static void discard(prepared_folder *f, const char *path, int fd, const flux1_error *problem)
{
    pthread_mutex_lock(&f->lock);
    if (prepared_still_there(fd, path))
        unlink(path);
    pthread_mutex_unlock(&f->lock);
    prepared_warn(f, "%s: prepared weights cannot be used: %s; they are made again", path, problem->message);
}

static prepared_entry *find_at(prepared_folder *f, const char *path, const prepared_block *block, size_t count,
                               bool all)
{
    int fd;
    uint64_t bytes;
    prepared_header h = {0};
    prepared_entry *e = NULL;
    flux1_error err = {0};
    if (open_entry(path, &fd, &bytes, NULL) != FLUX1_OK)
        return NULL;
    flux1_status st = check_entry(fd, bytes, block, count, all, &h, &err);
    if (st == FLUX1_OK && (e = map_entry(path, fd, &h)))
        return e;
    if (st == FLUX1_ERR_FORMAT || st == FLUX1_ERR_IO)
        discard(f, path, fd, &err);
    close(fd);
    prepared_header_free(&h);
    return NULL;
}

/* The name of the entry of these blocks. */
static bool entry_name(const prepared_block *block, size_t count, char name[PREPARED_NAME])
{
    prepared_header h;
    if (prepared_header_make(block, count, "", &h, NULL) != FLUX1_OK)
        return false;
    prepared_name(h.key, name);
    prepared_header_free(&h);
    return true;
}

prepared_entry *prepared_find(prepared_folder *f, const prepared_block *block, size_t count, bool all)
{
    char name[PREPARED_NAME];
    if (!entry_name(block, count, name))
        return NULL;
    char *path = path_join(f->path, name);
    prepared_entry *e = path ? find_at(f, path, block, count, all) : NULL;
    free(path);
    return e;
}

const void *prepared_data(const prepared_entry *e, size_t block)
{
    return (const char *)e->bytes + e->header.block[block].offset;
}

flux1_status prepared_read(const prepared_entry *e, size_t block, void *out, flux1_error *err)
{
    return read_block(e->fd, &e->header, block, out, err);
}

void prepared_hold(prepared_entry *e) { atomic_fetch_add(&e->users, 1); }

void prepared_leave(prepared_entry *e)
{
    if (atomic_fetch_sub(&e->users, 1) > 1)
        return;
    guard_end(e->guard);
    munmap(e->bytes, (size_t)e->header.file_bytes);
    close(e->fd);
    free(e->path);
    prepared_header_free(&e->header);
    free(e);
}

void prepared_discard(prepared_folder *f, prepared_entry *e, const flux1_error *problem)
{
    discard(f, e->path, e->fd, problem);
    prepared_leave(e);
}

flux1_status prepared_intact(const prepared_entry *e, flux1_error *err)
{
    struct stat now;
    if (!guard_broken(e->guard) && fstat(e->fd, &now) == 0 && (uint64_t)now.st_size >= e->header.file_bytes)
        return FLUX1_OK;
    return error_set(
        err, FLUX1_ERR_IO,
        "%s: these prepared weights became shorter, or could not be read, while they were in use; open the "
        "model again, they are then made anew",
        e->path);
}

flux1_status prepared_check(const char *folder, const char *name, bool all, const atomic_int *cancel,
                            char **description, flux1_error *err)
{
    int fd;
    uint64_t bytes;
    char expected[PREPARED_NAME];
    prepared_header h = {0};
    char *path = path_join(folder, name);
    if (description)
        *description = NULL;
    if (!path)
        return error_oom(err, 0, "a path");
    flux1_status st = prepared_check_regular(path, err);
    if (st == FLUX1_OK)
        st = open_entry(path, &fd, &bytes, err);
    if (st != FLUX1_OK) {
        free(path);
        return st;
    }
    st = read_header(fd, bytes, &h, err);
    if (st == FLUX1_OK) {
        prepared_name(h.key, expected);
        if (strcmp(expected, name) != 0)
            st = error_set(err, FLUX1_ERR_FORMAT, "it is another entry, renamed");
        else if (all)
            st = check_blocks(fd, &h, cancel, err);
    }
    if (description) {
        *description = h.description;
        h.description = NULL;
    }
    if (st != FLUX1_OK)
        error_prefix(err, "%s", path);
    prepared_header_free(&h);
    close(fd);
    free(path);
    return st;
}

/* ---- writing ---- */

struct prepared_writer {
    prepared_folder *folder;
    prepared_header header;
    int fd; /* of the temporary file, with an exclusive lock */
    char *path, *temporary;
    bool *added;  /* [blocks] */
    size_t count; /* of them that are */
    bool failed;
};

static void free_writer(prepared_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    prepared_header_free(&w->header);
    free(w->added);
    free(w->path);
    free(w->temporary);
    free(w);
}

static void give_up(prepared_writer *w, const char *doing, int number)
{
    char text[600];
    snprintf(text, sizeof text, "%s: cannot %s: %s", w->folder->path, doing, strerror(number));
    w->failed = true;
    prepared_stop(w->folder, text);
}

static prepared_writer *make_writer(prepared_folder *f, const prepared_block *block, size_t count,
                                    const char *description)
{
    char name[PREPARED_NAME];
    prepared_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->folder = f;
    w->fd = -1;
    if (prepared_header_make(block, count, description, &w->header, NULL) == FLUX1_OK) {
        prepared_name(w->header.key, name);
        w->added = calloc(count, sizeof *w->added);
        w->path = w->added ? path_join(f->path, name) : NULL;
        const size_t room = w->path ? strlen(w->path) + sizeof ".tmp" : 0;
        w->temporary = room ? malloc(room) : NULL;
        if (w->temporary)
            snprintf(w->temporary, room, "%s.tmp", w->path);
    }
    if (w->temporary)
        return w;
    free_writer(w);
    return NULL;
}

/* Who has it writes to it now and then; not one that was stopped. */
static bool is_written(int fd)
{
    enum { SECONDS = 120 };
    struct stat info;
    return fstat(fd, &info) == 0 && time(NULL) - info.st_mtime < SECONDS;
}

/* The temporary file, ours alone; false without a warning where another process has it. */
static bool open_temporary(prepared_writer *w, bool *busy)
{
    flux1_error err = {0};
    if (prepared_make_folder(w->folder, &err) != FLUX1_OK) {
        w->failed = true;
        prepared_stop(w->folder, err.message);
        return false;
    }
    w->fd = open(w->temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->fd < 0) {
        give_up(w, "create a file", errno);
        return false;
    }
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0) {
        *busy = errno == EWOULDBLOCK && is_written(w->fd);
        if (errno != EWOULDBLOCK && errno != EINTR) { /* where there are no locks nobody else has it */
            give_up(w, "lock a file", errno);
            unlink(w->temporary);
        }
        return false;
    }
    *busy = !prepared_still_there(w->fd, w->temporary); /* it was finished or removed just now */
    return !*busy;
}

/* False, with a warning: something else than a file has the entry's name, or the temporary one. */
static bool names_are_free(prepared_writer *w)
{
    flux1_error err = {0};
    if (prepared_check_regular(w->path, &err) == FLUX1_OK && prepared_check_regular(w->temporary, &err) == FLUX1_OK)
        return true;
    prepared_warn(w->folder, "%s; these prepared weights are not stored", err.message);
    return false;
}

/* Stops the storing unless `room`: an entry of that many bytes fits. */
static bool fits(prepared_folder *f, uint64_t bytes, bool room)
{
    char need[BYTES_TEXT], limit[BYTES_TEXT], text[160];
    if (room)
        return true;
    snprintf(text, sizeof text, "the cache may hold %s; an entry of %s does not fit beside what is in use",
             format_bytes(limit, sizeof limit, (double)f->limit), format_bytes(need, sizeof need, (double)bytes));
    prepared_stop(f, text);
    return false;
}

/* Its bytes on the disk, so that a full one shows at once. Room is made with the lock held: who waits for this entry
 * counts it once, and what a killed process left in the file is gone by then. */
static bool reserve(prepared_writer *w)
{
    const uint64_t bytes = w->header.file_bytes;
    int number = ftruncate(w->fd, 0) == 0 ? 0 : errno;
    if (number == 0 && !fits(w->folder, bytes, prepared_make_room(w->folder, bytes)))
        return false;
    if (number == 0)
        do
            number = posix_fallocate(w->fd, 0, (off_t)bytes);
        while (number == EINTR); /* of a signal, such as that a stopped program goes on */
    if (number == 0)
        return true;
    give_up(w, "write prepared weights", number);
    return false;
}

prepared_writer *prepared_begin(prepared_folder *f, const prepared_block *block, size_t count, const char *description,
                                bool *there, bool *busy)
{
    *there = *busy = false;
    if (prepared_is_full(f))
        return NULL;
    prepared_writer *w = make_writer(f, block, count, description);
    if (!w)
        return NULL;
    const uint64_t bytes = w->header.file_bytes;
    if (names_are_free(w) && fits(f, bytes, bytes <= f->limit) && open_temporary(w, busy)) {
        *there = file_exists(w->path); /* another process was faster */
        if (!*there && reserve(w))
            return w;
        unlink(w->temporary);
    }
    free_writer(w);
    return NULL;
}

static bool write_at(prepared_writer *w, uint64_t at, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size && !w->failed;) {
        ssize_t n = pwrite(w->fd, (const char *)bytes + done, size - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR)
            give_up(w, "write prepared weights", errno);
        done += n > 0 ? (size_t)n : 0;
    }
    return !w->failed;
}

bool prepared_add(prepared_writer *w, size_t block, const void *bytes)
{
    prepared_block *b = &w->header.block[block];
    b->checksum = hash_bytes(bytes, (size_t)b->bytes);
    if (!write_at(w, b->offset, bytes, (size_t)b->bytes))
        return false;
    w->added[block] = true;
    w->count++;
    return true;
}

bool prepared_has(const prepared_writer *w, size_t block) { return w->added[block]; }

static bool write_header(prepared_writer *w)
{
    unsigned char *bytes = malloc((size_t)w->header.header_bytes);
    if (!bytes)
        return false;
    prepared_header_write(&w->header, bytes);
    bool written = write_at(w, 0, bytes, (size_t)w->header.header_bytes);
    free(bytes);
    return written;
}

/* The name appears when all of it is on the disk. */
static bool publish(prepared_writer *w)
{
    if (!write_header(w))
        return false;
    if (fsync(w->fd) == 0 && rename(w->temporary, w->path) == 0)
        return true;
    give_up(w, "write prepared weights", errno);
    return false;
}

bool prepared_end(prepared_writer *w, bool keep)
{
    bool published = keep && !w->failed && w->count == w->header.count && publish(w);
    if (!published)
        unlink(w->temporary);
    free_writer(w);
    return published;
}
