/* Memory of the GPU beside arenas. Pieces are found by key and outlive the backend that made them: blocks of weights,
 * and what a backend can do without while it rests. A piece without users is given back when memory is wanted, the one
 * that was used longest ago first. */
#ifndef FLUX1_OPS_CUDA_KEPT_H
#define FLUX1_OPS_CUDA_KEPT_H

#include "ops/cuda/gpu.h"

#define CUDA_SPARE ((size_t)512 << 20) /* bytes left to the libraries where weights are to stay */

struct cuda_kept {
    uint64_t key[2];
    CUdeviceptr data;
    size_t bytes;
    int users;
    unsigned long used; /* when last */
    bool whole;         /* filled: others may find it */
    struct cuda_kept *next;
};

/* Memory that belongs to nobody else; gives back pieces without users where there is not enough. FLUX1_ERR_MEMORY says
 * what was needed and what to do. */
flux1_status cuda_device_allocate(cuda_device *d, size_t bytes, const char *what, CUdeviceptr *out, flux1_error *err);
void cuda_device_release(cuda_device *d, CUdeviceptr p); /* 0 is fine */

/* The whole piece of that key, which has one more user; NULL if there is none. */
cuda_kept *cuda_kept_find(cuda_device *d, const uint64_t key[2]);
/* A new piece with one user, not whole; NULL in *out if it would leave less than `spare` bytes with all unused ones
 * given back. */
flux1_status cuda_kept_make(cuda_device *d, const uint64_t key[2], size_t bytes, size_t spare, cuda_kept **out,
                            flux1_error *err);
void cuda_kept_fill(cuda_device *d, cuda_kept *k); /* it is whole now */
void cuda_kept_drop(cuda_device *d, cuda_kept *k); /* one user less; NULL is fine. Nothing enqueued may use it */
void cuda_kept_forget(cuda_device *d,
                      const uint64_t key[2]); /* frees the piece of that key, if there is one without users */
/* Bytes that could be allocated if all unused pieces were given back. */
size_t cuda_kept_room(cuda_device *d);
/* Copies a piece that the caller uses to the host; waits. */
flux1_status cuda_kept_read(cuda_device *d, cuda_kept *k, void *out, flux1_error *err);

/* device.h's entries */
void cuda_kept_budget(ops_device *d, size_t bytes);
flux1_status cuda_kept_adopt(ops_device *d, const uint64_t key[2], const ops_lent *lent, ops_loan **loan,
                             flux1_error *err);
void cuda_kept_reclaim(ops_device *d, ops_loan *loan);

void cuda_kept_destroy(cuda_device *d); /* all of it */

#endif
