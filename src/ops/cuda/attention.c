/* Attention: cuDNN's fused operation, in place on windows of the qkv buffer, for bf16 without bias or mask; heads that
 * it is slow on (the VAE's, of 512) as two products with a softmax between them; kernels of our own for the rest: on
 * tensor cores for T5's bias, CLIP's mask and where there is no cuDNN; in float32 for float32, and for head sizes and
 * layouts that nothing else takes. */
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

/* Scores and their softmax at a time, which stay in an H100's cache. */
#define SCORES ((size_t)48 << 20)
#define WIDE_HEAD 256 /* above, cuDNN 9.19's engine for Hopper runs at a tenth of the rate: 6.7 ms for 16384² × 512 */
enum { SCORE_BYTES = 6, QUERIES = 512 }; /* float32 scores, bf16 shares; at most so many queries at a time */

static int64_t queries_at_a_time(int64_t queries, int64_t keys)
{
    return i64_min(i64_min(queries, QUERIES), (int64_t)(SCORES / SCORE_BYTES) / keys);
}

static cuda_view part_of(const cuda_view *v, int64_t batch, int64_t first, int64_t rows, int64_t column, int64_t cols)
{
    cuda_view p = *v;
    p.data = (char *)v->data + (size_t)(batch * v->batch_stride + first * v->ld + column) * 2;
    p.rows = rows;
    p.cols = cols;
    p.wide = cuda_is_wide(&p);
    return p;
}

/* One head's queries: scores, softmax, sums. False in *done only before anything was enqueued that counts. */
static flux1_status product_head(cuda_ops *o, const cuda_view *q, const cuda_view *k, const cuda_view *v, float scale,
                                 const cuda_view *out, CUdeviceptr at, bool *done)
{
    cuda_view scores = cuda_dense_view(at, q->rows, k->rows, false),
              shares = cuda_dense_view(at + (size_t)(q->rows * k->rows) * sizeof(float), q->rows, k->rows, true);
    cuda_softmax_args a = {.in = scores, .out = shares, .scale = scale};
    TRY(cuda_view_product(o, q, k, false, &scores, done));
    if (*done)
        TRY(cuda_launch(o, CUDA_KERNEL_softmax, q->rows, 1, 1, CUDA_NORM_THREADS, &a));
    return *done ? cuda_view_product(o, &shares, v, true, out, done) : FLUX1_OK;
}

static flux1_status through_products(cuda_ops *o, const cuda_view *q, const cuda_view *k, const cuda_view *v,
                                     const attention_args *a, const cuda_view *out, int64_t batch, bool *done)
{
    size_t mark = o->arena_used;
    int64_t dim = q->cols / a->heads, most = queries_at_a_time(q->rows, k->rows);
    CUdeviceptr at;
    *done = true;
    if (most < 1 || k->rows % 8 != 0) /* the library's rows begin at multiples of 16 bytes */
        return *done = false, FLUX1_OK;
    TRY(cuda_scratch(o, (size_t)(most * k->rows) * SCORE_BYTES, &at));
    for (int64_t b = 0; *done && b < batch; b++)
        for (int64_t h = 0; *done && h < a->heads; h++)
            for (int64_t first = 0; *done && first < q->rows; first += most) {
                int64_t rows = i64_min(most, q->rows - first);
                cuda_view queries = part_of(q, b, first, rows, h * dim, dim),
                          keys = part_of(k, b, 0, k->rows, h * dim, dim),
                          values = part_of(v, b, 0, v->rows, h * dim, dim),
                          sums = part_of(out, b, first, rows, h * dim, dim);
                TRY(product_head(o, &queries, &keys, &values, a->scale, &sums, at, done));
            }
    cuda_release(&o->head, mark);
    return FLUX1_OK;
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
    bool plain = o->bf16 && !a->causal && !act_present(a->bias) && vk.rows > 0;
    if (plain && dim > WIDE_HEAD && vq.bf16 && vk.bf16 && vv.bf16 && vout.bf16 && !vlse.data)
        TRY(through_products(o, &vq, &vk, &vv, a, &vout, batch, &done));
    if (plain && !done)
        TRY(vout.bf16 && !vlse.data ? fused(o, &vq, &vk, &vv, a, &vout, NULL, batch, &done)
                                    : fused_partial(o, &vq, &vk, &vv, a, &vout, &vlse, batch, &done));
    if (plain && o->lib->dnn && !done)
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

size_t cuda_attention_scratch(const ops_config *c, int64_t queries, int64_t keys, int64_t heads, int64_t dim)
{
    size_t rows = (size_t)queries * (size_t)heads,
           partial = size_round_up(rows * (size_t)dim * 2 + 1, CUDA_ALIGN) +
                     size_round_up(rows * sizeof(float) + 1, CUDA_ALIGN),
           scores = dim > WIDE_HEAD && keys > 0 ? (size_t)(queries_at_a_time(queries, keys) * keys) * SCORE_BYTES : 0;
    scores = size_round_up(scores + 1, CUDA_ALIGN);
    if (c->arithmetic != DTYPE_BF16)
        return 0;
    return partial > scores ? partial : scores;
}
