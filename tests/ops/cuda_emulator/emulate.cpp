/* Threads of a block as fibers on stacks of their own. A switch saves six registers and the stack pointer (x86-64), or
 * is ucontext's elsewhere.
 *
 * Warps run in turn: each lane to its next shuffle, until all lanes have come to it, and so on until every thread has
 * ended or stands at the block's barrier. A turn in which nothing moves is a deadlock. In which order warps and lanes
 * have their turns, CUDA_EMULATOR_ORDER says: "forward" (or nothing), "reverse", "random", or the number that a random
 * order was made from, which is printed: what lacks a barrier may be right in one order and wrong in another. */
#include "ops/cuda_emulator/emulate.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <utility>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* STACK: a little more than a power of two, or the tops of all stacks would share one set of the processor's cache. */
enum { LANES = 32, MOST_THREADS = 1024, STACK = (128 << 10) + 17 * 64 };

enum place { RUNNING, AT_WARP, AT_BARRIER, ENDED };

struct fiber {
#ifdef __x86_64__
    void *stack_pointer;
#else
    ucontext_t context;
#endif
    char *stack;
    place at;
    unsigned turn; /* AT_WARP: the warp's exchange that it waits for */
};

struct warp {
    int arrived, source_line;
    unsigned turn;            /* exchanges completed */
    unsigned value[2][LANES]; /* of this exchange and the last: a lane may be one ahead of another, never two */
};

static fiber fibers[MOST_THREADS], scheduler;
static warp warps[MOST_THREADS / LANES];
static int current, threads, waiting, barrier_line;
static const char *kernel_name;
static void (*kernel_body)(const void *);
static const void *kernel_args;

/* The order of turns, new for each block, of warps also behind each barrier. */
enum way { FORWARD, REVERSE, SHUFFLED };
static way ordered = FORWARD;
static unsigned long long seed, draws;
static int lane_at[LANES], after[LANES] /* the lane that is next in order */, warp_at[MOST_THREADS / LANES];

extern char __start_cuda_shared[], __stop_cuda_shared[]; /* the linker's names for the section */
static char *dynamic_end;                                /* of the launch's dynamic shared memory */
static size_t dynamic_bytes;                             /* before that */

/* Whether 16 bytes lie in shared memory. */
static bool is_shared(const void *p)
{
    const char *at = (const char *)p;
    return (at >= __start_cuda_shared && at + 16 <= __stop_cuda_shared) ||
           (at >= dynamic_end - dynamic_bytes && at + 16 <= dynamic_end);
}

void emulate_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (kernel_name)
        fprintf(stderr, "cuda emulator: kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread %d: ", kernel_name,
                blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, current);
    else
        fprintf(stderr, "cuda emulator: ");
    vfprintf(stderr, format, list);
    va_end(list);
    if (ordered == SHUFFLED)
        fprintf(stderr, " (CUDA_EMULATOR_ORDER=%llu)", seed);
    fputc('\n', stderr);
    abort();
}

/* ---- order ---- */

static void read_order(void)
{
    const char *word = getenv("CUDA_EMULATOR_ORDER");
    char *end = nullptr;
    if (!word || !*word || !strcmp(word, "forward"))
        return;
    ordered = strcmp(word, "reverse") ? SHUFFLED : REVERSE;
    seed = strcmp(word, "random") ? strtoull(word, &end, 10) : (unsigned long long)time(nullptr);
    if (ordered == SHUFFLED && end && *end)
        emulate_fail("CUDA_EMULATOR_ORDER is forward, reverse, random or a number, not \"%s\"", word);
    if (ordered == SHUFFLED)
        fprintf(stderr, "cuda emulator: warps and lanes in the order CUDA_EMULATOR_ORDER=%llu\n", seed);
    draws = seed;
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static unsigned draw(unsigned below)
{
    unsigned long long x = draws += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ (x >> 31)) % below);
}

static void order(int *at, int count)
{
    for (int i = 0; i < count; i++)
        at[i] = ordered == REVERSE ? count - 1 - i : i;
    for (int i = count - 1; ordered == SHUFFLED && i > 0; i--)
        std::swap(at[i], at[draw((unsigned)i + 1)]);
}

static void order_lanes(void)
{
    order(lane_at, LANES);
    for (int i = 0; i < LANES; i++)
        after[lane_at[i]] = lane_at[(i + 1) % LANES];
}

/* ---- switching ---- */

static void fiber_main(void);

#ifdef __x86_64__
extern "C" void cuda_fiber_switch(void **save, void *load);
__asm__(".text\n"
        ".type cuda_fiber_switch,@function\n"
        "cuda_fiber_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size cuda_fiber_switch, .-cuda_fiber_switch\n");

