/* Attention in int8 (ops/int8.h), once per instruction set, behind kernels_int8.h, whose words and tiles it has. Beside
 * them vw_store, vw_round (floats to whole numbers), vw_or, vw_and, vw_left.
 *
 * As kernels_attention.h: a task is one head and a block of queries, turned, quantised and laid once as panels of
 * TOKENS. A block of INT8_KEYS keys and values is quantised into the L2 cache, then each panel passes: scores
 * [key, query] by the tile of exact sums, k broadcast; weights down the columns, which become words of neighbouring
 * keys; then out [dim, query] = out·2^(old highest − new) + v·weights, v broadcast. 2^x needs no more than the weights'
 * 8 bits. INT8_SHIFTED: weights are laid less 128, for instructions that want a sign on both sides; sums begin with 128
 * times the values' own. */
#ifndef FLUX1_OPS_CPU_INT8_ATTENTION_H
#define FLUX1_OPS_CPU_INT8_ATTENTION_H

#include "ops/cpu/attention_finish.h"

#include <assert.h>

#define LOG2_WEIGHT 7.99435343685886f /* of INT8_WEIGHT */
#define INT8_SHIFTED (!INT8_PAIRS && !INT8_OFFSET)

typedef struct head_state {
    int32_t *q;       /* panels [words][TOKENS] */
    int32_t *q_start; /* a query: what its sums begin with; INT8_OFFSET */
    float *q_scale;   /* a query: of its scores, in base 2 */
    int32_t *k;       /* [INT8_KEYS][ldk] */
    float *k_scale;
    int32_t *v; /* [INT8_KEYS / PER_WORD][ldv] */
    int32_t *v_start;
    float *v_scale;
    float *score;       /* [INT8_KEYS][TOKENS] of one panel; then its weights' words */
    float *out;         /* panels [dim][TOKENS] */
    float *top, *sum;   /* as attention_finish has them */
    float *fade, *take; /* [TOKENS]: what the panel's outputs so far are worth, and those of the block */
    float bad;          /* NaN if the scale of a key is, otherwise 0 */
    int length, words;
    int64_t ldk, ldv;
} head_state;

static void head_state_at(const attention_job *t, int worker, head_state *s)
{
    char *p = (char *)t->scratch + (size_t)worker * t->scratch_stride, *const end = p + t->scratch_stride;
    s->length = (int)int8_length(INT8_ROTATED, t->dim);
    s->words = s->length / PER_WORD;
    s->ldk = s->words + 16; /* keys do not share cache sets */
    s->ldv = attention_ldv(t->dim);
#define PLACE(to, count) ((to) = (void *)p, p += (size_t)(count)*4)
    PLACE(s->q, INT8_QUERIES * s->words);
    PLACE(s->q_start, INT8_QUERIES);
    PLACE(s->q_scale, INT8_QUERIES);
    PLACE(s->k, INT8_KEYS * s->ldk);
    PLACE(s->k_scale, INT8_KEYS);
    PLACE(s->v, INT8_KEYS / PER_WORD * s->ldv);
    PLACE(s->v_start, s->ldv);
    PLACE(s->v_scale, s->ldv);
    PLACE(s->score, INT8_KEYS * TOKENS);
    PLACE(s->out, INT8_QUERIES * t->dim);
    PLACE(s->top, INT8_QUERIES);
    PLACE(s->sum, INT8_QUERIES);
    PLACE(s->fade, TOKENS);
    PLACE(s->take, TOKENS);
#undef PLACE
    assert(p <= end);
    (void)end;
}

/* ---- inputs ---- */

