#include "ops/cpu/forms.h"

#include "base/half.h"
#include "ops/cpu/int8.h"
#include "tensor/scale.h"

#include <stdlib.h>
#include <string.h>

static void gather_source(const store_tensor *t, file_map_range *unneeded)
{
    const store_sources *from = t->computed_from;
    for (size_t i = 0; from && i < from->count; i++)
        gather_source(from->tensor[i], unneeded);
    if (!t->content || t->view.type == DTYPE_COMPUTED) /* it lies in no file */
        return;
    const unsigned char *scales;
    const size_t beside = tensor_scale_beside(t->view.scale, 0, tensor_elements(&t->view), &scales);
    file_map_gather(unneeded, t->view.data, tensor_bytes(&t->view));
    if (beside > 0)
        file_map_gather(unneeded, scales, beside);
}

void cpu_gather_pages(const weight_recipe *r, file_map_range *unneeded)
{
    for (int i = 0; i < r->count; i++)
        gather_source(r->piece[i].source, unneeded);
}

static void let_pages_go(const weight_recipe *r)
{
    file_map_range unneeded = {0};
    cpu_gather_pages(r, &unneeded);
    file_map_gathered(&unneeded);
}

static bool kernels_read(dtype type) { return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16; }

bool cpu_is_computed(const weight_recipe *r)
{
    bool any = false;
    for (int i = 0; i < r->count; i++)
        any = any || r->piece[i].source->view.type == DTYPE_COMPUTED;
    return any;
}

/* Whether the kernels take it as it lies, plain or packed. */
static bool readable(const weight_recipe *r)
{
    bool all = !cpu_is_computed(r);
    for (int i = 0; i < r->count; i++)
        all = all && tensor_decodes(&r->piece[i].source->view) && r->piece[i].source->view.type != DTYPE_F64;
    return all;
}

/* The one type of all pieces if the kernels read it, otherwise DTYPE_COUNT. */
static dtype common_type(const weight_recipe *r)
{
    dtype type = r->count ? r->piece[0].source->view.type : DTYPE_F32;
    for (int i = 0; i < r->count; i++)
        if (r->piece[i].source->view.type != type)
            return DTYPE_COUNT;
    return kernels_read(type) ? type : DTYPE_COUNT;
}

static const unsigned char *piece_data(const recipe_piece *p, int64_t *ld)
{
    const tensor *t = &p->source->view;
    *ld = tensor_row_elements(t);
    return (const unsigned char *)t->data +
           (size_t)(p->source_row * *ld + p->source_col) * (size_t)dtype_describe(t->type)->block_bytes;
}

/* The mapped bytes themselves. */
static void map_pieces(cpu_weight *w, const weight_recipe *r)
{
    w->m = (matrix){.rows = r->rows, .cols = r->cols, .count = r->count};
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        matrix_piece *q = &w->m.piece[i];
        q->type = p->source->view.type;
        if (kernels_read(q->type)) {
            q->data = piece_data(p, &q->ld);
        } else {
            q->packed = &p->source->view;
            q->ld = tensor_row_elements(q->packed);
            q->first = p->source_row * q->ld + p->source_col;
        }
        q->row = p->row, q->col = p->col, q->rows = p->rows, q->cols = p->cols;
    }
}

static bool is_filter(const weight_recipe *r) { return r->role == WEIGHT_CONV && r->kernel > 1; }

/* A filter's type in the order (ky, kx, in): the file's where all of it has one, otherwise float32. */
static dtype filter_type(const weight_recipe *r)
{
    dtype type = common_type(r);
    return type == DTYPE_COUNT ? DTYPE_F32 : type;
}

/* rows × cols elements behind *end, which moves on; *at: where. */
static flux1_status place(const weight_recipe *r, size_t element, size_t *end, size_t *at, flux1_error *err)
{
    size_t bytes;
    *at = *end;
    if (!size_mul((size_t)r->rows, (size_t)r->cols, &bytes) || !size_mul(bytes, element, &bytes) ||
        bytes > SIZE_MAX / 2 || !size_add(*end, size_round_up(bytes, ARENA_ALIGN), end))
        return error_set(err, FLUX1_ERR_LIMIT, "a weight of %lld x %lld elements is more than can be addressed",
                         (long long)r->rows, (long long)r->cols);
    return FLUX1_OK;
}

/* Whether its products are in int8, and how; int8_own: and it has a form of its own for them. */
static int8_kind kind_of(const weight_recipe *r, int8_kind wanted)
{
    return r->int8 && (r->role == WEIGHT_LINEAR || r->role == WEIGHT_QKV) ? wanted : INT8_NONE;
}

