#include "ops/cuda/kept.h"

#include <stdlib.h>

/* ---- under kept_lock ---- */

static void free_piece(cuda_device *d, cuda_kept **at)
{
    cuda_kept *k = *at;
    *at = k->next;
    d->lib->cuMemFree(k->data);
    free(k);
}

/* Gives back the unused piece that was used longest ago; false if there is none. */
static bool drop_oldest(cuda_device *d)
{
    cuda_kept **oldest = NULL;
    for (cuda_kept **at = &d->kept; *at; at = &(*at)->next)
        if ((*at)->users == 0 && (!oldest || (*at)->used < (*oldest)->used))
            oldest = at;
    if (oldest)
        free_piece(d, oldest);
    return oldest != NULL;
}

static void keep_to_budget(cuda_device *d)
{
    size_t bytes = 0;
    if (!d->kept_budget)
        return;
    do {
        bytes = 0;
        for (const cuda_kept *k = d->kept; k; k = k->next)
            bytes += k->bytes;
    } while (bytes > d->kept_budget && drop_oldest(d));
}

/* CUDA_SUCCESS, or the failure that is left when no unused piece is. */
static CUresult allocate(cuda_device *d, size_t bytes, CUdeviceptr *out)
{
    CUresult r;
    do
        r = d->lib->cuMemAlloc(out, bytes ? bytes : 1);
    while (r == CUDA_ERROR_OUT_OF_MEMORY && drop_oldest(d));
    return r;
}

static size_t free_bytes(const cuda_device *d)
{
    size_t left = 0, all = 0;
    d->lib->cuMemGetInfo(&left, &all);
    return left;
}

static size_t room(const cuda_device *d)
{
    size_t bytes = free_bytes(d);
    for (const cuda_kept *k = d->kept; k; k = k->next)
        bytes += k->users == 0 ? k->bytes : 0;
    return bytes;
}

static cuda_kept *find(const cuda_device *d, const uint64_t key[2])
{
    cuda_kept *k = d->kept;
    while (k && (!k->whole || k->key[0] != key[0] || k->key[1] != key[1]))
        k = k->next;
    return k;
}

static cuda_kept *use(cuda_device *d, cuda_kept *k)
{
    if (k) {
        k->users++;
        k->used = ++d->kept_clock;
    }
    return k;
}

static flux1_status make(cuda_device *d, const uint64_t key[2], size_t bytes, size_t spare, cuda_kept **out,
                         flux1_error *err)
{
    size_t there = room(d);
    if (there < spare || bytes > there - spare)
        return FLUX1_OK;
    cuda_kept *k = calloc(1, sizeof *k);
    if (!k)
        return error_oom(err, sizeof *k, "a block of weights");
    while (free_bytes(d) < bytes + spare && drop_oldest(d)) {
    }
    CUresult r = allocate(d, bytes, &k->data);
    if (r != CUDA_SUCCESS) {
        free(k);
        return r == CUDA_ERROR_OUT_OF_MEMORY ? FLUX1_OK : cuda_device_check(d, r, "cannot take memory", err);
    }
    k->key[0] = key[0], k->key[1] = key[1];
    k->bytes = bytes;
    k->next = d->kept;
    d->kept = k;
    *out = use(d, k);
    return FLUX1_OK;
}

/* ---- memory ---- */

flux1_status cuda_device_allocate(cuda_device *d, size_t bytes, const char *what, CUdeviceptr *out, flux1_error *err)
{
    size_t left = 0, all = 0;
    pthread_mutex_lock(&d->kept_lock);
    CUresult r = allocate(d, bytes, out);
    if (r != CUDA_SUCCESS)
        d->lib->cuMemGetInfo(&left, &all);
    pthread_mutex_unlock(&d->kept_lock);
    if (r == CUDA_ERROR_OUT_OF_MEMORY)
        return error_set(err, FLUX1_ERR_MEMORY,
                         "device cuda:%d: %s needs %zu MiB, %zu of %zu MiB are free; ask for a smaller picture, end "
                         "other programs on the GPU, or use device cpu",
                         d->head.ordinal, what, bytes >> 20, left >> 20, all >> 20);
    return cuda_device_check(d, r, what, err);
}

void cuda_device_release(cuda_device *d, CUdeviceptr p)
{
    if (p)
        d->lib->cuMemFree(p);
}

/* ---- pieces ---- */

cuda_kept *cuda_kept_find(cuda_device *d, const uint64_t key[2])
{
    pthread_mutex_lock(&d->kept_lock);
    cuda_kept *k = use(d, find(d, key));
    pthread_mutex_unlock(&d->kept_lock);
    return k;
}

flux1_status cuda_kept_make(cuda_device *d, const uint64_t key[2], size_t bytes, size_t spare, cuda_kept **out,
                            flux1_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&d->kept_lock);
    flux1_status st = make(d, key, bytes, spare, out, err);
    pthread_mutex_unlock(&d->kept_lock);
    return st;
}

