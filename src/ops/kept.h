/* Weights that a device keeps: blocks in its own form, which outlive the backend that made them and are found again by
 * key. One list a device, for all backends on it, from any thread; a kind of device says how its memory is taken and
 * given back.
 *
 * A block that nobody uses stays until its memory is wanted or the budget is exceeded: the one used longest ago goes
 * first. What is used is never given back. */
#ifndef FLUX1_OPS_KEPT_H
#define FLUX1_OPS_KEPT_H

#include "base/status.h"
#include "weights/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kept kept;

typedef struct kept_block {
    uint64_t key[2];
    uint64_t data; /* the device's address */
    size_t bytes;
    bool whole;         /* filled: nobody writes it any more */
    int users;          /* this and what follows: kept.c's */
    unsigned long used; /* when last */
    struct kept_block *next;
} kept_block;

/* Memory of `device`. take: false when there is none left. */
typedef struct kept_memory {
    bool (*take)(void *device, size_t bytes, uint64_t *data);
    void (*give_back)(void *device, uint64_t data);
} kept_memory;

flux1_status kept_create(const kept_memory *m, void *device, kept **out, flux1_error *err);
void kept_destroy(kept *k); /* NULL is fine; nobody uses a block any more */

/* The block of that key, which has one more user. Where there is none it is new, or somebody left before it was whole:
 * then `whole` is false, and the caller fills it and says kept_whole, or leaves it. Waits while another thread fills
 * it. *out is NULL where `bytes` do not fit, even with everything unused given back. */
flux1_status kept_take(kept *k, const uint64_t key[2], size_t bytes, kept_block **out, flux1_error *err);
void kept_whole(kept *k, kept_block *b);
void kept_leave(kept *k, kept_block *b); /* NULL is fine */

/* As kept_take for a block that is there, whole; NULL otherwise. */
kept_block *kept_find(kept *k, const uint64_t key[2]);

/* Bytes that all blocks together may hold where some are unused; 0, as at first: as much as there is. */
void kept_budget(kept *k, size_t bytes);
size_t kept_unused(kept *k); /* bytes of blocks that nobody uses */
/* A new block of so many bytes would stay when nobody uses it. */
bool kept_room(kept *k, size_t bytes);

/* Memory of the device for anything else: gives back unused blocks until it fits. False: it does not. */
bool kept_allocate(kept *k, size_t bytes, uint64_t *data);

/* ---- keys: two lanes of 64 bits over all that a block's bytes are made of ---- */

/* An empty block of a kind of device in version `layout` of its form, with `options` that the form depends on
 * (arithmetic, fp8, …). */
void kept_key(uint64_t key[2], const char *kind, uint64_t layout, uint64_t options);
void kept_key_add(uint64_t key[2], uint64_t value);
/* Where its bytes come from, how they are placed, and its role. */
void kept_key_recipe(uint64_t key[2], const weight_recipe *r);

#endif
