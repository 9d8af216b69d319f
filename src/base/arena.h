/* One block of memory, allocated from the front and released back to a mark: a stage's activations and scratch. A
 * measuring arena has no memory and hands out offsets only: it tells which size a real one must have. */
#ifndef FLUX1_BASE_ARENA_H
#define FLUX1_BASE_ARENA_H

#include "base/status.h"

#include <stdbool.h>

#define ARENA_ALIGN 64

typedef struct arena {
    unsigned char *base; /* NULL while measuring */
    size_t size;         /* capacity; SIZE_MAX while measuring */
    size_t used;
    size_t peak; /* highest `used` so far */
    size_t end;  /* bytes at the end that arena_take_end has given */
    bool guarded;
} arena;

/* Memory is page-aligned, mapped (not touched), zero at first. size 0 makes an empty arena. FLUX1_ERR_MEMORY names the
 * bytes. */
flux1_status arena_create(size_t size, arena *out, flux1_error *err);
void arena_measure(arena *out); /* a measuring arena */
void arena_destroy(arena *a);

/* `bytes` aligned to ARENA_ALIGN; *out is NULL while measuring, and for 0 bytes an address that takes no space.
 * FLUX1_ERR_INTERNAL if a real arena is too small: the dry run was wrong. */
flux1_status arena_alloc(arena *a, size_t bytes, void **out, flux1_error *err);

/* `bytes` (a multiple of 16) from the arena's end downwards, out of reach of marks; NULL if there is no room above the
 * peak. They stay until arena_release_end. */
void *arena_take_end(arena *a, size_t bytes);
static inline void arena_release_end(arena *a) { a->end = 0; }

/* Gives the memory of an empty arena back until it is written again; its contents are lost. */
void arena_rest(arena *a);

/* Makes an empty arena of the memory at its beginning, of `size` bytes: what lies behind them leaves the process, for
 * good. As a part of a larger arena it would be touched by whole huge pages, up to 2 MiB behind its end. */
void arena_shrink(arena *a, size_t size);

/* For tests: where AddressSanitizer is built in, touching what is not allocated is an error from now on, up to 64 KiB
 * behind what is. Not for recorded steps, which come back to memory that has been released. */
void arena_guard(arena *a);
void arena_hide(const arena *a, size_t from, size_t to);
void arena_show(const arena *a, size_t from, size_t to);

static inline size_t arena_mark(const arena *a) { return a->used; }
static inline void arena_release(arena *a, size_t mark)
{
    if (a->guarded)
        arena_hide(a, mark, a->used);
    a->used = mark;
}

#endif
