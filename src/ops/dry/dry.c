/* The dry backend: the same model code on shapes alone. Each call is checked, as ops.h has it, and told to the config's
 * sink as an event, with the memory that a real backend (by its ops_sizing) would take; ops_count is the sum of the
 * same events. */
#include "ops/check.h"

#include "base/checked.h"
#include "base/hash.h"
#include "ops/int8.h"
#include "ops/record.h"
#include "ops/work.h"
#include "tensor/scale.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    size_t mapped_bytes; /* of its weights, those that stay in the file and are read whole */
    size_t own_bytes;    /* of its weights' own forms that are held */
    size_t form_bytes;   /* of its form for a file, with columns of matrices */
    uint64_t which;      /* its weights: a hash of their places in the files */
    bool stepped;        /* it was begun in a step */
    int64_t ended;       /* how many blocks had been begun at its last end */
    struct dry_block *next;
} dry_block;

/* Addresses without memory behind them: exchange's, to count from. */
typedef struct dry_space {
    void *base;
    size_t bytes;
    struct dry_space *older;
} dry_space;

typedef struct dry_ops {
    ops head;
    ops_config config;
    const ops_sizing *sizing;
    arena memory;        /* measuring */
    dry_buffer *buffers; /* newest first */
    dry_weight *weights;
    dry_block *blocks;
    dry_space *space; /* the largest first; exchanges share it, since nothing lies there */
    size_t cell[ACT_ROLES];
    call_list calls;
    bool forked;                /* between two branches' begin and end */
    size_t fork_base, fork_top; /* of the arena: when they began, and the most they reached */
    size_t list;                /* bytes of the step's calls, at the arena's end from then on */
    ops_count count;
    int64_t begun;                 /* blocks, so far */
    size_t form_most, source_most; /* of a block's form_bytes, and of the file behind one weight of a form */
    size_t held, beside;           /* mapped bytes of the blocks that are held; the same as the last one was begun */
    bool in_steps;                 /* a step was set */
} dry_ops;

static dry_ops *self(ops *o) { return (dry_ops *)o; }

/* ---- events ---- */

/* Before a block is begun: it was read while the one before was used, and what was held beside that one. */
static void count_begun(dry_ops *d, const dry_block *b)
{
    const bool among_them = b->ended > 0 && b->ended == d->begun; /* the same again, or one of several by turns */
    const size_t all = d->beside + (among_them ? 0 : b->mapped_bytes);
    d->count.block_bytes = all > d->count.block_bytes ? all : d->count.block_bytes;
    d->held += b->mapped_bytes;
    d->beside = d->held;
    d->begun++;
}

static void count_ended(dry_ops *d, dry_block *b)
{
    d->held -= b->mapped_bytes;
    b->ended = d->begun;
}

/* The one sink that is always there. */
static void add_up(dry_ops *d, const ops_event *e)
{
    ops_count *c = &d->count;
    if (c->arena_peak < e->arena)
        c->arena_peak = e->arena;
    c->operations += e->kind == EVENT_COMPUTE;
    c->exchanged += e->bytes_moved;
    c->flops += e->flops;
    if (!strcmp(e->operation, "product"))
        c->linear_flops += e->flops;
    else if (!strcmp(e->operation, "conv"))
        c->conv_flops += e->flops;
    else
        c->attention_flops += e->flops;
    if (!strcmp(e->operation, "prepare")) {
        c->weight_bytes += e->bytes_weights;
        c->held_bytes += e->bytes_out;
    }
}

/* scratch: of the arena, while it runs. */
static flux1_status tell_with(ops *o, ops_event e, size_t scratch)
{
    dry_ops *d = self(o);
    size_t top;
    if (!size_add(d->memory.used + d->list, scratch, &e.arena))
        e.arena = SIZE_MAX;
    if (d->forked && size_add(d->memory.used, scratch, &top) && d->fork_top < top)
        d->fork_top = top;
    add_up(d, &e);
    if (d->config.event)
        d->config.event(d->config.event_user, &e);
    return FLUX1_OK;
}

static flux1_status tell(ops *o, ops_event e) { return tell_with(o, e, 0); }

