/* Linear layers of more than a few rows. Included once per instruction set, over kernels_gemm.h, whose words and tile
 * it uses.
 *
 * Idea: the weights are the side that is broadcast, so they are copied (converted, decoded) as they lie and never
 * transposed. The inputs are transposed once a product into panels [k word][TILE_COLS rows], which all threads read. A
 * task owns PRODUCT_COLS outputs of a block of rows. Of a k block of PRODUCT_BLOCK words it copies a tile of weights,
 * which is multiplied with the panels of PRODUCT_GROUP rows: sums of all the words stay in registers. Up to PRODUCT_FEW
 * rows all panels pass from L2 under a tile in L1, whose place the next one takes; otherwise tiles have places of their
 * own. With AVX2 a group of more rows is one panel, which meets all tiles one after the other, and while it does the
 * next panel is fetched line by line (PRODUCT_SLICE), since those of all rows and a long k are in no cache. (For AMX
 * the panel's words stay in L1 and all of a block's weights pass.) Meanwhile the next block of weights is fetched. Sums
 * are written once a k block, side by side; behind the last one they are transposed, panel by panel, into rows of
 * outputs, which take the epilogue. Each output is one chain of multiply-adds a k block, added block by block: the same
 * for every way of cutting the output. */
#ifndef FLUX1_OPS_CPU_KERNELS_PRODUCT_H
#define FLUX1_OPS_CPU_KERNELS_PRODUCT_H

#include "ops/cpu/kernels_gemm.h"
#include "ops/cpu/lines.h"

/* Of a worker's scratch: weights [PRODUCT_COLS][PRODUCT_LDA], lines [TILE_COLS][PRODUCT_LINE], sums [panels][row of
 * the weights][TILE_COLS]. A row of weights is padded, so that a tile's rows do not share cache sets. */
enum {
    PRODUCT_LDA = PRODUCT_STEPS + 16,
    PRODUCT_LINE = PRODUCT_COLS + VW,
    PRODUCT_K = PRODUCT_BLOCK * PER_WORD,
    LINE_WORDS = 16,    /* of the cache's 64 bytes */
    PRODUCT_PIECE = 256 /* elements of each row that are transposed at once */
};
_Static_assert(PRODUCT_COLS *PRODUCT_LDA + TILE_COLS * PRODUCT_LINE + PRODUCT_COLS * (PRODUCT_ROWS + TILE_COLS) <=
                   GEMM_SCRATCH,
               "a task of a product fits a worker's scratch");

/* ---- inputs ---- */

/* Rows [row, row + count) of the input, at most a panel's, elements [k, k + length), to words of the panel. */
static void lay_tokens(const view *in, int64_t row, int64_t count, int64_t k, int64_t length, float *to)
{
    const dtype type = in->bf16 ? DTYPE_BF16 : DTYPE_F32;
    for (int64_t r = 0; r < count; r += VW) {
        const unsigned char *rows[VW];
        const int lanes = vcount(count - r);
        for (int i = 0; i < VW; i++)
            rows[i] = (const unsigned char *)view_row(in, row + r + (i < lanes ? i : lanes - 1)) +
                      (size_t)k * type_bytes(type);
        transpose_rows(rows, type, lanes, length, to + r);
    }
}

/* All `k` elements of them. Rows that are missing are 0, and so is half a pair. */
static void lay_panel(const view *in, int64_t row, int64_t count, int64_t k, float *to)
{
    const int64_t steps = i64_ceil_div(k, PER_WORD);
    if (count < TILE_COLS)
        memset(to, 0, (size_t)(steps * TILE_COLS) * sizeof *to);
    else if (k % PER_WORD)
        memset(to + (steps - 1) * TILE_COLS, 0, TILE_COLS * sizeof *to);
    for (int64_t at = 0; at < k; at += PRODUCT_PIECE)
        lay_tokens(in, row, count, at, i64_min(PRODUCT_PIECE, k - at), to + at / PER_WORD * TILE_COLS);
}

