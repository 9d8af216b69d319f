/* Linear layers and convolutions: arguments checked, the output cut into tasks (kernels_gemm.h). */
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

static void cut_rows(gemm_job *g, int64_t most)
{
    g->blocks_m = i64_ceil_div(g->m, most);
    g->block_m = i64_ceil_div(g->m, g->blocks_m);
}

static bool any_packed(const matrix *w)
{
    for (int i = 0; i < w->count; i++)
        if (w->piece[i].packed)
            return true;
    return false;
}

/* All cuts fit the same scratch. With packed weights blocks are higher, since each weight is decoded once a task; but
 * not much narrower: an activation is copied for each block of columns, which takes about a third of that time. */
static void cut(gemm_job *g, int64_t threads, int64_t tile)
{
    enum { SUMS = GEMM_ROWS * GEMM_LDC, PAD = GEMM_LDC - GEMM_COLS }; /* at most a pad is added to a row */
    cut_rows(g, GEMM_ROWS);
    g->block_n = columns_of_block(g, GEMM_COLS, threads, tile);
    for (int64_t most = GEMM_PACKED_ROWS; most > GEMM_ROWS && any_packed(g->w) && g->blocks_m > 1; most /= 2) {
        gemm_job high = *g;
        cut_rows(&high, most);
        const int64_t widest = (SUMS / high.block_m - PAD) / tile * tile;
        high.block_n = columns_of_block(&high, i64_min(widest, GEMM_COLS), threads, tile);
        if (3 * high.block_n >= high.block_m) {
            *g = high;
            break;
        }
    }
    g->ldc = g->block_n | PAD; /* not a multiple of a page */
}

static flux1_status run_gemm(cpu_ops *o, gemm_job *g)
{
    enum { FEW_COLS = 64 };
    g->scratch = o->scratch;
    g->cancel = o->head.cancel;
    if (g->m <= 0 || g->n <= 0)
        return FLUX1_OK;
    if (g->m <= GEMM_FEW && !g->kernel) {
        g->block_n = FEW_COLS;
        pool_run(o->workers, i64_ceil_div(g->n, FEW_COLS), o->kernels->gemv, g);
        return ops_cancelled(&o->head);
    }
    cut(g, o->threads, o->kernels->tile_cols);
    pool_run(o->workers, g->blocks_m * i64_ceil_div(g->n, g->block_n), o->kernels->gemm, g);
    return ops_cancelled(&o->head);
}

flux1_status cpu_product(ops *base, act in, const weight *w, const epilogue *e, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "linear", w));
    gemm_job g = {.m = act_batch(in) * act_rows(in),
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
    return cpu_w(w)->int8 ? cpu_int8_product(o, &g, cpu_w(w)) : run_gemm(o, &g);
}

flux1_status cpu_conv(ops *base, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    TRY(ops_begin(base, "conv", w));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    gemm_job g = {.m = t->batch * t->height * t->width,
                  .n = w->rows,
                  .k = w->cols,
                  .in = cpu_view(in),
                  .out = cpu_view(out),
                  .residual = cpu_view(residual),
                  .w = &cpu_w(w)->m,
                  .bias = cpu_w(w)->bias,
                  .kernel = w->kernel,
                  .stride = stride,
                  .height = s->height,
                  .width = s->width,
                  .out_height = t->height,
                  .out_width = t->width,
                  .channels = in.cols,
                  .top = cpu_view(top),
                  .bottom = cpu_view(bottom)};
    return run_gemm(cpu_self(base), &g);
}