/* Row m's part of head h, as numbers and their scale. */
static void quantise_head(const attention_job *t, const view *x, int64_t m, int64_t h, int8_t *numbers, float *scale)
{
    float values[INT8_LONG];
    const unsigned char *row = (const unsigned char *)view_row(x, m) + (size_t)(h * t->dim) * (x->bf16 ? 2 : 4);
    for (int64_t d = 0; d < t->dim; d += VW)
        vstore(values + d, vldn(row, x->bf16, d, vcount(t->dim - d)));
    if (t->dim == 128) /* FLUX.1's: loops of known length */
        quantise_long(false, values, 128, 128, numbers, scale);
    else
        quantise_rotated(values, t->dim, numbers, scale);
}

/* Rows behind the last are zeros. */
static void lay_head_panel(const attention_job *t, const head_state *s, int64_t m, int64_t rows, int64_t h, int32_t *to,
                           float *scales)
{
    int8_t numbers[VW * LAY_LINE];
    int32_t *words = to;
    const float factor = (float)(t->scale * LOG2_E / s->length);
#if INT8_PAIRS
    int32_t bytes[INT8_LONG / 4 * TOKENS];
    words = bytes;
#endif
    for (int64_t i = 0; i < TOKENS; i += VW) {
        memset(numbers, 0, sizeof numbers);
        for (int64_t j = i; j < i + VW; j++) {
            scales[j] = 0;
            if (j < rows)
                quantise_head(t, &t->q, m + j, h, numbers + (j - i) * LAY_LINE, scales + j);
            scales[j] *= factor;
        }
        turn_to_words(numbers, s->length, words + i);
    }
#if INT8_PAIRS
    vw_widen_panel(bytes, s->length / 4, to);
#endif
}

static void lay_head_queries(const attention_job *t, const head_state *s, int64_t m, int64_t rows, int64_t h)
{
    for (int64_t i = 0; i < rows; i += TOKENS) {
        int32_t *panel = s->q + i * s->words;
        lay_head_panel(t, s, m + i, rows - i, h, panel, s->q_scale + i);
#if INT8_OFFSET
        sum_panel(panel, s->words, s->words, s->q_start + i);
#endif
    }
}

/* The values come after the keys: their rows are fetched meanwhile. */
static void lay_head_keys(const attention_job *t, head_state *s, int64_t m, int64_t keys, int64_t h)
{
    enum { AHEAD = 12 };
    int8_t numbers[INT8_LONG];
    s->bad = 0;
    for (int64_t i = 0; i < keys; i++) {
        touch_row(&t->k, m + i64_min(i + AHEAD, keys - 1), h * t->dim, t->dim);
        touch_row(&t->v, m + i, h * t->dim, t->dim);
        quantise_head(t, &t->k, m + i, h, numbers, s->k_scale + i);
        s->bad += s->k_scale[i] - s->k_scale[i];
        lay_row_words(numbers, s->length, s->k + i * s->ldk);
    }
}

enum { COLUMNS = 4 }; /* vectors of columns at a time */

/* The largest magnitudes of columns from element d on; NaN where one is not finite. */
SIMD_INLINE void column_magnitudes(const view *v, const unsigned char *row, int64_t keys, int64_t d, int64_t dim,
                                   float *most)
{
    const size_t stride = (size_t)v->ld * (v->bf16 ? 2 : 4);
    vf high[COLUMNS], low[COLUMNS], bad[COLUMNS];
    int count[COLUMNS];
    SIMD_UNROLL
    for (int j = 0; j < COLUMNS; j++) {
        high[j] = low[j] = bad[j] = vzero();
        count[j] = vcount(i64_max(0, dim - d - j * VW));
    }
    for (int64_t i = 0; i < keys; i++, row += stride)
        SIMD_UNROLL
    for (int j = 0; j < COLUMNS; j++) {
        const vf x = vldn(row, v->bf16, d + j * VW, count[j]);
        high[j] = vmax(high[j], x);
        low[j] = vmin(low[j], x);
        bad[j] = vfma(x, vzero(), bad[j]);
    }
    SIMD_UNROLL
    for (int j = 0; j < COLUMNS; j++)
        vstore(most + d + j * VW, vadd(vmax(high[j], vsub(vzero(), low[j])), bad[j]));
}

