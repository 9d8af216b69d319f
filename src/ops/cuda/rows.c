/* Norms of heads, element-wise operations, lookups, statistics: arguments checked, kernels of our own launched. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"

#include <stdlib.h>

static bool rows_like(act a, act b) { return act_rows(a) == act_rows(b) && act_batch(a) == act_batch(b); }
static const float *floats(CUdeviceptr p) { return (const float *)(uintptr_t)p; }

static flux1_status launch_heads(ops *base, const cuda_head_args *a, int64_t batch, int windows)
{
    int64_t heads_a_block = CUDA_HEAD_WARPS * (a->dim <= 128 ? 2 : 1), heads = a->x[0].rows * a->heads;
    return cuda_launch(cuda_self(base), CUDA_KERNEL_head_norm_rope, i64_ceil_div(heads, heads_a_block), batch, windows,
                       32 * CUDA_HEAD_WARPS, a);
}

flux1_status cuda_head_norm_rope(ops *base, act x, int64_t heads, const weight *w, float eps, act rope)
{
    TRY(cuda_begin(base, "head_norm_rope", w));
    if (heads == 0 || (!w && !act_present(rope)))
        return FLUX1_OK;
    int64_t dim = x.cols / heads;
    bool turns = !act_present(rope) ||
                 (rope.cols == dim && dim % 2 == 0 && act_rows(rope) == act_rows(x) && act_batch(rope) == 1);
    TRY(cuda_fits(base, dim * heads == x.cols && (!w || w->rows == dim) && turns, "head_norm_rope"));
    cuda_head_args a = {.x = {cuda_view_of(x)},
                        .w = {w ? floats(cuda_w(w)->data) : NULL},
                        .rope = cuda_view_of(rope),
                        .heads = heads,
                        .dim = dim,
                        .eps = eps};
    return launch_heads(base, &a, act_batch(x), 1);
}

/* q and k in one launch. */
static flux1_status norm_and_turn(ops *base, const qkv_weights *w, act rope, act qkv)
{
    if (w->heads == 0 || !w->norm_q || !w->norm_k)
        return FLUX1_OK;
    int64_t width = qkv.cols / 3, dim = width / w->heads;
    TRY(cuda_begin(base, "qkv_norm_rope", w->norm_q));
    TRY(cuda_fits(base,
                  dim * w->heads == width && w->norm_q->rows == dim && w->norm_k->rows == dim && rope.cols == dim &&
                      dim % 2 == 0 && act_rows(rope) == act_rows(qkv) && act_batch(rope) == 1,
                  "qkv_norm_rope"));
    cuda_head_args a = {.x = {cuda_view_of(act_columns(qkv, 0, width)), cuda_view_of(act_columns(qkv, width, width))},
                        .w = {floats(cuda_w(w->norm_q)->data), floats(cuda_w(w->norm_k)->data)},
                        .rope = cuda_view_of(rope),
                        .heads = w->heads,
                        .dim = dim,
                        .eps = w->eps};
    return launch_heads(base, &a, act_batch(qkv), 2);
}

flux1_status cuda_qkv_norm_rope(ops *base, act in, const qkv_weights *w, act rope, act qkv)
{
    TRY(ops_linear(base, in, &w->qkv, &(epilogue){0}, qkv));
    return norm_and_turn(base, w, rope, qkv);
}

/* Both products read one input, which is made ready once. */
flux1_status cuda_single_products(ops *base, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                  act hidden)
{
    cuda_ops *o = cuda_self(base);
    size_t mark = o->arena_used;
    cuda_operand x;
    if (w->qkv.adapter_count || up->adapter_count ||
        cuda_w(w->qkv.w)->e4m3 != cuda_w(up->w)->e4m3) /* a rank without heads */
        return composite_single_products(base, in, w, rope, qkv, up, hidden);
    TRY(cuda_begin(base, "single_products", up->w));
    TRY(cuda_operand_of(o, in, cuda_w(up->w), &x));
    TRY(cuda_linear_of(o, &x, w->qkv.w, &(epilogue){0}, qkv));
    TRY(norm_and_turn(base, w, rope, qkv));
    TRY(cuda_linear_of(o, &x, up->w, &(epilogue){.f = ACTIVATION_GELU_TANH}, hidden));
    cuda_release(base, mark);
    return FLUX1_OK;
}

/* Token ids come from the host and are looked at once, before the lookup. */
static flux1_status check_ids(ops *base, act ids, int64_t entries)
{
    int64_t count = act_batch(ids) * act_rows(ids);
    tensor host;
    TRY(tensor_create(DTYPE_I32, 1, &count, &host, base->err));
    flux1_status st = cuda_download(base, ids, &host);
    for (int64_t i = 0; st == FLUX1_OK && i < count; i++) {
        int32_t id = ((const int32_t *)host.data)[i];
        if (id < 0 || id >= entries)
            st = error_set(base->err, FLUX1_ERR_ARGUMENT,
                           "token id %d is outside the embedding table of %lld entries: tokenizer and text encoder do "
                           "not belong together",
                           (int)id, (long long)entries);
    }
    tensor_free(&host);
    return st;
}

