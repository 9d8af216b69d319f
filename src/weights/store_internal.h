/* What the parts of the store share: items sorted by name, the faults of claims, and the buffers of a synthetic one. */
#ifndef FLUX1_WEIGHTS_STORE_INTERNAL_H
#define FLUX1_WEIGHTS_STORE_INTERNAL_H

#include "weights/safetensors.h"
#include "weights/store.h"

typedef struct store_item {
    store_tensor tensor;
    bool claimed;
} store_item;

typedef struct store_file {
    char *path;
    file_map map;
    safetensors header;
} store_file;

typedef enum store_fault_kind { FAULT_MISSING, FAULT_SHAPE, FAULT_DTYPE, FAULT_KINDS } store_fault_kind;

typedef struct store_fault {
    store_fault_kind kind;
    char *name; /* the tensor */
    char *text; /* what is said of it */
} store_fault;

typedef struct synthetic synthetic;

struct store {
    char *path;
    uint64_t number;
    store_file *file;
    size_t file_count;
    store_item **item; /* sorted by name */
    size_t count, capacity;
    store_item *block; /* where a file store's items lie; a synthetic one's are malloc'd one by one */
    store_fault *fault;
    size_t fault_count, fault_capacity;
    synthetic *synthetic; /* NULL for files */
};

/* The item of that name, or NULL; *position is where it is or would be. */
store_item *store_lookup(const store *s, const char *name, size_t *position);

uint64_t store_number(void); /* the next unused one */

/* The synthetic store's part of a claim: makes the tensor. */
flux1_status synthetic_add(store *s, const char *name, size_t position, int dims, const int64_t *shape,
                           store_item **out, flux1_error *err);
void synthetic_free(store *s);

/* Room for one more element in a growing array. */
flux1_status grow(void **array, size_t *capacity, size_t count, size_t element, flux1_error *err);

#endif
