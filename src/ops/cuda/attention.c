/* Attention: cuDNN's fused operation, in place on windows of the qkv buffer, for bf16 without bias or mask; kernels of
 * our own for the rest: on tensor cores for T5's bias, CLIP's mask and where there is no cuDNN; in float32 for float32,
 * and for head sizes and layouts that nothing else takes. */
#include "ops/cuda/graphs.h"
#include "ops/cuda/notes.h"

#include "base/checked.h"

/* The fused operation on views, if cuDNN takes it; *done tells. stats: dense [batch][heads][queries], or NULL. */
static flux1_status fused(cuda_ops *o, const cuda_view *q, const cuda_view *k, const cuda_view *v,
                          const attention_args *a, const cuda_view *out, float *stats, int64_t batch, bool *done)
{
    const cuda_view *views[] = {q, k, v, out};
    dnn_attention_shape s = {.batch = batch,
                             .heads = a->heads,
                             .dim = q->cols / a->heads,
                             .queries = q->rows,
                             .keys = k->rows,
                             .stats = stats != NULL};
    *done = false;
    for (int i = 0; i < 4; i++) {
        if (!views[i]->bf16 || !views[i]->wide || views[i]->rows == 0) /* as the descriptors promise */
            return FLUX1_OK;
        s.ld[i] = views[i]->ld;
        s.batch_stride[i] = views[i]->batch_stride;
    }
    float scale = a->scale;
    const int64_t numbers[] = {DNN_Q, DNN_K, DNN_V, DNN_OUT, DNN_SCALE, DNN_STATS};
    void *pointers[] = {q->data, k->data, v->data, out->data, &scale, stats};
    return cuda_graph_attention(o, &s, stats ? 6 : 5, numbers, pointers, done);
}

static bool fits_tensor_cores(const cuda_view *v) { return v->bf16 == 1 && v->wide && v->rows < 1 << 30; }

static flux1_status own(cuda_ops *o, const cuda_view *q, const cuda_view *k, const cuda_view *v,
                        const attention_args *a, const cuda_view *out, const cuda_view *lse, int64_t batch)
{
    cuda_view bias = cuda_view_of(a->bias);
    cuda_attention_args t = {.q = *q,
                             .k = *k,
                             .v = *v,
                             .out = *out,
                             .lse = *lse,
                             .bias = bias.data,
                             .bias_ld = bias.ld,
                             .dim = q->cols / a->heads,
                             .heads = a->heads,
                             .scale = a->scale,
                             .causal = a->causal};
    if ((t.dim == 64 || t.dim == 128) && k->rows > 0 && fits_tensor_cores(q) && fits_tensor_cores(k) &&
        fits_tensor_cores(v) && out->wide)
        return cuda_launch(o, t.dim == 64 ? CUDA_KERNEL_attention_64 : CUDA_KERNEL_attention_128,
                           i64_ceil_div(q->rows, CUDA_TENSOR_QUERIES), a->heads, batch, 2 * CUDA_TENSOR_QUERIES, &t);
    return cuda_launch(o, CUDA_KERNEL_attention, i64_ceil_div(q->rows, CUDA_ATTENTION_QUERIES), a->heads, batch,
                       CUDA_ATTENTION_THREADS, &t);
}

/* [batch][heads][queries] into rows of heads: a head is the copy's batch, whose columns lie beside each other. */
static flux1_status spread_stats(cuda_ops *o, float *stats, int64_t heads, const cuda_view *lse, int64_t batch)
{
    for (int64_t b = 0; b < batch; b++) {
        cuda_element_args spread = {.in = {.data = stats + b * heads * lse->rows,
                                           .ld = 1,
                                           .batch_stride = lse->rows,
                                           .rows = lse->rows,
                                           .cols = 1},
                                    .out = {.data = (float *)lse->data + b * lse->batch_stride,
                                            .ld = lse->ld,
                                            .batch_stride = 1,
                                            .rows = lse->rows,
                                            .cols = 1},
                                    .batch = heads};
        TRY(cuda_launch_elements(o, CUDA_KERNEL_copy, &spread));
    }
    return FLUX1_OK;
}

/* A float32 result, and its log-sum-exp if there is a place for it, through scratch in the form that the fused
 * operation gives them. */
