/* How products are cut into tasks, and how tasks that depend on each other run together. */
#include "ops/cpu/cpu.h"

/* Time until all tasks are done, in columns of one thread: rounds of tasks, each with what it costs beside its
 * columns. */
static int64_t time_of(int64_t n, int64_t blocks_m, int64_t threads, int64_t width, const cut_limits *most)
{
    return i64_ceil_div(blocks_m * i64_ceil_div(n, width), threads) * (width + most->beside);
}

static int64_t columns_of_block(int64_t n, int64_t blocks_m, int64_t threads, const cut_limits *most)
{
    int64_t best = i64_max(most->tile, most->cols / most->tile * most->tile);
    int64_t least = time_of(n, blocks_m, threads, best, most);
    for (int64_t width = best - most->tile; width >= 2 * most->tile; width -= most->tile) {
        const int64_t here = time_of(n, blocks_m, threads, width, most);
        if (here < least)
            best = width, least = here;
    }
    return best;
}

/* Blocks of columns, and of rows as well where there are too few columns for the threads. */
product_cut cpu_cut_product(int64_t m, int64_t n, int64_t threads, const cut_limits *most)
{
    enum { FEWEST_ROWS = 64 };
    int64_t wanted = i64_ceil_div(m, most->rows); /* blocks are whole panels, so there may be fewer than wanted */
    product_cut c;
    for (;; wanted++) {
        c.block_m = i64_ceil_div(i64_ceil_div(m, wanted), most->panel) * most->panel;
        c.blocks_m = i64_ceil_div(m, c.block_m);
        c.block_n = columns_of_block(n, c.blocks_m, threads, most);
        c.tasks = c.blocks_m * i64_ceil_div(n, c.block_n);
        if (4 * c.tasks >= 3 * threads * i64_ceil_div(c.tasks, threads) || c.block_m <= FEWEST_ROWS)
            return c;
    }
}

static void run_laid(void *arg, int64_t index, int worker)
{
    product_run *r = arg;
    if (index >= r->lays) {
        r->multiply(r->job, index - r->lays, worker);
        return;
    }
    r->lay(r->job, index, worker);
    atomic_fetch_add_explicit(&r->laid, 1, memory_order_release);
}

void cpu_run_laid(cpu_ops *o, product_run *run, int64_t tasks)
{
    pool_run(o->workers, run->lays + tasks, run_laid, run);
}