/* 127 divided by the largest magnitude of each column, and its scale. */
static void scale_columns(const view *v, const unsigned char *row, int64_t keys, int64_t dim, float *inverse,
                          float *scale)
{
    float most[INT8_LONG + COLUMNS * VW];
    for (int64_t d = 0; d < dim; d += COLUMNS * VW)
        column_magnitudes(v, row, keys, d, dim, most);
    for (int64_t d = 0; d < dim; d++) {
        const bool finite = isfinite(most[d]);
        inverse[d] = finite && most[d] >= INT8_LEAST ? (float)INT8_MOST / most[d] : 0;
        scale[d] = !finite ? NAN : inverse[d] > 0 ? most[d] / (float)INT8_MOST : 0;
    }
}

/* Whole numbers with a sign of neighbouring keys, as words. */
SIMD_INLINE vw pack_numbers(const vw *n)
{
#if INT8_PAIRS
    return vw_or(vw_and(n[0], vw_word(0xffff)), vw_left(n[1], 16));
#else
    const vw byte = vw_word(0xff);
    return vw_or(vw_or(vw_and(n[0], byte), vw_left(vw_and(n[1], byte), 8)),
                 vw_or(vw_left(vw_and(n[2], byte), 16), vw_left(n[3], 24)));
#endif
}

static void lay_head_values(const attention_job *t, const head_state *s, int64_t m, int64_t keys, int64_t h)
{
    float inverse[INT8_LONG] = {0}, sums[INT8_LONG] = {0};
    const view *v = &t->v;
    const size_t bytes = v->bf16 ? 2 : 4, stride = (size_t)v->ld * bytes;
    const unsigned char *row = (const unsigned char *)view_row(v, m) + (size_t)(h * t->dim) * bytes;
    int32_t *to = s->v;
    scale_columns(v, row, keys, t->dim, inverse, s->v_scale);
    for (int64_t i = 0; i < keys; i += PER_WORD, row += PER_WORD * stride, to += s->ldv)
        for (int64_t d = 0; d < t->dim; d += VW) {
            vw n[PER_WORD];
            vf sum = vload(sums + d);
            SIMD_UNROLL
            for (int j = 0; j < PER_WORD; j++) {
                const vf x = i + j < keys ? vldn(row + j * stride, v->bf16, d, vcount(t->dim - d)) : vzero();
                n[j] = vw_round(vmul(x, vload(inverse + d)));
                if (INT8_SHIFTED)
                    sum = vadd(sum, vw_float(n[j]));
            }
            vstore(sums + d, sum);
            vw_store(to + d, pack_numbers(n));
        }
    for (int64_t d = 0; INT8_SHIFTED && d < t->dim; d++)
        s->v_start[d] = s->v_scale[d] >= 0 ? (int32_t)(128 * sums[d]) : 0; /* of a NaN: nothing */
}

/* ---- scores ---- */

SIMD_INLINE void score_body(const int rows, const head_state *s, int64_t key, const int32_t *q, const int32_t *start)
{
    const float *scale = s->k_scale + key;
    float *score = s->score + key * TOKENS;
    vw sum[TILE_ROWS][TILE_VECTORS];
    int8_sums(sum, rows, s->words, start, s->k + key * s->ldk, s->ldk, q);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        vstore(score + i * TOKENS + v * VW, vmul(vw_float(sum[i][v]), vset1(scale[i])));
}

typedef void score_fn(const head_state *s, int64_t key, const int32_t *q, const int32_t *start);
#define SCORE_TILE(rows)                                                                               \
    static void score_##rows(const head_state *s, int64_t key, const int32_t *q, const int32_t *start) \
    {                                                                                                  \
        score_body(rows, s, key, q, start);                                                            \
    }
