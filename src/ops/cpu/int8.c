#include "ops/cpu/int8.h"

#include "base/file_map.h"

#include <stdlib.h>
#include <string.h>

static const cpu_int8_way *cpu_int8_way_of(const cpu_ops *o)
{
    return o->int8_as == INT8_ROTATED ? &o->int8->rotated : &o->int8->fine;
}

/* ---- weights ---- */

/* Packed in the file: neither floats nor computed. */
static bool is_packed(const tensor *t)
{
    return t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16 && t->type != DTYPE_F64 &&
           t->type != DTYPE_COMPUTED && tensor_decodes(t);
}

static int packed_pieces(const weight_recipe *r)
{
    int count = 0;
    for (int i = 0; i < r->count; i++)
        count += is_packed(&r->piece[i].source->view);
    return count;
}

bool cpu_int8_own(int8_kind kind, const weight_recipe *r)
{
    return kind == INT8_ROTATED || packed_pieces(r) < r->count;
}

/* Rows of a form: whole blocks of them. */
static int64_t form_rows(int8_kind kind, int64_t rows)
{
    return kind == INT8_ROTATED ? i64_ceil_div(rows, INT8_FORM_ROWS) * INT8_FORM_ROWS : rows;
}

flux1_status cpu_int8_place(int8_kind kind, const weight_recipe *r, size_t *bytes, flux1_error *err)
{
    size_t numbers, scales;
    if (!size_mul((size_t)form_rows(kind, r->rows), (size_t)int8_numbers(kind, r->cols), &numbers) ||
        !size_mul((size_t)r->rows, (size_t)int8_groups(kind, r->cols) * sizeof(float), &scales) ||
        numbers > SIZE_MAX / 4 ||
        !size_add(size_round_up(numbers, ARENA_ALIGN), size_round_up(scales, ARENA_ALIGN), bytes))
        return error_set(err, FLUX1_ERR_LIMIT, "a weight of %lld x %lld elements is more than can be addressed",
                         (long long)r->rows, (long long)r->cols);
    return FLUX1_OK;
}

static float *form_scales(int8_kind kind, const weight_recipe *r, unsigned char *form)
{
    const size_t numbers = (size_t)(form_rows(kind, r->rows) * int8_numbers(kind, r->cols));
    return (float *)(void *)(form + size_round_up(numbers, ARENA_ALIGN));
}

void cpu_int8_point(cpu_weight *w, const unsigned char *form)
{
    w->numbers = (const int8_t *)form;
    w->scales = form_scales(w->head.int8, &w->recipe, (unsigned char *)(uintptr_t)form); /* only read */
}

/* Rows of a form, by the workers: `chunk` a task, whole blocks. */
typedef struct filling {
    const weight_recipe *recipe;
    const cpu_int8_way *way;
    const cpu_decoders *decoders;
    int8_kind kind;
    int64_t chunk;
    unsigned char *form;
    float *scratch;
    flux1_error *err;
    atomic_int status;
} filling;

/* Groups of a row whose numbers the file has replace what was made of their values. */
static void keep_stored(const weight_recipe *r, int64_t row, int8_t *numbers, float *scales)
{
    for (int64_t col = 0; col < r->cols; col += INT8_GROUP)
        (void)int8_recipe_stored(r, row, col, i64_min(INT8_GROUP, r->cols - col), numbers + col,
                                 scales + col / INT8_GROUP);
}

/* Groups of a rotated row become rows of its form's blocks. */
static void place_rotated(const filling *j, int64_t row, int64_t col, int64_t count, const int8_t *numbers,
                          float *scales)
{
    const int64_t all = int8_numbers(INT8_ROTATED, j->recipe->cols), here = int8_numbers(INT8_ROTATED, count);
    int8_t *to = (int8_t *)j->form + row / INT8_FORM_ROWS * INT8_FORM_ROWS * all + col * INT8_FORM_ROWS +
                 row % INT8_FORM_ROWS * INT8_FORM_COLS;
    for (int64_t k = 0; k < here; k += INT8_FORM_COLS, to += INT8_FORM)
        memcpy(to, numbers + k, INT8_FORM_COLS);
    for (int64_t k = 0; k < count; k += INT8_LONG)
        scales[k / INT8_LONG] /= (float)int8_length(INT8_ROTATED, i64_min(INT8_LONG, count - k));
}

