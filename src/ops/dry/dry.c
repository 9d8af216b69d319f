/* The dry backend: the same model code on shapes alone. It counts the arena a real backend would need (by that
 * backend's ops_sizing), FLOPs and weight bytes. */
#include "ops/check.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

typedef struct dry_buffer {
    act_buffer head;
    size_t offset; /* arena position it was created at */
    struct dry_buffer *below;
} dry_buffer;

typedef struct dry_weight {
    weight head;
    struct dry_weight *next;
} dry_weight;

typedef struct dry_block {
    block head;
    struct dry_block *next;
} dry_block;

typedef struct dry_ops {
    ops head;
    ops_config config;
    const ops_sizing *sizing;
    arena memory;        /* measuring */
    dry_buffer *buffers; /* newest first */
    dry_weight *weights;
    dry_block *blocks;
    ops_count count;
} dry_ops;

static dry_ops *self(ops *o) { return (dry_ops *)o; }

static void note_peak(dry_ops *o, size_t extra)
{
    size_t now = o->memory.used + extra;
    if (o->memory.peak < now)
        o->memory.peak = now;
    o->count.arena_peak = o->memory.peak;
}

static void scratch(ops *o, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    note_peak(self(o), self(o)->sizing->scratch(&self(o)->config, work, m, n, k, heads));
}

/* Every operation: one more counted, and a cancel seen. */
static flux1_status counted(ops *o)
{
    self(o)->count.operations++;
    return FLUX1_OK;
}

/* ---- memory, weights, order ---- */

static void dry_release(ops *o, size_t mark)
{
    dry_ops *d = self(o);
    while (d->buffers && d->buffers->offset >= mark) {
        dry_buffer *b = d->buffers;
        d->buffers = b->below;
        free(b);
    }
    arena_release(&d->memory, mark);
}

static void dry_destroy(ops *o)
{
    if (!o)
        return;
    dry_ops *d = self(o);
    dry_release(o, 0);
    for (dry_weight *w = d->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    for (dry_block *b = d->blocks, *next; b; b = next) {
        next = b->next;
        free(b->head.name);
        free(b);
    }
    free(d);
}

static flux1_status dry_reserve(ops *o, size_t bytes)
{
    (void)o, (void)bytes;
    return FLUX1_OK;
}

static flux1_status dry_create(ops *o, act_role role, act_shape shape, act *out)
{
    dry_ops *d = self(o);
    dry_buffer *b = calloc(1, sizeof *b);
    if (!b)
        return error_oom(o->err, sizeof *b, "an activation's shape");
    b->head = (act_buffer){.shape = shape, .role = role};
    b->offset = d->memory.used;
    b->below = d->buffers;
    d->buffers = b;
    void *none;
    TRY(arena_alloc(&d->memory, d->sizing->act_bytes(&d->config, role, &shape), &none, o->err));
    note_peak(d, 0);
    *out = act_whole(&b->head);
    return FLUX1_OK;
}

static size_t dry_mark(ops *o) { return arena_mark(&self(o)->memory); }

static flux1_status dry_upload(ops *o, const tensor *host, act out)
{
    (void)host, (void)out;
    return counted(o);
}

static flux1_status dry_download(ops *o, act in, tensor *host)
{
    (void)in, (void)host;
    return counted(o);
}

static flux1_status dry_exchange(ops *o, size_t bytes, void **out)
{
    static char nowhere; /* an address to count offsets from; nothing is read or written there */
    dry_ops *d = self(o);
    if (d->sizing->unit)
        bytes = size_round_up(bytes ? bytes : 1, d->sizing->unit);
    TRY(arena_alloc(&d->memory, bytes, out, o->err));
    note_peak(d, 0);
    *out = &nowhere;
    return FLUX1_OK;
}

static flux1_status dry_block_create(ops *o, const char *name, block **out)
{
    dry_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(o->err, sizeof *b, "a weight block");
    }
    b->next = self(o)->blocks;
    self(o)->blocks = b;
    *out = &b->head;
    return FLUX1_OK;
}

static void dry_block_destroy(ops *o, block *b) { (void)o, (void)b; } /* its count stays */

static void dry_rest(ops *o) { (void)o; }

static flux1_status dry_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    dry_weight *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(o->err, sizeof *p, "a weight");
    p->head = (weight){
        .role = w->role, .rows = w->rows, .cols = w->cols, .kernel = w->kernel, .has_bias = bias != NULL, .owner = b};
    p->next = self(o)->weights;
    self(o)->weights = p;
    self(o)->count.weight_bytes += recipe_bytes(w) + (bias ? recipe_bytes(bias) : 0);
    if (self(o)->sizing->weight_bytes)
        self(o)->count.held_bytes += self(o)->sizing->weight_bytes(&self(o)->config, w, bias);
    *out = &p->head;
    return FLUX1_OK;
}

static flux1_status dry_block_begin(ops *o, block *b)
{
    b->held = true;
    return counted(o);
}

static flux1_status dry_block_end(ops *o, block *b)
{
    b->held = false;
    return counted(o);
}

static flux1_status dry_step_set(ops *o, int64_t step)
{
    o->step = step;
    return counted(o);
}

static flux1_status dry_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)recording;
    *done = false;
    return counted(o);
}

static flux1_status dry_step_record(ops *o) { return counted(o); }

static void dry_step_unwind(ops *o, size_t mark)
{
    for (dry_block *b = self(o)->blocks; b; b = b->next)
        b->head.held = false;
    dry_release(o, mark);
}

static flux1_status dry_sync(ops *o) { return counted(o); }

