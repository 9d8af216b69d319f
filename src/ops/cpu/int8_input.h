/* The input of a product in int8 (kernels_int8.h): rows are quantised, group by group, and become lanes of panels. */
#ifndef FLUX1_OPS_CPU_INT8_INPUT_H
#define FLUX1_OPS_CPU_INT8_INPUT_H

#include "ops/cpu/int8.h"
#include "ops/cpu/simd.h"

#include <math.h>

enum { TOKENS = TILE_VECTORS * VW }; /* rows of a panel */

/* ---- numbers ---- */

static void quantise_group(const float *values, int count, int8_t *numbers, float *scale)
{
    vf v[INT8_GROUP / VW], most = vzero();
    bool finite = true;
    SIMD_UNROLL
    for (int i = 0; i < INT8_GROUP / VW; i++) {
        const int here = count - i * VW;
        v[i] = here >= VW ? vload(values + i * VW) : here > 0 ? vloadn(values + i * VW, here) : vzero();
        finite = finite && vfinite(v[i]);
        most = vmax(most, vmax(v[i], vsub(vzero(), v[i])));
    }
    const float top = vtop(most), inverse = finite && top >= INT8_LEAST ? (float)INT8_MOST / top : 0;
    *scale = !finite ? NAN : inverse > 0 ? top / (float)INT8_MOST : 0;
    SIMD_UNROLL
    for (int i = 0; i < INT8_GROUP / VW; i++)
        v_bytes(numbers + i * VW, inverse > 0 ? vround(vmul(v[i], vset1(inverse))) : vzero());
}

static void quantise_fine(const float *values, int64_t count, int8_t *numbers, float *scales)
{
    for (int64_t k = 0; k < count; k += INT8_GROUP)
        quantise_group(values + k, (int)i64_min(INT8_GROUP, count - k), numbers + k, scales++);
}

SIMD_INLINE void butterfly(vf *a, vf *b)
{
    const vf sum = vadd(*a, *b);
    *b = vsub(*a, *b);
    *a = sum;
}

/* int8_rotate of values that have their signs, lanes within vectors first. */
SIMD_INLINE void rotate_vectors(vf *v, const int vectors)
{
    SIMD_UNROLL
    for (int i = 0; i < vectors; i++)
        v[i] = vhadamard(v[i]);
    SIMD_UNROLL
    for (int apart = 1; apart < vectors; apart *= 2)
        SIMD_UNROLL
    for (int i = 0; i < vectors; i++)
        if (!(i & apart))
            butterfly(v + i, v + i + apart);
}

#if !INT8_QUADS
SIMD_INLINE vf vw_quads_of(vf v) { return v; } /* not asked for */
#endif

/* A rotated group of `count` values, `length` numbers. */
SIMD_INLINE void quantise_long(const bool quads, const float *values, int count, const int length, int8_t *numbers,
                               float *scale)
{
    vf v[INT8_LONG / VW], most = vzero(), bad = vzero();
    const int vectors = length / VW;
    for (int i = 0; i < vectors; i++) {
        const int here = count - i * VW;
        v[i] = here >= VW ? vload(values + i * VW) : here > 0 ? vloadn(values + i * VW, here) : vzero();
        v[i] = vmul(v[i], vload(int8_signs + i * VW));
    }
    rotate_vectors(v, vectors);
    for (int i = 0; i < vectors; i++) {
        bad = vadd(bad, vsub(v[i], v[i])); /* NaN, of what is not finite */
        most = vmax(most, vmax(v[i], vsub(vzero(), v[i])));
        if (quads)
            most = vmax(most, vw_quads_of(v[i]));
    }
    const float top = vtop(most);
    const bool finite = vfinite(bad) && isfinite(top);
    const float inverse = finite && top >= INT8_LEAST ? (float)INT8_MOST / top : 0;
    *scale = !finite ? NAN : inverse > 0 ? top / (float)INT8_MOST : 0;
    for (int i = 0; i < vectors; i++)
        v_bytes(numbers + i * VW, inverse > 0 ? vround(vmul(v[i], vset1(inverse))) : vzero());
}

SIMD_INLINE void quantise_rotated_as(const bool quads, const float *values, int64_t count, int8_t *numbers,
                                     float *scales)
{
    int64_t k = 0;
    for (; k + INT8_LONG <= count; k += INT8_LONG)
        quantise_long(quads, values + k, INT8_LONG, INT8_LONG, numbers + k, scales++);
    if (k < count)
        quantise_long(quads, values + k, (int)(count - k), (int)int8_length(INT8_ROTATED, count - k), numbers + k,
                      scales);
}

static void quantise_rotated(const float *values, int64_t count, int8_t *numbers, float *scales)
{
    quantise_rotated_as(false, values, count, numbers, scales);
}

/* ---- panels ---- */

SIMD_INLINE void quantise_as(const int8_kind kind, const float *values, int64_t count, int8_t *numbers, float *scales)
{
    if (kind == INT8_ROTATED)
        quantise_rotated_as(INT8_QUADS, values, count, numbers, scales);
    else
        quantise_fine(values, count, numbers, scales);
}

