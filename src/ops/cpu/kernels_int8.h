/* Products in int8, once per instruction set: the including int8_<isa>.c defines DECODERS and, over simd.h,
 *   vw            VW words of 32 bits along k: four int8, or (INT8_PAIRS) two int16
 *   vw_word, vw_load, vw_dot(sum, w, x), vw_float, vw_keep (the sums so far are computed here: keeps gcc from spilling)
 *   v_bytes       VW floats, whole numbers, to int8
 *   INT8_MATRIX   is defined where small matrices are multiplied (tile_matrix.h) in place of those with words
 *   INT8_UNITS    is defined where AMX multiplies (int8_units_amx.h): no vw_word, vw_dot, vw_keep
 *   INT8_OFFSET   numbers of the weights are laid plus 128, for instructions that want one operand without a sign: the
 *                 sums begin with −128 times the input's own; with it vw_store, vw_sub
 *   INT8_QUADS    is 1 where, of INT8_PAIRS, rotated groups are words of four numbers and the input is in quads
 *                 (ops/int8.h): vw_quads(sum, w, x, w', x') of two words, weights plus 128; vw_quads_of(v): the largest
 *                 magnitude that VW values' quads ask for
 *
 * Idea: the weights are the broadcast side, a word at a time; the input is laid once a product as panels of TOKENS
 * rows. A tile of TILE_ROWS × TILE_VECTORS exact sums stays in registers for one group; then it is scaled and added to
 * its float32 sums, which lie in the worker's scratch, in the L1 cache while a k block passes. So do the panel's words;
 * the weights' words, up to INT8_MOST_COLS rows of a k block, stay in L2 while all panels pass. Bounded by the
 * multiply-add of int16 (AVX2: vpmaddwd and vpaddd for 16 products, as many instructions as float32 has; in quads the
 * half of three multiplications for 64) or of int8 (VNNI). With fine groups scales cost too: 3 instructions for every 8
 * of VNNI's multiply-adds; with rotated ones for every 64. */
#ifndef FLUX1_OPS_CPU_KERNELS_INT8_H
#define FLUX1_OPS_CPU_KERNELS_INT8_H

#if !defined(INT8_QUADS)
#define INT8_QUADS 0
#endif

#include "ops/cpu/int8_input.h"
#include "ops/cpu/lines.h"
#if defined(INT8_MATRIX)
#include "ops/cpu/tile_matrix.h"
#endif

enum {
    PER_WORD = INT8_PAIRS ? 2 : 4,
    ROTATED_PER_WORD = INT8_QUADS ? 4 : PER_WORD,
    GROUP_WORDS = INT8_GROUP / PER_WORD,
    LONG_WORDS = INT8_LONG / ROTATED_PER_WORD,
    BLOCK_WORDS = INT8_BLOCK_K / PER_WORD,
    LDA = BLOCK_WORDS + 16, /* rows of weights do not share cache sets */
#if defined(INT8_UNITS)
    FINE_TILE = 16,
    ROTATED_TILE = 2 * INT8_FORM_ROWS, /* two tiles of weights by two of the input */
    ROTATED_COLS = 256,
#else
    FINE_TILE = TILE_ROWS,
    ROTATED_TILE = INT8_QUADS ? 4 : TILE_ROWS, /* 8 sums, 4 of the input, 2 weights, ones */
    ROTATED_COLS = INT8_MOST_COLS,
#endif
    MOST_COLS = ROTATED_COLS > INT8_MOST_COLS ? ROTATED_COLS : INT8_MOST_COLS,
    MOST_SUMS = INT8_MOST_COLS * INT8_MOST_ROWS
};

/* What a task has of its worker's scratch. */
typedef struct int8_scratch {
    float sums[MOST_SUMS]; /* [panel][output][token] */
    int32_t weights[INT8_MOST_COLS * LDA];
    int32_t panel[BLOCK_WORDS * TOKENS];
    float scales[MOST_COLS * INT8_BLOCK_GROUPS];
    float lines[TOKENS * MOST_COLS];
    float values[INT8_BLOCK_K];
    int8_t numbers[INT8_BLOCK_K];
} int8_scratch;
_Static_assert(sizeof(int8_scratch) <= GEMM_SCRATCH * sizeof(float), "a task's scratch");

/* A k block of a panel. start: of the sums (int8_job). */
typedef struct panel_block {
    const int32_t *words;
    const float *scales;
    const int32_t *start;
} panel_block;

