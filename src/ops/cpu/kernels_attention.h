/* Attention that never stores the score matrix (the online softmax of Milakov and Gimelshein 2018, blocked as in
 * FlashAttention). Included per instruction set.
 *
 * A task is one head and a block of queries, transposed once into panels of TILE_COLS. For each block of keys, k and v
 * are copied as they lie (v as pairs of keys where words are pairs) and stay in the L2 cache, and each panel passes:
 * scores [key, query] by the tile, k broadcast; softmax in base 2 down the columns, a query a lane, with a running
 * maximum and sum; then out [dim, query] = out·2^(old max − new max) + v·p, v broadcast, p from the L1 cache. The
 * softmax is some 20 vector operations beside 2·dim multiply-adds for a vector of scores. */
#ifndef FLUX1_OPS_CPU_KERNELS_ATTENTION_H
#define FLUX1_OPS_CPU_KERNELS_ATTENTION_H

#include "ops/cpu/attention_finish.h"
#include "ops/cpu/kernels_product.h"

#include <float.h>

#if defined(SIMD_AMX)
enum { VALUE_LDA = ATTENTION_KEYS / 2 + 16 }; /* words of a row of vᵀ */
_Static_assert(VALUE_LDA <= (int)ATTENTION_KEYS, "vᵀ fits where v does");
#endif

typedef struct attention_state {
    float *q;         /* panels [dim words][TILE_COLS] */
    float *k;         /* [head chunks][ATTENTION_KEYS][GEMM_LDA] */
    float *v;         /* [key words][ldv]; for AMX [dim][VALUE_LDA] */
    float *score;     /* [keys][TILE_COLS] of one panel */
    float *out;       /* panels [dim][TILE_COLS] */
    float *top, *sum; /* a query: maximum (base 2, scaled), Σ 2^(score − maximum) */
    float *fade;      /* [TILE_COLS]: what the panel's outputs so far are worth */
    int64_t words, ldv;
} attention_state;

static void attention_state_at(const attention_job *t, int worker, attention_state *s)
{
    const int64_t chunks = i64_ceil_div(t->dim, GEMM_STEPS); /* of words, or half as many: enough */
    float *p = (float *)(void *)(t->scratch + (size_t)worker * t->scratch_stride);
    s->words = i64_ceil_div(t->dim, PER_WORD);
    s->ldv = attention_ldv(t->dim);
    s->q = p, p += ATTENTION_QUERIES * t->dim;
    s->k = p, p += chunks * ATTENTION_KEYS * GEMM_LDA;
    s->v = p, p += ATTENTION_KEYS * s->ldv;
    s->score = p, p += ATTENTION_KEYS * ATTENTION_PANEL;
    s->out = p, p += ATTENTION_QUERIES * t->dim;
    s->top = p, p += ATTENTION_QUERIES;
    s->sum = p, p += ATTENTION_QUERIES;
    s->fade = p;
}

/* ---- inputs ---- */

static void lay_queries(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t first,
                        int64_t rows)
{
    view q = t->q;
    q.data += (size_t)(h * t->dim) * (q.bf16 ? 2 : 4);
    for (int64_t i = 0; i < rows; i += TILE_COLS)
        lay_panel(&q, b * t->queries + first + i, i64_min(TILE_COLS, rows - i), t->dim, s->q + i * s->words);
}

static void lay_keys(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t key, int64_t keys)
{
    view k = t->k;
    k.data += (size_t)(h * t->dim) * (k.bf16 ? 2 : 4);
    for (int64_t d = 0, chunk = 0; d < t->dim; d += BLOCK_K, chunk++)
        lay_rows(&k, b * t->keys + key, keys, d, i64_min(BLOCK_K, t->dim - d),
                 s->k + chunk * ATTENTION_KEYS * GEMM_LDA);
}

/* Rows of v: [key, dim], or pairs of keys. */
#if defined(SIMD_AMX)
/* Words of 16 pairs of keys from row `key` on, of which there are `keys`, and of `dims` elements from d on, to columns
 * of rows of the transposed v. */
static void lay_value_pairs(const view *v, const unsigned char *row, int64_t keys, int64_t d, int dims, float *to)
{
    const size_t stride = (size_t)v->ld * (v->bf16 ? 2 : 4);
    vf r[VW];
    for (int i = 0; i < VW; i++, row += 2 * stride)
        r[i] = vinterleave(2 * i < keys ? vldn(row, v->bf16, d, dims) : vzero(),
                           2 * i + 1 < keys ? vldn(row + stride, v->bf16, d, dims) : vzero());
    vtranspose(r);
    for (int i = 0; i < dims; i++)
        vstore(to + i * VALUE_LDA, r[i]);
}

