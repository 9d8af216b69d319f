/* Blocks, and recipes made ready: matrices stay where the file is mapped, vectors become float32, 3×3 filters are put
 * in the order (ky, kx, in). */
#include "ops/cpu/cpu.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

flux1_status cpu_block_create(ops *base, const char *name, block **out)
{
    cpu_ops *o = cpu_self(base);
    cpu_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    *o->last_block = b;
    o->last_block = &b->next;
    *out = &b->head;
    return FLUX1_OK;
}

void cpu_free_weights(cpu_weight *w)
{
    for (cpu_weight *next; w; w = next) {
        next = w->next;
        free(w->vector);
        free(w->bias);
        free(w->owned);
        free(w);
    }
}

void cpu_block_destroy(ops *base, block *b)
{
    cpu_ops *o = cpu_self(base);
    cpu_block **at = &o->blocks, *mine = (cpu_block *)b;
    if (!b)
        return;
    while (*at != mine)
        at = &(*at)->next;
    *at = mine->next;
    if (!*at)
        o->last_block = at;
    cpu_free_weights(mine->weights);
    free(b->name);
    free(mine);
}

void cpu_rest(ops *o) { (void)o; }

void cpu_step_unwind(ops *o, size_t mark)
{
    for (cpu_block *b = cpu_self(o)->blocks; b; b = b->next)
        b->head.held = b->hinted = false;
    cpu_finite_first(o, &(int){0});
    cpu_release(o, mark);
}

static flux1_status allocate(size_t rows, size_t cols, size_t element, void **out, flux1_error *err)
{
    size_t bytes = 0;
    *out = NULL;
    if (size_mul(rows, cols, &bytes) && size_mul(bytes, element, &bytes) && bytes < SIZE_MAX - ARENA_ALIGN)
        *out = aligned_alloc(ARENA_ALIGN, size_round_up(bytes ? bytes : 1, ARENA_ALIGN));
    return *out ? FLUX1_OK : error_oom(err, bytes, "a weight");
}

/* All of a recipe as float32, one row after the other. */
static flux1_status decode(const weight_recipe *r, float **out, flux1_error *err)
{
    void *all;
    TRY(allocate((size_t)r->rows, (size_t)r->cols, sizeof(float), &all, err));
    *out = all;
    for (int64_t i = 0; i < r->rows && r->cols > 0; i++)
        TRY(recipe_decode(r, i, 0, r->cols, *out + i * r->cols, err));
    return FLUX1_OK;
}

static bool kernels_read(dtype type) { return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16; }

/* The one type of all pieces if the kernels read it, otherwise DTYPE_COUNT. */
static dtype common_type(const weight_recipe *r)
{
    dtype type = r->count ? r->piece[0].source->view.type : DTYPE_F32;
    for (int i = 0; i < r->count; i++)
        if (r->piece[i].source->view.type != type)
            return DTYPE_COUNT;
    return kernels_read(type) ? type : DTYPE_COUNT;
}

static matrix dense(void *data, dtype type, int64_t rows, int64_t cols)
{
    return (matrix){.rows = rows,
                    .cols = cols,
                    .count = 1,
                    .piece = {{.data = data, .type = type, .ld = cols, .rows = rows, .cols = cols}}};
}

static const unsigned char *piece_data(const recipe_piece *p, int64_t *ld)
{
    const tensor *t = &p->source->view;
    *ld = 1;
    for (int i = 1; i < t->dims; i++)
        *ld *= t->shape[i];
    return (const unsigned char *)t->data +
           (size_t)(p->source_row * *ld + p->source_col) * (size_t)dtype_describe(t->type)->block_bytes;
}

/* The mapped bytes themselves, or float32 for a type the kernels do not read. */
static flux1_status matrix_of(cpu_weight *w, const weight_recipe *r, flux1_error *err)
{
    bool readable = true;
    for (int i = 0; i < r->count; i++)
        readable = readable && kernels_read(r->piece[i].source->view.type);
    if (!readable) {
        float *all = NULL;
        flux1_status st = decode(r, &all, err);
        w->owned = all;
        w->m = dense(all, DTYPE_F32, r->rows, r->cols);
        return st;
    }
    w->m = (matrix){.rows = r->rows, .cols = r->cols, .count = r->count};
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        matrix_piece *q = &w->m.piece[i];
        q->data = piece_data(p, &q->ld);
        q->type = p->source->view.type;
        q->row = p->row, q->col = p->col, q->rows = p->rows, q->cols = p->cols;
    }
    return FLUX1_OK;
}

