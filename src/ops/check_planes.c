/* The contract of operations on planes: convolutions, group norms, upsampling. */
#include "ops/check_call.h"

#include <inttypes.h>

/* ---- primitives ---- */

static flux1_status halo(const call *c, operand x, const weight *w, operand in)
{
    if (!act_present(x.a))
        return FLUX1_OK;
    TRY(call_plane(c, x));
    const act_shape *s = &x.a.buffer->shape, *t = &in.a.buffer->shape;
    if (w->kernel != 3)
        return call_refuse(c, "%s beside a kernel of %d", call_operand_text(&x).s, w->kernel);
    return s->height == 1 && s->width == t->width && s->batch == t->batch && x.a.cols == in.a.cols
               ? FLUX1_OK
               : call_disagree(c, x, in, "do not go together: one row of the same width");
}

flux1_status check_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    CALL(conv);
    TRY(call_plane(c, NAMED(in)));
    TRY(call_plane(c, NAMED(out)));
    TRY(call_weight(c, "w", w, WEIGHT_CONV));
    TRY(call_weight_size(c, "w", w, out.cols, in.cols * w->kernel * w->kernel));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    if (stride != 1 && (stride != 2 || w->kernel != 3))
        return call_refuse(c, "stride %d of a kernel of %d", stride, w->kernel);
    if (t->height != s->height / stride || t->width != s->width / stride || s->batch != t->batch)
        return call_disagree(c, NAMED(in), NAMED(out), "differ in batch, height or width");
    TRY(halo(c, NAMED(top), w, NAMED(in)));
    TRY(halo(c, NAMED(bottom), w, NAMED(in)));
    if (stride == 2 && act_present(top))
        return call_refuse(c, "%s beside stride 2, which begins at the first row", call_operand_text(&NAMED(top)).s);
    TRY(call_apart(c, NAMED(in), NAMED(out)));
    TRY(call_beside(c, NAMED(residual), NAMED(out)));
    return call_apart_or_same(c, NAMED(residual), NAMED(out));
}

static flux1_status groups_of(const call *c, operand in, int64_t groups)
{
    return groups > 0 && in.a.cols % groups == 0
               ? FLUX1_OK
               : call_refuse(c, "%s in %" PRId64 " groups of channels", call_operand_text(&in).s, groups);
}

flux1_status check_group_stats(ops *o, act in, int64_t groups, act stats)
{
    CALL(group_stats);
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(stats)));
    TRY(call_role(c, NAMED(stats), ACT_STATS));
    TRY(groups_of(c, NAMED(in), groups));
    if (act_rows(stats) != groups || stats.cols != 3 || act_batch(stats) != act_batch(in))
        return call_disagree(c, NAMED(stats), NAMED(in), "do not go together: count, mean and M2 of each group");
    return FLUX1_OK;
}

static flux1_status normalised(const call *c, operand in, int64_t groups, const weight *w, operand out)
{
    TRY(call_window(c, in));
    TRY(call_window(c, out));
    TRY(call_same_shape(c, in, out));
    TRY(groups_of(c, in, groups));
    TRY(call_apart_or_same(c, in, out));
    return call_vector(c, "w", w, in.a.cols);
}

static flux1_status stats_of(const call *c, operand stats, int64_t groups, operand in)
{
    TRY(call_window(c, stats));
    TRY(call_role(c, stats, ACT_STATS));
    const int64_t rows = act_rows(stats.a);
    return rows % groups == 0 && rows > 0 && stats.a.cols == 3 && act_batch(stats.a) == act_batch(in.a)
               ? FLUX1_OK
               : call_disagree(c, stats, in, "do not go together: sets of count, mean and M2 of each group");
}

flux1_status check_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                               act out)
{
    CALL(group_apply);
    (void)eps, (void)silu;
    TRY(normalised(c, NAMED(in), groups, w, NAMED(out)));
    return stats_of(c, NAMED(stats), groups, NAMED(in));
}

static flux1_status doubled(const call *c, operand in, operand out)
{
    const act_shape *s = &in.a.buffer->shape, *t = &out.a.buffer->shape;
    return t->height == 2 * s->height && t->width == 2 * s->width && s->batch == t->batch
               ? FLUX1_OK
               : call_disagree(c, in, out, "do not go together: twice the height and width");
}

flux1_status check_upsample(ops *o, act in, act out)
{
    CALL(upsample);
    TRY(call_plane(c, NAMED(in)));
    TRY(call_plane(c, NAMED(out)));
    TRY(doubled(c, NAMED(in), NAMED(out)));
    return in.cols == out.cols ? FLUX1_OK : call_disagree(c, NAMED(in), NAMED(out), "differ in channels");
}

/* ---- composites ---- */

flux1_status check_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    CALL(upsample_conv);
    TRY(call_plane(c, NAMED(in)));
    TRY(call_plane(c, NAMED(out)));
    TRY(call_weight(c, "w", w, WEIGHT_CONV));
    TRY(call_weight_size(c, "w", w, out.cols, in.cols * 9));
    TRY(doubled(c, NAMED(in), NAMED(out)));
    TRY(halo(c, NAMED(top), w, NAMED(in)));
    TRY(halo(c, NAMED(bottom), w, NAMED(in)));
    return call_apart(c, NAMED(in), NAMED(out));
}

/* `height` rows of a plane's pixels, as wide as out. */
static flux1_status lines_of(const call *c, operand x, int64_t height, int64_t cols, operand out)
{
    TRY(call_window(c, x));
    TRY(call_role(c, x, ACT_PLANE));
    return act_rows(x.a) == height * out.a.buffer->shape.width && x.a.cols == cols && act_batch(x.a) == act_batch(out.a)
               ? FLUX1_OK
               : call_disagree(c, x, out, "do not go together: rows of the same width");
}

flux1_status check_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual,
                             act out)
{
    CALL(norm_conv);
    TRY(call_plane(c, NAMED(out)));
    TRY(lines_of(c, NAMED(in), out.buffer->shape.height, in.cols, NAMED(out)));
    if (act_present(top))
        TRY(lines_of(c, NAMED(top), 1, in.cols, NAMED(out)));
    if (act_present(bottom))
        TRY(lines_of(c, NAMED(bottom), 1, in.cols, NAMED(out)));
    TRY(groups_of(c, NAMED(in), n->groups));
    TRY(call_vector(c, "the norm's w", n->w, in.cols));
    TRY(stats_of(c, (operand){"stats", n->stats}, n->groups, NAMED(in)));
    TRY(call_weight(c, "w", w, WEIGHT_CONV));
    TRY(call_weight_size(c, "w", w, out.cols, in.cols * 9));
    TRY(call_apart(c, NAMED(in), NAMED(out)));
    TRY(call_beside(c, NAMED(residual), NAMED(out)));
    return call_apart_or_same(c, NAMED(residual), NAMED(out));
}

flux1_status check_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    CALL(group_norm);
    (void)eps, (void)silu;
    return normalised(c, NAMED(in), groups, w, NAMED(out));
}
