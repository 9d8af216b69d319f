/* The reference backend: attention, its partial form, and the merge of two partial results by log-sum-exp. */
#include "ops/ref/ref.h"

#include <math.h>
#include <string.h>

/* Scores of one query into score[0..keys); returns their maximum, −inf for no allowed key. */
static double scores(act q, act k, const attention_args *a, int64_t b, int64_t h, int64_t row, int64_t dim,
                     double *score)
{
    int64_t keys = act_rows(k);
    double top = -INFINITY;
    memset(score, 0, (size_t)keys * sizeof *score);
    ref_dots(ref_row(q, b, row) + h * dim, ref_row(k, b, 0) + h * dim, k.buffer->shape.cols, 1, keys, dim, score);
    for (int64_t j = 0; j < keys; j++) {
        double sum = score[j] * a->scale;
        if (act_present(a->bias))
            sum += ref_row(a->bias, 0, h)[j - row + act_rows(q) - 1];
        score[j] = a->causal && j > row ? -INFINITY : sum;
        top = fmax(top, score[j]);
    }
    return top;
}

/* out[i] = Σ score[j]·v[j][i] / sum, j = 0, 1, …, of the first four of `count` columns at once, since no sum waits for
 * another, or of one. Returns how many. */
static int64_t weighted(const double *score, double sum, const float *v, int64_t stride, int64_t keys, int64_t count,
                        float *out)
{
    double a = 0, b = 0, c = 0, d = 0;
    if (count < 4) {
        for (int64_t j = 0; j < keys; j++)
            a += score[j] * v[j * stride];
        out[0] = keys ? (float)(a / sum) : 0;
        return 1;
    }
    for (int64_t j = 0; j < keys; j++, v += stride) {
        a += score[j] * v[0];
        b += score[j] * v[1];
        c += score[j] * v[2];
        d += score[j] * v[3];
    }
    const double all[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        out[i] = keys ? (float)(all[i] / sum) : 0;
    return 4;
}

/* softmax(scores)·v of one query and head into out[0..dim); returns the log-sum-exp. */
static float one_query(act q, act k, act v, const attention_args *a, int64_t b, int64_t h, int64_t row, int64_t dim,
                       double *score, float *out)
{
    int64_t keys = act_rows(k);
    double top = scores(q, k, a, b, h, row, dim, score), sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        score[j] = exp(score[j] - top);
        sum += score[j];
    }
    for (int64_t i = 0; i < dim;)
        i += weighted(score, sum, ref_row(v, b, 0) + h * dim + i, v.buffer->shape.cols, keys, dim - i, out + i);
    return keys ? (float)(top + log(sum)) : -INFINITY;
}

static flux1_status attend(ops *base, act q, act k, act v, const attention_args *a, act out, act lse)
{
    ref_ops *o = (ref_ops *)base;
    TRY(ops_begin(base, "attention", NULL));
    if (a->heads == 0)
        return FLUX1_OK;
    int64_t dim = q.cols / a->heads;
    if (a->int8 && int8_attends(base->attends, dim))
        return ref_int8_attention(o, q, k, v, a, out, lse);
    size_t mark = arena_mark(&o->memory);
    void *score;
    TRY(arena_alloc(&o->memory, (size_t)act_rows(k) * sizeof(double), &score, base->err));
    for (int64_t b = 0; b < act_batch(q); b++)
        for (int64_t row = 0; row < act_rows(q); row++)
            for (int64_t h = 0; h < a->heads; h++) {
                float sum = one_query(q, k, v, a, b, h, row, dim, score, ref_row(out, b, row) + h * dim);
                if (act_present(lse))
                    ref_row(lse, b, row)[h] = sum;
            }
    arena_release(&o->memory, mark);
    return FLUX1_OK;
}

flux1_status ref_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    return attend(o, q, k, v, a, out, (act){0});
}

flux1_status ref_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    return attend(o, q, k, v, a, out, lse);
}

flux1_status ref_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    TRY(ops_begin(o, "attention_merge", NULL));
    if (heads == 0)
        return FLUX1_OK;
    int64_t dim = out.cols / heads;
    for (int64_t b = 0; b < act_batch(out); b++)
        for (int64_t r = 0; r < act_rows(out); r++)
            for (int64_t h = 0; h < heads; h++) {
                float *s = ref_row(lse, b, r) + h, t = ref_row(other_lse, b, r)[h];
                if (t == -INFINITY)
                    continue;
                double top = fmax(*s, t), p = exp(*s - top), q = exp(t - top);
                float *x = ref_row(out, b, r) + h * dim;
                const float *y = ref_row(other, b, r) + h * dim;
                for (int64_t i = 0; i < dim; i++)
                    x[i] = (float)((p * x[i] + q * y[i]) / (p + q));
                *s = (float)(top + log(p + q));
            }
    return FLUX1_OK;
}
