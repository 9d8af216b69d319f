/* The composites' defaults: what each fusion means, in primitives. */
#include "ops/ops.h"

flux1_status composite_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    int64_t width = qkv.cols / 3;
    TRY(o->fn->linear(o, in, w->qkv, &(epilogue){0}, qkv));
    TRY(o->fn->head_norm_rope(o, act_columns(qkv, 0, width), w->heads, w->norm_q, w->eps, rope));
    return o->fn->head_norm_rope(o, act_columns(qkv, width, width), w->heads, w->norm_k, w->eps, rope);
}

/* Rows of one part, as a tensor of its own with the same parts. */
static act_shape shape_like(act a, int64_t cols)
{
    const act_shape *s = &a.buffer->shape;
    act_shape shape = {.batch = s->batch, .cols = cols};
    if (a.part != PART_IMAGE)
        shape.rows[PART_TEXT] = s->rows[PART_TEXT];
    if (a.part != PART_TEXT)
        shape.rows[PART_IMAGE] = s->rows[PART_IMAGE];
    return shape;
}

flux1_status composite_mlp(ops *o, act in, const weight *up, activation f, const weight *down, const epilogue *e, act out)
{
    size_t mark = o->fn->mark(o);
    act hidden;
    TRY(o->fn->create(o, ACT_LINEAR, shape_like(in, up->rows), &hidden));
    TRY(o->fn->linear(o, in, up, &(epilogue){.f = f}, hidden));
    TRY(o->fn->linear(o, hidden, down, e, out));
    o->fn->release(o, mark);
    return FLUX1_OK;
}

flux1_status composite_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const weight *up, act hidden)
{
    TRY(o->fn->qkv_norm_rope(o, in, w, rope, qkv));
    return o->fn->linear(o, in, up, &(epilogue){.f = ACTIVATION_GELU_TANH}, hidden);
}

flux1_status composite_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    size_t mark = o->fn->mark(o);
    act stats;
    TRY(o->fn->create(o, ACT_STATS, shape_rows(act_batch(in), 0, groups, 3), &stats));
    TRY(o->fn->group_stats(o, in, groups, stats));
    TRY(o->fn->group_apply(o, in, stats, groups, w, eps, silu, out));
    o->fn->release(o, mark);
    return FLUX1_OK;
}