flux1_status cuda_embed(ops *base, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    TRY(cuda_begin(base, "embed", table));
    TRY(cuda_begin(base, "embed", positions));
    TRY(cuda_fits(
        base,
        table->cols == out.cols && rows_like(ids, out) &&
            (!positions || (positions->cols == out.cols && first >= 0 && first + act_rows(out) <= positions->rows)),
        "embed"));
    TRY(check_ids(base, ids, table->rows));
    cuda_embed_args a = {.ids = cuda_view_of(ids),
                         .out = cuda_view_of(out),
                         .table = floats(cuda_w(table)->data),
                         .table_bf16 = cuda_w(table)->bf16,
                         .entries = table->rows,
                         .first = first};
    if (positions) {
        a.positions = floats(cuda_w(positions)->data);
        a.positions_bf16 = cuda_w(positions)->bf16;
    }
    return cuda_launch(cuda_self(base), CUDA_KERNEL_embed, out.cols ? act_rows(out) : 0, act_batch(out), 1,
                       CUDA_ROW_THREADS, &a);
}

flux1_status cuda_activate(ops *base, activation f, act in, act mul, act out)
{
    TRY(cuda_begin(base, "activate", NULL));
    TRY(cuda_fits(base,
                  in.cols == out.cols && rows_like(in, out) &&
                      (!act_present(mul) || (mul.cols == out.cols && rows_like(mul, out))),
                  "activate"));
    cuda_element_args a = {.in = cuda_view_of(in),
                           .out = cuda_view_of(out),
                           .mul = cuda_view_of(mul),
                           .batch = act_batch(in),
                           .f = (int32_t)f};
    return cuda_launch_elements(cuda_self(base), CUDA_KERNEL_activate, &a);
}

flux1_status cuda_add(ops *base, act x, float s, act gate, act y, act out)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "add", NULL));
    TRY(cuda_fits(base,
                  x.cols == out.cols && y.cols == out.cols && rows_like(x, out) && act_batch(y) == act_batch(x) &&
                      (act_rows(y) == act_rows(x) || act_rows(y) == 1),
                  "add"));
    cuda_element_args a = {.in = cuda_view_of(x),
                           .out = cuda_view_of(out),
                           .y = cuda_view_of(y),
                           .gate = cuda_table_of(o, gate, act_batch(out)),
                           .batch = act_batch(x),
                           .s = s};
    return cuda_launch_elements(o, CUDA_KERNEL_add, &a);
}

flux1_status cuda_euler(ops *base, act x, act v, act dsigma)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "euler", NULL));
    TRY(cuda_fits(base, x.cols == v.cols && rows_like(x, v), "euler"));
    cuda_element_args a = {.in = cuda_view_of(x),
                           .out = cuda_view_of(x),
                           .y = cuda_view_of(v),
                           .gate = cuda_table_of(o, dsigma, act_batch(x)),
                           .batch = act_batch(x)};
    return cuda_launch_elements(o, CUDA_KERNEL_euler, &a);
}

/* ---- planes ---- */

flux1_status cuda_group_stats(ops *base, act in, int64_t groups, act stats)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "group_stats", NULL));
    TRY(cuda_fits(base,
                  groups > 0 && in.cols % groups == 0 && act_rows(stats) == groups && stats.cols == 3 &&
                      act_batch(in) == act_batch(stats),
                  "group_stats"));
    cuda_group_args a = {.in = cuda_view_of(in),
                         .stats = cuda_view_of(stats),
                         .partial = (float *)(uintptr_t)o->workspace,
                         .groups = groups,
                         .chunks = i64_ceil_div(i64_max(1, act_rows(in)), CUDA_GROUP_ROWS)};
    TRY(cuda_fits(base, (size_t)(act_batch(in) * a.chunks * groups * 3) * sizeof(float) <= CUDA_WORKSPACE,
                  "group_stats"));
    TRY(cuda_launch(o, CUDA_KERNEL_group_stats, a.chunks, groups, act_batch(in), CUDA_GROUP_THREADS, &a));
    return cuda_launch(o, CUDA_KERNEL_group_merge, groups, act_batch(in), 1, CUDA_GROUP_THREADS, &a);
}

flux1_status cuda_group_apply(ops *base, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                              act out)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "group_apply", w));
    TRY(cuda_fits(base,
                  groups > 0 && in.cols % groups == 0 && act_rows(stats) % groups == 0 && stats.cols == 3 &&
                      w->rows == in.cols && in.cols == out.cols && rows_like(in, out),
                  "group_apply"));
    cuda_group_args a = {.in = cuda_view_of(in),
                         .out = cuda_view_of(out),
                         .stats = cuda_view_of(stats),
                         .w = floats(cuda_w(w)->data),
                         .b = floats(cuda_w(w)->bias),
                         .groups = groups,
                         .sets = act_rows(stats) / groups,
                         .eps = eps,
                         .silu = silu};
    return cuda_launch(o, CUDA_KERNEL_group_apply, in.cols ? i64_ceil_div(act_rows(in), CUDA_GROUP_ROWS) : 0, groups,
                       act_batch(in), CUDA_GROUP_THREADS, &a);
}

flux1_status cuda_upsample(ops *base, act in, act out)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "upsample", NULL));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    TRY(cuda_fits(base,
                  t->height == 2 * s->height && t->width == 2 * s->width && in.cols == out.cols && s->batch == t->batch,
                  "upsample"));
    cuda_upsample_args a = {.in = cuda_view_of(in), .out = cuda_view_of(out), .height = s->height, .width = s->width};
    int64_t elements = t->height * t->width * out.cols,
            blocks = i64_min(i64_ceil_div(elements, 8 * CUDA_ROW_THREADS), 16 * (int64_t)o->device->multiprocessors);
    return cuda_launch(o, CUDA_KERNEL_upsample, blocks, t->batch, 1, CUDA_ROW_THREADS, &a);
}