/* Columns [col, col + cols) of a row, from its values. */
static void fill_part(const filling *j, int64_t row, int64_t col, int64_t cols, const float *values)
{
    enum { AT_ONCE = 4096 }; /* whole groups of both kinds */
    const int64_t all = int8_numbers(j->kind, j->recipe->cols), groups = int8_groups(j->kind, j->recipe->cols);
    float *scales = form_scales(j->kind, j->recipe, j->form) + row * groups;
    int8_t turned[AT_ONCE];
    for (int64_t k = 0; k < cols; k += AT_ONCE) {
        const int64_t at = col + k, count = i64_min(AT_ONCE, cols - k);
        float *here = scales + at / int8_group(j->kind);
        if (j->kind == INT8_FINE) {
            j->way->quantise(values + k, count, (int8_t *)j->form + row * all + at, here);
            continue;
        }
        j->way->quantise(values + k, count, turned, here);
        place_rotated(j, row, at, count, turned, here);
    }
}

/* A merged adapter computes its whole row for each piece that is asked for, so pieces are as wide as the scratch. */
static flux1_status fill_row(const filling *j, int64_t row, float *values, bool stored, flux1_error *err)
{
    enum { WIDE = GEMM_SCRATCH / INT8_LONG * INT8_LONG };
    const weight_recipe *r = j->recipe;
    for (int64_t col = 0; col < r->cols; col += WIDE) {
        const int64_t cols = i64_min(WIDE, r->cols - col);
        TRY(recipe_decode_by(cpu_decode_tensor, j->decoders, r, row, col, cols, values, err));
        fill_part(j, row, col, cols, values);
    }
    if (stored)
        keep_stored(r, row, (int8_t *)j->form + row * int8_numbers(j->kind, r->cols),
                    form_scales(j->kind, r, j->form) + row * int8_groups(j->kind, r->cols));
    return FLUX1_OK;
}

static void fill_rows(void *arg, int64_t index, int worker)
{
    filling *j = arg;
    const weight_recipe *r = j->recipe;
    float *values = j->scratch + (size_t)worker * GEMM_SCRATCH;
    const bool stored = j->kind == INT8_FINE && packed_pieces(r) > 0;
    const int64_t end = i64_min(r->rows, (index + 1) * j->chunk);
    flux1_error err = {0};
    flux1_status st = FLUX1_OK;
    int none = FLUX1_OK;
    for (int64_t row = index * j->chunk; st == FLUX1_OK && row < end; row++)
        st = fill_row(j, row, values, stored, &err);
    if (j->kind == INT8_ROTATED && end == r->rows) { /* rows behind the last */
        const int64_t all = int8_numbers(INT8_ROTATED, r->cols), last = (end - 1) / INT8_FORM_ROWS * INT8_FORM_ROWS;
        for (int64_t i = end - last; i < INT8_FORM_ROWS; i++)
            for (int64_t k = 0; k < all; k += INT8_FORM_COLS)
                memset(j->form + last * all + k * INT8_FORM_ROWS + i * INT8_FORM_COLS, 0, INT8_FORM_COLS);
    }
    if (st != FLUX1_OK && atomic_compare_exchange_strong(&j->status, &none, (int)st))
        *j->err = err;
}

flux1_status cpu_int8_fill(cpu_ops *o, const weight_recipe *r, unsigned char *out)
{
    filling j = {.recipe = r,
                 .way = cpu_int8_way_of(o),
                 .decoders = o->int8->decoders,
                 .kind = o->int8_as,
                 .chunk =
                     form_rows(o->int8_as, i64_max(1, i64_min(32, i64_ceil_div(r->rows, 4 * (int64_t)o->threads)))),
                 .form = out,
                 .scratch = o->scratch,
                 .err = o->head.err};
    TRY(ops_begin(&o->head, "quantising weights", NULL)); /* a cancel is seen between weights */
    if (r->cols > 0)
        pool_run(o->workers, i64_ceil_div(r->rows, j.chunk), fill_rows, &j);
    return (flux1_status)atomic_load(&j.status);
}

/* ---- packed weights on their way into a product ---- */

static bool piece_has(const matrix_piece *p, int64_t row, int64_t col, int64_t end)
{
    return row >= p->row && row < p->row + p->rows && col < p->col + p->cols && end > p->col;
}