static bool int8_own(const weight_recipe *r, int8_kind wanted)
{
    const int8_kind kind = kind_of(r, wanted);
    return kind != INT8_NONE && cpu_int8_own(kind, r);
}

static flux1_status place_int8(int8_kind kind, const weight_recipe *r, size_t *end, size_t *at, flux1_error *err)
{
    size_t bytes;
    *at = *end;
    TRY(cpu_int8_place(kind, r, &bytes, err));
    return size_add(*end, bytes, end) ? FLUX1_OK
                                      : error_set(err, FLUX1_ERR_LIMIT, "more weights than can be addressed");
}

static bool is_own(const weight_recipe *r) { return r->role == WEIGHT_VECTOR || is_filter(r) || !readable(r); }

dtype cpu_form_type(const weight_recipe *r, bool bf16)
{
    if (is_filter(r))
        return filter_type(r);
    return bf16 && r->role != WEIGHT_VECTOR && cpu_is_computed(r) ? DTYPE_BF16 : DTYPE_F32;
}

static size_t own_element(const weight_recipe *r, bool bf16)
{
    return (size_t)dtype_describe(cpu_form_type(r, bf16))->block_bytes;
}

size_t cpu_weight_bytes(const ops_config *c, const weight_recipe *w, const weight_recipe *bias)
{
    size_t end = 0, at;
    if (int8_own(w, c->int8)) {
        if (place_int8(c->int8, w, &end, &at, NULL) != FLUX1_OK)
            return SIZE_MAX / 2;
    } else if (is_own(w) && place(w, own_element(w, c->arithmetic == DTYPE_BF16), &end, &at, NULL) != FLUX1_OK)
        return SIZE_MAX / 2;
    return bias && place(bias, 4, &end, &at, NULL) != FLUX1_OK ? SIZE_MAX / 2 : end;
}

/* Columns among others in the file, all of one type. */
static bool is_sliced(const weight_recipe *r)
{
    bool sliced = r->rows > 0 && r->cols > 0 && common_type(r) != DTYPE_COUNT;
    for (int i = 0; i < r->count && sliced; i++) {
        int64_t ld;
        piece_data(&r->piece[i], &ld);
        sliced = r->cols < ld;
    }
    return sliced;
}

flux1_status cpu_form_lay_out(cpu_weight *w, cpu_block *b, const cpu_ops *o, flux1_error *err)
{
    const weight_recipe *r = &w->recipe;
    const bool int8 = int8_own(r, o->int8_as), bf16 = o->bf16;
    w->head.int8 = kind_of(r, o->int8_as);
    w->own = int8 || is_own(r);
    w->sliced = !w->own && is_sliced(r);
    if (int8)
        TRY(place_int8(w->head.int8, r, &b->bytes, &w->at, err));
    else if (w->own)
        TRY(place(r, own_element(r, bf16), &b->bytes, &w->at, err));
    else
        map_pieces(w, r);
    if (w->sliced)
        TRY(place(r, (size_t)dtype_describe(common_type(r))->block_bytes, &b->slices, &w->at, err));
    return w->head.has_bias ? place(&w->bias_recipe, 4, &b->bytes, &w->bias_at, err) : FLUX1_OK;
}

/* ---- making them ---- */

