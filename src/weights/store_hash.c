/* Content of a store's files. A hash that was computed once is noted under the file's identity. */
#include "weights/store_base.h"

#include "base/arena.h"
#include "base/hash.h"
#include "weights/small_cache.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)4 << 20) /* bytes read at once */

/* What is noted. */
typedef struct note {
    file_identity file;
    uint64_t hash[2];
} note;

static void note_name(const file_identity *file, char *out, size_t room)
{
    snprintf(out, room, "content-%016llx", (unsigned long long)hash_bytes(file, sizeof *file));
}

static bool recall(const file_identity *file, uint64_t hash[2])
{
    char name[40], *bytes;
    size_t size;
    note n;
    note_name(file, name, sizeof name);
    if (!small_cache_get(name, sizeof n, &bytes, &size))
        return false;
    bool found = size == sizeof n;
    if (found) {
        memcpy(&n, bytes, sizeof n);
        found = file_identity_same(&n.file, file);
    }
    if (found)
        memcpy(hash, n.hash, sizeof n.hash);
    free(bytes);
    return found;
}

static void remember(const file_identity *file, const uint64_t hash[2])
{
    char name[40];
    note n = {.file = *file, .hash = {hash[0], hash[1]}};
    note_name(file, name, sizeof name);
    small_cache_put(name, &n, sizeof n, NULL); /* without it the file is read again next time */
}

/* Through a buffer: pages that are only hashed do not count as this process's. */
static flux1_status hash_all(int fd, const container *f, const atomic_int *cancel, uint64_t hash[2], flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    uint64_t ignored[2];
    hash_stream *h = hash_begin();
    arena memory = {0}; /* no malloc's, which would keep it */
    void *piece = NULL;
    ssize_t n = -1;
    if (arena_create(PIECE, &memory, NULL) == FLUX1_OK)
        (void)arena_alloc(&memory, PIECE, &piece, NULL);
    if (!h || !piece) {
        st = error_oom(err, PIECE, "reading a file's content");
        goto cleanup;
    }
    for (size_t at = 0; st == FLUX1_OK && at<f->map.size; at += n> 0 ? (size_t)n : 0) {
        n = pread(fd, piece, PIECE, (off_t)at);
        if (n <= 0)
            st = n < 0 ? error_io(err, f->path, "read") : error_set(err, FLUX1_ERR_IO, "%s: it was cut", f->path);
        else
            hash_add(h, piece, (size_t)n);
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            st = error_set(err, FLUX1_ERR_CANCELLED, "cancelled");
    }
cleanup:
    hash_end(h, st == FLUX1_OK ? hash : ignored);
    arena_destroy(&memory);
    return st;
}

static flux1_status hash_file(container *f, const atomic_int *cancel, flux1_error *err)
{
    int fd;
    file_identity now;
    TRY(file_open_regular(f->path, &fd, &now, err));
    flux1_status st = FLUX1_OK;
    if (file_identity_same(&now, &f->map.identity))
        st = hash_all(fd, f, cancel, f->content.hash, err);
    close(fd);
    if (st == FLUX1_OK)
        st = file_open_regular(f->path, &fd, &now, err);
    if (st != FLUX1_OK)
        return st;
    close(fd);
    if (!file_identity_same(&now, &f->map.identity))
        return error_set(err, FLUX1_ERR_IO, "%s: it has changed since it was opened; open the model again", f->path);
    remember(&f->map.identity, f->content.hash);
    return FLUX1_OK;
}

flux1_status store_hash(store *s, const atomic_int *cancel, bool *known, flux1_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    flux1_status st = FLUX1_OK;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; st == FLUX1_OK && i < s->file_count; i++) {
        container *f = &s->file[i];
        if (atomic_load_explicit(&f->content.known, memory_order_acquire))
            continue;
        if (!recall(&f->map.identity, f->content.hash))
            st = hash_file(f, cancel, err);
        atomic_store_explicit(&f->content.known, st == FLUX1_OK, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    *known = st == FLUX1_OK && s->file_count > 0;
    return st;
}

/* Bytes of the tensor that lie in the file as they are. */
static uint64_t sample_of(const store_tensor *t)
{
    enum { BYTES = 64 };
    const bool stored = t->view.data && t->view.type != DTYPE_COMPUTED;
    const size_t all = stored ? tensor_bytes(&t->view) : 0, count = all < BYTES ? all : BYTES;
    if (count == 0)
        return 0;
    const char *middle = (const char *)t->view.data + (all - count) / 2;
    const uint64_t sample = hash_bytes(middle, count);
    file_map_wont_need(middle, count);
    return sample;
}

uint64_t store_sample(const store *s)
{
    enum { TENSORS = 64 };
    const size_t all = store_count(s), count = all < TENSORS ? all : TENSORS;
    uint64_t sum[2 * TENSORS + 1] = {all};
    for (size_t i = 0; i < count; i++) {
        const store_tensor *t = store_at(s, i * all / count);
        sum[2 * i + 1] = (uint64_t)t->view.type;
        sum[2 * i + 2] = sample_of(t);
    }
    return hash_bytes(sum, sizeof sum);
}
