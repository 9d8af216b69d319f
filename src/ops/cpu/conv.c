/* Convolutions: arguments checked, the output cut into strips and tasks (kernels_conv.h). Those of 1×1 are products. */
#include "ops/cpu/cpu.h"

#include "base/checked.h"

/* Input lines are laid for a strip of output rows at a time: so many floats, or the three that one row needs. */
enum { STRIP_FLOATS = 4 << 20, FEWEST_LINES = 3 };

/* Floats between lines of words, whatever the instruction set: the columns around, those that the last panel reads
 * beyond, even and odd ones apart for stride 2; an odd number of cache lines. */
static int64_t line_stride(int64_t width) { return i64_ceil_div(width, 64) * 64 + 16; }

/* Input rows laid at once for `pixels` outputs. */
static int64_t lines_at_once(int64_t pixels, int64_t width, int64_t words)
{
    const int64_t fit = STRIP_FLOATS / line_stride(width) / i64_max(1, words), all = pixels / i64_max(1, width) + 2;
    return i64_max(FEWEST_LINES, i64_min(fit, all));
}

static int64_t words_of(int64_t channels, bool pairs) { return pairs ? i64_ceil_div(channels, 2) : channels; }

/* A norm's factors, which lie in front of the lines. */
static int64_t factor_floats(int64_t channels) { return i64_ceil_div(2 * channels, 16) * 16; }

size_t cpu_conv_scratch(int64_t pixels, int64_t width, int64_t channels, bool pairs)
{
    const int64_t words = words_of(channels, pairs), lines = lines_at_once(pixels, width, words);
    size_t floats;
    if (pixels <= 0)
        return 0;
    return size_mul((size_t)lines, (size_t)words, &floats) && size_mul(floats, (size_t)line_stride(width), &floats) &&
                   size_add(floats, (size_t)factor_floats(channels), &floats) && floats < SIZE_MAX / 8
               ? size_round_up(floats * sizeof(float), ARENA_ALIGN)
               : SIZE_MAX / 2;
}

/* Blocks of panels: few enough for a task's sums, and so many blocks that all threads end at about the same time. */
static int64_t cut_strip(conv_job *j, const cpu_kernels *kernels, int64_t threads)
{
    enum { FEWEST_PANELS = 8 };
    gemm_job *g = &j->g;
    const int64_t panels = j->rows * i64_ceil_div(j->out_width, kernels->tile_cols),
                  most = PRODUCT_ROWS / kernels->tile_cols,
                  outputs = i64_ceil_div(g->n, g->block_n) * (j->upsample ? 4 : 1);
    int64_t tasks;
    g->blocks_m = i64_ceil_div(panels, most) - 1;
    do {
        g->blocks_m++;
        g->block_m = i64_ceil_div(panels, g->blocks_m);
        tasks = i64_ceil_div(panels, g->block_m) * outputs;
    } while (10 * tasks < 9 * threads * i64_ceil_div(tasks, threads) && g->block_m > FEWEST_PANELS);
    g->blocks_m = i64_ceil_div(panels, g->block_m);
    return tasks;
}

/* The strips of one batch item. */
static void run_item(cpu_ops *o, conv_job *j, int64_t lines)
{
    const int64_t most = (lines - FEWEST_LINES) / j->stride + 1,
                  strip = i64_ceil_div(j->out_height, i64_ceil_div(j->out_height, most));
    if (j->norm)
        cpu_group_factors(j->norm, j->item, j->channels, j->mean, j->scale);
    for (j->first = 0; j->first < j->out_height; j->first += strip) {
        j->rows = i64_min(strip, j->out_height - j->first);
        pool_run(o->workers, (j->rows - 1) * j->stride + FEWEST_LINES, o->kernels->lay_line, j);
        pool_run(o->workers, cut_strip(j, o->kernels, o->threads), o->kernels->conv, j);
    }
}

static flux1_status run_conv(cpu_ops *o, conv_job *j, int64_t batch)
{
    const bool pairs = o->kernels->bf16;
    const int64_t pixels = batch * j->out_height * j->out_width;
    const size_t mark = arena_mark(&o->memory);
    void *scratch;
    if (pixels <= 0 || j->g.n <= 0)
        return FLUX1_OK;
    TRY(arena_alloc(&o->memory, cpu_conv_scratch(pixels, j->width, j->channels, pairs), &scratch, o->head.err));
    j->mean = scratch;
    j->scale = j->mean + j->channels;
    j->lines = j->mean + factor_floats(j->channels);
    j->ldx = line_stride(j->width);
    j->g.block_n =
        i64_min(o->kernels->product_cols, i64_ceil_div(j->g.n, i64_ceil_div(j->g.n, o->kernels->product_cols)));
    for (j->item = 0; j->item < batch; j->item++)
        run_item(o, j, lines_at_once(pixels, j->width, words_of(j->channels, pairs)));
    arena_release(&o->memory, mark);
    return ops_cancelled(&o->head);
}

/* Of the output's width and height before upsampling. */
static conv_job job_of(cpu_ops *o, act in, act top, act bottom, const weight *w, act residual, act out)
{
    const act_shape *s = &in.buffer->shape;
    return (conv_job){.g = {.m = act_batch(out) * act_rows(out),
                            .n = w->rows,
                            .k = w->cols,
                            .in = cpu_view(in),
                            .out = cpu_view(out),
                            .residual = cpu_view(residual),
                            .w = &cpu_w(w)->m,
                            .bias = cpu_w(w)->bias,
                            .scratch = o->scratch,
                            .cancel = o->head.cancel},
                      .in = cpu_view(in),
                      .top = cpu_view(top),
                      .bottom = cpu_view(bottom),
                      .stride = 1,
                      .channels = in.cols,
                      .height = s->height,
                      .width = s->width,
                      .out_height = s->height,
                      .out_width = s->width};
}

flux1_status cpu_conv(ops *base, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "conv", w));
    conv_job j = job_of(o, in, top, bottom, w, residual, out);
    j.g.entry = j.g.m;
    if (w->kernel == 1)
        return cpu_run_product(o, &j.g);
    j.stride = stride;
    j.out_height = out.buffer->shape.height;
    j.out_width = out.buffer->shape.width;
    return run_conv(o, &j, act_batch(out));
}

flux1_status cpu_upsample_conv(ops *base, act in, act top, act bottom, const weight *w, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "upsample_conv", w));
    conv_job j = job_of(o, in, top, bottom, w, (act){0}, out);
    j.upsample = true;
    return run_conv(o, &j, act_batch(out));
}

flux1_status cpu_norm_conv(ops *base, act in, act top, act bottom, const norm_before *n, const weight *w, act residual,
                           act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "norm_conv", w));
    TRY(ops_begin(base, "norm_conv", n->w));
    conv_job j = job_of(o, in, top, bottom, w, residual, out);
    j.height = j.out_height = out.buffer->shape.height;
    j.width = j.out_width = out.buffer->shape.width;
    j.norm = n;
    j.shift = cpu_w(n->w)->bias;
    return run_conv(o, &j, act_batch(out));
}
