/* A component's weights by name: one safetensors file, or shards with an index, mapped and never read as a whole. The
 * model claims each tensor it needs by name and shape. Missing, misshapen and left-over tensors are collected, so that
 * one message names all of them. */
#ifndef FLUX1_WEIGHTS_STORE_H
#define FLUX1_WEIGHTS_STORE_H

#include "base/file.h"
#include "tensor/tensor.h"

#include <stdatomic.h>

typedef struct store store;

/* What is in a file, whatever its name and place: a hash of all its bytes, once store_hash has read them. */
typedef struct store_content {
    uint64_t hash[2];
    atomic_bool known;
} store_content;

/* A claimed tensor. `data` points into the mapping. Lives as long as the store. */
typedef struct store_tensor {
    const char *name;
    const char *file; /* path of the file that holds it */
    tensor view;
    /* number of its store; unique within the process, also after a store is closed */
    uint64_t store;
    /* of that file. Equal source and offset mean the same bytes, even if the folder was closed and opened again. Made
     * up, and unique, for a synthetic store */
    file_identity source;
    uint64_t offset;              /* of the tensor's first byte in the file */
    const store_content *content; /* of that file; NULL: it lies in no file */
} store_tensor;

/* Opens `folder` (such as MODEL/transformer): `<stem>.safetensors`, or `<stem>.safetensors.index.json` and its shards.
 * `stems` are tried in order, NULL-terminated. Headers are parsed and checked completely; data is not read. */
flux1_status store_open(const char *folder, const char *const *stems, store **out, flux1_error *err);

/* A store of a single safetensors file. */
flux1_status store_open_file(const char *path, store **out, flux1_error *err);

/* A store that has whatever is claimed from it: each claim makes a tensor of `type` over one shared buffer of random
 * values (scaled by 1/sqrt of the row length), for benchmarks and plans. If `with_data` is false the tensors have no
 * data (dry runs only). */
flux1_status store_synthetic(dtype type, bool with_data, store **out, flux1_error *err);

void store_close(store *s);

/* Hashes the files' content where it is not known yet: reads all of them, unless an earlier run has noted the hash of a
 * file of this identity (weights/cache.h). From any thread; a second one waits. *known: false for a store that has no
 * files. `cancel` may be NULL. FLUX1_ERR_IO if a file cannot be read or changes meanwhile, FLUX1_ERR_MEMORY,
 * FLUX1_ERR_CANCELLED. */
flux1_status store_hash(store *s, const atomic_int *cancel, bool *known, flux1_error *err);

const char *store_path(const store *s); /* for messages */

/* NULL if there is none of that name; does not claim. */
const store_tensor *store_find(const store *s, const char *name);

/* Claims `name`, which must have exactly this shape. A fault is recorded in the store, and *out is NULL. The call
 * itself fails only with FLUX1_ERR_MEMORY, so a model can claim all its tensors and then call store_check for one
 * message. A tensor may be claimed several times. Not thread-safe. */
flux1_status store_claim(store *s, const char *name, int dims, const int64_t *shape, const store_tensor **out,
                         flux1_error *err);

/* FLUX1_ERR_MODEL with every missing and misshapen tensor so far and, if `unclaimed_too`, every tensor that was not
 * claimed, except those in `ignore` (NULL-terminated; whole names or "*suffix"; for position_ids and duplicates of a
 * tied embedding). Names are listed up to a limit, then counted. */
flux1_status store_check(const store *s, bool unclaimed_too, const char *const *ignore, flux1_error *err);

/* Iteration, sorted by name. */
size_t store_count(const store *s);
const store_tensor *store_at(const store *s, size_t index);

#endif
