/* The reference backend: memory, weights and order. Its arithmetic (ref_linear.c, ref_attention.c, ref_image.c) is the
 * definition of every entry, in the fewest readable lines: float32 values, sums in double, one thread. */
#include "ops/ref/ref.h"

#include "base/checked.h"
#include "ops/device.h"

#include <stdlib.h>
#include <string.h>

static const ops_table ref_table_of_functions = {.name = "ref",
#define ROW(ret, name, args, call) .name = ref_##name,
                                                 OPS_PRIMITIVES(ROW)
#undef ROW
#define ROW(ret, name, args, call) .name = composite_##name,
                                                     OPS_COMPOSITES(ROW)
#undef ROW
};

flux1_status ops_ref_create(const ops_config *c, ops **out)
{
    ref_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the reference backend");
    o->head = (ops){.fn = &ref_table_of_functions, .err = c->err, .cancel = c->cancel};
    o->fp8 = c->fp8;
    o->int8 = c->int8;
    o->int8_quads = c->int8_quads;
    o->head.attends = ops_ref_sizing.attends(c);
    *out = &o->head;
    return FLUX1_OK;
}

static void free_weight(ref_weight *w)
{
    free(w->w);
    free(w->bias);
    free(w->numbers.number);
    free(w->numbers.scale);
    free(w);
}

void ref_destroy(ops *base)
{
    ref_ops *o = (ref_ops *)base;
    if (!o)
        return;
    for (ref_weight *w = o->weights, *next; w; w = next) {
        next = w->next;
        free_weight(w);
    }
    for (ref_block *b = o->blocks, *next; b; b = next) {
        next = b->next;
        free(b->head.name);
        free(b);
    }
    arena_destroy(&o->memory);
    free(o);
}

/* ---- memory ---- */

static size_t ref_act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    (void)c, (void)role;
    size_t data = (size_t)(s->batch * (s->rows[0] + s->rows[1]) * s->cols) * sizeof(float);
    return size_round_up(sizeof(ref_buffer), ARENA_ALIGN) + size_round_up(data, ARENA_ALIGN);
}

static size_t ref_scratch(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    if (work == WORK_INT8)
        return m > 0 ? ref_int8_scratch(c->int8, k) : 0;
    if (work == WORK_LINEAR)
        return c->fp8 ? size_round_up((size_t)(m * k) * sizeof(float), ARENA_ALIGN) : 0;
    if (work == WORK_INT8_ATTENTION)
        return heads > 0 ? ref_int8_attention_scratch(n, k) : 0;
    return work == WORK_ATTENTION && heads > 0 ? size_round_up((size_t)n * sizeof(double), ARENA_ALIGN) : 0;
}

static size_t ref_cell_bytes(const ops_config *c, act_role role)
{
    (void)c, (void)role;
    return sizeof(float); /* whatever the arithmetic */
}

/* Every weight is decoded to float32. */
static size_t ref_weight_bytes(const ops_config *c, const weight_recipe *w, const weight_recipe *bias)
{
    (void)c;
    return (size_t)(w->rows * w->cols + (bias ? bias->rows * bias->cols : 0)) * sizeof(float);
}

static int8_kind ref_attends(const ops_config *c) { return c->int8; }

const ops_sizing ops_ref_sizing = {.act_bytes = ref_act_bytes,
                                   .cell_bytes = ref_cell_bytes,
                                   .scratch = ref_scratch,
                                   .attends = ref_attends,
                                   .any_rows = true,
                                   .alone_rows = 320,
                                   .together_rows = 320,
                                   .weight_bytes = ref_weight_bytes};

flux1_status ref_reserve(ops *base, size_t bytes)
{
    ref_ops *o = (ref_ops *)base;
    arena_release(&o->memory, 0);
    if (bytes > 0 && bytes <= o->memory.size)
        return FLUX1_OK;
    arena_destroy(&o->memory);
    return arena_create(bytes, &o->memory, base->err);
}

flux1_status ref_create(ops *base, act_role role, act_shape shape, act *out)
{
    ref_ops *o = (ref_ops *)base;
    size_t data = (size_t)(shape.batch * (shape.rows[0] + shape.rows[1]) * shape.cols) * sizeof(float);
    void *head, *cells;
    TRY(arena_alloc(&o->memory, sizeof(ref_buffer), &head, base->err));
    TRY(arena_alloc(&o->memory, data, &cells, base->err));
    ref_buffer *f = head;
    *f = (ref_buffer){.head = {.shape = shape, .role = role}, .data = cells};
    *out = act_whole(&f->head);
    return FLUX1_OK;
}

size_t ref_mark(ops *o) { return arena_mark(&((ref_ops *)o)->memory); }
void ref_release(ops *o, size_t mark) { arena_release(&((ref_ops *)o)->memory, mark); }

flux1_status ref_exchange(ops *base, size_t bytes, void **out)
{
    ref_ops *o = (ref_ops *)base;
    return arena_alloc(&o->memory, bytes, out, base->err);
}

flux1_status ref_upload(ops *o, const tensor *host, act out)
{
    TRY(ops_begin(o, "upload", NULL));
    TRY(ops_host_fits(o, "upload", host, out));
    const char *from = host->data;
    size_t bytes = (size_t)out.cols * 4;
    for (int64_t b = 0; b < act_batch(out); b++)
        for (int64_t r = 0; r < act_rows(out); r++, from += bytes)
            memcpy(ref_row(out, b, r), from, bytes);
    return FLUX1_OK;
}