/* ---- weights ---- */

/* offset: each plus 128. */
SIMD_INLINE void lay_fours(const bool offset, const int8_t *numbers, int64_t count, int32_t *words)
{
    for (int64_t i = 0; i < count; i += 4) {
        uint32_t word;
        memcpy(&word, numbers + i, sizeof word);
        words[i / 4] = (int32_t)(offset ? word ^ 0x80808080u : word);
    }
}

static void lay_row_words(const int8_t *numbers, int64_t count, int32_t *words)
{
#if INT8_PAIRS
    vw_widen(numbers, count, words);
#else
    lay_fours(INT8_OFFSET, numbers, count, words);
#endif
}

static void lay_fine(const int8_job *j, int64_t row, int64_t rows, int64_t k, int64_t count, int8_scratch *s)
{
    const int64_t groups = int8_groups(INT8_FINE, count);
    for (int64_t i = 0; i < rows; i++) {
        const int8_t *numbers = s->numbers;
        float *scales = s->scales + i * INT8_BLOCK_GROUPS;
        if (j->w->numbers) {
            numbers = j->w->numbers + (row + i) * j->numbers + k;
            memcpy(scales, j->w->scales + (row + i) * j->groups + k / INT8_GROUP, (size_t)groups * sizeof *scales);
        } else {
            cpu_int8_row(j, row + i, k, count, s->values, s->numbers, scales);
        }
        lay_row_words(numbers, groups * INT8_GROUP, s->weights + i * LDA);
    }
}

/* The form's block of rows [row, row + INT8_FORM_ROWS) and columns from k on. */
SIMD_INLINE const int8_t *form_block(const int8_job *j, int64_t row, int64_t k)
{
    return j->w->numbers + row * j->numbers + k * INT8_FORM_ROWS;
}

SIMD_INLINE void lay_form_row(const int8_t *numbers, int32_t *words)
{
    if (INT8_QUADS)
        lay_fours(true, numbers, INT8_FORM_COLS, words);
    else
        lay_row_words(numbers, INT8_FORM_COLS, words);
}

static void lay_rotated(const int8_job *j, int64_t row, int64_t rows, int64_t k, int64_t count, int8_scratch *s)
{
    const int64_t groups = int8_groups(INT8_ROTATED, count), end = row + rows;
    for (int64_t i = 0; i < rows; i++)
        memcpy(s->scales + i * INT8_BLOCK_GROUPS, j->w->scales + (row + i) * j->groups + k / INT8_LONG,
               (size_t)groups * sizeof *s->scales);
#if !defined(INT8_UNITS) /* which takes the numbers as they lie */
    const int64_t all = int8_numbers(INT8_ROTATED, count);
    for (int64_t i = row, next; i < end; i = next) { /* in the form's order */
        const int64_t within = i % INT8_FORM_ROWS;
        const int8_t *from = form_block(j, i - within, k);
        next = i64_min(end, i - within + INT8_FORM_ROWS);
        for (int64_t c = 0; c < all; c += INT8_FORM_COLS, from += INT8_FORM)
            for (int64_t t = i; t < next; t++)
                lay_form_row(from + (within + t - i) * INT8_FORM_COLS,
                             s->weights + (t - row) * LDA + c / ROTATED_PER_WORD);
    }
#else
    (void)end;
#endif
}

/* Weights that come next, on their way into the cache while the present ones are multiplied: pieces of an own form, in
 * front of each tile some lines. */
typedef struct int8_coming {
    const int8_t *at, *stop, *next; /* of the piece under way; the next one */
    int64_t bytes, apart, left;     /* of a piece, between pieces; pieces */
    int64_t lines;                  /* at a time */
} int8_coming;

SIMD_INLINE void touch_coming(int8_coming *c)
{
    enum { LINE = 64 };
    for (int64_t i = 0; i < c->lines; i++, c->at += LINE) {
        if (c->at >= c->stop) {
            if (c->left-- <= 0) {
                c->lines = 0;
                return;
            }
            c->at = c->next, c->stop = c->at + c->bytes, c->next += c->apart;
        }
        __builtin_prefetch(c->at, 0, 2);
    }
}

/* Behind the k block at k of task `index`: the task's next one, or the first of what this worker will probably take;
 * `times`: how often it will be touched. */
