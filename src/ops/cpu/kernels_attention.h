/* Attention that never stores the score matrix (the online softmax of Milakov and Gimelshein 2018, blocked as in
 * FlashAttention). Included per instruction set.
 *
 * A task is one head and a block of queries. For each block of keys: scores [queries × keys] = q·kᵀ by the GEMM tile (q
 * laid as A, k's rows transposed into panels as if they were weights); softmax in base 2 with a running maximum and sum
 * a row; then out = out·2^(old max − new max) + p·v with the score tile as A and v's rows as panels. All blocks
 * together fit the L2 cache. The softmax is some 12 vector operations for 16 scores beside 2·dim multiply-adds for
 * each. */
#ifndef FLUX1_OPS_CPU_KERNELS_ATTENTION_H
#define FLUX1_OPS_CPU_KERNELS_ATTENTION_H

#include "ops/cpu/kernels_gemm.h"

#include <math.h>

#define LOG2_E 1.44269504088896341

typedef struct attention_state {
    float *q;         /* [head chunks][queries][LDA words] */
    float *score;     /* [queries][LDA] */
    float *kv;        /* panels of k, then of v */
    float *out;       /* [queries][width] */
    float *top, *sum; /* a query: maximum (base 2, scaled), Σ 2^(score − maximum) */
    int64_t width;    /* dim in whole tiles */
} attention_state;

static void attention_state_at(const attention_job *t, int worker, attention_state *s)
{
    int64_t chunks = i64_ceil_div(t->dim, GEMM_STEPS); /* of words, or half as many: enough */
    float *p = (float *)(void *)(t->scratch + (size_t)worker * t->scratch_stride);
    s->width = i64_ceil_div(t->dim, TILE_COLS) * TILE_COLS;
    s->q = p, p += chunks * ATTENTION_QUERIES * GEMM_LDA;
    s->score = p, p += ATTENTION_QUERIES * GEMM_LDA;
    s->kv = p, p += i64_max(s->width, ATTENTION_KEYS) * GEMM_STEPS;
    s->out = p, p += ATTENTION_QUERIES * s->width;
    s->top = p, p += ATTENTION_QUERIES;
    s->sum = p;
}

/* scores[rows, keys] = q·kᵀ, over the head in chunks of BLOCK_K. */
static void scores(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t rows, int64_t key,
                   int64_t keys)
{
    const bool bf16 = t->k.bf16;
    const unsigned char *data =
        (const unsigned char *)view_row(&t->k, b * t->keys + key) + (size_t)(h * t->dim) * (bf16 ? 2 : 4);
    matrix k = {
        .rows = keys,
        .cols = t->dim,
        .count = 1,
        .piece = {{.data = data, .type = bf16 ? DTYPE_BF16 : DTYPE_F32, .ld = t->k.ld, .rows = keys, .cols = t->dim}}};
    for (int64_t d = 0, chunk = 0; d < t->dim; d += BLOCK_K, chunk++) {
        int64_t count = i64_min(BLOCK_K, t->dim - d);
        lay_panels(&k, 0, keys, d, count, s->kv);
        multiply(rows, keys, (count + PER_WORD - 1) / PER_WORD, s->q + chunk * ATTENTION_QUERIES * GEMM_LDA, s->kv,
                 s->score, GEMM_LDA, d > 0);
    }
}

/* Rows of v as panels of columns: [key, TILE_COLS], or pairs of keys. */
static void lay_values(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t key,
                       int64_t keys)
{
    const bool bf16 = t->v.bf16;
    const size_t bytes = bf16 ? 2 : 4;
    const unsigned char *row = (const unsigned char *)view_row(&t->v, b * t->keys + key) + (size_t)(h * t->dim) * bytes;
    const size_t stride = (size_t)t->v.ld * bytes;
    for (int64_t i = 0; i < keys; i += PER_WORD, row += PER_WORD * stride) {
        for (int64_t ahead = 2 * ROWS_AHEAD; ahead < 2 * ROWS_AHEAD + PER_WORD; ahead++)
            touch(row + (size_t)ahead * stride, (size_t)t->dim * bytes);
        for (int64_t d = 0; d < s->width; d += VW) {
            float *to = s->kv + d / TILE_COLS * PANEL + i / PER_WORD * TILE_COLS + d % TILE_COLS;
            int n = (int)i64_max(0, i64_min(VW, t->dim - d));
#if defined(SIMD_BF16)
            vstore(to, vinterleave(vldn(row, bf16, d, n), i + 1 < keys ? vldn(row + stride, bf16, d, n) : vzero()));
#else
            vstore(to, vldn(row, bf16, d, n));
#endif
        }
    }
}

