/* Weights that a device keeps: blocks in the device's own form, which outlive the backend that made them and are found
 * again by key. One list per device, for all backends on it, from any thread. A kind of device says how its memory is
 * allocated and freed.
 *
 * An unused block stays until its memory is needed or the budget is exceeded; the least recently used one is freed
 * first. A block in use is never freed. A block may also be lent: its bytes are somebody else's (a mapped file's), cost
 * no memory of the device, and go back as soon as nobody uses them, the lender included. */
#ifndef FLUX1_OPS_KEPT_H
#define FLUX1_OPS_KEPT_H

#include "ops/device.h"
#include "weights/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kept kept;

typedef struct kept_block {
    uint64_t key[2];
    uint64_t data; /* the device's address */
    size_t bytes;
    bool whole;                   /* filled completely: nobody writes it any more */
    int users;                    /* this and the following members belong to kept.c */
    bool counted;                 /* by one of them */
    unsigned long used;           /* time of last use */
    void (*release)(void *owner); /* of a lent block, otherwise NULL */
    void *owner;
    bool file; /* of a lent block: ops_lent.file */
    struct kept_block *next;
} kept_block;

/* Memory of `device`. take: false if there is none left; bytes > 0, which give_back is told again. */
typedef struct kept_memory {
    bool (*take)(void *device, size_t bytes, uint64_t *data);
    void (*give_back)(void *device, uint64_t data, size_t bytes);
} kept_memory;

flux1_status kept_create(const kept_memory *m, void *device, kept **out, flux1_error *err);
void kept_destroy(kept *k); /* NULL is fine; no block may be in use */

/* The block of that key, with one more user. If `whole` is false (the block is new, or its last user left before it was
 * filled), the caller fills it and calls kept_whole, or leaves it. Waits while another thread fills it. *out is NULL if
 * `bytes` do not fit even after everything unused is freed. */
flux1_status kept_take(kept *k, const uint64_t key[2], size_t bytes, kept_block **out, flux1_error *err);
void kept_whole(kept *k, kept_block *b);
void kept_leave(kept *k, kept_block *b); /* NULL is fine */

/* Who counts the memory of a block that several use: true for the first user that asks, until it calls kept_uncount. */
bool kept_count(kept *k, kept_block *b);
void kept_uncount(kept *k, kept_block *b);

/* Makes lent bytes a block of that key, which the caller uses until it calls kept_leave; then, or when the last user
 * has left, release(owner) is called. If there is such a block already, that one is used, and release is called at
 * once; so it is after a failure. */
flux1_status kept_lend(kept *k, const uint64_t key[2], const ops_lent *lent, kept_block **out, flux1_error *err);

/* As kept_take, for a block that is there and whole; otherwise NULL. */
kept_block *kept_find(kept *k, const uint64_t key[2]);

/* Bytes that all blocks together, but for lent ones, may hold while some are unused. 0 (the initial value): as much as
 * there is. */
void kept_budget(kept *k, size_t bytes);

/* As ops_device_kind's kept_limit: where there are any, the least of them counts in place of kept_budget's. */
void kept_limit(kept *k, ops_kept_limit *w, size_t bytes);

/* ---- keys: two 64-bit hashes of everything that determines a block's bytes ---- */

/* The key of an empty block, for a kind of device, version `layout` of its form, and `options` that the form depends on
 * (arithmetic, fp8, …). */
void kept_key(uint64_t key[2], const char *kind, uint64_t layout, uint64_t options);
void kept_key_add(uint64_t key[2], uint64_t value);
/* Adds which bytes they are, how they are placed, and the role. Bytes of a file are known by its content if that has
 * been hashed (store_hash), and otherwise by which file it is; scales beside them by their bytes. */
void kept_key_recipe(uint64_t key[2], const weight_recipe *r);

#endif
