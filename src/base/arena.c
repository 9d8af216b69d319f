#include "base/arena.h"

#include "base/checked.h"
#include "base/large.h"

#include <sys/mman.h>

/* ---- memory that must not be touched ---- */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define __asan_poison_memory_region(from, bytes) ((void)(from), (void)(bytes))
#define __asan_unpoison_memory_region(from, bytes) ((void)(from), (void)(bytes))
#endif

void arena_hide(const arena *a, size_t from, size_t to)
{
    if (a->base && from < to)
        __asan_poison_memory_region(a->base + from, to - from);
}

void arena_show(const arena *a, size_t from, size_t to)
{
    if (a->base && from < to)
        __asan_unpoison_memory_region(a->base + from, to - from);
}

/* Where what is hidden behind `used` ends. */
static size_t hidden_end(const arena *a, size_t used)
{
    const size_t room = a->size - a->end, most = (size_t)64 << 10;
    return room - used < most ? room : used + most;
}

void arena_guard(arena *a)
{
    a->guarded = true;
    arena_hide(a, a->used, hidden_end(a, a->used));
}

/* ---- the arena ---- */

flux1_status arena_create(size_t size, arena *out, flux1_error *err)
{
    *out = (arena){0};
    if (size == 0)
        return FLUX1_OK;
    const size_t step = large_page();
    if (size > SIZE_MAX - step)
        return error_oom(err, size, "a stage's activations");
    size_t mapped = size_round_up(size, step);
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return error_oom(err, size, "a stage's activations");
    large_hint(base, mapped);
    *out = (arena){.base = base, .size = mapped};
    return FLUX1_OK;
}

void arena_measure(arena *out) { *out = (arena){.size = SIZE_MAX}; }

void arena_destroy(arena *a)
{
    if (a->guarded)
        arena_show(a, 0, hidden_end(a, a->peak));
    if (a->base)
        munmap(a->base, a->size);
    *a = (arena){0};
}

void arena_rest(arena *a) { large_rest(a->base, a->size); }

void arena_shrink(arena *a, size_t size)
{
    if (!a->base || size == 0 || size > a->size - large_page())
        return;
    const size_t kept = size_round_up(size, large_page());
    if (a->guarded)
        arena_show(a, kept, a->size); /* the addresses may become somebody else's */
    if (kept < a->size && munmap(a->base + kept, a->size - kept) == 0)
        a->size = kept;
}

flux1_status arena_alloc(arena *a, size_t bytes, void **out, flux1_error *err)
{
    *out = NULL;
    if (bytes == 0) {
        if (a->base)
            *out = a->base + a->used; /* no operand of memcpy may be NULL, not even of 0 bytes */
        return FLUX1_OK;
    }
    size_t end;
    /* `used` may have been marked anywhere, but only ever holds multiples of ARENA_ALIGN */
    if (bytes > SIZE_MAX - ARENA_ALIGN || !size_add(a->used, size_round_up(bytes, ARENA_ALIGN), &end))
        return error_set(err, FLUX1_ERR_LIMIT, "more memory is needed than can be addressed (%zu bytes above %zu)",
                         bytes, a->used);
    if (end > a->size - a->end)
        return error_set(err, FLUX1_ERR_INTERNAL,
                         "an arena of %zu bytes is too small: %zu used, %zu more asked for; the dry run counted less",
                         a->size, a->used + a->end, bytes);
    if (a->base)
        *out = a->base + a->used;
    if (a->guarded) {
        arena_show(a, a->used, a->used + bytes);
        arena_hide(a, a->used + bytes, hidden_end(a, end));
    }
    a->used = end;
    if (end > a->peak)
        a->peak = end;
    return FLUX1_OK;
}

void *arena_take_end(arena *a, size_t bytes)
{
    if (!a->base || bytes > a->size - a->end - a->peak)
        return NULL;
    a->end += bytes;
    if (a->guarded)
        arena_show(a, a->size - a->end, a->size - a->end + bytes);
    return a->base + a->size - a->end;
}
