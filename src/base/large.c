#include "base/large.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

size_t large_page(void)
{
    const long page = sysconf(_SC_PAGESIZE);
    return page > 0 ? (size_t)page : 4096;
}

void large_rest(void *memory, size_t bytes)
{
    const uintptr_t page = large_page(), begin = ((uintptr_t)memory + page - 1) / page * page,
                    end = ((uintptr_t)memory + bytes) / page * page;
    if (memory && begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* anonymous: zeros when it is touched */
}

void large_hint(void *memory, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE)
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
}

#if defined(__SANITIZE_ADDRESS__)
static void *pages(size_t bytes)
{
    const size_t page = 4096;
    void *memory = bytes <= SIZE_MAX - page ? aligned_alloc(page, (bytes + page - 1) / page * page) : NULL;
    return memory ? memset(memory, 0, bytes) : NULL;
}

static void pages_free(void *memory, size_t bytes)
{
    (void)bytes;
    free(memory);
}
#else
static void *pages(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    large_hint(memory, bytes);
    return memory;
}

static void pages_free(void *memory, size_t bytes) { munmap(memory, bytes); }
#endif

void *large_alloc(size_t bytes) { return bytes >= LARGE_FROM ? pages(bytes) : calloc(bytes ? bytes : 1, 1); }

void large_free(void *memory, size_t bytes)
{
    if (memory && bytes >= LARGE_FROM)
        pages_free(memory, bytes);
    else
        free(memory);
}