static int8_coming coming_after(const int8_kind kind, const int8_job *j, int64_t index, int64_t k, int64_t times)
{
    const gemm_job *g = j->g;
    const int64_t later = (index + j->threads) / j->blocks_m * j->block_n,
                  tall = kind == INT8_ROTATED ? INT8_FORM_ROWS : 1;
    int64_t n = index / j->blocks_m * j->block_n, from = k + INT8_BLOCK_K;
    if (from >= g->k) {
        from = later == n ? g->k : 0;
        n = later;
    }
    if (!j->w->numbers || n >= g->n || from >= g->k)
        return (int8_coming){0};
    const int64_t rows = i64_min(j->block_n, g->n - n), first = n / tall;
    int8_coming c = {.bytes = tall * int8_numbers(kind, i64_min(INT8_BLOCK_K, g->k - from)),
                     .apart = tall * j->numbers,
                     .left = i64_ceil_div(n + rows, tall) - first};
    c.next = j->w->numbers + first * c.apart + from * tall;
    c.lines = i64_ceil_div(c.left * c.bytes, 64 * times);
    return c;
}

/* ---- the tile: c[rows, TOKENS] += Σ over groups of scales · exact sums ---- */

#if defined(INT8_UNITS)
#include "ops/cpu/int8_units_amx.h"
#else
/* sum += exact sums of so many words. Word k of a's row i is a[i·row + k·step], one of which is 1; b: the panel's.
 * b_first: of instructions that want one operand without a sign, it is b. */
#if defined(INT8_MATRIX)
SIMD_INLINE void int8_add(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, int words, const int32_t *a,
                          const int64_t row, const int64_t step, const int32_t *b, const bool b_first)
{
    const matrix_side side = {(const unsigned char *)a, row, step};
    uint32x4_t more[TILE_ROWS][TILE_VECTORS];
    (void)b_first;
    matrix_sums(more, rows, TILE_VECTORS, words, &side, b, TOKENS);
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = vaddq_s32(sum[i][v], vreinterpretq_s32_u32(more[i][v]));
}
#else
SIMD_INLINE void int8_add(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, int words, const int32_t *a,
                          const int64_t row, const int64_t step, const int32_t *b, const bool b_first)
{
    for (int k = 0; k < words; k++, b += TOKENS) {
        vw x[TILE_VECTORS];
        SIMD_UNROLL
        for (int v = 0; v < TILE_VECTORS; v++)
            x[v] = vw_load(b + v * VW);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++) {
            const vw w = vw_word(a[i * row + k * step]);
            SIMD_UNROLL
            for (int v = 0; v < TILE_VECTORS; v++) {
                sum[i][v] = b_first ? vw_dot(sum[i][v], x[v], w) : vw_dot(sum[i][v], w, x[v]);
                vw_keep(sum[i][v]);
            }
        }
    }
}
#endif

/* start: what the tokens' sums begin with. lda: words between rows of a. */
SIMD_INLINE void int8_sums(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, int words, const int32_t *start,
                           const int32_t *a, const int64_t lda, const int32_t *b)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = INT8_OFFSET ? vw_load(start + v * VW) : vw_word(0);
    int8_add(sum, rows, words, a, lda, 1, b, false);
}

#if INT8_QUADS
/* The same of quads. */
SIMD_INLINE void quad_sums(vw sum[TILE_ROWS][TILE_VECTORS], const int rows, int words, const int32_t *start,
                           const int32_t *a, const int64_t lda, const int32_t *b)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++)
        sum[i][v] = vw_load(start + v * VW);
    for (int k = 0; k < words; k += 2, b += 2 * TOKENS) {
        vw x[2][TILE_VECTORS];
        SIMD_UNROLL
        for (int v = 0; v < TILE_VECTORS; v++)
            x[0][v] = vw_load(b + v * VW), x[1][v] = vw_load(b + TOKENS + v * VW);
        SIMD_UNROLL
        for (int i = 0; i < rows; i++) {
            const vw first = vw_word(a[i * lda + k]), second = vw_word(a[i * lda + k + 1]);
            SIMD_UNROLL
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] = vw_quads(sum[i][v], first, x[0][v], second, x[1][v]);
        }
    }
}
#endif

