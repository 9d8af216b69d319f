#include "base/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES 64 /* of a table */

/* A place is free while `begin` is 0. */
struct guard {
    _Atomic uintptr_t begin, end;
    _Atomic uint64_t device, inode;
    atomic_bool broken;
};

/* Tables are never freed: the handler walks them without a lock. */
typedef struct table {
    guard place[PLACES];
    struct table *_Atomic next;
} table;

static table tables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t guarded;          /* places in use */
static bool installed;          /* our handler is there, or behind one that the application has installed since */
static struct sigaction before; /* what it took the place of */
static uintptr_t page;

/* ---- in the handler ---- */

static guard *find(uintptr_t address)
{
    for (table *t = &tables; t; t = atomic_load(&t->next))
        for (int i = 0; i < PLACES; i++) {
            const uintptr_t begin = atomic_load(&t->place[i].begin), end = atomic_load(&t->place[i].end);
            if (begin && begin <= address && address < end && atomic_load(&t->place[i].begin) == begin)
                return &t->place[i];
        }
    return NULL;
}

/* From the page of `address` on: where a file is cut, what lies behind is gone as well. */
static bool give_zeros(const guard *g, uintptr_t address)
{
    const uintptr_t from = address & ~(page - 1);
    return mmap((void *)from, atomic_load(&g->end) - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
}

static void note_broken(const guard *g)
{
    const uint64_t device = atomic_load(&g->device), inode = atomic_load(&g->inode);
    for (table *t = &tables; t; t = atomic_load(&t->next))
        for (int i = 0; i < PLACES; i++)
            if (atomic_load(&t->place[i].begin) && atomic_load(&t->place[i].device) == device &&
                atomic_load(&t->place[i].inode) == inode)
                atomic_store(&t->place[i].broken, true);
}

/* What would have happened without us. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const bool sent = info->si_code <= 0; /* by a process, not by an access */
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else if (before.sa_handler == SIG_DFL || !sent) {
        signal(number, SIG_DFL);
        if (sent)
            raise(number); /* an access is made again by itself */
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    const uintptr_t address = (uintptr_t)info->si_addr;
    const guard *g = info->si_code > 0 ? find(address) : NULL;
    if (g && give_zeros(g, address))
        note_broken(g);
    else
        pass_on(number, info, context);
    errno = saved;
}

/* ---- with the lock ---- */

static void install(void)
{
    struct sigaction ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    installed = installed || (sigaction(SIGBUS, NULL, &before) == 0 && sigaction(SIGBUS, &ours, NULL) == 0);
}

/* Not where the application has installed another one since: it may call ours. */
static void take_away(void)
{
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus_error)
        installed = sigaction(SIGBUS, &before, NULL) != 0;
}

static guard *free_place(void)
{
    for (table *t = &tables;; t = atomic_load(&t->next)) {
        for (int i = 0; i < PLACES; i++)
            if (!atomic_load(&t->place[i].begin))
                return &t->place[i];
        if (!atomic_load(&t->next)) {
            table *more = calloc(1, sizeof *more);
            if (!more)
                return NULL;
            atomic_store(&t->next, more);
        }
    }
}

flux1_status guard_begin(const void *bytes, size_t size, uint64_t device, uint64_t inode, guard **out, flux1_error *err)
{
    pthread_mutex_lock(&lock);
    guard *g = *out = free_place();
    if (g && guarded++ == 0)
        install();
    if (g) {
        const uintptr_t begin = (uintptr_t)bytes, end = begin + size;
        atomic_store(&g->broken, false);
        atomic_store(&g->device, device);
        atomic_store(&g->inode, inode);
        atomic_store(&g->end, (end + page - 1) & ~(page - 1));
        atomic_store(&g->begin, begin);
    }
    pthread_mutex_unlock(&lock);
    return g ? FLUX1_OK : error_oom(err, sizeof(table), "the list of mapped files");
}

bool guard_broken(const guard *g) { return atomic_load(&g->broken); }

bool guard_bounds(const void *address, uintptr_t *begin, uintptr_t *end)
{
    const guard *g = find((uintptr_t)address);
    if (!g)
        return false;
    *begin = atomic_load(&g->begin);
    *end = atomic_load(&g->end);
    return true;
}

void guard_end(guard *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&lock);
    atomic_store(&g->begin, 0);
    if (--guarded == 0)
        take_away();
    pthread_mutex_unlock(&lock);
}