static void make_fiber(fiber *f)
{
    void **top = (void **)(f->stack + STACK);
    *--top = nullptr;            /* where fiber_main would return to; also puts its frame at the alignment of a call */
    *--top = (void *)fiber_main; /* what the first switch returns to */
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->stack_pointer = top;
}
static void switch_fiber(fiber *from, fiber *to) { cuda_fiber_switch(&from->stack_pointer, to->stack_pointer); }
#else
static void make_fiber(fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
}
static void switch_fiber(fiber *from, fiber *to) { swapcontext(&from->context, &to->context); }
#endif

static void start(int thread)
{
    current = thread;
    threadIdx.x = (unsigned)thread;
    fibers[thread].at = RUNNING;
}

/* Whether a lane has something to do: it has not come to its next meeting, or all have come to the one it waits for. */
static bool can_run(int thread)
{
    const fiber *f = &fibers[thread];
    return f->at == RUNNING || (f->at == AT_WARP && f->turn != warps[(unsigned)thread / LANES].turn);
}

/* Straight to the next lane of the warp that can run, which most often is the next in order: half as many switches as
 * by way of the scheduler. */
static void stop(place at)
{
    const int me = current, first = me & ~(LANES - 1);
    fibers[me].at = at;
    for (int lane = after[me - first]; first + lane != me; lane = after[lane])
        if (can_run(first + lane)) {
            start(first + lane);
            switch_fiber(&fibers[me], &fibers[first + lane]);
            return;
        }
    switch_fiber(&fibers[me], &scheduler);
}

static void fiber_main(void)
{
    kernel_body(kernel_args);
    stop(ENDED);
    abort(); /* an ended fiber is not resumed */
}

static void resume(int thread)
{
    start(thread);
    switch_fiber(&scheduler, &fibers[thread]);
}

/* ---- meeting ---- */

int emulate_lane(void) { return current % LANES; }

void emulate_exchange(int source_line, unsigned mask, unsigned *value, int from)
{
    warp *w = &warps[current / LANES];
    const int lane = current % LANES;
    const unsigned turn = w->turn;
    if (mask != 0xffffffffu)
        emulate_fail("a shuffle of some lanes (mask %08x) at line %d is not emulated", mask, source_line);
    if (from < 0 || from >= LANES)
        emulate_fail("a shuffle from lane %d at line %d", from, source_line);
    if (w->arrived++ == 0)
        w->source_line = source_line;
    else if (w->source_line != source_line)
        emulate_fail("the warp diverges: this lane shuffles at line %d, others at line %d", source_line,
                     w->source_line);
    w->value[turn % 2][lane] = *value;
    if (w->arrived == LANES) {
        w->arrived = 0;
        w->turn++;
    } else {
        fibers[current].turn = turn;
        stop(AT_WARP);
    }
    *value = w->value[turn % 2][from];
}

/* ---- tensor cores ---- */

static unsigned operand_of[MOST_THREADS][6];
static const unsigned char *row_of[MOST_THREADS];

static float half_of(unsigned pair, int which) { return __uint_as_float(which ? pair & 0xffff0000u : pair << 16); }

void emulate_multiply_16x8(int source_line, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    const int first = current / LANES * LANES, g = current % LANES / 4, t = current % LANES % 4;
    unsigned *mine = operand_of[current];
    memcpy(mine, a, sizeof a);
    mine[4] = b0, mine[5] = b1;
    emulate_sync_warp(source_line);
    for (int i = 0; i < 4; i++) {
        double sum = c[i];
        for (int k = 0; k < 16; k++) {
            const unsigned *x = operand_of[first + 4 * g + k % 8 / 2],
                           *y = operand_of[first + 4 * (2 * t + i % 2) + k % 8 / 2];
            sum += (double)half_of(x[k / 8 * 2 + i / 2], k % 2) * half_of(y[4 + k / 8], k % 2);
        }
        c[i] = (float)sum;
    }
    emulate_sync_warp(source_line);
}

void emulate_load_matrices(int source_line, unsigned (&m)[4], const void *row, bool transposed)
{
    const int first = current / LANES * LANES, g = current % LANES / 4, t = current % LANES % 4;
    if (!is_shared(row) || (uintptr_t)row % 16)
        emulate_fail("a matrix's row at %p, line %d, is not 16 aligned bytes of shared memory", row, source_line);
    row_of[current] = (const unsigned char *)row;
    emulate_sync_warp(source_line);
    for (int i = 0; i < 4; i++) {
        uint16_t pair[2];
        for (int j = 0; j < 2; j++)
            memcpy(&pair[j], row_of[first + 8 * i + (transposed ? 2 * t + j : g)] + 2 * (transposed ? g : 2 * t + j),
                   2);
        m[i] = pair[0] | (unsigned)pair[1] << 16;
    }
    emulate_sync_warp(source_line);
}

/* ---- copies to shared memory: every other one happens at once, so that what is still being read shows, the rest as
 * late as it may, so that what is not waited for does ---- */

struct async_copy {
    void *to;
    const void *from;
    bool there;
    int group;
};
static std::vector<async_copy> copies[MOST_THREADS];
static int groups[MOST_THREADS]; /* committed by each thread */