flux1_status ref_download(ops *o, act in, tensor *host)
{
    TRY(ops_begin(o, "download", NULL));
    TRY(ops_host_fits(o, "download", host, in));
    char *to = host->data;
    size_t bytes = (size_t)in.cols * 4;
    for (int64_t b = 0; b < act_batch(in); b++)
        for (int64_t r = 0; r < act_rows(in); r++, to += bytes)
            memcpy(to, ref_row(in, b, r), bytes);
    return FLUX1_OK;
}

/* ---- weights ---- */

void ref_block_destroy(ops *base, block *b)
{
    ref_ops *o = (ref_ops *)base;
    ref_block **block_at = &o->blocks;
    if (!b)
        return;
    for (ref_weight **at = &o->weights, *w; (w = *at);) {
        if (w->head.owner != b) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free_weight(w);
    }
    while (&(*block_at)->head != b)
        block_at = &(*block_at)->next;
    *block_at = (*block_at)->next;
    free(b->name);
    free(b);
}

void ref_rest(ops *o) { (void)o; }

void ref_step_unwind(ops *base, size_t mark)
{
    ref_ops *o = (ref_ops *)base;
    for (ref_block *b = o->blocks; b; b = b->next)
        b->head.held = false;
    ref_finite_first(base, &(int){0});
    ref_release(base, mark);
}

flux1_status ref_block_create(ops *base, const char *name, block **out)
{
    ref_ops *o = (ref_ops *)base;
    ref_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(base->err, sizeof *b, "a weight block");
    }
    b->next = o->blocks;
    o->blocks = b;
    *out = &b->head;
    return FLUX1_OK;
}

enum { DECODED_ROWS = 32 };

static flux1_status decode_matrix(const weight_recipe *r, float **out, flux1_error *err)
{
    size_t count = (size_t)(r->rows * r->cols);
    float *w = malloc(count ? count * sizeof *w : 1);
    if (!w)
        return error_oom(err, count * sizeof *w, "a weight matrix");
    for (int64_t i = 0; i < r->rows; i += DECODED_ROWS) { /* computed ones are faster together */
        flux1_status st =
            recipe_decode_rows(r, i, i64_min(DECODED_ROWS, r->rows - i), 0, r->cols, w + i * r->cols, err);
        if (st != FLUX1_OK) {
            free(w);
            return st;
        }
    }
    *out = w;
    return FLUX1_OK;
}

flux1_status ref_prepare(ops *base, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    ref_ops *o = (ref_ops *)base;
    ref_weight *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(base->err, sizeof *p, "a weight");
    p->head = (weight){
        .role = w->role, .rows = w->rows, .cols = w->cols, .kernel = w->kernel, .has_bias = bias != NULL, .owner = b};
    p->head.file_bytes = recipe_bytes(w) + (bias ? recipe_bytes(bias) : 0);
    p->next = o->weights;
    o->weights = p;
    p->head.int8 = w->int8 ? o->int8 : INT8_NONE;
    if (p->head.int8)
        TRY(ref_int8_weight(o->int8, w, p, base->err));
    else
        TRY(decode_matrix(w, &p->w, base->err));
    p->coarse = o->fp8 && w->coarse;
    if (p->coarse)
        ref_e4m3(o->fp8, p->w, w->rows, w->cols);
    if (bias)
        TRY(decode_matrix(bias, &p->bias, base->err));
    *out = &p->head;
    return FLUX1_OK;
}

flux1_status ref_block_begin(ops *o, block *b)
{
    TRY(ops_begin(o, "block_begin", NULL));
    b->held = true;
    return FLUX1_OK;
}

flux1_status ref_block_end(ops *o, block *b)
{
    (void)o;
    b->held = false;
    return FLUX1_OK;
}

/* ---- order ---- */

flux1_status ref_step_set(ops *o, int64_t step)
{
    o->step = step;
    return FLUX1_OK;
}

flux1_status ref_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)recording;
    (void)o;
    *done = false; /* a call costs nothing beside its work here */
    return FLUX1_OK;
}

flux1_status ref_step_record(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

flux1_status ref_branch(ops *o, int which)
{
    (void)o, (void)which;
    return FLUX1_OK;
}

flux1_status ref_sync(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

/* ---- the device: nothing to open, nothing to count ---- */

static flux1_status ref_count(int *count, flux1_error *err)
{
    (void)err;
    *count = 1;
    return FLUX1_OK;
}

static flux1_status ref_describe(int ordinal, ops_device_info *out, flux1_error *err)
{
    if (ordinal)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "device ref:%d: there is one reference device, ref", ordinal);
    *out = (ops_device_info){
        .id = "ref", .name = "the definition of every operation in plain C", .fp8 = true, .int8 = true};
    return FLUX1_OK;
}

static flux1_status ref_open(int ordinal, ops_device **out, flux1_error *err)
{
    ops_device *d = calloc(1, sizeof *d);
    if (!d)
        return error_oom(err, sizeof *d, "the reference device");
    d->kind = &ops_ref_device;
    flux1_status st = ref_describe(ordinal, &d->info, err);
    if (st != FLUX1_OK) {
        free(d);
        return st;
    }
    *out = d;
    return FLUX1_OK;
}

static void ref_close(ops_device *d) { free(d); }

const ops_device_kind ops_ref_device = {
    .name = "ref",
    .syntax = "ref (plain C, slow)",
    .count = ref_count,
    .describe = ref_describe,
    .open = ref_open,
    .close = ref_close,
    .create = ops_ref_create,
    .sizing = &ops_ref_sizing,
};
