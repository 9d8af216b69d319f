/* Blocks, and recipes made ready. Matrices stay where the file is mapped. What has to be in another form (vectors in
 * float32, 3×3 filters in the order ky, kx, in, types that the kernels do not read) is a block of the device's kept
 * weights, made when any block is first begun, and found again by the next backend.
 *
 * A rank's columns of a matrix are strided pieces of the file's rows, so reading them touches nearly all of its pages.
 * A block with such weights has a second form for the cache on disk, the packed one: the slices, dense, behind the
 * first form. It is used where a device was given it (kept_adopt), and never made in memory for itself: then it would
 * take memory that cannot be had back, while the file's pages can. A form that was lent is streamed as the file's own
 * pages are: read ahead, and given back where memory is short. No form depends on the instruction set; that of
 * computed matrices (merged adapters) depends on the arithmetic, that of products in int8 on their kind. */
#include "ops/cpu/int8.h"

#include "base/checked.h"
#include "base/file_map.h"
#include "base/half.h"
#include "base/large.h"
#include "base/units.h"

#include <stdlib.h>
#include <string.h>

enum { CPU_LAYOUT = 1 }; /* version of what follows: part of a block's key */

/* ---- memory of kept weights ---- */

static bool take(void *device, size_t bytes, uint64_t *data)
{
    void *p = bytes >= LARGE_FROM ? large_alloc(bytes) : aligned_alloc(ARENA_ALIGN, size_round_up(bytes, ARENA_ALIGN));
    (void)device;
    *data = (uint64_t)(uintptr_t)p;
    return p != NULL;
}

static void give_back(void *device, uint64_t data, size_t bytes)
{
    (void)device;
    large_free((void *)(uintptr_t)data, bytes);
}

const kept_memory cpu_kept_memory = {take, give_back};

/* ---- blocks ---- */

flux1_status cpu_block_create(ops *base, const char *name, block **out)
{
    cpu_ops *o = cpu_self(base);
    cpu_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    kept_key(b->key, "cpu", CPU_LAYOUT, 0);
    *o->last_block = b;
    o->last_block = &b->next;
    *out = &b->head;
    return FLUX1_OK;
}

/* The stream learns of the blocks again when one is begun. */
static void unlist(cpu_ops *o)
{
    if (o->listed)
        stream_take(&o->stream, NULL);
    o->listed = false;
}

static bool is_lent(const cpu_block *b) { return b->kept && b->kept->release; }

/* Its own forms are no longer the block's. Pages of a lent one leave this process's memory, as the files' do. */
static void let_go(cpu_ops *o, cpu_block *b)
{
    unlist(o);
    if (is_lent(b) && b->kept->file)
        file_map_wont_need(cpu_kept_data(b->kept), b->kept->bytes);
    if (b->own)
        kept_uncount(o->kept, b->kept);
    kept_leave(o->kept, b->kept);
    o->own -= b->own;
    b->own = 0;
    b->kept = NULL;
    b->ready = false;
}