static flux1_status tell_kind(ops *o, ops_event_kind kind, const char *operation, const block *b)
{
    return tell(o, (ops_event){.kind = kind, .operation = operation, .block = b ? b->name : NULL});
}

static size_t scratch_of(ops *o, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    return self(o)->sizing->scratch(&self(o)->config, work, m, n, k, heads);
}

/* ---- memory ---- */

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
    for (dry_space *s = d->space, *next; s; s = next) {
        next = s->older;
        munmap(s->base, s->bytes);
        free(s);
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
    size_t bytes = d->sizing->act_bytes(&d->config, role, &shape);
    /* an empty one takes a byte: it must lie below a mark that is set behind it */
    TRY(arena_alloc(&d->memory, bytes ? bytes : 1, &none, o->err));
    *out = act_whole(&b->head);
    return tell(o, work_create(o, role, shape, out));
}

static size_t dry_mark(ops *o) { return arena_mark(&self(o)->memory); }

static flux1_status dry_upload(ops *o, const tensor *host, act out) { return tell(o, work_upload(o, host, out)); }

static flux1_status dry_download(ops *o, act in, tensor *host) { return tell(o, work_download(o, in, host)); }

/* `bytes` addresses, taken in ever larger pieces that are never touched. */
static flux1_status reserve_addresses(dry_ops *d, size_t bytes, void **out)
{
    enum { LEAST = 1 << 20 };
    if (!d->space || d->space->bytes < bytes) {
        size_t twice = d->space && d->space->bytes < SIZE_MAX / 4 ? 2 * d->space->bytes : LEAST;
        dry_space *s = malloc(sizeof *s);
        if (!s)
            return error_oom(d->head.err, sizeof *s, "the dry run");
        *s = (dry_space){.bytes = size_round_up(bytes > twice ? bytes : twice, LEAST), .older = d->space};
        s->base = mmap(NULL, s->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s->base == MAP_FAILED) {
            free(s);
            return error_oom(d->head.err, bytes, "what the ranks exchange");
        }
        d->space = s;
    }
    *out = d->space->base;
    return FLUX1_OK;
}

static flux1_status dry_exchange(ops *o, size_t bytes, void **out)
{
    dry_ops *d = self(o);
    size_t asked = bytes;
    if (d->sizing->unit)
        bytes = size_round_up(bytes ? bytes : 1, d->sizing->unit);
    TRY(arena_alloc(&d->memory, bytes, out, o->err));
    TRY(reserve_addresses(d, asked, out));
    return tell(o, work_exchange(o, asked, out));
}

/* ---- weights ---- */

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
    return tell(o, work_block_create(o, name, out));
}

static void dry_block_destroy(ops *o, block *b) /* its count stays, and events may still name it */
{
    if (b)
        (void)tell_kind(o, EVENT_WEIGHTS, "block_destroy", b);
}

static void dry_rest(ops *o) { (void)tell_kind(o, EVENT_WEIGHTS, "rest", NULL); }

static size_t held_bytes(const dry_ops *d, ops_held held, const weight_recipe *w, const weight_recipe *bias)
{
    ops_config c = d->config;
    c.held = held;
    return d->sizing->weight_bytes ? d->sizing->weight_bytes(&c, w, bias) : 0;
}

/* Where a recipe's bytes lie: pieces of tensors, which all ranks of a process have from one store. */
static uint64_t add_places(uint64_t which, const weight_recipe *w)
{
    for (int i = 0; i < w->count; i++) {
        const recipe_piece *p = &w->piece[i];
        const uint64_t place[] = {which,
                                  (uint64_t)(uintptr_t)p->source,
                                  (uint64_t)p->source_row,
                                  (uint64_t)p->source_col,
                                  (uint64_t)p->rows,
                                  (uint64_t)p->cols};
        which = hash_bytes(place, sizeof place);
    }
    return which;
}

/* Columns of the same rows as an earlier piece's. */
static bool repeats_rows(const weight_recipe *w, int piece)
{
    const recipe_piece *p = &w->piece[piece];
    bool again = false;
    for (int i = 0; i < piece; i++) {
        const recipe_piece *q = &w->piece[i];
        again = again || (q->source == p->source && q->source_row == p->source_row && q->rows == p->rows);
    }
    return again;
}