EACH_TILE(SCORE_TILE)
#define SCORE_NAME(rows) score_##rows,
static score_fn *const score_tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(SCORE_NAME)};

/* ---- weights of a panel: a column a query ---- */

/* 2^x for x below 9, of a relative error of 3e-6; below 2^−24 that. Minimax on [−½, ½]. */
SIMD_INLINE vf weight_of(vf x)
{
    x = vmax(vset1(-24.0f), x);
    const vf shifted = vadd(x, vset1(POWER_SHIFT)), r = vsub(x, vsub(shifted, vset1(POWER_SHIFT)));
    vf p = vset1(9.570101434503389e-3f);
    p = vfma(p, r, vset1(5.591786028200196e-2f));
    p = vfma(p, r, vset1(2.402474483963477e-1f));
    p = vfma(p, r, vset1(6.931218147436606e-1f));
    p = vfma(p, r, vset1(9.999992614421686e-1f));
    return vpower(p, shifted);
}

/* The highest of a column of scores. */
SIMD_INLINE vf highest_score(const float *x, int64_t keys)
{
    vf high[4] = {vload(x), vload(x), vload(x), vload(x)};
    int64_t r = 0;
    for (; r + 4 <= keys; r += 4) {
        SIMD_UNROLL
        for (int i = 0; i < 4; i++)
            high[i] = vmax(high[i], vload(x + (r + i) * TOKENS));
    }
    for (; r < keys; r++)
        high[0] = vmax(high[0], vload(x + r * TOKENS));
    return vmax(vmax(high[0], high[1]), vmax(high[2], high[3]));
}

/* A column of scores to words of weights in their place. Returns the weights' sums. */
SIMD_INLINE vf column_weights(float *x, int64_t keys, vf scale, vf less)
{
    const vw ones = vw_word(INT8_PAIRS ? 0x00010001 : 0x01010101);
    const float shift = INT8_SHIFTED ? 128 : 0;
    vw sum = vw_word(0);
    int32_t *to = (int32_t *)(void *)x;
    int64_t r = 0;
    for (; r < keys; r += PER_WORD, to += TOKENS) {
        vw n[PER_WORD];
        SIMD_UNROLL
        for (int j = 0; j < PER_WORD; j++) {
            const vf w = r + j < keys ? vadd(weight_of(vfma(vload(x + (r + j) * TOKENS), scale, less)),
                                             vset1(int8_dither[r + j] - shift))
                                      : vset1(-shift);
            n[j] = vw_round(w);
        }
#if INT8_SHIFTED
        const vw words = pack_numbers(n);
#elif INT8_PAIRS
        const vw words = vw_or(n[0], vw_left(n[1], 16));
#else
        const vw words = vw_or(vw_or(n[0], vw_left(n[1], 8)), vw_or(vw_left(n[2], 16), vw_left(n[3], 24)));
#endif
        vw_store(to, words);
        sum = vw_dot(sum, words, ones);
    }
    return vadd(vw_float(sum), vset1(shift * (float)r));
}

/* `i`: the panel's first query among the task's. The reference of a column is a trifle above its highest score, so that
 * no weight is rounded beyond INT8_WEIGHT; a NaN among scores is one in it, and from then on in everything. */
static void weigh_panel(const head_state *s, int64_t i, int64_t keys)
{
    for (int64_t c = 0; c < TOKENS; c += VW) {
        const vf scale = vload(s->q_scale + i + c), high = vmul(highest_score(s->score + c, keys), scale),
                 size = vmax(high, vsub(vzero(), high)), here = vadd(vfma(size, vset1(0x1p-22f), high), vset1(s->bad)),
                 before = vload(s->top + i + c), top = vmax(before, here), fade = vexp2(vsub(before, top)),
                 take = vmul(vexp2(vsub(here, top)), vset1(1.0f / INT8_WEIGHT)),
                 sum = column_weights(s->score + c, keys, scale, vsub(vset1(LOG2_WEIGHT), here));
        vstore(s->fade + c, fade);
        vstore(s->take + c, take);
        vstore(s->sum + i + c, vfma(vload(s->sum + i + c), fade, vmul(sum, take)));
        vstore(s->top + i + c, top);
    }
}