static flux1_status fused_partial(cuda_ops *o, const cuda_view *q, const cuda_view *k, const cuda_view *v,
                                  const attention_args *a, const cuda_view *out, const cuda_view *lse, int64_t batch,
                                  bool *done)
{
    CUdeviceptr p, s = 0;
    size_t mark = o->arena_used;
    TRY(cuda_scratch(o, (size_t)(batch * out->rows * out->cols) * 2, &p));
    if (lse->data)
        TRY(cuda_scratch(o, (size_t)(batch * out->rows * a->heads) * sizeof(float), &s));
    cuda_element_args widen = {.in = cuda_dense_view(p, out->rows, out->cols, true), .out = *out, .batch = batch};
    TRY(fused(o, q, k, v, a, &widen.in, (float *)(uintptr_t)s, batch, done));
    if (*done)
        TRY(cuda_launch_elements(o, CUDA_KERNEL_copy, &widen));
    if (*done && lse->data)
        TRY(spread_stats(o, (float *)(uintptr_t)s, a->heads, lse, batch));
    cuda_release(&o->head, mark);
    return FLUX1_OK;
}

static void note_own(const cuda_ops *o, const cuda_view *q, const cuda_view *k, int64_t heads, int64_t batch)
{
    double work = 2.0 * (double)batch * (double)q->rows * (double)k->rows * (double)q->cols;
    cuda_note_own(o->device, CUDA_NOTE_OWN_ATTENTION, work,
                  "cuDNN does not compute an attention of %lld queries on %lld keys, %lld heads of %lld",
                  (long long)q->rows, (long long)k->rows, (long long)heads, (long long)(q->cols / heads));
}

static flux1_status attend(ops *base, act q, act k, act v, const attention_args *a, act out, act lse)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "attention", NULL));
    if (a->heads == 0)
        return FLUX1_OK;
    int64_t dim = q.cols / a->heads, batch = act_batch(q);
    bool square = !act_present(a->bias) ||
                  (act_rows(q) == act_rows(k) && a->bias.cols == 2 * act_rows(q) - 1 && act_rows(a->bias) >= a->heads),
         done = false;
    TRY(cuda_fits(base,
                  dim * a->heads == q.cols && k.cols == q.cols && v.cols == q.cols && out.cols == q.cols &&
                      act_rows(k) == act_rows(v) && act_rows(q) == act_rows(out) && act_batch(k) == batch &&
                      act_batch(v) == batch && act_batch(out) == batch && square &&
                      (!act_present(lse) || (lse.cols >= a->heads && act_rows(lse) == act_rows(q))),
                  "attention"));
    cuda_view vq = cuda_view_of(q), vk = cuda_view_of(k), vv = cuda_view_of(v), vout = cuda_view_of(out),
              vlse = cuda_view_of(lse);
    if (vq.rows == 0 || q.cols == 0)
        return FLUX1_OK;
    bool wanted = o->bf16 && !a->causal && !act_present(a->bias) && vk.rows > 0;
    if (wanted)
        TRY(vout.bf16 && !vlse.data ? fused(o, &vq, &vk, &vv, a, &vout, NULL, batch, &done)
                                    : fused_partial(o, &vq, &vk, &vv, a, &vout, &vlse, batch, &done));
    if (wanted && o->lib->dnn && !done)
        note_own(o, &vq, &vk, a->heads, batch);
    return done ? FLUX1_OK : own(o, &vq, &vk, &vv, a, &vout, &vlse, batch);
}

flux1_status cuda_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    return attend(o, q, k, v, a, out, (act){0});
}

flux1_status cuda_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    return attend(o, q, k, v, a, out, lse);
}

flux1_status cuda_attention_merge(ops *base, int64_t heads, act out, act lse, act other, act other_lse)
{
    TRY(cuda_begin(base, "attention_merge", NULL));
    if (heads == 0)
        return FLUX1_OK;
    TRY(cuda_fits(base,
                  out.cols % heads == 0 && other.cols == out.cols && act_rows(out) == act_rows(other) &&
                      act_rows(lse) == act_rows(out) && act_rows(other_lse) == act_rows(out) && lse.cols >= heads &&
                      other_lse.cols >= heads,
                  "attention_merge"));
    cuda_merge_args m = {.out = cuda_view_of(out),
                         .lse = cuda_view_of(lse),
                         .other = cuda_view_of(other),
                         .other_lse = cuda_view_of(other_lse),
                         .heads = heads,
                         .dim = out.cols / heads};
    return cuda_launch(cuda_self(base), CUDA_KERNEL_attention_merge, act_rows(out), act_batch(out), 1, CUDA_ROW_THREADS,
                       &m);
}

size_t cuda_attention_scratch(const ops_config *c, int64_t queries, int64_t heads, int64_t dim)
{
    size_t rows = (size_t)queries * (size_t)heads;
    return c->arithmetic == DTYPE_BF16 ? size_round_up(rows * (size_t)dim * 2 + 1, CUDA_ALIGN) +
                                             size_round_up(rows * sizeof(float) + 1, CUDA_ALIGN)
                                       : 0;
}
