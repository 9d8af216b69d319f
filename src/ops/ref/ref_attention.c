/* The reference backend: attention, its partial form, and the merge of two partial results by log-sum-exp. */
#include "ops/ref/ref.h"

#include <math.h>

/* Scores of one query into score[0..keys); returns their maximum, −inf for no allowed key. */
static double scores(act q, act k, const attention_args *a, int64_t b, int64_t h, int64_t row, int64_t dim,
                     double *score)
{
    int64_t keys = act_rows(k);
    const float *x = ref_row(q, b, row) + h * dim;
    double top = -INFINITY;
    for (int64_t j = 0; j < keys; j++) {
        const float *y = ref_row(k, b, j) + h * dim;
        double sum = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += (double)x[i] * y[i];
        sum *= a->scale;
        if (act_present(a->bias))
            sum += ref_row(a->bias, 0, h)[j - row + act_rows(q) - 1];
        score[j] = a->causal && j > row ? -INFINITY : sum;
        top = fmax(top, score[j]);
    }
    return top;
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
    for (int64_t i = 0; i < dim; i++) {
        double y = 0;
        for (int64_t j = 0; j < keys; j++)
            y += score[j] * ref_row(v, b, j)[h * dim + i];
        out[i] = keys ? (float)(y / sum) : 0;
    }
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