/* Task: panel `index` of the rows under way. */
static void lay(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    const int64_t row = index * TILE_COLS;
    (void)worker;
    if (!stopped(g->cancel))
        lay_panel(&g->in, g->first + row, i64_min(TILE_COLS, g->rows - row), g->k,
                  g->panels + row * i64_ceil_div(g->k, PER_WORD));
}

/* ---- weights ---- */

/* Elements as floats, to `h` as bf16 if it is not NULL, or to `f`. The type is a constant where it is inlined. */
SIMD_INLINE void convert_weights(float *f, uint16_t *h, const unsigned char *p, const dtype type, int64_t count)
{
    int64_t i = 0;
    for (; i + VW <= count; i += VW, p += VW * type_bytes(type))
        vstn(h ? (void *)h : (void *)f, h != NULL, i, load_weight(p, type, VW), VW);
    if (i < count)
        vstn(h ? (void *)h : (void *)f, h != NULL, i, load_weight(p, type, (int)(count - i)), (int)(count - i));
}

/* count elements to word row `to` from element `at` on, and nothing beyond. */
static void copy_weights(float *to, int64_t at, const unsigned char *p, dtype type, int64_t count)
{
#if defined(SIMD_BF16)
    uint16_t *h = (uint16_t *)to + at;
    if (type == DTYPE_BF16)
        memcpy(h, p, (size_t)count * sizeof *h);
    else if (type == DTYPE_F16)
        convert_weights(NULL, h, p, DTYPE_F16, count);
    else
        convert_weights(NULL, h, p, DTYPE_F32, count);
#else
    if (type == DTYPE_BF16)
        convert_weights(to + at, NULL, p, DTYPE_BF16, count);
    else if (type == DTYPE_F16)
        convert_weights(to + at, NULL, p, DTYPE_F16, count);
    else
        convert_weights(to + at, NULL, p, DTYPE_F32, count);
#endif
}

/* How rows of weights lie: one behind the other, PRODUCT_LDA words each; or for the units (WEIGHT_TILES) in tiles of 16
 * rows and 16 words, a KiB each, one behind the other along k, so that what a tile loads is in one page, and its lines
 * are neighbours. */
typedef enum weight_order { WEIGHT_ROWS, WEIGHT_TILES } weight_order;

#if defined(SIMD_AMX)
enum { UNIT_WORDS = UNIT * UNIT, UNIT_ELEMENTS = UNIT * PER_WORD };
_Static_assert(PRODUCT_STEPS % UNIT == 0, "rows of weights are whole tiles");
static const unit_side weight_side = {UNIT, UNIT_WORDS, PRODUCT_STEPS *UNIT};
static const weight_order product_order = WEIGHT_TILES;

static float *weight_word(float *a, weight_order order, int64_t row, int64_t k)
{
    return order == WEIGHT_ROWS
               ? a + row * PRODUCT_LDA + k
               : a + row / UNIT * weight_side.next + k / UNIT * UNIT_WORDS + row % UNIT * UNIT + k % UNIT;
}

/* `count` elements of a row, from element `at` on. */
static void put_weights(float *a, weight_order order, int64_t row, int64_t at, const unsigned char *p, dtype type,
                        int64_t count)
{
    const int64_t most = order == WEIGHT_ROWS ? count + at : UNIT_ELEMENTS;
    for (int64_t n; count > 0; at += n, count -= n, p += (size_t)n * type_bytes(type)) {
        float *to = weight_word(a, order, row, at / most * UNIT);
        n = i64_min(count, most - at % most);
        if (n == UNIT_ELEMENTS && type == DTYPE_BF16 && at % most == 0)
            vstore(to, vraw(p));
        else
            copy_weights(to, at % most, p, type, n);
    }
}
#else
static const weight_order product_order = WEIGHT_ROWS;

SIMD_INLINE float *weight_word(float *a, weight_order order, int64_t row, int64_t k)
{
    (void)order;
    return a + row * PRODUCT_LDA + k;
}