/* What the file's pages are where a recipe's rows lie: those of a rank's columns are all of their rows'. */
static size_t touched_bytes(const weight_recipe *w)
{
    size_t bytes = 0;
    for (int i = 0; i < w->count; i++) {
        const tensor *t = &w->piece[i].source->view;
        const unsigned char *scales;
        if (!repeats_rows(w, i) && t->type != DTYPE_COMPUTED && t->dims > 0 && t->shape[0] > 0)
            bytes += tensor_bytes(t) / (size_t)t->shape[0] * (size_t)w->piece[i].rows +
                     tensor_scale_beside(t->scale, 0, w->piece[i].rows * tensor_row_elements(t), &scales);
    }
    return bytes > recipe_bytes(w) ? bytes : recipe_bytes(w);
}

static bool takes_columns(const weight_recipe *w)
{
    bool any = false;
    for (int i = 0; i < w->count; i++)
        any = any || w->piece[i].cols < tensor_row_elements(&w->piece[i].source->view);
    return any;
}

/* A block's form is made weight by weight; `form` bytes of it of one with so many bytes of the file behind it. */
static void count_making(dry_ops *d, dry_block *b, size_t form, size_t source)
{
    b->form_bytes += form;
    d->form_most = b->form_bytes > d->form_most ? b->form_bytes : d->form_most;
    d->source_most = source > d->source_most ? source : d->source_most;
    if (d->count.block_bytes < d->form_most + d->source_most)
        d->count.block_bytes = d->form_most + d->source_most;
}

/* Returns the bytes that are held; the others are mapped. */
static size_t count_weight(dry_ops *d, dry_block *b, const weight_recipe *w, const weight_recipe *bias)
{
    const size_t form = held_bytes(d, d->config.held, w, bias), behind = bias ? recipe_bytes(bias) : 0;
    const bool in_file = d->config.forms_in_files && b->head.filed, stays = held_bytes(d, d->config.held, w, NULL) == 0;
    const size_t slice = in_file && stays && takes_columns(w) ? recipe_bytes(w) : 0;
    size_t mapped = in_file ? form : 0;
    if (form + slice > 0)
        count_making(d, b, in_file ? form + slice : 0, (in_file ? touched_bytes(w) : recipe_bytes(w)) + behind);
    if (stays && w->role != WEIGHT_TABLE) /* of a table a few rows are read */
        mapped += recipe_bytes(w);
    else
        mapped += slice;
    b->mapped_bytes += mapped;
    d->count.mapped_bytes += mapped;
    b->own_bytes += in_file ? 0 : form;
    return in_file ? 0 : form;
}

static flux1_status dry_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    dry_ops *d = self(o);
    dry_block *mine = (dry_block *)b;
    dry_weight *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(o->err, sizeof *p, "a weight");
    p->head = (weight){
        .role = w->role, .rows = w->rows, .cols = w->cols, .kernel = w->kernel, .has_bias = bias != NULL, .owner = b};
    p->head.file_bytes = recipe_bytes(w) + (bias ? recipe_bytes(bias) : 0);
    p->head.int8 = w->int8 ? d->config.int8 : INT8_NONE;
    p->next = d->weights;
    d->weights = p;
    *out = &p->head;
    ops_event e = work_prepare(o, b, w, bias, out);
    e.bytes_out = count_weight(d, mine, w, bias);
    mine->which = add_places(mine->which, w);
    if (bias)
        mine->which = add_places(mine->which, bias);
    d->count.packed_bytes += held_bytes(d, HELD_PACKED, w, bias);
    return tell(o, e);
}

static flux1_status dry_block_begin(ops *o, block *b)
{
    dry_ops *d = self(o);
    dry_block *mine = (dry_block *)b;
    b->held = true;
    count_begun(d, mine);
    if (d->in_steps && !mine->stepped)
        d->count.step_bytes += mine->mapped_bytes;
    mine->stepped = d->in_steps;
    ops_event e = work_block_begin(o, b);
    if (d->count.form_bytes < mine->own_bytes)
        d->count.form_bytes = mine->own_bytes;
    e.bytes_weights = mine->mapped_bytes;
    e.bytes_out = mine->own_bytes;
    e.which_weights = mine->which;
    return tell(o, e);
}

