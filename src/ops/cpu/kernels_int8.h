/* Products in int8, once per instruction set: the including int8_<isa>.c defines DECODERS and, over simd.h,
 *   vw            VW words of 32 bits along k: four int8, or (INT8_PAIRS) two int16
 *   vw_word, vw_load, vw_dot(sum, w, x), vw_float, vw_keep (the sums so far are computed here: keeps gcc from spilling)
 *   v_bytes       VW floats, whole numbers, to int8
 *   INT8_MATRIX   is defined where small matrices are multiplied (tile_matrix.h) in place of those with words
 *   INT8_UNITS    is defined where AMX multiplies (int8_units_amx.h): no vw_word, vw_dot, vw_keep
 *   INT8_OFFSET   numbers of the weights are laid plus 128, for instructions that want one operand without a sign: the
 *                 sums begin with −128 times the input's own; with it vw_store, vw_sub
 *
 * Idea: the weights are the broadcast side, a word at a time; the input is laid once a product as panels of TOKENS
 * rows. A tile of TILE_ROWS × TILE_VECTORS exact sums stays in registers for one group; then it is scaled and added to
 * its float32 sums, which lie in the worker's scratch, in the L1 cache while a k block passes. So do the panel's words;
 * the weights' words, up to INT8_MOST_COLS rows of a k block, stay in L2 while all panels pass. Bounded by the
 * multiply-add of int16 (AVX2: vpmaddwd and vpaddd for 16 products, as many instructions as float32 has) or of int8
 * (VNNI). */
#ifndef FLUX1_OPS_CPU_KERNELS_INT8_H
#define FLUX1_OPS_CPU_KERNELS_INT8_H

#include "ops/cpu/int8.h"
#include "ops/cpu/lines.h"
#include "ops/cpu/simd.h"

#include <math.h>
#if defined(INT8_MATRIX)
#include "ops/cpu/tile_matrix.h"
#endif

enum {
    TOKENS = TILE_VECTORS * VW,
    PER_WORD = INT8_PAIRS ? 2 : 4,
    GROUP_WORDS = INT8_GROUP / PER_WORD,
    BLOCK_WORDS = INT8_BLOCK_K / PER_WORD,
    LDA = BLOCK_WORDS + 16 /* rows of weights do not share cache sets */
};

/* What a task has of its worker's scratch. */
typedef struct int8_scratch {
    float sums[INT8_MOST_COLS * INT8_MOST_ROWS]; /* [panel][output][token] */
    int32_t weights[INT8_MOST_COLS * LDA];
    int32_t panel[BLOCK_WORDS * TOKENS];
    float scales[INT8_MOST_COLS * INT8_BLOCK_GROUPS];
    int32_t start[INT8_BLOCK_GROUPS * TOKENS]; /* of the panel's sums; INT8_OFFSET */
    float lines[TOKENS * INT8_MOST_COLS];
    float values[INT8_BLOCK_K];
    int8_t numbers[INT8_BLOCK_K];
} int8_scratch;
_Static_assert(sizeof(int8_scratch) <= GEMM_SCRATCH * sizeof(float), "a task's scratch");

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

static void int8_quantise_groups(const float *values, int64_t count, int8_t *numbers, float *scales)
{
    for (int64_t k = 0; k < count; k += INT8_GROUP)
        quantise_group(values + k, (int)i64_min(INT8_GROUP, count - k), numbers + k, scales++);
}

/* ---- the input: rows become lanes of a panel ---- */

static void lay_token(const int8_job *j, const void *x, int64_t token, int32_t *panel, float *scales)
{
    float values[INT8_BLOCK_K], scale[INT8_BLOCK_GROUPS];
    int8_t numbers[INT8_BLOCK_K];
    for (int64_t k = 0; k < j->g->k; k += INT8_BLOCK_K) {
        const int64_t count = i64_min(INT8_BLOCK_K, j->g->k - k), groups = int8_groups(count);
        for (int64_t i = 0; i < count; i += VW)
            vstoren(values + i, vldn(x, j->g->in.bf16, k + i, vcount(count - i)), vcount(count - i));
        int8_quantise_groups(values, count, numbers, scale);
        for (int64_t i = 0; i < groups; i++)
            scales[(k / INT8_GROUP + i) * TOKENS + token] = scale[i];
        for (int64_t i = 0; i < groups * INT8_GROUP; i += 4) {
            uint32_t word;
            memcpy(&word, numbers + i, sizeof word);
            panel[(k + i) / 4 * TOKENS + token] = (int32_t)word;
        }
    }
}

/* Rows behind the last are zeros: their sums are not used, but nothing undefined is computed with. */
static void lay_nothing(const int8_job *j, int64_t token, int32_t *panel, float *scales)
{
    for (int64_t i = 0; i < j->groups; i++)
        scales[i * TOKENS + token] = 0;
    for (int64_t i = 0; i < j->groups * INT8_GROUP / 4; i++)
        panel[i * TOKENS + token] = 0;
}