void cuda_kept_fill(cuda_device *d, cuda_kept *k)
{
    pthread_mutex_lock(&d->kept_lock);
    k->whole = true;
    pthread_mutex_unlock(&d->kept_lock);
}

/* What was never filled is of use to nobody. */
void cuda_kept_drop(cuda_device *d, cuda_kept *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&d->kept_lock);
    k->users--;
    cuda_kept **at = &d->kept;
    while (*at != k)
        at = &(*at)->next;
    if (k->users == 0 && !k->whole)
        free_piece(d, at);
    keep_to_budget(d);
    pthread_mutex_unlock(&d->kept_lock);
}

void cuda_kept_forget(cuda_device *d, const uint64_t key[2])
{
    pthread_mutex_lock(&d->kept_lock);
    for (cuda_kept **at = &d->kept; *at; at = &(*at)->next)
        if ((*at)->key[0] == key[0] && (*at)->key[1] == key[1] && (*at)->users == 0) {
            free_piece(d, at);
            break;
        }
    pthread_mutex_unlock(&d->kept_lock);
}

size_t cuda_kept_room(cuda_device *d)
{
    if (cuda_device_current(d, NULL) != FLUX1_OK)
        return 0;
    pthread_mutex_lock(&d->kept_lock);
    size_t bytes = room(d);
    pthread_mutex_unlock(&d->kept_lock);
    return bytes;
}

void cuda_kept_destroy(cuda_device *d)
{
    while (d->kept)
        free_piece(d, &d->kept);
}

/* ---- for the cache on disk ---- */

void cuda_kept_budget(ops_device *base, size_t bytes)
{
    cuda_device *d = (cuda_device *)base;
    if (cuda_device_current(d, NULL) != FLUX1_OK)
        return;
    pthread_mutex_lock(&d->kept_lock);
    d->kept_budget = bytes;
    keep_to_budget(d);
    pthread_mutex_unlock(&d->kept_lock);
}

typedef enum copy_way { COPY_OUT, COPY_IN } copy_way;

/* In a stream of its own, since the default one would wait for all others. */
static flux1_status copy(cuda_device *d, copy_way way, cuda_kept *k, void *host, flux1_error *err)
{
    const cuda_libraries *lib = d->lib;
    CUstream s;
    TRY(cuda_device_check(d, lib->cuStreamCreate(&s, CU_STREAM_NON_BLOCKING), "cannot make a stream", err));
    CUresult r = way == COPY_OUT ? lib->cuMemcpyDtoHAsync(host, k->data, k->bytes, s)
                                 : lib->cuMemcpyHtoDAsync(k->data, host, k->bytes, s),
             end = lib->cuStreamSynchronize(s);
    lib->cuStreamDestroy(s);
    return cuda_device_check(d, r == CUDA_SUCCESS ? end : r, "cannot copy kept weights", err);
}

flux1_status cuda_kept_read(cuda_device *d, cuda_kept *k, void *out, flux1_error *err)
{
    return k->bytes ? copy(d, COPY_OUT, k, out, err) : FLUX1_OK;
}

static flux1_status no_room(const cuda_device *d, size_t bytes, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_MEMORY, "device cuda:%d: no room for %zu MiB of kept weights", d->head.ordinal,
                     bytes >> 20);
}

/* Under upload_lock. */
static flux1_status adopt(cuda_device *d, const uint64_t key[2], const void *bytes, size_t n, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    cuda_kept *k = cuda_kept_find(d, key);
    if (!k) {
        st = cuda_kept_make(d, key, n, CUDA_SPARE, &k, err);
        if (st == FLUX1_OK && !k)
            st = no_room(d, n, err);
        if (st == FLUX1_OK && n)
            st = copy(d, COPY_IN, k, (void *)(uintptr_t)bytes, err);
        if (st == FLUX1_OK)
            cuda_kept_fill(d, k);
    }
    cuda_kept_drop(d, k);
    if (st == FLUX1_OK) {
        k = cuda_kept_find(d, key);
        st = k ? FLUX1_OK : no_room(d, n, err); /* the budget has no place for it */
        cuda_kept_drop(d, k);
    }
    return st;
}

flux1_status cuda_kept_adopt(ops_device *base, const uint64_t key[2], const ops_lent *lent, ops_loan **loan,
                             flux1_error *err)
{
    cuda_device *d = (cuda_device *)base;
    *loan = NULL;
    flux1_status st = cuda_device_current(d, err);
    if (st == FLUX1_OK) {
        pthread_mutex_lock(&d->upload_lock);
        st = adopt(d, key, lent->bytes, lent->count, err);
        pthread_mutex_unlock(&d->upload_lock);
    }
    lent->release(lent->owner);
    return st;
}

void cuda_kept_reclaim(ops_device *base, ops_loan *loan) { (void)base, (void)loan; }