/* The groups that the file stores as numbers, a bit each. */
static uint32_t take_stored(const matrix *m, int64_t row, int64_t col, int64_t count, int8_t *numbers, float *scales)
{
    uint32_t taken = 0;
    for (int64_t k = 0; k < count; k += INT8_GROUP) {
        const int64_t n = i64_min(INT8_GROUP, count - k), at = col + k;
        for (int i = 0; i < m->count; i++) {
            const matrix_piece *p = &m->piece[i];
            if (piece_has(p, row, at, at + n) && at >= p->col && at + n <= p->col + p->cols &&
                int8_stored(p->packed, p->first + (row - p->row) * p->ld + at - p->col, n, numbers + k,
                            scales + k / INT8_GROUP))
                taken |= 1u << k / INT8_GROUP;
        }
        if (taken >> k / INT8_GROUP & 1)
            memset(numbers + k + n, 0, (size_t)(INT8_GROUP - n));
    }
    return taken;
}

void cpu_int8_row(const int8_job *j, int64_t row, int64_t col, int64_t count, float *values, int8_t *numbers,
                  float *scales)
{
    const matrix *m = &j->w->m;
    int8_t quantised[INT8_BLOCK_K];
    float scale[INT8_BLOCK_GROUPS];
    const int64_t groups = int8_groups(INT8_FINE, count);
    const uint32_t stored = take_stored(m, row, col, count, numbers, scales);
    if (stored == (1u << groups) - 1)
        return;
    for (int i = 0; i < m->count; i++) {
        const matrix_piece *p = &m->piece[i];
        if (!piece_has(p, row, col, col + count))
            continue;
        const int64_t c0 = i64_max(col, p->col), c1 = i64_min(col + count, p->col + p->cols);
        (void)cpu_decode_piece(j->kernels->decoders, p, row, 1, c0, c1 - c0, values + c0 - col);
    }
    j->way->quantise(values, count, quantised, scale);
    for (int64_t i = 0; i < groups; i++)
        if (!(stored >> i & 1)) {
            memcpy(numbers + i * INT8_GROUP, quantised + i * INT8_GROUP, INT8_GROUP);
            scales[i] = scale[i];
        }
}

/* ---- products ---- */

static int64_t whole_rows(int64_t m) { return i64_ceil_div(m, INT8_MOST_TOKENS) * INT8_MOST_TOKENS; }

/* With room for starts also where no instruction wants them: one rule for every instruction set. */
size_t cpu_int8_scratch(int8_kind kind, int64_t m, int64_t k)
{
    size_t numbers, groups, bytes;
    if (!size_mul((size_t)whole_rows(m), (size_t)int8_numbers(kind, k), &numbers) ||
        !size_mul((size_t)whole_rows(m), (size_t)int8_groups(kind, k) * (sizeof(float) + sizeof(int32_t)), &groups) ||
        !size_add(numbers, groups, &bytes) || bytes > SIZE_MAX - ARENA_ALIGN)
        return SIZE_MAX;
    return size_round_up(bytes, ARENA_ALIGN);
}

flux1_status cpu_int8_product(cpu_ops *o, const gemm_job *g, const cpu_weight *w)
{
    const int8_kind kind = o->int8_as;
    int8_job j = {.g = g,
                  .kernels = o->int8,
                  .way = cpu_int8_way_of(o),
                  .finish = o->kernels->finish,
                  .w = w,
                  .threads = o->threads,
                  .groups = int8_groups(kind, g->k),
                  .numbers = int8_numbers(kind, g->k)};
    const size_t mark = arena_mark(&o->memory);
    void *scratch;
    TRY(arena_alloc(&o->memory, cpu_int8_scratch(kind, g->m, g->k), &scratch, o->head.err));
    if (g->m > 0 && g->n > 0) {
        j.panels = scratch;
        j.scales = (float *)(void *)((char *)scratch + whole_rows(g->m) * j.numbers);
        j.starts = (int32_t *)(void *)(j.scales + whole_rows(g->m) * j.groups);
        enum { BESIDE = 8 };
        const cut_limits most = {j.kernels->tokens, j.way->rows, j.way->tile, j.way->cols, BESIDE};
        const product_cut cut = cpu_cut_product(g->m, g->n, o->threads, &most);
        j.block_m = cut.block_m, j.blocks_m = cut.blocks_m, j.block_n = cut.block_n;
        j.lays = (int)i64_ceil_div(g->m, j.kernels->tokens);
        product_run run = {.lay = j.way->lay, .multiply = j.way->gemm, .job = &j, .lays = j.lays};
        j.laid = &run.laid;
        cpu_run_laid(o, &run, cut.tasks);
    }
    arena_release(&o->memory, mark);
    return ops_cancelled(&o->head);
}