/* All of a recipe as float32, one row after the other. */
static flux1_status decode(const weight_recipe *r, float *out, flux1_error *err)
{
    for (int64_t i = 0; i < r->rows && r->cols > 0; i++)
        TRY(recipe_decode(r, i, 0, r->cols, out + i * r->cols, err));
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
static flux1_status permute_filters(const weight_recipe *r, unsigned char *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    const int64_t taps = (int64_t)r->kernel * r->kernel, channels = r->cols / taps;
    const dtype type = filter_type(r);
    const size_t bytes = type == DTYPE_F32 ? 4 : 2, row_bytes = (size_t)r->cols * bytes;
    unsigned char *line = malloc(row_bytes ? row_bytes : 1);
    if (!line)
        return error_oom(err, row_bytes, "a filter");
    for (int64_t row = 0; row < r->rows && r->cols > 0; row++, out += row_bytes) {
        TRY_CLEANUP(raw_row(r, type, row, line, err));
        for (int64_t c = 0; c < channels; c++)
            for (int64_t t = 0; t < taps; t++)
                memcpy(out + (size_t)(t * channels + c) * bytes, line + (size_t)(c * taps + t) * bytes, bytes);
    }
cleanup:
    free(line);
    return st;
}

/* Rows of a computed matrix, by the workers: [index·chunk, …) a task. */
typedef struct computing {
    const weight_recipe *recipe;
    bool bf16;
    int64_t chunk, width; /* rows, and columns, at once */
    unsigned char *out;
    float *scratch; /* GEMM_SCRATCH floats a worker */
    flux1_error *err;
    atomic_int status;
} computing;

static void compute_rows(void *arg, int64_t index, int worker)
{
    computing *j = arg;
    const weight_recipe *r = j->recipe;
    float *values = j->scratch + (size_t)worker * GEMM_SCRATCH;
    flux1_error err = {0};
    flux1_status st = FLUX1_OK;
    int none = FLUX1_OK;
    const int64_t first = index * j->chunk, rows = i64_min(j->chunk, r->rows - first);
    for (int64_t col = 0; st == FLUX1_OK && col < r->cols; col += j->width) {
        const int64_t cols = i64_min(j->width, r->cols - col);
        st = recipe_decode_rows(r, first, rows, col, cols, values, &err);
        for (int64_t i = 0; st == FLUX1_OK && i < rows * cols; i++) {
            const size_t at = (size_t)((first + i / cols) * r->cols + col + i % cols);
            if (j->bf16)
                ((uint16_t *)(void *)j->out)[at] = bf16_from_f32(values[i]);
            else
                ((float *)(void *)j->out)[at] = values[i];
        }
    }
    if (st != FLUX1_OK && atomic_compare_exchange_strong(&j->status, &none, (int)st))
        *j->err = err;
}

static flux1_status compute(cpu_ops *o, const weight_recipe *r, unsigned char *out)
{
    computing j = {.recipe = r,
                   .bf16 = cpu_form_type(r, o->bf16) == DTYPE_BF16,
                   .chunk = i64_max(1, i64_min(32, i64_ceil_div(r->rows, 4 * (int64_t)o->threads))),
                   .out = out,
                   .scratch = o->scratch,
                   .err = o->head.err};
    j.width = GEMM_SCRATCH / j.chunk;
    TRY(ops_begin(&o->head, "merging adapters", NULL)); /* a cancel is seen between weights */
    pool_run(o->workers, i64_ceil_div(r->rows, j.chunk), compute_rows, &j);
    return (flux1_status)atomic_load(&j.status);
}

flux1_status cpu_forms_fill(cpu_ops *o, const cpu_block *b, unsigned char *data)
{
    flux1_error *err = o->head.err;
    for (const cpu_weight *w = b->weights; w; w = w->next) {
        if (w->own && w->head.int8)
            TRY(cpu_int8_fill(o, &w->recipe, data + w->at));
        else if (w->own && is_filter(&w->recipe))
            TRY(permute_filters(&w->recipe, data + w->at, err));
        else if (w->own && cpu_is_computed(&w->recipe))
            TRY(compute(o, &w->recipe, data + w->at));
        else if (w->own)
            TRY(decode(&w->recipe, (float *)(void *)(data + w->at), err));
        if (w->own)
            let_pages_go(&w->recipe);
        if (w->head.has_bias)
            TRY(decode(&w->bias_recipe, (float *)(void *)(data + w->bias_at), err));
    }
    return FLUX1_OK;
}

flux1_status cpu_form_pack_slice(const cpu_weight *w, unsigned char *out, flux1_error *err)
{
    const weight_recipe *r = &w->recipe;
    const dtype type = common_type(r);
    const size_t row_bytes = (size_t)r->cols * (size_t)dtype_describe(type)->block_bytes;
    for (int64_t row = 0; row < r->rows; row++, out += row_bytes)
        TRY(raw_row(r, type, row, out, err));
    for (int i = 0; i < r->count; i++) {
        const tensor *t = &r->piece[i].source->view;
        file_map_wont_need(t->data, tensor_bytes(t));
    }
    return FLUX1_OK;
}

static matrix dense(const void *data, dtype type, int64_t rows, int64_t cols)
{
    return (matrix){.rows = rows,
                    .cols = cols,
                    .count = 1,
                    .piece = {{.data = data, .type = type, .ld = cols, .rows = rows, .cols = cols}}};
}

void cpu_forms_point(cpu_block *b, const unsigned char *data, bool bf16)
{
    for (cpu_weight *w = b->weights; w; w = w->next) {
        const weight_recipe *r = &w->recipe;
        if (w->sliced && !b->packed)
            map_pieces(w, r);
        if (!data)
            continue;
        if (w->own && r->role == WEIGHT_VECTOR)
            w->vector = (const float *)(const void *)(data + w->at);
        else if (w->own && w->head.int8)
            cpu_int8_point(w, data + w->at);
        else if (w->own)
            w->m = dense(data + w->at, cpu_form_type(r, bf16), r->rows, r->cols);
        else if (w->sliced && b->packed)
            w->m = dense(data + b->bytes + w->at, common_type(r), r->rows, r->cols);
        if (w->head.has_bias)
            w->bias = (const float *)(const void *)(data + w->bias_at);
    }
}
