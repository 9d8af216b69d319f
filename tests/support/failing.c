#include "support/failing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static atomic_long fuse = -1, asked; /* shared by all threads */
static atomic_bool failed;

static bool fails(void)
{
    atomic_fetch_add(&asked, 1);
    if (atomic_load(&fuse) < 0 || atomic_fetch_sub(&fuse, 1) != 0)
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }
int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    return fails() ? 12 : __real_posix_memalign(out, alignment, size);
}
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

void failing_after(long count)
{
    atomic_store(&fuse, count);
    atomic_store(&asked, 0);
    atomic_store(&failed, false);
}

long failing_asked(void) { return atomic_load(&asked); }
bool failing_failed(void) { return atomic_load(&failed); }

long failing_each(flux1_status (*run)(void *user, flux1_error *err), void *user, long most)
{
    flux1_error err = {0};
    failing_after(-1);
    if (run(user, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    long points = failing_asked(), step = points / most + 1;
    for (long i = 0; i < points; i += step) {
        error_clear(&err);
        failing_after(i);
        flux1_status st = run(user, &err);
        bool came = failing_failed();
        failing_after(-1);
        if (!came || st != FLUX1_ERR_MEMORY || !err.message[0])
            fail_msg("allocation %ld of %ld: %s, \"%s\"", i, points, status_name(st), err.message);
    }
    return points;
}
