/* A component's weights by name: one safetensors or GGUF file, or shards with an index, mapped and never read as a
 * whole. Whatever a file calls its tensors, here they have the names of diffusers' folders (names.h), and their scales
 * are part of them. The model claims each tensor it needs by name and shape. Missing, misshapen and left-over tensors
 * are collected, so that one message names all of them. */
#ifndef FLUX1_WEIGHTS_STORE_H
#define FLUX1_WEIGHTS_STORE_H

#include "weights/container.h"
#include "weights/names.h"

typedef struct store store;

/* What a computed tensor's values follow from: tensors of files, and everything else, hashed. */
typedef struct store_sources {
    const struct store_tensor **tensor;
    size_t count;
    uint64_t hash;
} store_sources;

/* A claimed tensor: all of a file's, or some of its rows. `data` points into the mapping. Lives as long as the store.
 */
typedef struct store_tensor {
    const char *name;
    const char *stored_as; /* the file's name of the tensor that it is part of */
    const char *file;      /* path of the file that holds it */
    tensor view;
    /* number of its store; unique within the process, also after a store is closed */
    uint64_t store;
    /* of that file. Equal source and offset mean the same bytes, even if the folder was closed and opened again. Made
     * up, and unique, for a synthetic store */
    file_identity source;
    uint64_t offset;             /* of its first byte in the file */
    const content_hash *content; /* of that file; NULL: it lies in no file */
    /* NULL, or the two halves of its rows in order, where the file has them the other way round (recipe_whole knows) */
    const struct store_tensor *half[2];
    int64_t half_row,
        half_of; /* of such a half: where it begins in the tensor of its name, and that one's rows; else 0 */
    const store_sources *computed_from; /* of a tensor of type COMPUTED: beside `source` and `offset` */
} store_tensor;

/* Opens `folder` (such as MODEL/transformer), whose names are diffusers' own or others that names.h has:
 * `<stem>.safetensors`, or `<stem>.safetensors.index.json` and its shards, in that variant where the folder has it
 * (weights_choice.h says which counts). Headers are parsed and checked completely; data is not read, unless the file
 * system does not map files. FLUX1_ERR_IO names a folder, link or file that cannot be looked at. */
flux1_status store_open(const char *folder, const char *const *stems, const char *variant, store **out,
                        flux1_error *err);

/* A store of a single file, by the names that it has. */
flux1_status store_open_file(const char *path, store **out, flux1_error *err);

/* What lies in a single file. */
typedef struct store_contents {
    const char *prefix[MODEL_PARTS]; /* what stands in front of the part's names; NULL: the part is not in the file */
    bool is_gguf;
    size_t strays;              /* tensors of no part */
    char stray[NAME_BYTES_MAX]; /* the first of them, cut if too long */
} store_contents;

/* Looks which parts of FLUX.1 a file holds, by the names of its tensors. FLUX1_ERR_MODEL, naming what it seems to be,
 * if there is none. */
flux1_status store_look(const char *path, store_contents *out, flux1_error *err);

/* A store of one part of a single file. FLUX1_ERR_MODEL if it does not hold that part. */
flux1_status store_open_part(const char *path, model_part part, store **out, flux1_error *err);

/* A store that has whatever is claimed from it: each claim makes a tensor of `type` over one shared buffer of random
 * values (scaled by 1/sqrt of the row length), for benchmarks and plans. If `with_data` is false the tensors have no
 * data (dry runs only). */
flux1_status store_synthetic(dtype type, bool with_data, store **out, flux1_error *err);

void store_close(store *s);

/* Gives back what was read of the files, and what the kernel has mapped around it, up to 2 MiB each: stages read it
 * again, and count it, when they use the weights. */
void store_let_pages_go(const store *s);

/* Hashes the files' content where it is not known yet: reads all of them, unless an earlier run has noted the hash of a
 * file of this identity (weights/small_cache.h). From any thread; a second one waits. *known: false for a store that
 * has no files. `cancel` may be NULL. FLUX1_ERR_IO if a file cannot be read or changes meanwhile, FLUX1_ERR_MEMORY,
 * FLUX1_ERR_CANCELLED. */
flux1_status store_hash(store *s, const atomic_int *cancel, bool *known, flux1_error *err);

/* A hash of types and of a few bytes out of the middle of tensors, of 64 at most that are spread over all: equal for
 * equal content, whatever the files are called. Files that were trained or made apart differ in it. Reads a page for
 * each. */
uint64_t store_sample(const store *s);

const char *store_path(const store *s); /* for messages */

const char *store_variant(const store *s); /* of its files; "": none */

/* What to tell of how it was opened: a sentence with the path in front, or NULL. */
typedef enum store_note_kind { STORE_NOTE_CHOICE, STORE_NOTE_MEMORY, STORE_NOTES } store_note_kind;
const char *store_note(const store *s, store_note_kind kind);

/* To be asked after values were read: file_map_check of its files. */
flux1_status store_check_files(const store *s, flux1_error *err);

/* The files behind it. */
size_t store_files(const store *s);
const container *store_file(const store *s, size_t index);

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