/* ---- values ---- */

/* out[rows, TOKENS] = out·fade + vᵀ·weights·take, from element d on. */
SIMD_INLINE void weighted_body(const int rows, const head_state *s, int words, int64_t d, float *out)
{
    const float *scale = s->v_scale + d, *fade = s->fade, *take = s->take;
    vw sum[TILE_ROWS][TILE_VECTORS];
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = vw_word(INT8_SHIFTED ? s->v_start[d + i] : 0);
    int8_add(sum, rows, words, s->v + d, 1, s->ldv, (const int32_t *)(const void *)s->score, true);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++) {
        float *o = out + (d + i) * TOKENS + v * VW;
        const vf more = vmul(vset1(scale[i]), vload(take + v * VW));
        vstore(o, vfma(vw_float(sum[i][v]), more, vmul(vload(o), vload(fade + v * VW))));
    }
}

typedef void weighted_fn(const head_state *s, int words, int64_t d, float *out);
#define WEIGHTED_TILE(rows)                                                            \
    static void weighted_##rows(const head_state *s, int words, int64_t d, float *out) \
    {                                                                                  \
        weighted_body(rows, s, words, d, out);                                         \
    }
EACH_TILE(WEIGHTED_TILE)
#define WEIGHTED_NAME(rows) weighted_##rows,
static weighted_fn *const weighted_tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(WEIGHTED_NAME)};

/* ---- the task ---- */

/* Tiles differ by one row at most. */
static void attend_head_panel(const attention_job *t, const head_state *s, int64_t i, int64_t keys)
{
    const int64_t scores = i64_ceil_div(keys, TILE_ROWS), outputs = i64_ceil_div(t->dim, TILE_ROWS);
    for (int64_t n = 0, key = 0; n < scores; n++) {
        const int64_t height = keys / scores + (n < keys % scores);
        score_tiles[height](s, key, s->q + i * s->words, s->q_start + i);
        key += height;
    }
    weigh_panel(s, i, keys);
    for (int64_t n = 0, d = 0; n < outputs; n++) {
        const int64_t height = t->dim / outputs + (n < t->dim % outputs);
        weighted_tiles[height](s, (int)i64_ceil_div(keys, PER_WORD), d, s->out + i * t->dim);
        d += height;
    }
}

static void int8_attention(void *arg, int64_t index, int worker)
{
    const attention_job *t = arg;
    head_state s;
    head_state_at(t, worker, &s);
    const int64_t head = index / t->blocks, h = head % t->heads, b = head / t->heads,
                  first = index % t->blocks * t->block, rows = i64_min(t->block, t->queries - first);
    if (rows <= 0)
        return;
    lay_head_queries(t, &s, b * t->queries + first, rows, h);
    for (int64_t i = 0; i < rows; i += TOKENS) { /* whole panels */
        memset(s.out + i * t->dim, 0, (size_t)(TOKENS * t->dim) * sizeof *s.out);
        for (int64_t j = i; j < i + TOKENS; j++)
            s.top[j] = -INFINITY, s.sum[j] = 0;
    }
    for (int64_t key = 0; key < t->keys && !int8_stopped(t->cancel); key += INT8_KEYS) {
        const int64_t keys = i64_min(INT8_KEYS, t->keys - key);
        lay_head_keys(t, &s, b * t->keys + key, keys, h);
        lay_head_values(t, &s, b * t->keys + key, keys, h);
        for (int64_t i = 0; i < rows; i += TOKENS)
            attend_head_panel(t, &s, i, keys);
    }
    attention_finish(t, b, h, first, rows, s.top, s.sum, s.out);
}

#endif
