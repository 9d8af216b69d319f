/* Convolutions: arguments checked, the output cut into strips and tasks (kernels_conv.h, kernels_winograd.h). Those of
 * 1×1 are products.
 *
 * Input lines are laid for a strip of output rows at a time. While a strip is computed, the next one's lines are laid
 * in a second place: they come last among its tasks and are small, so that no thread waits long for the others. */
#include "ops/cpu/cpu.h"

#include "base/checked.h"

/* Lines of a strip take so many floats at most, or what the fewest rows need. */
enum { STRIP_FLOATS = 4 << 20, FEWEST_LINES = 4 };

/* Floats between lines of words, whatever the instruction set: the columns around, those that the last panel reads
 * beyond, even and odd ones apart where they are; an odd number of cache lines. */
static int64_t line_stride(int64_t width) { return i64_ceil_div(width, 64) * 64 + 16; }

static int64_t words_of(int64_t channels, bool pairs) { return pairs ? i64_ceil_div(channels, 2) : channels; }

/* A norm's factors, which lie in front of a strip's lines. */
static int64_t factor_floats(int64_t channels) { return i64_ceil_div(2 * channels, 16) * 16; }

/* How the lines of a convolution of so many output rows (of all batch items) lie. */
typedef struct line_plan {
    int64_t lines; /* at once */
    int places;    /* 2: the next strip's lines are laid beside */
    size_t floats; /* of a place; SIZE_MAX / 16: too many */
} line_plan;

static line_plan plan_lines(int64_t rows, int64_t width, int stride, int64_t channels, bool pairs)
{
    const int64_t words = words_of(channels, pairs), fit = STRIP_FLOATS / line_stride(width) / i64_max(1, words),
                  all = rows * stride + FEWEST_LINES - 1;
    line_plan p = {.lines = i64_max(FEWEST_LINES, i64_min(fit, all)), .places = all <= fit ? 1 : 2};
    if (!size_mul((size_t)p.lines, (size_t)words, &p.floats) ||
        !size_mul(p.floats, (size_t)line_stride(width), &p.floats) ||
        !size_add(p.floats, (size_t)factor_floats(channels), &p.floats) || p.floats > SIZE_MAX / 16)
        p.floats = SIZE_MAX / 16;
    return p;
}

static size_t plan_bytes(const line_plan *p)
{
    return size_round_up((size_t)p->places * p->floats * sizeof(float), ARENA_ALIGN);
}

size_t cpu_conv_scratch(int64_t pixels, int64_t width, int stride, int64_t channels, bool pairs)
{
    const line_plan p = plan_lines(pixels / i64_max(1, width / stride), width, stride, channels, pairs);
    return pixels > 0 ? plan_bytes(&p) : 0;
}

/* ---- strips ---- */

/* Tiles of 2×2 outputs, where the even and odd columns of a line lie apart. */
static bool in_tiles(const conv_job *j) { return j->winograd && !j->upsample; }

/* Few channels or outputs, or lines shorter than half a panel, gain nothing. */
static bool by_winograd(const conv_job *j, const cpu_kernels *kernels)
{
    enum { FEWEST = 16 };
    return kernels->winograd && j->stride == 1 && j->channels >= FEWEST && j->g.n >= FEWEST &&
           (j->upsample ? 2 : 1) * j->out_width > kernels->tile_cols;
}

/* Rows of a strip: even where tiles are, so that they begin at the same rows however the strips are cut. */
static int64_t strip_rows(const conv_job *j, int64_t lines)
{
    const int64_t unit = in_tiles(j) ? 2 : 1, most = ((lines - 3) / j->stride + 1) / unit * unit;
    return i64_ceil_div(i64_ceil_div(j->out_height, i64_ceil_div(j->out_height, most)), unit) * unit;
}

static int64_t lines_of(const conv_job *j)
{
    return (in_tiles(j) ? i64_ceil_div(j->rows, 2) * 2 - 1 : (j->rows - 1) * j->stride) + 3;
}