static void do_copy(const async_copy &c)
{
    if (c.there)
        memcpy(c.to, c.from, 16);
    else
        memset(c.to, 0, 16);
}

void emulate_copy_async(void *to, const void *from, bool there)
{
    if (!is_shared(to) || (uintptr_t)to % 16 || (uintptr_t)from % 16)
        emulate_fail("an asynchronous copy from %p to %p: 16 aligned bytes go to shared memory", from, to);
    const async_copy c = {to, from, there, groups[current]};
    if (((uintptr_t)to / 16 + blockIdx.x) % 2)
        do_copy(c);
    else
        copies[current].push_back(c);
}

void emulate_commit_copies(void) { groups[current]++; }

void emulate_wait_copies(int pending)
{
    std::vector<async_copy> &all = copies[current];
    while (!all.empty() && all.front().group < groups[current] - pending) {
        do_copy(all.front());
        all.erase(all.begin());
    }
}

void emulate_barrier(int source_line)
{
    if (waiting++ == 0)
        barrier_line = source_line;
    else if (barrier_line != source_line)
        emulate_fail("the block diverges: this thread waits at the barrier of line %d, others at line %d", source_line,
                     barrier_line);
    stop(AT_BARRIER);
}

/* Lanes of one warp until each has ended or waits for the block. */
static void run_warp(int first)
{
    for (int i = 0; i < LANES; i++)
        while (can_run(first + lane_at[i])) /* others of the warp may have run when it comes back */
            resume(first + lane_at[i]);
    for (int t = first; t < first + LANES; t++)
        if (fibers[t].at == AT_WARP) {
            current = t;
            emulate_fail("this lane shuffles at line %d, another of its warp never comes there",
                         warps[first / LANES].source_line);
        }
}

static void run_block(void)
{
    memset(__start_cuda_shared, 0xff, (size_t)(__stop_cuda_shared - __start_cuda_shared));
    memset(dynamic_end - dynamic_bytes, 0xff, dynamic_bytes);
    memset(warps, 0, sizeof warps);
    for (int t = 0; t < threads; t++) {
        copies[t].clear();
        groups[t] = 0;
        make_fiber(&fibers[t]);
        fibers[t].at = RUNNING;
    }
    order_lanes();
    for (;;) {
        waiting = 0;
        order(warp_at, threads / LANES);
        for (int w = 0; w < threads / LANES; w++)
            run_warp(warp_at[w] * LANES);
        if (waiting == 0)
            return;
        if (waiting != threads) {
            for (current = 0; fibers[current].at == AT_BARRIER;)
                current++;
            emulate_fail("this thread has ended, others wait for it at the barrier of line %d", barrier_line);
        }
        for (int t = 0; t < threads; t++)
            fibers[t].at = RUNNING;
    }
}

/* A kernel touched what it must not. Otherwise a test's harness would catch the signal and go on with the driver's lock
 * held. */
static void on_fault(int, siginfo_t *info, void *)
{
    char text[128];
    emulate_describe(info->si_addr, text, sizeof text);
    emulate_fail("touches %p: %s", info->si_addr, text);
}

struct fault_guard {
    struct sigaction segv, bus;
    fault_guard()
    {
        struct sigaction mine = {};
        mine.sa_sigaction = on_fault;
        mine.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &mine, &segv);
        sigaction(SIGBUS, &mine, &bus);
    }
    ~fault_guard()
    {
        sigaction(SIGSEGV, &segv, nullptr);
        sigaction(SIGBUS, &bus, nullptr);
    }
};

void *emulate_dynamic_shared(void) { return dynamic_bytes ? dynamic_end - dynamic_bytes : nullptr; }

static void make_dynamic_shared(void)
{
    enum { GUARD = 4096 };
    const size_t room = ((size_t)EMULATE_MOST_SHARED + GUARD - 1) / GUARD * GUARD;
    char *base = (char *)mmap(nullptr, room + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + room, GUARD, PROT_NONE) != 0)
        emulate_fail("no memory for shared memory");
    dynamic_end = base + room;
}

void emulate_launch(const char *kernel, void (*body)(const void *args), const void *args, dim3 grid, dim3 block,
                    unsigned shared)
{
    static char *stacks;
    if (!stacks) {
        read_order();
        make_dynamic_shared();
        stacks = (char *)mmap(nullptr, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED)
            emulate_fail("no memory for the stacks");
        for (int t = 0; t < MOST_THREADS; t++)
            fibers[t].stack = stacks + (size_t)t * STACK;
    }
    kernel_name = kernel;
    kernel_body = body;
    kernel_args = args;
    dynamic_bytes = shared;
    gridDim = grid;
    blockDim = block;
    threads = (int)block.x;
    if (block.y != 1 || block.z != 1 || threads % LANES != 0 || threads > MOST_THREADS)
        emulate_fail("blocks of (%u, %u, %u) threads are not emulated", block.x, block.y, block.z);
    fault_guard guard;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
                run_block();
    kernel_name = nullptr;
}
