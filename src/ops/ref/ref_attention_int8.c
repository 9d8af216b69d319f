/* Attention in int8, as ops/int8.h defines it. */
#include "ops/ref/ref.h"

#include <math.h>

/* One head's keys and values as numbers. */
typedef struct attended_head {
    int64_t keys, dim, length, blocks;
    int8_t *k;                /* [keys, length] */
    int8_t *v;                /* [dim, keys] */
    float *k_scale, *v_scale; /* [keys]; [dim, blocks] */
    double *score;            /* [keys] */
} attended_head;

/* Where they lie, from `memory` on, which may be NULL; returns the bytes. */
static size_t head_at(attended_head *s, int64_t keys, int64_t dim, char *memory)
{
    *s = (attended_head){
        .keys = keys, .dim = dim, .length = int8_length(INT8_ROTATED, dim), .blocks = i64_ceil_div(keys, INT8_KEYS)};
    const size_t scores = (size_t)keys * sizeof *s->score, k_scales = (size_t)keys * sizeof *s->k_scale,
                 v_scales = (size_t)(dim * s->blocks) * sizeof *s->v_scale, k = (size_t)(keys * s->length);
    if (memory) {
        s->score = (double *)(void *)memory;
        s->k_scale = (float *)(void *)(memory + scores);
        s->v_scale = (float *)(void *)(memory + scores + k_scales);
        s->k = (int8_t *)memory + scores + k_scales + v_scales;
        s->v = s->k + k;
    }
    return size_round_up(scores + k_scales + v_scales + k + (size_t)(dim * keys), ARENA_ALIGN);
}

size_t ref_int8_attention_scratch(int64_t keys, int64_t dim)
{
    attended_head none;
    return head_at(&none, keys, dim, NULL);
}

static void take_head(attended_head *s, act k, act v, int64_t b, int64_t h)
{
    for (int64_t i = 0; i < s->keys; i++)
        int8_input_group(INT8_ROTATED, false, ref_row(k, b, i) + h * s->dim, s->dim, s->k + i * s->length,
                         s->k_scale + i);
    for (int64_t d = 0; d < s->dim; d++)
        for (int64_t n = 0; n < s->blocks; n++) {
            float column[INT8_KEYS];
            const int64_t first = n * INT8_KEYS, count = i64_min(INT8_KEYS, s->keys - first);
            for (int64_t i = 0; i < count; i++)
                column[i] = ref_row(v, b, first + i)[h * s->dim + d];
            int8_quantise(column, count, s->v + d * s->keys + first, s->v_scale + d * s->blocks + n);
        }
}

static void score_keys(const attended_head *s, const float *q, float factor)
{
    int8_t numbers[INT8_LONG];
    float scale;
    int8_input_group(INT8_ROTATED, false, q, s->dim, numbers, &scale);
    for (int64_t i = 0; i < s->keys; i++) {
        int32_t exact = 0;
        for (int64_t d = 0; d < s->length; d++)
            exact += numbers[d] * s->k[i * s->length + d];
        s->score[i] = (double)scale * s->k_scale[i] / (double)s->length * factor * exact;
    }
}

/* A NaN stays. */
static double highest(const double *x, int64_t count)
{
    double top = -INFINITY;
    for (int64_t i = 0; i < count; i++)
        top = isnan(x[i]) || isnan(top) ? NAN : fmax(top, x[i]);
    return top;
}

/* A block's keys: out += their part of Σ weight·v, returns Σ weight, both times `fade`. */
static double add_block(const attended_head *s, int64_t n, double top, double fade, double *out)
{
    const int64_t first = n * INT8_KEYS, count = i64_min(INT8_KEYS, s->keys - first);
    int32_t numbers[INT8_KEYS], sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const double w = nearbyint(INT8_WEIGHT * exp(s->score[first + i] - top) + int8_dither[i]);
        numbers[i] = isnan(w) ? 0 : (int32_t)w;
        sum += numbers[i];
    }
    for (int64_t d = 0; d < s->dim; d++) {
        int32_t exact = 0;
        for (int64_t i = 0; i < count; i++)
            exact += numbers[i] * s->v[d * s->keys + first + i];
        out[d] += fade * (double)s->v_scale[d * s->blocks + n] * exact;
    }
    return fade * sum;
}

/* One query of the head; returns the log-sum-exp. A NaN in the scores is one in `fade`, and so in all outputs. */
static float one_query(const attended_head *s, const float *q, float factor, float *out)
{
    double sums[INT8_LONG] = {0}, sum = 0;
    score_keys(s, q, factor);
    const double top = highest(s->score, s->keys);
    for (int64_t n = 0; n < s->blocks; n++) {
        const double *score = s->score + n * INT8_KEYS,
                     here = highest(score, i64_min(INT8_KEYS, s->keys - n * INT8_KEYS));
        sum += add_block(s, n, here, exp(here - top), sums);
    }
    for (int64_t d = 0; d < s->dim; d++)
        out[d] = s->keys ? (float)(sums[d] / sum) : 0;
    return s->keys ? (float)(top + log(sum / INT8_WEIGHT)) : -INFINITY;
}

flux1_status ref_int8_attention(ref_ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    const int64_t keys = act_rows(k), dim = q.cols / a->heads;
    const size_t mark = arena_mark(&o->memory);
    attended_head s;
    void *memory;
    TRY(arena_alloc(&o->memory, ref_int8_attention_scratch(keys, dim), &memory, o->head.err));
    (void)head_at(&s, keys, dim, memory);
    for (int64_t b = 0; b < act_batch(q); b++)
        for (int64_t h = 0; h < a->heads; h++) {
            take_head(&s, k, v, b, h);
            for (int64_t row = 0; row < act_rows(q); row++) {
                const float sum = one_query(&s, ref_row(q, b, row) + h * dim, a->scale, ref_row(out, b, row) + h * dim);
                if (act_present(lse))
                    ref_row(lse, b, row)[h] = sum;
            }
        }
    arena_release(&o->memory, mark);
    return FLUX1_OK;
}