/* The first n lanes, and `rest` in the others. */
SIMD_INLINE vf vkeep(vf v, int n, float rest)
{
    float lanes[VW];
    vstore(lanes, v);
    for (int j = n; j < VW; j++)
        lanes[j] = rest;
    return vload(lanes);
}

/* Scores, scaled to base 2 and biased, and their maximum over the first `allowed`. Without a bias nothing is stored:
 * soften() scales again. */
SIMD_INLINE vf scaled(const float *x, const float *bias, int64_t k, vf scale, int n)
{
    vf y = vmul(vload(x + k), scale);
    return bias ? vfma(vldn(bias, false, k, n), vset1((float)LOG2_E), y) : y;
}

SIMD_INLINE float highest(float *x, const float *bias, vf scale, int64_t allowed)
{
    vf high = vset1(-INFINITY);
    int64_t k = 0;
    for (; k + VW <= allowed; k += VW) {
        vf y = scaled(x, bias, k, scale, VW);
        if (bias)
            vstore(x + k, y);
        high = vmax(high, y);
    }
    if (k < allowed) {
        vf y = scaled(x, bias, k, scale, (int)(allowed - k));
        if (bias)
            vstore(x + k, y);
        high = vmax(high, vkeep(y, (int)(allowed - k), -INFINITY));
    }
    return vtop(high);
}

/* Probabilities go where the scores were: bf16 ones take half the space and so never overtake the scores still to be
 * read. */
SIMD_INLINE void store_probability(float *x, int64_t k, vf p)
{
#if defined(SIMD_BF16)
    vstore_bf16((uint16_t *)x + k, p);
#else
    vstore(x + k, p);
#endif
}

/* One row of scores to probabilities relative to the new maximum: the first `allowed` keys; zeros from there up to
 * `keys` (whole vectors). Returns their sum. */
SIMD_INLINE float exponentials(float *x, bool biased, vf scale, float shift, int64_t allowed, int64_t keys)
{
    const vf less = vset1(-shift), by = biased ? vset1(1.0f) : scale;
    vf sum = vzero();
    int64_t k = 0;
    for (; k + VW <= allowed; k += VW) {
        vf p = vexp2(vfma(vload(x + k), by, less));
        store_probability(x, k, p);
        sum = vadd(sum, p);
    }
    for (; k < keys; k += VW) {
        vf p = k < allowed ? vkeep(vexp2(vfma(vload(x + k), by, less)), (int)(allowed - k), 0.0f) : vzero();
        store_probability(x, k, p);
        sum = vadd(sum, p);
    }
    return vsum(sum);
}

static void soften(const attention_job *t, attention_state *s, int64_t i, const float *bias, int64_t allowed,
                   int64_t keys)
{
    float *x = s->score + i * GEMM_LDA;
    const vf scale = vset1((float)(t->scale * LOG2_E));
    float before = s->top[i], top = bias ? highest(x, bias, scale, allowed) : highest(x, NULL, scale, allowed);
    top = top > before ? top : before;
    const float shift = top == -INFINITY ? 0.0f : top;
    float sum = exponentials(x, bias != NULL, scale, shift, allowed, keys);
    if (top > before) {
        float fade = before == -INFINITY ? 0.0f : exp2f(before - shift);
        s->sum[i] *= fade;
        float *o = s->out + i * s->width;
        for (int64_t d = 0; d < s->width; d += VW)
            vstore(o + d, vmul(vload(o + d), vset1(fade)));
    }
    s->top[i] = top;
    s->sum[i] += sum;
}