static void int8_lay(void *arg, int64_t index, int worker)
{
    const int8_job *j = arg;
    int32_t *panel = j->panels + index * TOKENS * j->groups * (INT8_GROUP / 4);
    float *scales = j->scales + index * TOKENS * j->groups;
    (void)worker;
    for (int64_t token = 0; token < TOKENS; token++) {
        const int64_t m = index * TOKENS + token;
        if (m < j->g->m)
            lay_token(j, view_row(&j->g->in, m), token, panel, scales);
        else
            lay_nothing(j, token, panel, scales);
    }
}

/* ---- weights ---- */

static void lay_row_words(const int8_t *numbers, int64_t groups, int32_t *words)
{
#if INT8_PAIRS
    vw_widen(numbers, groups * INT8_GROUP, words);
#else
    for (int64_t i = 0; i < groups * INT8_GROUP; i += 4) {
        uint32_t word;
        memcpy(&word, numbers + i, sizeof word);
        words[i / 4] = (int32_t)(INT8_OFFSET ? word ^ 0x80808080u : word);
    }
#endif
}

static void lay_weights(const int8_job *j, int64_t row, int64_t rows, int64_t k, int64_t count, int8_scratch *s)
{
    const int64_t groups = int8_groups(count);
    for (int64_t i = 0; i < rows; i++) {
        const int8_t *numbers = s->numbers;
        float *scales = s->scales + i * INT8_BLOCK_GROUPS;
        if (j->w->numbers) {
            numbers = j->w->numbers + (row + i) * j->groups * INT8_GROUP + k;
            memcpy(scales, j->w->scales + (row + i) * j->groups + k / INT8_GROUP, (size_t)groups * sizeof *scales);
        } else {
            cpu_int8_row(j, row + i, k, count, s->values, s->numbers, scales);
        }
        lay_row_words(numbers, groups, s->weights + i * LDA);
    }
}

/* ---- the tile: c[rows, TOKENS] += Σ over groups of scales · exact sums ---- */

#if defined(INT8_UNITS)
#include "ops/cpu/int8_units_amx.h"
enum { INT8_TILE = UNIT };
#else
enum { INT8_TILE = TILE_ROWS };
/* Exact sums of one group. a: the first row's words, b: the panel's. */
#if defined(INT8_MATRIX)
SIMD_INLINE void int8_sums(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, const int32_t *start, const int32_t *a,
                           const int32_t *b)
{
    const matrix_side side = {(const unsigned char *)a, LDA, 1};
    uint32x4_t words[TILE_ROWS][TILE_VECTORS];
    (void)start;
    matrix_sums(words, rows, TILE_VECTORS, GROUP_WORDS, &side, b, TOKENS);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = vreinterpretq_s32_u32(words[i][v]);
}
#else
/* start: what the tokens' sums begin with. */
SIMD_INLINE void int8_sums(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, const int32_t *start, const int32_t *a,
                           const int32_t *b)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = INT8_OFFSET ? vw_load(start + v * VW) : vw_word(0);
    for (int k = 0; k < GROUP_WORDS; k++, b += TOKENS) {
        vw x[TILE_VECTORS];
        SIMD_UNROLL
        for (int v = 0; v < TILE_VECTORS; v++)
            x[v] = vw_load(b + v * VW);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++) {
            const vw w = vw_word(a[i * LDA + k]);
            SIMD_UNROLL
            for (int v = 0; v < TILE_VECTORS; v++) {
                sum[i][v] = vw_dot(sum[i][v], w, x[v]);
                vw_keep(sum[i][v]);
            }
        }
    }
}
#endif

SIMD_INLINE void int8_tile_body(const int rows, int64_t groups, const int8_scratch *s, int64_t row, const int32_t *b,
                                const float *scales, float *c)
{
    const int32_t *a = s->weights + row * LDA;
    for (int64_t g = 0; g < groups; g++, a += GROUP_WORDS, b += GROUP_WORDS * TOKENS, scales += TOKENS) {
        vw sum[TILE_ROWS][TILE_VECTORS];
        int8_sums(sum, rows, s->start + g * TOKENS, a, b);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++)
            SIMD_UNROLL
        for (int v = 0; v < TILE_VECTORS; v++) {
            float *p = c + i * TOKENS + v * VW;
            const vf scale = vmul(vset1(s->scales[(row + i) * INT8_BLOCK_GROUPS + g]), vload(scales + v * VW));
            vstore(p, vfma(vw_float(sum[i][v]), scale, vload(p)));
        }
    }
}

typedef void int8_tile_fn(int64_t groups, const int8_scratch *s, int64_t row, const int32_t *b, const float *scales,
                          float *c);