SIMD_INLINE void put_weights(float *a, weight_order order, int64_t row, int64_t at, const unsigned char *p, dtype type,
                             int64_t count)
{
    copy_weights(weight_word(a, order, row, 0), at, p, type, count);
}
#endif

/* The same for a piece that has to be decoded first: row `from` of it, columns from `col` on. */
static void put_packed(float *a, weight_order order, int64_t row, int64_t at, const matrix_piece *p, int64_t from,
                       int64_t col, int64_t count)
{
    float values[DECODE_COLS];
    for (int64_t c = 0; c < count; c += DECODE_COLS) {
        const int64_t n = i64_min(DECODE_COLS, count - c);
        const matrix_piece plain = cpu_decode_piece(DECODERS, p, from, 1, col + c, n, values);
        put_weights(a, order, row, at + c, plain.data, DTYPE_F32, n);
    }
}

/* Rows [row, row + rows) of the piece, columns [col, col + cols), to rows from `to` on and elements from `at` on. */
static void copy_piece(const matrix_piece *p, int64_t row, int64_t rows, int64_t col, int64_t cols, float *a,
                       weight_order order, int64_t to, int64_t at)
{
    const size_t bytes = type_bytes(p->type), row_bytes = (size_t)p->ld * bytes;
    for (int64_t i = 0; i < rows; i++) {
        if (p->packed) {
            put_packed(a, order, to + i, at, p, row + i, col, cols);
            continue;
        }
        const unsigned char *data = p->data + (size_t)(row + i - p->row) * row_bytes + (size_t)(col - p->col) * bytes;
        touch(data + ROWS_AHEAD * row_bytes, (size_t)cols * bytes);
        put_weights(a, order, to + i, at, data, p->type, cols);
    }
}

/* Rows [row, row + rows) of the matrix, elements [k, k + count), as rows of words; half a pair is 0. */
static void copy_rows(const matrix *w, int64_t row, int64_t rows, int64_t k, int64_t count, float *a,
                      weight_order order)
{
    if (count % PER_WORD)
        for (int64_t i = 0; i < rows; i++)
            *weight_word(a, order, i, count / PER_WORD) = 0;
    for (int i = 0; i < w->count; i++) {
        const matrix_piece *p = &w->piece[i];
        const int64_t r0 = i64_max(row, p->row), r1 = i64_min(row + rows, p->row + p->rows), c0 = i64_max(k, p->col),
                      c1 = i64_min(k + count, p->col + p->cols);
        if (r0 < r1 && c0 < c1)
            copy_piece(p, r0, r1 - r0, c0, c1 - c0, a, order, r0 - row, c0 - k);
    }
}

/* ---- weights that come next ---- */

/* A worker's next block of weights, on its way into the cache while the present one is multiplied: some lines in front
 * of each tile. */
typedef struct coming {
    const matrix *w;
    int64_t row, end, k, count;     /* rows that are left, and of each elements [k, k + count) */
    const unsigned char *at, *stop; /* bytes of the row under way */
    int64_t lines;                  /* at a time */
} coming;

/* Of pieces side by side only the first; nothing of packed ones, whose decoders take longer than the memory. */
static bool next_row(coming *c)
{
    for (; c->row < c->end; c->row++)
        for (int i = 0; i < c->w->count; i++) {
            const matrix_piece *p = &c->w->piece[i];
            const int64_t k0 = i64_max(c->k, p->col), k1 = i64_min(c->k + c->count, p->col + p->cols);
            if (p->packed || c->row < p->row || c->row >= p->row + p->rows || k0 >= k1)
                continue;
            c->at = p->data + (size_t)((c->row - p->row) * p->ld + k0 - p->col) * type_bytes(p->type);
            c->stop = c->at + (size_t)(k1 - k0) * type_bytes(p->type);
            c->row++;
            return true;
        }
    return false;
}