/* ---- arithmetic: the products count, the rest is noise beside them ---- */

static void product(ops *o, double *kind, double flops)
{
    *kind += flops;
    self(o)->count.flops += flops;
}

static flux1_status dry_product(ops *o, act in, const weight *w, const epilogue *e, act out)
{
    (void)e, (void)out;
    int64_t m = act_batch(in) * act_rows(in);
    product(o, &self(o)->count.linear_flops, 2.0 * (double)m * (double)w->rows * (double)w->cols);
    scratch(o, WORK_LINEAR, m, w->rows, w->cols, 1);
    return counted(o);
}

static flux1_status dry_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    (void)in, (void)w, (void)shift, (void)scale, (void)eps, (void)out;
    return counted(o);
}

static flux1_status dry_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    (void)in, (void)w, (void)eps, (void)out;
    return counted(o);
}

static flux1_status dry_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    (void)x, (void)heads, (void)w, (void)eps, (void)rope;
    return counted(o);
}

static flux1_status dry_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    (void)v, (void)out;
    product(o, &self(o)->count.attention_flops,
            4.0 * (double)act_batch(q) * (double)act_rows(q) * (double)act_rows(k) * (double)q.cols);
    scratch(o, WORK_ATTENTION, act_batch(q) * act_rows(q), act_rows(k), a->heads ? q.cols / a->heads : 0, a->heads);
    return counted(o);
}

static flux1_status dry_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    (void)lse;
    return dry_attention(o, q, k, v, a, out);
}

static flux1_status dry_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    (void)heads, (void)out, (void)lse, (void)other, (void)other_lse;
    return counted(o);
}

static flux1_status dry_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    (void)in, (void)top, (void)bottom, (void)stride, (void)residual;
    int64_t m = act_batch(out) * act_rows(out);
    product(o, &self(o)->count.conv_flops, 2.0 * (double)m * (double)w->rows * (double)w->cols);
    scratch(o, WORK_CONV, m, w->rows, w->cols, 1);
    return counted(o);
}

static flux1_status dry_group_stats(ops *o, act in, int64_t groups, act stats)
{
    (void)in, (void)groups, (void)stats;
    return counted(o);
}

static flux1_status dry_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                                    act out)
{
    (void)in, (void)stats, (void)groups, (void)w, (void)eps, (void)silu, (void)out;
    return counted(o);
}

static flux1_status dry_upsample(ops *o, act in, act out)
{
    (void)in, (void)out;
    return counted(o);
}

static flux1_status dry_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    (void)ids, (void)table, (void)positions, (void)first, (void)out;
    return counted(o);
}

static flux1_status dry_activate(ops *o, activation f, act in, act out)
{
    (void)f, (void)in, (void)out;
    return counted(o);
}

static flux1_status dry_add(ops *o, act x, float s, act gate, act y, act out)
{
    (void)x, (void)s, (void)gate, (void)y, (void)out;
    return counted(o);
}

static flux1_status dry_euler(ops *o, act x, act v, act dsigma)
{
    (void)x, (void)v, (void)dsigma;
    return counted(o);
}

static flux1_status dry_cast(ops *o, act in, act out)
{
    (void)in, (void)out;
    return counted(o);
}

static flux1_status dry_copy_rows(ops *o, act in, int64_t first, act out)
{
    (void)in, (void)first, (void)out;
    return counted(o);
}

/* Nothing a backend packs is wider than float32: an upper bound is enough to size an exchange. */
static size_t dry_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * sizeof(float);
}

static flux1_status dry_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    (void)in, (void)first, (void)rows, (void)bytes;
    return counted(o);
}

static flux1_status dry_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    (void)bytes, (void)out, (void)first, (void)rows;
    return counted(o);
}

static flux1_status dry_finite(ops *o, act a, int slot)
{
    (void)a, (void)slot;
    return counted(o);
}

static flux1_status dry_finite_first(ops *o, int *slot)
{
    *slot = -1;
    return counted(o);
}

static flux1_status dry_step_end(ops *o, int64_t step)
{
    (void)step;
    return counted(o);
}

static flux1_status dry_step_wait(ops *o, int64_t step, int *slot)
{
    (void)step;
    return dry_finite_first(o, slot);
}

/* Every entry that returns a status is checked before it counts. */
#define CHECKED_void(name, args, call) \
    static void checked_##name args { dry_##name call; }
#define CHECKED_size_t(name, args, call) \
    static size_t checked_##name args { return dry_##name call; }
#define CHECKED_flux1_status(name, args, call) \
    static flux1_status checked_##name args    \
    {                                          \
        TRY(ops_cancelled(o));                 \
        TRY(check_##name call);                \
        return dry_##name call;                \
    }
#define CHECKED(ret, name, args, call) CHECKED_##ret(name, args, call)
OPS_PRIMITIVES(CHECKED)

static const ops_table dry_table = {.name = "dry",
#define ROW(ret, name, args, call) .name = checked_##name,
                                    OPS_PRIMITIVES(ROW)
#undef ROW
#define ROW(ret, name, args, call) .name = composite_##name,
                                        OPS_COMPOSITES(ROW)
#undef ROW
};

flux1_status ops_dry_create(const ops_config *c, const ops_sizing *sizing, ops **out)
{
    dry_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the dry run");
    o->head = (ops){.fn = &dry_table, .err = c->err, .cancel = c->cancel};
    o->config = *c;
    o->sizing = sizing;
    arena_measure(&o->memory);
    *out = &o->head;
    return FLUX1_OK;
}

ops_count *ops_dry_count(ops *o) { return o->fn == &dry_table ? &self(o)->count : NULL; }