#define TILE(rows)                                                                                     \
    static void int8_tile_##rows(int64_t groups, const int8_scratch *s, int64_t row, const int32_t *b, \
                                 const float *scales, float *c)                                        \
    {                                                                                                  \
        int8_tile_body(rows, groups, s, row, b, scales, c);                                            \
    }
EACH_TILE(TILE)
#define TILE_NAME(rows) int8_tile_##rows,
static int8_tile_fn *const int8_tiles[TILE_ROWS + 1] = {NULL, EACH_TILE(TILE_NAME)};

/* All outputs of a task with a k block of one panel; tiles differ by one row at most. */
static void multiply_tokens(int64_t cols, int64_t groups, const int8_scratch *s, const int32_t *words,
                            const float *scales, float *c)
{
    const int64_t tiles = i64_ceil_div(cols, TILE_ROWS);
    for (int64_t t = 0, row = 0; t < tiles; t++) {
        const int64_t height = cols / tiles + (t < cols % tiles);
        int8_tiles[height](groups, s, row, words, scales, c + row * TOKENS);
        row += height;
    }
}
#endif

#if INT8_OFFSET
/* −128 times the sums of the panel's numbers, group by group. */
static void sum_panel(const int32_t *words, int64_t groups, int32_t *start)
{
    for (int64_t g = 0; g < groups; g++)
        for (int v = 0; v < TOKENS; v += VW) {
            vw sum = vw_word(0);
            for (int k = 0; k < GROUP_WORDS; k++)
                sum = vw_dot(sum, vw_word((int32_t)0x80808080u), vw_load(words + (g * GROUP_WORDS + k) * TOKENS + v));
            vw_store(start + g * TOKENS + v, vw_sub(vw_word(0), sum));
        }
}
#endif

static void multiply_panel(const int8_job *j, int64_t cols, int64_t panel, int64_t k, int64_t count, int8_scratch *s,
                           float *c)
{
    const int64_t groups = int8_groups(count);
    const int32_t *words = j->panels + (panel * j->groups * INT8_GROUP + k) / 4 * TOKENS;
    const float *scales = j->scales + (panel * j->groups + k / INT8_GROUP) * TOKENS;
#if INT8_PAIRS
    vw_widen_panel(words, groups * INT8_GROUP / 4, s->panel);
    words = s->panel;
#endif
#if INT8_OFFSET
    sum_panel(words, groups, s->start);
#endif
    multiply_tokens(cols, groups, s, words, scales, c);
}

/* ---- a task ---- */

static bool int8_stopped(const atomic_int *cancel)
{
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

static void finish_panel(const int8_job *j, int64_t m, int64_t n, int64_t cols, const float *c, float *lines)
{
    const int64_t rows = i64_min(TOKENS, j->g->m - m);
    turn_to_lines(c, TOKENS, rows, cols, lines, INT8_MOST_COLS);
    for (int64_t t = 0; t < rows; t++)
        j->finish(j->g, m + t, n, cols, lines + t * INT8_MOST_COLS);
}

static void int8_gemm(void *arg, int64_t index, int worker)
{
    const int8_job *j = arg;
    const gemm_job *g = j->g;
    int8_scratch *s = (int8_scratch *)(void *)(g->scratch + (int64_t)worker * GEMM_SCRATCH);
    const int64_t n = index / j->blocks_m * j->block_n, m = index % j->blocks_m * j->block_m;
    const int64_t cols = i64_min(j->block_n, g->n - n), rows = i64_min(j->block_m, g->m - m);
    const int64_t first = m / TOKENS, panels = i64_ceil_div(rows, TOKENS);
    memset(s->sums, 0, (size_t)(panels * cols * TOKENS) * sizeof *s->sums);
    for (int64_t k = 0; k < g->k; k += INT8_BLOCK_K) {
        const int64_t count = i64_min(INT8_BLOCK_K, g->k - k);
        if (int8_stopped(g->cancel))
            return;
        lay_weights(j, n, cols, k, count, s);
        if (k == 0)
            pool_await(j->laid, j->lays);
        for (int64_t p = 0; p < panels; p++)
            multiply_panel(j, cols, first + p, k, count, s, s->sums + p * cols * TOKENS);
    }
    for (int64_t p = 0; p < panels; p++)
        finish_panel(j, m + p * TOKENS, n, cols, s->sums + p * cols * TOKENS, s->lines);
}

#if !defined(TASK) /* a task that needs something around it */
#define TASK(f) f
#endif
#define INT8_KERNELS(name)                                           \
    const cpu_int8_kernels name = {.tokens = TOKENS,                 \
                                   .tile = INT8_TILE,                \
                                   .cols = INT8_MOST_COLS,           \
                                   .decoders = DECODERS,             \
                                   .quantise = int8_quantise_groups, \
                                   .lay = int8_lay,                  \
                                   .gemm = TASK(int8_gemm)};

#endif