SIMD_INLINE void touch_coming(coming *c)
{
    for (int64_t left = c->lines; left > 0;) {
        if (c->at >= c->stop && !next_row(c)) {
            c->lines = 0;
            return;
        }
        const unsigned char *end = c->stop - c->at > left * 64 ? c->at + left * 64 : c->stop;
        for (; c->at < end; c->at += 64, left--)
            __builtin_prefetch(c->at, 0, 2);
    }
}

/* Elements of a product's k blocks: what an output's sum depends on, and nothing but k and the rows of a batch entry.
 */
static int64_t product_step(const gemm_job *g)
{
#if defined(PRODUCT_FEW_BLOCK)
    if (g->entry <= PRODUCT_FEW && g->k > PRODUCT_K)
        return PRODUCT_FEW_BLOCK * PER_WORD;
#endif
    return i64_max(1, i64_min(g->k, PRODUCT_K));
}

/* Behind the k block at k of task `index`: the task's next one, or the first of what this worker will probably take;
 * `times`: how often it will be touched. */
static coming coming_after(const gemm_job *g, int64_t index, int64_t k, int64_t times)
{
    const int64_t n = index / g->blocks_m * g->block_n, later = (index + g->threads) / g->blocks_m * g->block_n;
    const int64_t step = product_step(g);
    coming c = {.w = g->w, .row = n, .k = k + step};
    if (c.k >= g->k) {
        if (later == n || later >= g->n)
            return c;
        c.row = later;
        c.k = 0;
    }
    c.end = i64_min(c.row + g->block_n, g->n);
    c.count = i64_min(step, g->k - c.k);
    c.lines = i64_ceil_div((c.end - c.row) * (c.count * (int64_t)type_bytes(g->w->piece[0].type) / 64 + 1), times);
    return c;
}

/* ---- the product ---- */

/* A k block of a task: sums[row / TILE_COLS][column][TILE_COLS] (+)= weights · inputs, of `rows` rows from panel words
 * `panels` on, which lie `apart` words from panel to panel. */
typedef struct product_block {
    const gemm_job *g;
    int64_t rows, n, cols, k, count, steps, apart;
    const float *panels;
    float *a, *sums;
    coming next;
} product_block;

#if defined(SIMD_AMX)
enum { TOGETHER = 2 * UNIT, CUT_COLS = UNIT, CUT_BESIDE = 2 * UNIT }; /* each task reads all panels into its L1 */

/* How often the weights that come next are touched in it. */
static int64_t block_touches(const product_block *b)
{
    return i64_max(1, i64_ceil_div(b->rows, TILE_COLS) * i64_ceil_div(b->cols, TOGETHER) * (b->steps / UNIT));
}

SIMD_INLINE void product_units(const bool tall, const bool wide, int64_t steps, const float *a, const float *b,
                               float *c, bool add, coming *next)
{
    unit_sums(tall, wide, c, TILE_COLS, add);
    for (; steps >= UNIT; steps -= UNIT, a += weight_side.step, b += UNIT * TILE_COLS) {
        touch_coming(next);
        unit_step(tall, wide, a, weight_side, b, TILE_COLS);
    }
    if (steps > 0)
        unit_rest(tall, wide, steps, a, weight_side, b, TILE_COLS);
    unit_store(tall, wide, c, TILE_COLS);
}

/* c[rows, TILE_COLS] (+)= a·b; `narrow`: all of the panel's rows are in its first vector. */
static void multiply_words(int64_t rows, int64_t steps, const float *a, const float *b, bool narrow, float *c, bool add,
                           coming *next)
{
    for (; rows > 0; rows -= TOGETHER, a += 2 * weight_side.next, c += TOGETHER * TILE_COLS) {
        if (rows > UNIT && !narrow)
            product_units(true, true, steps, a, b, c, add, next);
        else if (rows > UNIT)
            product_units(true, false, steps, a, b, c, add, next);
        else
            product_units(false, !narrow, steps, a, b, c, add, next);
    }
}