static void free_block(cpu_ops *o, cpu_block *b)
{
    let_go(o, b);
    for (cpu_weight *w = b->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    free(b->ranges);
    free(b->head.name);
    free(b);
}

void cpu_blocks_free(cpu_ops *o)
{
    for (cpu_block *b = o->blocks, *next; b; b = next) {
        next = b->next;
        free_block(o, b);
    }
}

void cpu_block_destroy(ops *base, block *head)
{
    cpu_ops *o = cpu_self(base);
    cpu_block **at = &o->blocks, *b = (cpu_block *)head;
    if (!b)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (!*at)
        o->last_block = at;
    free_block(o, b);
}

/* The files' pages behind it leave this process's memory, so that the next stage's take their place instead of being
 * added. They stay in the page cache while nobody wants its memory, and what is used again is found there. */
static void gather_source(const store_tensor *t, file_map_range *unneeded)
{
    const store_sources *from = t->computed_from;
    for (size_t i = 0; from && i < from->count; i++)
        gather_source(from->tensor[i], unneeded);
    if (t->content && t->view.type != DTYPE_COMPUTED) /* it lies in a file */
        file_map_gather(unneeded, t->view.data, tensor_bytes(&t->view));
}

static void gather_pages(const weight_recipe *r, file_map_range *unneeded)
{
    for (int i = 0; i < r->count; i++)
        gather_source(r->piece[i].source, unneeded);
}

static void let_pages_go(const weight_recipe *r)
{
    file_map_range unneeded = {0};
    gather_pages(r, &unneeded);
    file_map_gathered(&unneeded);
}

/* All blocks': around a fault the kernel may map 2 MiB, so that a weight's pages are those of its neighbours too. */
static void let_all_pages_go(const cpu_ops *o)
{
    file_map_range unneeded = {0};
    for (const cpu_block *b = o->blocks; b; b = b->next)
        for (const cpu_weight *w = b->weights; w; w = w->next) {
            gather_pages(&w->recipe, &unneeded);
            if (w->head.has_bias)
                gather_pages(&w->bias_recipe, &unneeded);
        }
    file_map_gathered(&unneeded);
}

/* Where memory is short, the arena's pages are given back too. */
static void rest_arena(cpu_ops *o)
{
    if (!stream_is_limited(&o->stream))
        return;
    record_drop(&o->head); /* it lies there */
    arena_rest(&o->memory);
}

void cpu_rest(ops *base)
{
    cpu_ops *o = cpu_self(base);
    stream_tell(&o->stream);
    rest_arena(o);
    for (cpu_block *b = o->blocks; b; b = b->next)
        let_go(o, b);
    let_all_pages_go(o);
}

void cpu_weights_budget(ops *o, size_t bytes)
{
    cpu_self(o)->budget = bytes;
    stream_budget(&cpu_self(o)->stream, bytes);
}

void cpu_blocks_unwind(cpu_ops *o)
{
    for (cpu_block *b = o->blocks; b; b = b->next)
        b->head.held = false;
    unlist(o);
}

static void packed_key(const cpu_block *b, uint64_t key[2])
{
    memcpy(key, b->key, sizeof b->key);
    if (b->slices)
        kept_key_add(key, b->slices);
}

void cpu_block_key(ops *o, const block *b, uint64_t key[2], size_t *bytes)
{
    const cpu_block *mine = (const cpu_block *)b;
    (void)o;
    packed_key(mine, key);
    *bytes = mine->bytes + mine->slices;
}

/* ---- recipes ---- */

static bool kernels_read(dtype type) { return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16; }

static bool is_computed(const weight_recipe *r)
{
    bool any = false;
    for (int i = 0; i < r->count; i++)
        any = any || r->piece[i].source->view.type == DTYPE_COMPUTED;
    return any;
}

/* Whether the kernels take it as it lies, plain or packed. */
static bool readable(const weight_recipe *r)
{
    bool all = !is_computed(r);
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

/* Computed matrices (merged adapters) are kept in the type of the products. */
static dtype own_type(const weight_recipe *r, bool bf16)
{
    if (is_filter(r))
        return filter_type(r);
    return bf16 && r->role != WEIGHT_VECTOR && is_computed(r) ? DTYPE_BF16 : DTYPE_F32;
}

static size_t own_element(const weight_recipe *r, bool bf16)
{
    return (size_t)dtype_describe(own_type(r, bf16))->block_bytes;
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

/* Which form, and where in the block's memory. */
static flux1_status lay_out(cpu_weight *w, cpu_block *b, const cpu_ops *o, flux1_error *err)
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

flux1_status cpu_prepare(ops *o, block *b, const weight_recipe *r, const weight_recipe *bias, weight **out)
{
    cpu_block *into = (cpu_block *)b;
    cpu_weight *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(o->err, sizeof *w, "a weight");
    w->head = (weight){
        .role = r->role, .rows = r->rows, .cols = r->cols, .kernel = r->kernel, .has_bias = bias != NULL, .owner = b};
    w->head.file_bytes = recipe_bytes(r) + (bias ? recipe_bytes(bias) : 0);
    w->next = into->weights;
    into->weights = w; /* freed with the block, also if what follows fails */
    w->recipe = *r;
    if (bias)
        w->bias_recipe = *bias;
    let_go(cpu_self(o), into); /* it has another key now */
    TRY(lay_out(w, into, cpu_self(o), o->err));
    if (w->head.int8 && w->own)
        kept_key_add(into->key, (uint64_t)int8_group(w->head.int8));
    else if (is_computed(r))
        kept_key_add(into->key, own_type(r, cpu_self(o)->bf16));
    kept_key_recipe(into->key, r);
    if (bias)
        kept_key_recipe(into->key, bias);
    *out = &w->head;
    return FLUX1_OK;
}

/* ---- own forms ---- */

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
                   .bf16 = own_type(r, o->bf16) == DTYPE_BF16,
                   .chunk = i64_max(1, i64_min(32, i64_ceil_div(r->rows, 4 * (int64_t)o->threads))),
                   .out = out,
                   .scratch = o->scratch,
                   .err = o->head.err};
    j.width = GEMM_SCRATCH / j.chunk;
    TRY(ops_begin(&o->head, "merging adapters", NULL)); /* a cancel is seen between weights */
    pool_run(o->workers, i64_ceil_div(r->rows, j.chunk), compute_rows, &j);
    return (flux1_status)atomic_load(&j.status);
}

/* The file's values of these forms are not needed again. */
static flux1_status fill(cpu_ops *o, const cpu_block *b, unsigned char *data)
{
    flux1_error *err = o->head.err;
    for (const cpu_weight *w = b->weights; w; w = w->next) {
        if (w->own && w->head.int8)
            TRY(cpu_int8_fill(o, &w->recipe, data + w->at));
        else if (w->own && is_filter(&w->recipe))
            TRY(permute_filters(&w->recipe, data + w->at, err));
        else if (w->own && is_computed(&w->recipe))
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

/* The rows of a slice, one after the other. The pages around it are not needed again. */
static flux1_status pack_slice(const cpu_weight *w, unsigned char *out, flux1_error *err)
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

flux1_status cpu_block_export(ops *o, block *head, void *out)
{
    const cpu_block *b = (const cpu_block *)head;
    memset(out, 0, b->bytes + b->slices); /* what lies between weights */
    TRY(fill(cpu_self(o), b, out));
    for (const cpu_weight *w = b->weights; w; w = w->next)
        if (w->sliced)
            TRY(pack_slice(w, (unsigned char *)out + b->bytes + w->at, o->err));
    let_all_pages_go(cpu_self(o));
    return FLUX1_OK;
}

static matrix dense(const void *data, dtype type, int64_t rows, int64_t cols)
{
    return (matrix){.rows = rows,
                    .cols = cols,
                    .count = 1,
                    .piece = {{.data = data, .type = type, .ld = cols, .rows = rows, .cols = cols}}};
}

/* data: the block's form; NULL: it has none. */
static void point_into(cpu_block *b, const unsigned char *data, bool bf16)
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
            w->m = dense(data + w->at, own_type(r, bf16), r->rows, r->cols);
        else if (w->sliced && b->packed)
            w->m = dense(data + b->bytes + w->at, common_type(r), r->rows, r->cols);
        if (w->head.has_bias)
            w->bias = (const float *)(const void *)(data + w->bias_at);
    }
}

static flux1_status refuse_own(const cpu_ops *o, const cpu_block *b)
{
    char form[BYTES_TEXT], all[BYTES_TEXT];
    return error_set(
        o->head.err, FLUX1_ERR_LIMIT,
        "%s: its prepared weights (%s) are not in the cache on disk, and in memory they do not fit into the "
        "%s that the limit leaves for weights; make room in the cache, or raise the limit",
        b->head.name, format_bytes(form, sizeof form, (double)b->own),
        format_bytes(all, sizeof all, (double)o->budget));
}

/* A form that was to be pages of a file takes memory of the same budget, of the first rank that has it; whether there
 * is enough is seen before it is made. */
static flux1_status count_own(cpu_ops *o, cpu_block *b)
{
    if (!o->forms_in_files || !b->head.filed || is_lent(b) || !kept_count(o->kept, b->kept))
        return FLUX1_OK;
    o->own += b->bytes;
    b->own = b->bytes;
    return o->own <= o->budget ? FLUX1_OK : refuse_own(o, b);
}

static flux1_status make_form(cpu_ops *o, cpu_block *b)
{
    TRY(kept_take(o->kept, b->key, b->bytes, &b->kept, o->head.err));
    if (!b->kept)
        return error_oom(o->head.err, b->bytes, "a block of weights");
    TRY(count_own(o, b));
    if (b->kept->whole)
        return FLUX1_OK;
    TRY(fill(o, b, cpu_kept_data(b->kept)));
    kept_whole(o->kept, b->kept);
    return FLUX1_OK;
}

static flux1_status make_ready(cpu_ops *o, cpu_block *b)
{
    flux1_status st = FLUX1_OK;
    uint64_t packed[2];
    packed_key(b, packed);
    if (b->slices)
        b->kept = kept_find(o->kept, packed);
    b->packed = b->kept != NULL;
    if (!b->kept && b->bytes > 0)
        st = make_form(o, b);
    if (st == FLUX1_OK)
        point_into(b, b->kept ? cpu_kept_data(b->kept) : NULL, o->bf16);
    else
        let_go(o, b);
    b->ready = st == FLUX1_OK;
    return st;
}

/* ---- the bracket ---- */

static stream_range range_of(const matrix_piece *p)
{
    const unsigned char *data = p->packed ? p->packed->data : p->data;
    const dtype_info *info = dtype_describe(p->type);
    const int64_t count = p->rows > 0 ? (p->rows - 1) * p->ld + p->cols : 0,
                  begin = p->packed ? p->first / info->block_elements : 0,
                  end = p->packed ? i64_ceil_div(p->first + count, info->block_elements) : count;
    return (stream_range){.bytes = data + begin * info->block_bytes,
                          .count = data && count > 0 ? (size_t)((end - begin) * info->block_bytes) : 0};
}

/* Among the model's own bytes, not in the block's form. Of a table a few rows are read. */
static bool is_streamed(const cpu_block *b, const cpu_weight *w)
{
    return !w->own && !(w->sliced && b->packed) && w->head.role != WEIGHT_TABLE;
}

/* Whole row ranges: a rank's columns lie in the same pages anyway. Of columns beside each other (proj_out's [attention
 * | mlp]) that is twice the same range, or nearly, which counts once. */
static bool add_range(cpu_block *b, const stream_range *r)
{
    stream_block *m = &b->mapped;
    stream_range *last = m->ranges ? &b->ranges[m->ranges - 1] : NULL;
    if (!last || r->bytes >= last->bytes + last->count || last->bytes >= r->bytes + r->count) {
        b->ranges[m->ranges++] = *r;
        m->bytes += r->count;
        return false;
    }
    const unsigned char *end = last->bytes + last->count, *other = r->bytes + r->count;
    m->bytes -= last->count;
    last->bytes = r->bytes < last->bytes ? r->bytes : last->bytes;
    last->count = (size_t)((other > end ? other : end) - last->bytes);
    m->bytes += last->count;
    return true;
}

static void add_weight(cpu_block *b, const cpu_weight *w)
{
    int64_t cols = 0; /* of the range so far */
    for (int i = 0; i < w->m.count; i++) {
        const matrix_piece *p = &w->m.piece[i];
        stream_range r = range_of(p);
        r.file = w->recipe.piece[i].source->content;
        cols = (add_range(b, &r) ? cols : 0) + p->cols;
        b->ranges[b->mapped.ranges - 1].dense = cols == p->ld;
    }
}

/* A form that was lent is read whole. */
static void add_form(cpu_block *b)
{
    const stream_range r = {
        .bytes = cpu_kept_data(b->kept), .count = b->kept->bytes, .dense = true, .file = b->kept->file};
    add_range(b, &r);
}

static flux1_status list_ranges(cpu_block *b, flux1_error *err)
{
    int count = is_lent(b) ? 1 : 0;
    for (const cpu_weight *w = b->weights; w; w = w->next)
        count += is_streamed(b, w) ? w->m.count : 0;
    if (count > b->room) {
        stream_range *more = calloc((size_t)count, sizeof *more);
        if (!more)
            return error_oom(err, 0, "a block of weights");
        free(b->ranges);
        b->ranges = more;
        b->room = count;
    }
    b->mapped = (stream_block){.range = b->ranges};
    if (is_lent(b))
        add_form(b);
    for (const cpu_weight *w = b->weights; w; w = w->next)
        if (is_streamed(b, w))
            add_weight(b, w);
    return FLUX1_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Beside own forms two blocks are in memory, whatever the limit: one is read while the one before is used. The first of
 * a step comes behind the last. */
static flux1_status check_own(const cpu_ops *o)
{
    const cpu_block *first = NULL, *before = NULL, *own = NULL;
    size_t two = 0;
    for (const cpu_block *b = o->blocks; b; b = b->next) {
        if (b->own)
            own = b;
        if (b->head.idle)
            continue;
        first = first ? first : b;
        two = larger(two, b->mapped.bytes + (before ? before->mapped.bytes : 0));
        before = b;
    }
    if (before != first)
        two = larger(two, before->mapped.bytes + first->mapped.bytes);
    return !own || (o->own <= o->budget && two <= o->budget - o->own) ? FLUX1_OK : refuse_own(o, own);
}

/* All of a stage at once: the block that is begun first comes before a model's steps, and those take no memory. */
static flux1_status make_all_ready(cpu_ops *o)
{
    unlist(o); /* nothing is read while the ranges are listed again */
    stream_block *first = NULL, **last = &first;
    bool made = false;
    for (cpu_block *b = o->blocks; b; b = b->next)
        if (!b->ready && !b->head.idle) {
            TRY(make_ready(o, b));
            made = true;
        }
    if (made) /* vectors and biases were read, and what lies around them in the file came along */
        let_all_pages_go(o);
    for (cpu_block *b = o->blocks; b; b = b->next) {
        if (b->head.idle)
            continue;
        TRY(list_ranges(b, o->head.err));
        *last = &b->mapped;
        last = &b->mapped.next;
    }
    TRY(check_own(o));
    if (o->own > 0)
        stream_budget(&o->stream, o->budget - o->own);
    stream_take(&o->stream, first);
    o->listed = true;
    return FLUX1_OK;
}

flux1_status cpu_block_begin(ops *base, block *b)
{
    cpu_ops *o = cpu_self(base);
    cpu_block *mine = (cpu_block *)b;
    TRY(ops_begin(base, "block_begin", NULL));
    const bool idle = b->idle; /* and so not among the blocks that are listed */
    b->idle = false;
    if (idle || !mine->ready || !o->listed)
        TRY(make_all_ready(o));
    b->held = true;
    stream_begin(&o->stream, &mine->mapped);
    return FLUX1_OK;
}

flux1_status cpu_block_end(ops *o, block *b)
{
    b->held = false;
    stream_end(&cpu_self(o)->stream, &((cpu_block *)b)->mapped);
    return FLUX1_OK;
}