/* Blocks of panels: few enough for a task's sums, and so many that all threads end at about the same time. */
static int64_t cut_strip(conv_job *j, const cpu_kernels *kernels, int64_t threads)
{
    enum { FEWEST_PANELS = 8, TASKS = 8 /* a thread */ };
    gemm_job *g = &j->g;
    const int64_t tile = in_tiles(j) ? 2 : 1,
                  most = j->winograd ? kernels->winograd_panels : PRODUCT_ROWS / kernels->tile_cols,
                  outputs = i64_ceil_div(g->n, g->block_n) * (j->upsample && !j->winograd ? 4 : 1);
    j->wide = i64_ceil_div(i64_ceil_div(j->out_width, tile), kernels->tile_cols);
    j->panels = i64_ceil_div(j->rows, tile) * j->wide;
    g->blocks_m = i64_max(i64_ceil_div(j->panels, most),
                          i64_min(i64_ceil_div(TASKS * threads, outputs), j->panels / FEWEST_PANELS));
    g->block_m = i64_ceil_div(j->panels, g->blocks_m);
    g->blocks_m = i64_ceil_div(j->panels, g->block_m);
    return g->blocks_m * outputs;
}

/* The strip of `item` from row `first` on; false if there is none. */
static bool begin_strip(conv_job *j, int64_t item, int64_t first, int64_t batch, int64_t strip)
{
    if (first >= j->out_height)
        item++, first = 0;
    if (item >= batch)
        return false;
    j->item = item;
    j->first = first;
    j->rows = i64_min(strip, j->out_height - first);
    if (j->norm)
        cpu_group_factors(j->norm, item, j->channels, j->mean, j->scale);
    return true;
}

typedef struct strip_run {
    pool_fn *compute, *lay;
    conv_job *now, *next;
    int64_t tasks; /* of the strip under way; behind them come the next one's lines */
} strip_run;

static void strip_task(void *arg, int64_t index, int worker)
{
    const strip_run *s = arg;
    if (index < s->tasks)
        s->compute(s->now, index, worker);
    else
        s->lay(s->next, index - s->tasks, worker);
}

static void lie_at(conv_job *j, float *memory)
{
    j->mean = memory;
    j->scale = memory + j->channels;
    j->lines = memory + factor_floats(j->channels);
}

static void run_strips(cpu_ops *o, conv_job *j, int64_t batch, const line_plan *p, float *memory)
{
    const cpu_kernels *k = o->kernels;
    const int64_t strip = strip_rows(j, p->lines);
    conv_job other = *j;
    strip_run s = {.compute = j->winograd ? k->winograd : k->conv, .lay = k->lay_line, .now = j, .next = &other};
    lie_at(j, memory);
    lie_at(&other, p->places > 1 ? memory + p->floats : memory);
    bool more = begin_strip(j, 0, 0, batch, strip), beside = false;
    while (more) {
        if (!beside)
            pool_run(o->workers, lines_of(s.now), s.lay, s.now);
        s.tasks = cut_strip(s.now, k, o->threads);
        beside = p->places > 1;
        more = begin_strip(s.next, s.now->item, s.now->first + s.now->rows, batch, strip);
        pool_run(o->workers, s.tasks + (more && beside ? lines_of(s.next) : 0), strip_task, &s);
        conv_job *done = s.now;
        s.now = s.next, s.next = done;
    }
}

static flux1_status run_conv(cpu_ops *o, conv_job *j, int64_t batch)
{
    const int64_t rows = batch * j->out_height;
    const line_plan p = plan_lines(rows, j->width, j->stride, j->channels, o->kernels->bf16);
    const size_t mark = arena_mark(&o->memory);
    void *memory;
    if (rows * j->out_width <= 0 || j->g.n <= 0)
        return FLUX1_OK;
    TRY(arena_alloc(&o->memory, plan_bytes(&p), &memory, o->head.err));
    j->ldx = line_stride(j->width);
    j->winograd = by_winograd(j, o->kernels);
    j->parts = j->stride == 2 || in_tiles(j) ? 2 : 1;
    j->before = j->stride == 1;
    j->g.block_n =
        i64_min(o->kernels->product_cols, i64_ceil_div(j->g.n, i64_ceil_div(j->g.n, o->kernels->product_cols)));
    run_strips(o, j, batch, &p, memory);
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