/* Some of a panel's words are multiplied by all of the weights before the next. */
static void multiply_block(product_block *b)
{
    copy_rows(b->g->w, b->n, b->cols, b->k, b->count, b->a, product_order);
    if (b->k == 0)
        pool_await(b->g->laid, b->g->lays);
    units_ready();
    for (int64_t r = 0; r < b->rows; r += TILE_COLS) {
        const float *panel = b->panels + r / TILE_COLS * b->apart;
        int64_t k = 0;
        do { /* without steps the sums are zeros */
            multiply_words(b->cols, i64_min(UNIT_STEPS, b->steps - k), b->a + k / UNIT * weight_side.step,
                           panel + k * TILE_COLS, b->rows - r <= VW, b->sums + r * PRODUCT_COLS, b->k > 0 || k > 0,
                           &b->next);
            k += UNIT_STEPS;
        } while (k < b->steps);
    }
}
#else
enum { CUT_COLS = TILE_ROWS, CUT_BESIDE = 8 };

/* c[rows, TILE_COLS] (+)= a·b; meanwhile a line from `ahead` on is fetched each PRODUCT_SLICE steps. */
SIMD_INLINE void product_tile(const int rows, const int vectors, int64_t steps, const float *a, const float *b,
                              float *c, bool add, const float *ahead)
{
#if defined(PRODUCT_SLICE)
    vf sum[TILE_ROWS][TILE_VECTORS];
    tile_zero(sum, rows, vectors);
    for (; steps >= PRODUCT_SLICE; steps -= PRODUCT_SLICE) {
        __builtin_prefetch(ahead, 0, 2);
        tile_add(sum, rows, vectors, PRODUCT_SLICE, a, PRODUCT_LDA, 1, b);
        a += PRODUCT_SLICE, b += PRODUCT_SLICE * TILE_COLS, ahead += LINE_WORDS;
    }
    tile_add(sum, rows, vectors, steps, a, PRODUCT_LDA, 1, b);
    tile_store(sum, rows, vectors, c, TILE_COLS, add);
#else
    (void)ahead;
    tile_body(rows, vectors, steps, a, PRODUCT_LDA, b, c, TILE_COLS, add);
#endif
}

#define PRODUCT_TILE(rows)                                                                                            \
    static void product_##rows(int64_t steps, const float *a, const float *b, float *c, bool add, const float *ahead) \
    {                                                                                                                 \
        product_tile(rows, TILE_VECTORS, steps, a, b, c, add, ahead);                                                 \
    }                                                                                                                 \
    static void narrow_##rows(int64_t steps, const float *a, const float *b, float *c, bool add, const float *ahead)  \
    {                                                                                                                 \
        product_tile(rows, 1, steps, a, b, c, add, ahead);                                                            \
    }
EACH_TILE(PRODUCT_TILE)

/* The second: all of the panel's rows are in its first vector. */
typedef void product_fn(int64_t steps, const float *a, const float *b, float *c, bool add, const float *ahead);
#define PRODUCT_ROW(rows) {product_##rows, narrow_##rows},
static product_fn *const products[TILE_ROWS + 1][2] = {{NULL, NULL}, EACH_TILE(PRODUCT_ROW)};

/* How often the weights that come next are touched in it. */
static int64_t block_touches(const product_block *b)
{
    return i64_ceil_div(b->rows, TILE_COLS) * i64_ceil_div(b->cols, TILE_ROWS);
}

#if defined(PRODUCT_SLICE)
_Static_assert(PRODUCT_COLS / TILE_ROWS * LINE_WORDS >= PRODUCT_SLICE * TILE_COLS, "all tiles fetch a whole panel");

/* What is fetched while the panel of row r meets the tile at column `at`: the tile's share of the panel that comes
 * `group` rows later, or of that of the next k block. Of the block's own panel where there is none. */
static const float *panel_ahead(const product_block *b, int64_t at, int64_t r, int64_t group)
{
    const int64_t later = r + group;
    const float *p = b->panels + (later < b->rows ? later : r % group) / TILE_COLS * b->apart;
    if (later >= b->rows && b->k + b->count < b->g->k)
        p += b->steps * TILE_COLS;
    return p + at / TILE_ROWS * (b->steps / PRODUCT_SLICE) * LINE_WORDS;
}
#else
static const float *panel_ahead(const product_block *b, int64_t at, int64_t r, int64_t group)
{
    (void)at, (void)r, (void)group;
    return b->panels;
}
#endif