/* Logical row `row` in the type of the file (all pieces alike), or decoded. */
static flux1_status raw_row(const weight_recipe *r, dtype type, int64_t row, unsigned char *out, flux1_error *err)
{
    if (common_type(r) == DTYPE_COUNT)
        return recipe_decode(r, row, 0, r->cols, (float *)(void *)out, err);
    const size_t bytes = type == DTYPE_F32 ? 4 : 2;
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        int64_t ld;
        const unsigned char *data = piece_data(p, &ld);
        if (row >= p->row && row < p->row + p->rows)
            memcpy(out + (size_t)p->col * bytes, data + (size_t)((row - p->row) * ld) * bytes, (size_t)p->cols * bytes);
    }
    return FLUX1_OK;
}

/* [out, in, ky, kx] to [out, ky, kx, in], in the file's own type. */
static flux1_status permute_filters(cpu_weight *w, const weight_recipe *r, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const int64_t taps = (int64_t)r->kernel * r->kernel, channels = r->cols / taps;
    const dtype type = common_type(r) == DTYPE_COUNT ? DTYPE_F32 : common_type(r);
    const size_t bytes = type == DTYPE_F32 ? 4 : 2, row_bytes = (size_t)r->cols * bytes;
    void *line = NULL;
    TRY(allocate((size_t)r->rows, (size_t)r->cols, bytes, &w->owned, err));
    TRY_CLEANUP(allocate(1, (size_t)r->cols, bytes, &line, err));
    for (int64_t row = 0; row < r->rows && r->cols > 0; row++) {
        unsigned char *to = (unsigned char *)w->owned + (size_t)row * row_bytes;
        const unsigned char *from = line;
        TRY_CLEANUP(raw_row(r, type, row, line, err));
        for (int64_t c = 0; c < channels; c++)
            for (int64_t t = 0; t < taps; t++)
                memcpy(to + (size_t)(t * channels + c) * bytes, from + (size_t)(c * taps + t) * bytes, bytes);
    }
    w->m = dense(w->owned, type, r->rows, r->cols);
cleanup:
    free(line);
    return st;
}

flux1_status cpu_prepare(ops *o, block *b, const weight_recipe *r, const weight_recipe *bias, weight **out)
{
    cpu_weight *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(o->err, sizeof *w, "a weight");
    w->head = (weight){
        .role = r->role, .rows = r->rows, .cols = r->cols, .kernel = r->kernel, .has_bias = bias != NULL, .owner = b};
    w->next = ((cpu_block *)b)->weights;
    ((cpu_block *)b)->weights = w; /* freed with the backend, also if what follows fails */
    if (r->role == WEIGHT_VECTOR)
        TRY(decode(r, &w->vector, o->err));
    else if (r->role == WEIGHT_CONV && r->kernel > 1)
        TRY(permute_filters(w, r, o->err));
    else
        TRY(matrix_of(w, r, o->err));
    if (bias)
        TRY(decode(bias, &w->bias, o->err));
    *out = &w->head;
    return FLUX1_OK;
}

/* Elements of so many bytes, 0 for a recipe that stays in the file. */
static size_t own_element(const weight_recipe *r)
{
    bool readable = true;
    for (int i = 0; i < r->count; i++)
        readable = readable && kernels_read(r->piece[i].source->view.type);
    if (r->role == WEIGHT_CONV && r->kernel > 1)
        return common_type(r) == DTYPE_F16 || common_type(r) == DTYPE_BF16 ? 2 : 4;
    return r->role == WEIGHT_VECTOR || !readable ? 4 : 0;
}

size_t cpu_weight_bytes(const ops_config *c, const weight_recipe *w, const weight_recipe *bias)
{
    (void)c;
    size_t bytes = size_round_up((size_t)(w->rows * w->cols) * own_element(w), ARENA_ALIGN);
    return bytes + (bias ? size_round_up((size_t)(bias->rows * bias->cols) * sizeof(float), ARENA_ALIGN) : 0);
}

/* Asks for the pages behind the block's mapped weights, once until it is begun. Whole row ranges: a rank's columns lie
 * in the same pages anyway. */
static void read_ahead(cpu_block *b)
{
    if (b->hinted)
        return;
    b->hinted = true;
    for (const cpu_weight *w = b->weights; w; w = w->next)
        for (int i = 0; !w->vector && !w->owned && i < w->m.count; i++) {
            const matrix_piece *p = &w->m.piece[i];
            if (p->data && p->rows > 0 && w->head.role != WEIGHT_TABLE) /* a table is read by a few rows */
                file_map_will_need(p->data, ((size_t)((p->rows - 1) * p->ld) + (size_t)p->cols) *
                                                (p->type == DTYPE_F32 ? 4 : 2));
        }
}

flux1_status cpu_block_begin(ops *o, block *b)
{
    cpu_block *mine = (cpu_block *)b;
    TRY(ops_begin(o, "block_begin", NULL));
    b->held = true;
    read_ahead(mine);
    if (mine->next)
        read_ahead(mine->next);
    return FLUX1_OK;
}

flux1_status cpu_block_end(ops *o, block *b)
{
    (void)o;
    b->held = false;
    ((cpu_block *)b)->hinted = false;
    return FLUX1_OK;
}