SIMD_INLINE void int8_scale(const int rows, vw sum[TILE_ROWS][TILE_VECTORS], const float *weights, const float *tokens,
                            float *c)
{
    SIMD_UNROLL
    for (int i = 0; i < rows; i++)
        SIMD_UNROLL
    for (int v = 0; v < TILE_VECTORS; v++) {
        float *p = c + i * TOKENS + v * VW;
        const vf scale = vmul(vset1(weights[i * INT8_BLOCK_GROUPS]), vload(tokens + v * VW));
        vstore(p, vfma(vw_float(sum[i][v]), scale, vload(p)));
    }
}

/* words: of a row's k block, in whole groups but for a rotated last one. */
SIMD_INLINE void int8_tile_body(const int8_kind kind, const int rows, int words, const int8_scratch *s, int64_t row,
                                const panel_block *panel, float *c)
{
    const int32_t *a = s->weights + row * LDA, *b = panel->words, *start = panel->start;
    const float *weights = s->scales + row * INT8_BLOCK_GROUPS, *scales = panel->scales;
    const int most = kind == INT8_ROTATED ? LONG_WORDS : GROUP_WORDS;
    for (int g = 0; g * most < words; g++, a += most, b += most * TOKENS, start += TOKENS, scales += TOKENS) {
        vw sum[TILE_ROWS][TILE_VECTORS];
        const int group = kind == INT8_ROTATED && words - g * most < most ? words - g * most : most;
#if INT8_QUADS
        if (kind == INT8_ROTATED)
            quad_sums(sum, rows, group, start, a, LDA, b);
        else
#endif
            int8_sums(sum, rows, group, start, a, LDA, b);
        int8_scale(rows, sum, weights + g, scales, c);
    }
}

typedef void int8_tile_fn(int words, const int8_scratch *s, int64_t row, const panel_block *panel, float *c);
#define TILE_OF(name, kind, rows)                                                                             \
    static void name##rows(int words, const int8_scratch *s, int64_t row, const panel_block *panel, float *c) \
    {                                                                                                         \
        int8_tile_body(kind, rows, words, s, row, panel, c);                                                  \
    }
#define FINE(rows) TILE_OF(fine_tile_, INT8_FINE, rows)
#define ROTATED(rows) TILE_OF(rotated_tile_, INT8_ROTATED, rows)
#if INT8_QUADS
#define EACH_ROTATED_TILE(T) T(1) T(2) T(3) T(4)
#else
#define EACH_ROTATED_TILE EACH_TILE
#endif
EACH_TILE(FINE)
EACH_ROTATED_TILE(ROTATED)
#define FINE_NAME(rows) fine_tile_##rows,
#define ROTATED_NAME(rows) rotated_tile_##rows,
static int8_tile_fn *const int8_tiles[2][TILE_ROWS + 1] = {{NULL, EACH_TILE(FINE_NAME)},
                                                           {NULL, EACH_ROTATED_TILE(ROTATED_NAME)}};

/* All outputs of a task with a k block of one panel; tiles differ by one row at most. */
static void multiply_tiles(const int8_kind kind, int64_t cols, int64_t count, const int8_scratch *s,
                           const panel_block *panel, float *c, int8_coming *next)
{
    const bool rotated = kind == INT8_ROTATED;
    const int64_t tiles = i64_ceil_div(cols, rotated ? ROTATED_TILE : FINE_TILE),
                  length = count / (rotated ? ROTATED_PER_WORD : PER_WORD);
    for (int64_t t = 0, row = 0; t < tiles; t++) {
        const int64_t height = cols / tiles + (t < cols % tiles);
        touch_coming(next);
        int8_tiles[rotated][height]((int)length, s, row, panel, c + row * TOKENS);
        row += height;
    }
}

static void multiply_fine(int64_t cols, int64_t count, const int8_scratch *s, const panel_block *panel, float *c,
                          int8_coming *next)
{
    multiply_tiles(INT8_FINE, cols, count, s, panel, c, next);
}

static void multiply_rotated(const int8_job *j, int64_t n, int64_t cols, int64_t k, int64_t count,
                             const int8_scratch *s, const panel_block *panel, float *c, int8_coming *next)
{
    (void)j, (void)n, (void)k; /* the weights are laid */
    multiply_tiles(INT8_ROTATED, cols, count, s, panel, c, next);
}
#endif