/* A tile's weights are copied just before the first panels pass, so that they are multiplied from the L1 cache; to
 * places of their own only if there are rows that come later. */
static void multiply_tile(product_block *b, int64_t at, int64_t height, int64_t first, int64_t group)
{
    const int64_t last = i64_min(b->rows, first + group);
    float *a = b->a + (first > 0 || last < b->rows ? at : 0) * PRODUCT_LDA;
    if (first == 0)
        copy_rows(b->g->w, b->n + at, height, b->k, b->count, a, product_order);
    if (first == 0 && at == 0 && b->k == 0)
        pool_await(b->g->laid, b->g->lays);
    for (int64_t r = first; r < last; r += TILE_COLS) {
        touch_coming(&b->next);
        products[height][b->rows - r <= VW](b->steps, a, b->panels + r / TILE_COLS * b->apart,
                                            b->sums + r * PRODUCT_COLS + at * TILE_COLS, b->k > 0,
                                            panel_ahead(b, at, r, group));
    }
}

/* Tiles differ by one row at most. */
static void multiply_block(product_block *b)
{
    const int64_t count = i64_ceil_div(b->cols, TILE_ROWS), width = b->cols / count, wider = b->cols % count;
    const int64_t group = b->rows <= PRODUCT_FEW ? PRODUCT_FEW : PRODUCT_GROUP;
    for (int64_t first = 0; first < b->rows; first += group)
        for (int64_t t = 0, at = 0; t < count; t++) {
            const int64_t height = width + (t < wider);
            multiply_tile(b, at, height, first, group);
            at += height;
        }
}
#endif

/* Sums [cols, TILE_COLS] of `rows` rows become columns [n, n + cols) of the output rows m, m + step, … */
static void finish_panel(const gemm_job *g, int64_t m, int64_t step, int64_t rows, int64_t n, int64_t cols,
                         const float *sums, float *lines)
{
    turn_to_lines(sums, TILE_COLS, rows, cols, lines, PRODUCT_LINE);
    for (int64_t t = 0; t < rows; t++)
        finish_row(g, m + t * step, n, cols, lines + t * PRODUCT_LINE);
}

static void product(void *arg, int64_t index, int worker)
{
    const gemm_job *g = arg;
    float *a = g->scratch + (int64_t)worker * GEMM_SCRATCH, *lines = a + PRODUCT_COLS * PRODUCT_LDA,
          *sums = lines + TILE_COLS * PRODUCT_LINE;
    /* blocks of rows pass under one block of columns: its weights are read from the file once */
    const int64_t n = index / g->blocks_m * g->block_n, m = index % g->blocks_m * g->block_m,
                  cols = i64_min(g->block_n, g->n - n), rows = i64_min(g->block_m, g->rows - m),
                  all = i64_ceil_div(g->k, PER_WORD);
    const int64_t step = product_step(g);
    for (int64_t k = 0; k == 0 || k < g->k; k += step) {
        const int64_t count = i64_min(step, g->k - k);
        product_block b = {.g = g,
                           .rows = rows,
                           .n = n,
                           .cols = cols,
                           .k = k,
                           .count = count,
                           .steps = i64_ceil_div(count, PER_WORD),
                           .apart = all * TILE_COLS,
                           .panels = g->panels + m * all + k / PER_WORD * TILE_COLS,
                           .a = a,
                           .sums = sums};
        if (stopped(g->cancel))
            return;
        b.next = coming_after(g, index, k, block_touches(&b));
        multiply_block(&b);
    }
    for (int64_t t = 0; t < rows; t += TILE_COLS)
        finish_panel(g, g->first + m + t, 1, i64_min(TILE_COLS, rows - t), n, cols, sums + t * PRODUCT_COLS, lines);
}

#endif
