/* Linear layers: arguments checked, the output cut into tasks (kernels_product.h). */
#include "ops/cpu/int8.h"

#include "base/checked.h"

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
    g->threads = o->threads;
    const cut_limits most = {WIDEST_PANEL, PRODUCT_ROWS, o->kernels->cut_cols, o->kernels->product_cols,
                             o->kernels->cut_beside};
    for (const int64_t once = rows_at_once(g->m); g->first < g->m; g->first += g->rows) {
        g->rows = i64_min(once, g->m - g->first);
        const product_cut cut = cpu_cut_product(g->rows, g->n, o->threads, &most);
        g->block_m = cut.block_m, g->blocks_m = cut.blocks_m, g->block_n = cut.block_n;
        g->lays = (int)i64_ceil_div(g->rows, o->kernels->tile_cols);
        product_run run = {.lay = o->kernels->lay, .multiply = o->kernels->product, .job = g, .lays = g->lays};
        g->laid = &run.laid;
        cpu_run_laid(o, &run, cut.tasks);
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