/* The units take vᵀ by rows: [dim][key words]. */
static void lay_values(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t key,
                       int64_t keys)
{
    const size_t bytes = t->v.bf16 ? 2 : 4, stride = (size_t)t->v.ld * bytes;
    const unsigned char *row = (const unsigned char *)view_row(&t->v, b * t->keys + key) + (size_t)(h * t->dim) * bytes;
    for (int64_t i = 0; i < keys; i += 2 * VW, row += 2 * VW * stride) {
        for (int64_t ahead = 0; ahead < i64_min(2 * VW, keys - i); ahead++)
            touch(row + (size_t)ahead * stride, (size_t)t->dim * bytes);
        for (int64_t d = 0; d < t->dim; d += VW)
            lay_value_pairs(&t->v, row, keys - i, d, vcount(t->dim - d), s->v + d * VALUE_LDA + i / 2);
    }
}
#else
static void lay_values(const attention_job *t, const attention_state *s, int64_t b, int64_t h, int64_t key,
                       int64_t keys)
{
    const bool bf16 = t->v.bf16;
    const size_t bytes = bf16 ? 2 : 4, stride = (size_t)t->v.ld * bytes;
    const unsigned char *row = (const unsigned char *)view_row(&t->v, b * t->keys + key) + (size_t)(h * t->dim) * bytes;
    float *to = s->v;
    for (int64_t i = 0; i < keys; i += PER_WORD, row += PER_WORD * stride, to += s->ldv) {
        for (int64_t ahead = 2 * ROWS_AHEAD; ahead < 2 * ROWS_AHEAD + PER_WORD; ahead++)
            touch(row + (size_t)ahead * stride, (size_t)t->dim * bytes);
        for (int64_t d = 0; d < t->dim; d += VW) {
            const int n = vcount(t->dim - d);
#if defined(SIMD_BF16)
            vstore(to + d, vinterleave(vldn(row, bf16, d, n), i + 1 < keys ? vldn(row + stride, bf16, d, n) : vzero()));
#else
            vstore(to + d, vldn(row, bf16, d, n));
#endif
        }
    }
}
#endif

/* ---- softmax of a panel: a column a query ---- */

/* Scores scaled to base 2, with the bias and without the keys that a query does not see. `query`: the panel's first. */
static void bias_scores(const attention_job *t, const attention_state *s, int64_t h, int64_t query, int64_t key,
                        int64_t keys)
{
    float back[ATTENTION_KEYS + TILE_COLS] = {0}; /* bias of (key r, lane i) at keys − 1 − r + i */
    const vf scale = vset1((float)(t->scale * LOG2_E));
    const int64_t last = key + keys - 1 - query + t->queries - 1;
    for (int64_t i = 0; t->bias.data && i < keys + TILE_COLS - 1 && i <= last; i++)
        back[i] = ((const float *)view_row(&t->bias, h))[last - i];
    for (int64_t r = 0; r < keys; r++) {
        float *x = s->score + r * TILE_COLS;
        for (int64_t i = 0; i < TILE_COLS; i += VW)
            vstore(x + i, vfma(vload(back + keys - 1 - r + i), vset1((float)LOG2_E), vmul(vload(x + i), scale)));
        for (int64_t i = 0; t->causal && i < TILE_COLS && query + i < key + r; i++)
            x[i] = -INFINITY;
    }
}

/* The highest of a column of vectors, scaled. */
SIMD_INLINE vf column_top(const float *x, int64_t keys, vf scale)
{
    vf high[4] = {vset1(-INFINITY), vset1(-INFINITY), vset1(-INFINITY), vset1(-INFINITY)};
    int64_t r = 0;
    for (; r + 4 <= keys; r += 4) {
        SIMD_UNROLL
        for (int i = 0; i < 4; i++)
            high[i] = vmax(high[i], vmul(vload(x + (r + i) * TILE_COLS), scale));
    }
    for (; r < keys; r++)
        high[0] = vmax(high[0], vmul(vload(x + r * TILE_COLS), scale));
    return vmax(vmax(high[0], high[1]), vmax(high[2], high[3]));
}

/* A column of scores to probabilities in their place, as words: pairs take half of it. Returns their sums. */
SIMD_INLINE vf column_exponentials(float *x, int64_t keys, vf scale, vf less)
{
    vf sum = vzero();
#if defined(SIMD_BF16)
    for (int64_t r = 0; r < keys; r += 2) {
        const vf p = vexp2(vfma(vload(x + r * TILE_COLS), scale, less)),
                 q = r + 1 < keys ? vexp2(vfma(vload(x + (r + 1) * TILE_COLS), scale, less)) : vzero();
        vstore(x + r / 2 * TILE_COLS, vinterleave(p, q));
        sum = vadd(sum, vadd(p, q));
    }
#else
    for (int64_t r = 0; r < keys; r++) {
        const vf p = vexp2(vfma(vload(x + r * TILE_COLS), scale, less));
        vstore(x + r * TILE_COLS, p);
        sum = vadd(sum, p);
    }
#endif
    return sum;
}

