/* Linear layers: arguments checked, the output cut into tasks (kernels_product.h). */
#include "ops/cpu/int8.h"

#include "base/checked.h"

/* Blocks of columns for `blocks_m` blocks of rows: at most `widest`, but so many that all threads end at about the same
 * time. */
static int64_t columns_of_block(const gemm_job *g, int64_t widest, int64_t threads, int64_t tile)
{
    int64_t fewest = i64_ceil_div(g->n, widest), most = i64_max(fewest, g->n / (2 * tile)), best = fewest;
    double filled = 0;
    for (int64_t blocks = fewest; blocks <= most && filled < 0.9; blocks++) {
        int64_t tasks = blocks * g->blocks_m;
        double here = (double)tasks / (double)(threads * i64_ceil_div(tasks, threads));
        if (here > filled + 0.02)
            best = blocks, filled = here;
    }
    return i64_ceil_div(i64_ceil_div(g->n, best), tile) * tile;
}

enum { WIDEST_PANEL = 32 };

/* Rows laid at once: all, or equal parts. */
static int64_t rows_at_once(int64_t m)
{
    const int64_t parts = i64_max(1, i64_ceil_div(m, PRODUCT_ROWS));
    return i64_ceil_div(i64_ceil_div(m, parts), WIDEST_PANEL) * WIDEST_PANEL;
}

size_t cpu_product_scratch(int64_t m, int64_t entry, int64_t n, int64_t k, bool pairs)
{
    size_t bytes;
    if (m <= 0 || entry <= GEMM_FEW || n <= 0)
        return 0;
    return size_mul((size_t)rows_at_once(m), (size_t)(pairs ? i64_ceil_div(k, 2) : k), &bytes) && bytes < SIZE_MAX / 8
               ? size_round_up(bytes * sizeof(float), ARENA_ALIGN)
               : SIZE_MAX / 2;
}

/* Blocks of columns, and of rows as well where there are too few columns for the threads. */
static void cut_product(gemm_job *g, const cpu_kernels *kernels, int64_t threads)
{
    enum { FEWEST_ROWS = 64 };
    int64_t wanted = 0, tasks; /* blocks are whole panels, so there may be fewer than wanted */
    do {
        g->block_m = i64_ceil_div(i64_ceil_div(g->rows, ++wanted), WIDEST_PANEL) * WIDEST_PANEL;
        g->blocks_m = i64_ceil_div(g->rows, g->block_m);
        g->block_n = columns_of_block(g, kernels->product_cols, threads, kernels->tile_rows);
        tasks = g->blocks_m * i64_ceil_div(g->n, g->block_n);
    } while (4 * tasks < 3 * threads * i64_ceil_div(tasks, threads) && g->block_m > FEWEST_ROWS);
}

static flux1_status run_few(cpu_ops *o, gemm_job *g)
{
    enum { FEW_COLS = 64 };
    g->block_n = FEW_COLS;
    for (; g->first < g->m; g->first += g->rows) {
        g->rows = i64_min(GEMM_FEW, g->m - g->first);
        pool_run(o->workers, i64_ceil_div(g->n, FEW_COLS), o->kernels->gemv, g);
    }
    return ops_cancelled(&o->head);
}

flux1_status cpu_run_product(cpu_ops *o, gemm_job *g)
{
    if (g->m <= 0 || g->n <= 0)
        return FLUX1_OK;
    if (g->entry <= GEMM_FEW)
        return run_few(o, g);
    const size_t mark = arena_mark(&o->memory);
    void *panels;
    TRY(arena_alloc(&o->memory, cpu_product_scratch(g->m, g->entry, g->n, g->k, o->kernels->bf16), &panels,
                    o->head.err));
    g->panels = panels;
    for (const int64_t most = rows_at_once(g->m); g->first < g->m; g->first += g->rows) {
        g->rows = i64_min(most, g->m - g->first);
        cut_product(g, o->kernels, o->threads);
        pool_run(o->workers, i64_ceil_div(g->rows, o->kernels->tile_cols), o->kernels->lay, g);
        pool_run(o->workers, g->blocks_m * i64_ceil_div(g->n, g->block_n), o->kernels->product, g);
    }
    arena_release(&o->memory, mark);
    return ops_cancelled(&o->head);
}

flux1_status cpu_product(ops *base, act in, const weight *w, const epilogue *e, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "linear", w));
    gemm_job g = {.m = act_batch(in) * act_rows(in),
                  .entry = act_rows(in),
                  .n = w->rows,
                  .k = w->cols,
                  .in = cpu_view(in),
                  .out = cpu_view(out),
                  .addend = cpu_view(e->addend),
                  .mul = cpu_view(e->mul),
                  .residual = cpu_view(e->residual),
                  .w = &cpu_w(w)->m,
                  .bias = cpu_w(w)->bias,
                  .gate = cpu_table(o, e->gate, act_batch(out)),
                  .f = e->f,
                  .scratch = o->scratch,
                  .cancel = base->cancel};
    return w->int8 ? cpu_int8_product(o, &g, cpu_w(w)) : cpu_run_product(o, &g);
}