/* Numbers of VW rows, LAY_LINE apart, become words of VW lanes. */
enum { LAY_LINE = INT8_BLOCK_K + 64 /* rows do not share cache sets */ };
static void turn_to_words(const int8_t *numbers, int64_t count, int32_t *panel)
{
    for (int64_t i = 0; i < count; i += 4 * VW) {
        vf r[VW]; /* words: only moved */
        for (int t = 0; t < VW; t++)
            r[t] = vload(numbers + t * LAY_LINE + i);
        vtranspose(r);
        for (int64_t w = 0; w < i64_min(VW, (count - i) / 4); w++)
            vstore(panel + (i / 4 + w) * TOKENS, r[w]);
    }
}

#if INT8_OFFSET || INT8_QUADS
/* −128 times the sums of a panel's numbers, group by group: what sums begin with where the weights have 128 added. */
static void sum_panel(const int32_t *words, int64_t count, int64_t group, int32_t *start)
{
    for (int64_t g = 0; g < count; g += group, start += TOKENS)
        for (int v = 0; v < TOKENS; v += VW) {
            const int64_t end = i64_min(count, g + group);
            const vw offset = vw_word((int32_t)0x80808080u);
            vw sum = vw_word(0);
#if INT8_QUADS
            for (int64_t k = g; k < end; k += 2)
                sum = vw_quads(sum, offset, vw_load(words + k * TOKENS + v), offset,
                               vw_load(words + (k + 1) * TOKENS + v));
#else
            for (int64_t k = g; k < end; k++)
                sum = vw_dot(sum, offset, vw_load(words + k * TOKENS + v));
#endif
            vw_store(start + v, vw_sub(vw_word(0), sum));
        }
}
#endif

/* Columns [k, k + count) of a row, on their way into the cache. */
SIMD_INLINE void touch_row(const view *x, int64_t m, int64_t k, int64_t count)
{
    enum { LINE = 64 };
    const int64_t bytes = x->bf16 ? 2 : 4;
    const char *at = (const char *)view_row(x, m) + k * bytes;
    for (int64_t i = 0; i < count * bytes; i += LINE)
        __builtin_prefetch(at + i, 0, 2);
}

/* Columns [k, k + count) of the VW rows from m on. Rows behind the last are zeros: their sums are not used, but nothing
 * undefined is computed with. panel, scales: the first row's lane of the k block. */
SIMD_INLINE void lay_rows(const int8_kind kind, const int8_job *j, int64_t m, int64_t k, int64_t count, int32_t *panel,
                          float *scales)
{
    float values[INT8_BLOCK_K], scale[INT8_BLOCK_GROUPS];
    int8_t numbers[VW * LAY_LINE];
    const int64_t groups = int8_groups(kind, count), all = int8_numbers(kind, count);
    for (int64_t t = 0; t < VW; t++) {
        if (m + t < j->g->m) {
            const void *x = view_row(&j->g->in, m + t);
            if (m + t + 1 < j->g->m)
                touch_row(&j->g->in, m + t + 1, k, count);
            for (int64_t i = 0; i < count; i += VW)
                vstore(values + i, vldn(x, j->g->in.bf16, k + i, vcount(count - i)));
            quantise_as(kind, values, count, numbers + t * LAY_LINE, scale);
        } else {
            memset(numbers + t * LAY_LINE, 0, (size_t)all);
            memset(scale, 0, sizeof scale);
        }
        for (int64_t i = 0; i < groups; i++)
            scales[i * TOKENS + t] = scale[i];
    }
    turn_to_words(numbers, all, panel);
}

SIMD_INLINE void lay_panel(const int8_kind kind, const int8_job *j, int64_t index)
{
    int32_t *panel = j->panels + index * TOKENS * (j->numbers / 4);
    float *scales = j->scales + index * TOKENS * j->groups;
    for (int64_t k = 0; k < j->g->k; k += INT8_BLOCK_K) {
        const int64_t count = i64_min(INT8_BLOCK_K, j->g->k - k), group = k / int8_group(kind) * TOKENS;
        int32_t *words = panel + k / 4 * TOKENS;
        for (int64_t t = 0; t < TOKENS; t += VW)
            lay_rows(kind, j, index * TOKENS + t, k, count, words + t, scales + group + t);
#if INT8_OFFSET || INT8_QUADS
        if (INT8_OFFSET || kind == INT8_ROTATED)
            sum_panel(words, int8_numbers(kind, count) / 4, int8_group(kind) / 4,
                      j->starts + index * TOKENS * j->groups + group);
#endif
    }
}

static void int8_lay_fine(void *arg, int64_t index, int worker)
{
    (void)worker;
    lay_panel(INT8_FINE, arg, index);
}

static void int8_lay_rotated(void *arg, int64_t index, int worker)
{
    (void)worker;
    lay_panel(INT8_ROTATED, arg, index);
}

#endif
