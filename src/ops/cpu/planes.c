/* Image planes: group statistics and normalisation, upsampling (kernels_rows.h). Convolution is a product: linear.c. */
#include "ops/cpu/cpu.h"

#include "base/checked.h"

#include <math.h>

static flux1_status narrow_enough(const ops *o, act in, int64_t groups)
{
    if (groups > STATS_PARTIALS || 2 * in.cols > GEMM_SCRATCH)
        return error_set(o->err, FLUX1_ERR_LIMIT,
                         "a plane of %lld channels in %lld groups is more than the CPU backend normalises",
                         (long long)in.cols, (long long)groups);
    return FLUX1_OK;
}

flux1_status cpu_group_stats(ops *base, act in, int64_t groups, act stats)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "group_stats", NULL));
    TRY(narrow_enough(base, in, groups));
    int64_t rows = act_rows(in),
            chunks =
                i64_max(1, i64_min(i64_min(STATS_CHUNKS, STATS_PARTIALS / groups), i64_ceil_div(rows, 4 * STATS_ROWS)));
    rows_job j = {.in = cpu_view(in),
                  .rows = rows,
                  .cols = in.cols,
                  .heads = groups,
                  .partial = o->partials,
                  .scratch = o->scratch};
    view to = cpu_view(stats);
    j.chunk = i64_ceil_div(i64_ceil_div(rows, chunks), STATS_ROWS) * STATS_ROWS;
    for (int64_t b = 0; b < act_batch(in); b++) {
        j.first = b * rows;
        pool_run(o->workers, chunks, o->kernels->group_stats, &j);
        for (int64_t g = 0; g < groups; g++) {
            moments all = {0};
            for (int64_t c = 0; c < chunks; c++) {
                const moments *p = &o->partials[c * groups + g];
                moments_merge(&all, p->count, p->mean, p->m2);
            }
            float *s = view_row(&to, b * groups + g);
            s[0] = (float)((double)rows * (double)(in.cols / groups)), s[1] = (float)all.mean, s[2] = (float)all.m2;
        }
    }
    return FLUX1_OK;
}

void cpu_group_factors(const norm_before *n, int64_t b, int64_t cols, float *mean, float *scale)
{
    const view from = cpu_view(n->stats);
    const int64_t width = cols / n->groups, sets = act_rows(n->stats) / n->groups;
    for (int64_t g = 0; g < n->groups; g++) {
        moments all = {0};
        for (int64_t set = 0; set < sets; set++) {
            const float *s = view_row(&from, b * act_rows(n->stats) + set * n->groups + g);
            moments_merge(&all, s[0], s[1], s[2]);
        }
        const double inverse = 1 / sqrt((all.count > 0 ? all.m2 / all.count : 0) + n->eps);
        for (int64_t i = g * width; i < (g + 1) * width; i++)
            mean[i] = (float)all.mean, scale[i] = (float)(inverse * cpu_w(n->w)->vector[i]);
    }
}

flux1_status cpu_group_apply(ops *base, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                             act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "group_apply", w));
    TRY(narrow_enough(base, in, groups));
    const norm_before norm = {.stats = stats, .groups = groups, .w = w, .eps = eps};
    float *mean = o->scratch, *scale = mean + in.cols; /* the tasks read them and write only the output */
    rows_job j = {.in = cpu_view(in),
                  .out = cpu_view(out),
                  .rows = act_rows(in),
                  .cols = in.cols,
                  .shift = {.row = mean},
                  .scale = {.row = scale},
                  .b = cpu_w(w)->bias,
                  .silu = silu};
    for (int64_t b = 0; b < act_batch(in); b++) {
        cpu_group_factors(&norm, b, in.cols, mean, scale);
        j.first = b * act_rows(in);
        cpu_rows(o, o->kernels->group_apply, &j);
    }
    return FLUX1_OK;
}

flux1_status cpu_upsample(ops *base, act in, act out)
{
    cpu_ops *o = cpu_self(base);
    TRY(ops_begin(base, "upsample", NULL));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    rows_job j = {.in = cpu_view(in), .out = cpu_view(out), .cols = out.cols, .height = s->height, .width = s->width};
    if (j.cols > 0 && j.width > 0)
        pool_run(o->workers, s->batch * t->height, o->kernels->upsample, &j);
    return FLUX1_OK;
}