static flux1_status dry_block_end(ops *o, block *b)
{
    b->held = false;
    count_ended(self(o), (dry_block *)b);
    return tell(o, work_block_end(o, b));
}

/* ---- order ---- */

static flux1_status dry_step_set(ops *o, int64_t step)
{
    o->step = step;
    self(o)->in_steps = true;
    return tell(o, work_step_set(o, step));
}

static flux1_status dry_step_replay(ops *o, uint64_t recording, bool *done)
{
    TRY(record_step(o, recording, done));
    return tell(o, work_step_replay(o, recording, done));
}

/* The list is there as long as the arena, beside whatever else it holds. */
static flux1_status dry_step_record(ops *o)
{
    dry_ops *d = self(o);
    size_t peak = d->count.arena_peak - d->list; /* that of the parts before is in it */
    d->list = o->calls && !o->calls->spoiled ? o->calls->bytes : 0;
    return tell_with(o, work_step_record(o), d->list ? peak - d->memory.used : 0);
}

static void dry_step_unwind(ops *o, size_t mark)
{
    record_drop(o);
    for (dry_block *b = self(o)->blocks; b; b = b->next) {
        if (b->head.held)
            count_ended(self(o), b);
        b->head.held = false;
    }
    dry_release(o, mark);
    (void)tell_kind(o, EVENT_ORDER, "step_unwind", NULL);
}

/* Where two branches run at once, the second takes nothing that the first has. */
static flux1_status dry_branch(ops *o, int which)
{
    dry_ops *d = self(o);
    const bool beside = d->sizing->branches && d->config.branches;
    if (beside && which == 0 && d->forked) {
        d->forked = false;
        arena_release(&d->memory, d->fork_base);
    } else if (beside && which != 0 && !d->forked) {
        d->forked = true;
        d->fork_base = d->fork_top = d->memory.used;
    } else if (d->forked) {
        void *none;
        TRY(arena_alloc(&d->memory, d->fork_top - d->memory.used, &none, o->err));
    }
    return tell(o, work_branch(o, which));
}

static flux1_status dry_step_end(ops *o, int64_t step) { return tell(o, work_step_end(o, step)); }

static flux1_status dry_step_wait(ops *o, int64_t step, int *slot)
{
    *slot = -1;
    return tell(o, work_step_wait(o, step, slot));
}

static flux1_status dry_sync(ops *o) { return tell(o, work_sync(o)); }

/* ---- arithmetic ---- */

static flux1_status dry_product(ops *o, act in, const weight *w, const epilogue *e, act out)
{
    return tell_with(o, work_product(o, in, w, e, out),
                     scratch_of(o, w->int8 ? WORK_INT8 : WORK_LINEAR, act_batch(in) * act_rows(in), w->rows, w->cols,
                                act_batch(in)));
}

static flux1_status dry_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    return tell(o, work_layer_norm(o, in, w, shift, scale, eps, out));
}

static flux1_status dry_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    return tell(o, work_rms_norm(o, in, w, eps, out));
}

static flux1_status dry_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    return tell(o, work_head_norm_rope(o, x, heads, w, eps, rope));
}

static size_t attention_scratch(ops *o, act q, act k, const attention_args *a)
{
    const int64_t dim = a->heads ? q.cols / a->heads : 0;
    const bool int8 = a->int8 && int8_attends(o->attends, dim);
    return scratch_of(o, int8 ? WORK_INT8_ATTENTION : WORK_ATTENTION, act_batch(q) * act_rows(q), act_rows(k), dim,
                      a->heads);
}

static flux1_status dry_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    return tell_with(o, work_attention(o, q, k, v, a, out), attention_scratch(o, q, k, a));
}

static flux1_status dry_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    return tell_with(o, work_attention_part(o, q, k, v, a, out, lse), attention_scratch(o, q, k, a));
}

static flux1_status dry_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    return tell(o, work_attention_merge(o, heads, out, lse, other, other_lse));
}

