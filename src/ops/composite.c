/* The composites' defaults: what each fusion means, in primitives. */
#include "ops/ops.h"

/* The rows that `a` names, as a tensor of its own with the same parts. */
static act_shape shape_like(act a, int64_t cols)
{
    const act_shape *s = &a.buffer->shape;
    if (a.part == PART_WHOLE && a.rows == s->rows[0] + s->rows[1])
        return shape_rows(s->batch, s->rows[0], s->rows[1], cols);
    return a.part == PART_TEXT ? shape_rows(s->batch, a.rows, 0, cols) : shape_rows(s->batch, 0, a.rows, cols);
}

/* sum += scale · in·downᵀ·upᵀ, or = where there is no sum yet. */
static flux1_status add_adapter(ops *o, act in, const adapter *a, act addend, act sum)
{
    size_t mark = ops_mark(o);
    act low;
    TRY(ops_create(o, ACT_LINEAR, shape_like(in, a->down->rows), &low));
    low = act_of(low, in.part);
    TRY(ops_product(o, in, a->down, &(epilogue){0}, low));
    TRY(ops_add(o, low, a->scale - 1, (act){0}, low, low));
    TRY(ops_product(o, low, a->up, &(epilogue){.addend = addend}, sum));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status composite_linear(ops *o, act in, const linear_weight *w, const epilogue *e, act out)
{
    if (w->adapter_count == 0)
        return ops_product(o, in, w->w, e, out);
    size_t mark = ops_mark(o);
    epilogue with = *e;
    act sum[2]; /* by turns: a product may not read what it writes */
    for (int i = 0; i < 2 && i < w->adapter_count; i++) {
        TRY(ops_create(o, ACT_PARTIAL, shape_like(out, out.cols), &sum[i]));
        sum[i] = act_of(sum[i], out.part);
    }
    for (int i = 0; i < w->adapter_count; i++) {
        TRY(add_adapter(o, in, &w->adapters[i], with.addend, sum[i % 2]));
        with.addend = sum[i % 2];
    }
    TRY(ops_product(o, in, w->w, &with, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status composite_linear_norm(ops *o, act in, const linear_weight *w, const epilogue *e, act out,
                                   const norm_behind *norm)
{
    TRY(ops_linear(o, in, w, e, out));
    if (norm->slot >= 0)
        TRY(ops_finite(o, out, norm->slot));
    return ops_layer_norm(o, out, norm->w, norm->shift, norm->scale, norm->eps, norm->out);
}

flux1_status composite_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    int64_t width = qkv.cols / 3;
    TRY(ops_linear(o, in, &w->qkv, &(epilogue){0}, qkv));
    TRY(ops_head_norm_rope(o, act_columns(qkv, 0, width), w->heads, w->norm_q, w->eps, rope));
    return ops_head_norm_rope(o, act_columns(qkv, width, width), w->heads, w->norm_k, w->eps, rope);
}

flux1_status composite_mlp(ops *o, act in, const linear_weight *up, activation f, const linear_weight *down,
                           const epilogue *e, act out)
{
    size_t mark = ops_mark(o);
    act hidden;
    TRY(ops_create(o, ACT_LINEAR, shape_like(in, up->w->rows), &hidden));
    hidden = act_of(hidden, in.part);
    TRY(ops_linear(o, in, up, &(epilogue){.f = f}, hidden));
    TRY(ops_linear(o, hidden, down, e, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status composite_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                       act hidden)
{
    TRY(ops_qkv_norm_rope(o, in, w, rope, qkv));
    return ops_linear(o, in, up, &(epilogue){.f = ACTIVATION_GELU_TANH}, hidden);
}

/* A neighbour's row, twice as wide. */
static flux1_status widen_row(ops *o, act row, act *out)
{
    const act_shape *s = row.buffer ? &row.buffer->shape : NULL;
    act both;
    *out = (act){0};
    if (!act_present(row))
        return FLUX1_OK;
    TRY(ops_create(o, ACT_PLANE, shape_plane(s->batch, 2, 2 * s->width, row.cols), &both));
    TRY(ops_create(o, ACT_PLANE, shape_plane(s->batch, 1, 2 * s->width, row.cols), out));
    TRY(ops_upsample(o, row, both));
    return ops_copy_rows(o, both, 0, *out);
}

flux1_status composite_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    const act_shape *s = &out.buffer->shape;
    const size_t mark = ops_mark(o);
    act wide, above, below;
    TRY(ops_create(o, ACT_PLANE, shape_plane(s->batch, s->height, s->width, in.cols), &wide));
    TRY(ops_upsample(o, in, wide));
    TRY(widen_row(o, top, &above));
    TRY(widen_row(o, bottom, &below));
    TRY(ops_conv(o, wide, above, below, w, 1, (act){0}, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* Rows, normalised, as a plane of their own; left out where they are. */
static flux1_status normalised(ops *o, act rows, const norm_before *n, int64_t height, int64_t width, act *out)
{
    *out = (act){0};
    if (!act_present(rows))
        return FLUX1_OK;
    TRY(ops_create(o, ACT_PLANE, shape_plane(act_batch(rows), height, width, rows.cols), out));
    return ops_group_apply(o, rows, n->stats, n->groups, n->w, n->eps, n->silu, *out);
}

flux1_status composite_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w,
                                 act residual, act out)
{
    const act_shape *s = &out.buffer->shape;
    const size_t mark = ops_mark(o);
    act middle, above, below;
    TRY(normalised(o, in, n, s->height, s->width, &middle));
    TRY(normalised(o, top, n, 1, s->width, &above));
    TRY(normalised(o, bottom, n, 1, s->width, &below));
    TRY(ops_conv(o, middle, above, below, w, 1, residual, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status composite_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    size_t mark = ops_mark(o);
    act stats;
    TRY(ops_create(o, ACT_STATS, shape_rows(act_batch(in), 0, groups, 3), &stats));
    TRY(ops_group_stats(o, in, groups, stats));
    TRY(ops_group_apply(o, in, stats, groups, w, eps, silu, out));
    ops_release(o, mark);
    return FLUX1_OK;
}