/* Columns [k, k + count) of a panel by the rows of weights from n on. */
SIMD_INLINE void multiply_panel(const int8_kind kind, const int8_job *j, int64_t n, int64_t cols, int64_t panel,
                                int64_t k, int64_t count, int8_scratch *s, float *c, int8_coming *next)
{
    const int64_t all = int8_numbers(kind, count);
    const int64_t groups = (panel * j->groups + k / int8_group(kind)) * TOKENS;
    panel_block laid = {j->panels + (panel * j->numbers + k) / 4 * TOKENS, j->scales + groups, j->starts + groups};
#if INT8_PAIRS
    if (!INT8_QUADS || kind == INT8_FINE) {
        vw_widen_panel(laid.words, all / 4, s->panel);
        laid.words = s->panel;
    }
#endif
    if (kind == INT8_ROTATED)
        multiply_rotated(j, n, cols, k, all, s, &laid, c, next);
    else
        multiply_fine(cols, all, s, &laid, c, next);
}

/* ---- a task ---- */

static bool int8_stopped(const atomic_int *cancel)
{
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

#if defined(INT8_UNITS)
#define INT8_ATTENTION NULL
#else
#include "ops/cpu/int8_attention.h"
#define INT8_ATTENTION int8_attention
#endif

/* What the epilogue of a row writes and adds to, on its way into the cache. */
SIMD_INLINE void touch_outputs(const gemm_job *g, int64_t m, int64_t n, int64_t cols)
{
    touch_row(&g->out, m, n, cols);
    if (g->residual.data)
        touch_row(&g->residual, m, n, cols);
}

static void finish_panel(const int8_job *j, int64_t m, int64_t n, int64_t cols, const float *c, float *lines)
{
    enum { AHEAD = 2 }; /* 5: the same */
    const int64_t rows = i64_min(TOKENS, j->g->m - m);
    turn_to_lines(c, TOKENS, rows, cols, lines, MOST_COLS);
    for (int64_t t = 0; t < rows; t++) {
        if (t + AHEAD < rows)
            touch_outputs(j->g, m + t + AHEAD, n, cols);
        j->finish(j->g, m + t, n, cols, lines + t * MOST_COLS);
    }
}

SIMD_INLINE void gemm_of(const int8_kind kind, const int8_job *j, int64_t index, int worker)
{
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
        if (kind == INT8_ROTATED)
            lay_rotated(j, n, cols, k, count, s);
        else
            lay_fine(j, n, cols, k, count, s);
        if (k == 0)
            pool_await(j->laid, j->lays);
        const int64_t tile = kind == INT8_ROTATED ? ROTATED_TILE : FINE_TILE;
        int8_coming next = coming_after(kind, j, index, k, panels * i64_ceil_div(cols, tile));
        for (int64_t p = 0; p < panels; p++)
            multiply_panel(kind, j, n, cols, first + p, k, count, s, s->sums + p * cols * TOKENS, &next);
    }
    for (int64_t p = 0; p < panels; p++)
        finish_panel(j, m + p * TOKENS, n, cols, s->sums + p * cols * TOKENS, s->lines);
}

static void int8_gemm_fine(void *arg, int64_t index, int worker) { gemm_of(INT8_FINE, arg, index, worker); }
static void int8_gemm_rotated(void *arg, int64_t index, int worker) { gemm_of(INT8_ROTATED, arg, index, worker); }

#if !defined(TASK) /* a task that needs something around it */
#define TASK(f) f
#endif
#define INT8_KERNELS(name)                                                                         \
    const cpu_int8_kernels name = {.tokens = TOKENS,                                               \
                                   .decoders = DECODERS,                                           \
                                   .attention = INT8_ATTENTION,                                    \
                                   .fine = {.tile = FINE_TILE,                                     \
                                            .cols = INT8_MOST_COLS,                                \
                                            .rows = INT8_MOST_ROWS,                                \
                                            .quantise = quantise_fine,                             \
                                            .lay = int8_lay_fine,                                  \
                                            .gemm = TASK(int8_gemm_fine)},                         \
                                   .rotated = {.tile = ROTATED_TILE,                               \
                                               .cols = ROTATED_COLS,                               \
                                               .quads = INT8_QUADS,                                \
                                               .rows = MOST_SUMS / ROTATED_COLS / TOKENS * TOKENS, \
                                               .quantise = quantise_rotated,                       \
                                               .lay = int8_lay_rotated,                            \
                                               .gemm = TASK(int8_gemm_rotated)}};

#endif