static flux1_status dry_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    return tell_with(o, work_conv(o, in, top, bottom, w, stride, residual, out),
                     scratch_of(o, stride == 2 ? WORK_CONV_HALF : WORK_CONV, act_batch(out) * act_rows(out), w->rows,
                                w->cols, w->kernel == 1 ? 0 : in.buffer->shape.width));
}

static flux1_status dry_group_stats(ops *o, act in, int64_t groups, act stats)
{
    return tell(o, work_group_stats(o, in, groups, stats));
}

static flux1_status dry_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                                    act out)
{
    return tell(o, work_group_apply(o, in, stats, groups, w, eps, silu, out));
}

static flux1_status dry_upsample(ops *o, act in, act out) { return tell(o, work_upsample(o, in, out)); }

static flux1_status dry_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    return tell(o, work_embed(o, ids, table, positions, first, out));
}

static flux1_status dry_activate(ops *o, activation f, act in, act mul, act out)
{
    return tell(o, work_activate(o, f, in, mul, out));
}

static flux1_status dry_add(ops *o, act x, float s, act gate, act y, act out)
{
    return tell(o, work_add(o, x, s, gate, y, out));
}

static flux1_status dry_euler(ops *o, act x, act v, act dsigma) { return tell(o, work_euler(o, x, v, dsigma)); }

static flux1_status dry_cast(ops *o, act in, act out) { return tell(o, work_cast(o, in, out)); }

static flux1_status dry_copy_rows(ops *o, act in, int64_t first, act out)
{
    return tell(o, work_copy_rows(o, in, first, out));
}

static size_t dry_pack_bytes(ops *o, act a, int64_t rows)
{
    return (size_t)(act_batch(a) * rows * a.cols) * o->cell[a.buffer->role];
}

static flux1_status dry_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    return tell(o, work_pack(o, in, first, rows, bytes));
}

static flux1_status dry_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    return tell(o, work_unpack(o, bytes, out, first, rows));
}

static flux1_status dry_finite(ops *o, act a, int slot) { return tell(o, work_finite(o, a, slot)); }

static flux1_status dry_finite_first(ops *o, int *slot)
{
    *slot = -1;
    return tell(o, work_finite_first(o, slot));
}

static flux1_status dry_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    if (!self(o)->sizing->folds_planes)
        return composite_upsample_conv(o, in, top, bottom, w, out);
    return tell_with(o, work_upsample_conv(o, in, top, bottom, w, out),
                     scratch_of(o, WORK_CONV, act_batch(in) * act_rows(in), w->rows, w->cols, in.buffer->shape.width));
}

static flux1_status dry_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w,
                                  act residual, act out)
{
    if (!self(o)->sizing->folds_planes)
        return composite_norm_conv(o, in, top, bottom, n, w, residual, out);
    return tell_with(
        o, work_norm_conv(o, in, top, bottom, n, w, residual, out),
        scratch_of(o, WORK_CONV, act_batch(out) * act_rows(out), w->rows, w->cols, out.buffer->shape.width));
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
#define dry_linear composite_linear
#define dry_linear_norm composite_linear_norm
#define dry_qkv_norm_rope composite_qkv_norm_rope
#define dry_mlp composite_mlp
#define dry_single_products composite_single_products
#define dry_group_norm composite_group_norm
OPS_PRIMITIVES(CHECKED)
OPS_COMPOSITES(CHECKED)

static const ops_table dry_table = {.name = "dry",
#define ROW(ret, name, args, call) .name = checked_##name,
                                    OPS_PRIMITIVES(ROW) OPS_COMPOSITES(ROW)
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
    work_cells(c, sizing, o->cell);
    o->head.cell = o->cell;
    o->head.counts_only = true;
    o->head.attends = sizing->attends ? sizing->attends(c) : INT8_NONE;
    o->calls.memory = &o->memory;
    o->head.calls = sizing->call_list && !c->eager ? &o->calls : NULL;
    o->count.own_bytes = sizing->own_bytes ? sizing->own_bytes(c) : 0;
    arena_measure(&o->memory);
    *out = &o->head;
    return FLUX1_OK;
}

ops_count *ops_dry_count(ops *o) { return o->counts_only ? &self(o)->count : NULL; }

void ops_dry_tell(ops *o, ops_event e) { (void)tell(o, e); }