/* `i`: the panel's first query among the task's. */
static void soften(const attention_state *s, int64_t i, int64_t keys, vf scale)
{
    for (int64_t c = 0; c < TILE_COLS; c += VW) {
        const vf before = vload(s->top + i + c), top = vmax(before, column_top(s->score + c, keys, scale)),
                 shift = vselect_lt(top, vset1(-FLT_MAX), vzero(), top), /* no score is finite: −∞ − −∞ */
            less = vsub(vzero(), shift), fade = vexp2(vadd(before, less)),
                 sum = column_exponentials(s->score + c, keys, scale, less);
        vstore(s->fade + c, fade);
        vstore(s->sum + i + c, vfma(vload(s->sum + i + c), fade, sum));
        vstore(s->top + i + c, top);
    }
}

/* ---- values ---- */

#if defined(SIMD_AMX)
/* out[dim, TILE_COLS] = out·fade + vᵀ·p. */
static void add_values(const attention_job *t, const attention_state *s, int64_t keys, float *out)
{
    _Alignas(64) float sums[2 * UNIT * TILE_COLS];
    for (int64_t d = 0; d < t->dim; d += 2 * UNIT, out += 2 * UNIT * TILE_COLS) {
        const int64_t rows = i64_min(2 * UNIT, t->dim - d);
        units_multiply(rows, i64_ceil_div(keys, 2), s->v + d * VALUE_LDA, VALUE_LDA, s->score, TILE_COLS, sums,
                       TILE_COLS, false);
        for (int64_t i = 0; i < rows * TILE_COLS; i += VW)
            vstore(out + i, vfma(vload(out + i), vload(s->fade + i % TILE_COLS), vload(sums + i)));
    }
}
#else
/* out[rows, TILE_COLS] = out·fade + vᵀ·p: v's words [step][ldv], p's [step][TILE_COLS]. */
SIMD_INLINE void value_body(const int rows, int64_t steps, const float *v, int64_t ldv, const float *p,
                            const float *fade, float *out)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    tile_sums(sum, rows, TILE_VECTORS, steps, v, 1, ldv, p);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        float *o = out + i * TILE_COLS + j * VW;
        vstore(o, vfma(vload(o), vload(fade + j * VW), sum[i][j]));
    }
}

typedef void value_fn(int64_t steps, const float *v, int64_t ldv, const float *p, const float *fade, float *out);
#define VALUE_TILE(rows)                                                                                    \
    static void value_##rows(int64_t steps, const float *v, int64_t ldv, const float *p, const float *fade, \
                             float *out)                                                                    \
    {                                                                                                       \
        value_body(rows, steps, v, ldv, p, fade, out);                                                      \
    }
EACH_TILE(VALUE_TILE)
#define VALUE_NAME(rows) value_##rows,
static value_fn *const value_tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(VALUE_NAME)};

static void add_values(const attention_job *t, const attention_state *s, int64_t keys, float *out)
{
    const int64_t count = i64_ceil_div(t->dim, TILE_ROWS), width = count ? t->dim / count : 0,
                  wider = count ? t->dim % count : 0;
    for (int64_t i = 0, d = 0; i < count; i++) {
        const int64_t height = width + (i < wider);
        value_tiles[height](i64_ceil_div(keys, PER_WORD), s->v + d, s->ldv, s->score, s->fade, out + d * TILE_COLS);
        d += height;
    }
}
#endif

/* ---- the task ---- */

/* Queries [i, i + TILE_COLS) of the task and a block of keys that lie ready. */
static void attend_panel(const attention_job *t, const attention_state *s, int64_t h, int64_t first, int64_t i,
                         int64_t key, int64_t keys)
{
    const float *q = s->q + i * s->words;
    const bool biased = t->bias.data || t->causal;
    for (int64_t d = 0, chunk = 0; d < t->dim; d += BLOCK_K, chunk++)
        multiply(keys, i64_ceil_div(i64_min(BLOCK_K, t->dim - d), PER_WORD), s->k + chunk * ATTENTION_KEYS * GEMM_LDA,
                 q + d / PER_WORD * TILE_COLS, s->score, d > 0);
    if (biased)
        bias_scores(t, s, h, first + i, key, keys);
    soften(s, i, keys, vset1(biased ? 1.0f : (float)(t->scale * LOG2_E)));
    add_values(t, s, keys, s->out + i * t->dim);
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
    lay_queries(t, &s, b, h, first, rows);
    memset(s.out, 0, (size_t)(ATTENTION_QUERIES * t->dim) * sizeof *s.out);
    for (int64_t i = 0; i < ATTENTION_QUERIES; i++)
        s.top[i] = -INFINITY, s.sum[i] = 0;
    int64_t visible = t->causal ? i64_min(t->keys, first + rows) : t->keys;
    for (int64_t key = 0; key < visible && !stopped(t->cancel); key += ATTENTION_KEYS) {
        int64_t keys = i64_min(ATTENTION_KEYS, visible - key);
        lay_keys(t, &s, b, h, key, keys);
        lay_values(t, &s, b, h, key, keys);
        for (int64_t i = 0; i < rows; i += TILE_COLS)
            if (!t->causal || first + i + TILE_COLS > key)
                attend_panel(t, &s, h, first, i, key, keys);
    }
    attention_finish(t, b, h, first, rows, s.top, s.sum, s.out);
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