static void attention_finish(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t first,
                             int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        unsigned char *out = (unsigned char *)view_row(&t->out, b * t->queries + first + i) +
                             (size_t)(h * t->dim) * (t->out.bf16 ? 2 : 4);
        float inverse = t->keys ? 1.0f / s->sum[i] : 0.0f;
        for (int64_t d = 0; d < t->dim; d += VW)
            vstn(out, t->out.bf16, d, vmul(vload(s->out + i * s->width + d), vset1(inverse)), vcount(t->dim - d));
        if (t->lse.data)
            ((float *)view_row(&t->lse, b * t->queries + first + i))[h] =
                t->keys ? (float)((s->top[i] + log2((double)s->sum[i])) / LOG2_E) : -INFINITY;
    }
}

static void attention(void *arg, int64_t index, int worker)
{
    const attention_job *t = arg;
    attention_state s;
    attention_state_at(t, worker, &s);
    int64_t head = index / t->blocks, h = head % t->heads, b = head / t->heads;
    int64_t first = index % t->blocks * t->block, rows = i64_min(t->block, t->queries - first);
    if (rows <= 0)
        return;
    view q = t->q;
    q.data += (size_t)(h * t->dim) * (q.bf16 ? 2 : 4);
    for (int64_t d = 0, chunk = 0; d < t->dim; d += BLOCK_K, chunk++)
        lay_rows(&q, b * t->queries + first, rows, d, i64_min(BLOCK_K, t->dim - d),
                 s.q + chunk * ATTENTION_QUERIES * GEMM_LDA);
    memset(s.out, 0, (size_t)(rows * s.width) * sizeof *s.out);
    for (int64_t i = 0; i < rows; i++)
        s.top[i] = -INFINITY, s.sum[i] = 0;
    int64_t visible = t->causal ? i64_min(t->keys, first + rows) : t->keys;
    for (int64_t key = 0; key < visible && !stopped(t->cancel); key += ATTENTION_KEYS) {
        int64_t keys = i64_min(ATTENTION_KEYS, visible - key);
        scores(t, &s, b, h, rows, key, keys);
        for (int64_t i = 0; i < rows; i++) {
            const float *bias =
                t->bias.data ? (const float *)view_row(&t->bias, h) + key - (first + i) + t->queries - 1 : NULL;
            int64_t allowed = t->causal ? i64_max(0, i64_min(keys, first + i + 1 - key)) : keys;
            soften(t, &s, i, bias, allowed, i64_ceil_div(keys, VW) * VW);
        }
        lay_values(t, &s, b, h, key, keys);
        multiply(rows, t->dim, (keys + PER_WORD - 1) / PER_WORD, s.score, s.kv, s.out, s.width, true);
    }
    attention_finish(t, &s, b, h, first, rows);
}

/* out, lse: y and rope hold the other partial result and its log-sum-exp, `scratch` nothing. */
static void attention_merge(void *arg, int64_t index, int worker)
{
    const rows_job *j = arg;
    (void)worker;
    for (int64_t m = index * j->chunk; m < i64_min(j->rows, (index + 1) * j->chunk); m++)
        for (int64_t h = 0; h < j->heads; h++) {
            float *mine = (float *)view_row(&j->in, m) + h, other = ((const float *)view_row(&j->rope, m))[h];
            if (other == -INFINITY)
                continue;
            double top = *mine > other ? *mine : other, p = exp(*mine - top), q = exp(other - top);
            const vf keep = vset1((float)(p / (p + q))), take = vset1((float)(q / (p + q)));
            unsigned char *x = view_row(&j->out, m);
            const unsigned char *y = view_row(&j->y, m);
            for (int64_t i = h * j->dim; i < (h + 1) * j->dim; i += VW) {
                int n = vcount((h + 1) * j->dim - i);
                vstn(x, j->out.bf16, i, vfma(vldn(x, j->out.bf16, i, n), keep, vmul(vldn(y, j->y.bf16, i, n), take)),
                     n);
            }
            *mine = (float)(top + log(p + q));
        }
}

#endif
