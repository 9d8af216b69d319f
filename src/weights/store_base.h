/* What all stores share, with tensors in files (store.c) or synthetic ones (store_synthetic.c): items sorted by name,
 * and the faults of claims (store_claim.c). */
#ifndef FLUX1_WEIGHTS_STORE_BASE_H
#define FLUX1_WEIGHTS_STORE_BASE_H

#include "base/weight_name.h"
#include "weights/container.h"
#include "weights/store.h"

typedef struct store_item {
    store_tensor tensor;
    bool claimed;
} store_item;

/* A tensor as a file has it. */
typedef struct store_raw {
    store_tensor tensor;
    bool beside; /* belongs to another tensor: its scale, or a note about it */
} store_raw;

typedef enum store_fault_kind { FAULT_MISSING, FAULT_SHAPE, FAULT_DTYPE, FAULT_KINDS } store_fault_kind;

typedef struct store_fault {
    store_fault_kind kind;
    char *name; /* the tensor */
    char *text; /* for the message */
} store_fault;

/* A store that makes what is claimed from it. */
typedef struct store_maker {
    /* Makes the tensor `name`, which belongs at `position`. */
    flux1_status (*add)(store *s, const char *name, size_t position, int dims, const int64_t *shape, store_item **out,
                        flux1_error *err);
    void (*free)(store *s); /* its items and `made` */
} store_maker;

typedef struct store_memory store_memory;

struct store {
    char *path;
    uint64_t number;
    container *file;
    size_t file_count;
    store_raw *raw; /* sorted by name */
    size_t raw_count;
    store_item **item; /* sorted by name */
    size_t count, capacity;
    store_item *block; /* where a file store's items lie; a maker's are its own */
    store_memory *memory;
    store_fault *fault;
    size_t fault_count, fault_capacity;
    char variant[WEIGHT_VARIANT_MAX];
    char *note[STORE_NOTES];  /* NULL: nothing to tell */
    const store_maker *maker; /* NULL for files */
    void *made;               /* the maker's */
};

/* An empty store with a number of its own. store_close frees it at any stage of its making. */
flux1_status store_create(const char *path, store **out, flux1_error *err);

/* Zeroed memory that lives as long as the store. */
flux1_status store_keep(store *s, size_t bytes, void **out, flux1_error *err);

/* The item of that name, or NULL; *position is where it is or would be. */
store_item *store_lookup(const store *s, const char *name, size_t *position);

/* The file's tensor `<base><ending>`, or NULL. */
store_raw *store_raw_find(const store *s, const char *base, size_t base_length, const char *ending);

/* Makes space for one more element in a growing array. */
flux1_status grow(void **array, size_t *capacity, size_t count, size_t element, flux1_error *err);

#endif
