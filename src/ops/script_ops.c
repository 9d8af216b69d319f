/* The backend that writes calls down. Like the dry backend it computes nothing and checks each call, as ops.h has it;
 * composites are written as themselves (docs/decisions.md), steps' calls once. */
#include "ops/check.h"
#include "ops/script.h"

#include "base/half.h"

#include <stdlib.h>
#include <string.h>

typedef struct noted_buffer {
    act_buffer head;
    int64_t id;
    struct noted_buffer *below;
} noted_buffer;

typedef struct noted_weight {
    weight head;
    int64_t id;
    struct noted_weight *next;
} noted_weight;

typedef struct noted_block {
    block head;
    int64_t id;
    struct noted_block *next;
} noted_block;

typedef struct script_ops {
    ops head;
    script *out;
    noted_buffer *buffers; /* newest first */
    noted_weight *weights;
    noted_block *blocks;
    int64_t acts, weight_count, block_count; /* so far: the next one's number */
    int64_t *mark;                           /* [marks]: of each, the next activation's number when it was set */
    size_t marks, mark_room;
} script_ops;

static script_ops *self(ops *o) { return (script_ops *)o; }

script *ops_script_of(ops *o) { return self(o)->out; }
void ops_script_into(ops *o, script *out) { self(o)->out = out; }

/* ---- operands ---- */

void ops_script_put_act(ops *o, act a)
{
    script *s = self(o)->out;
    const bool there = act_present(a);
    const act all = there ? act_of(a, a.part) : a;
    script_put(s, there ? ((const noted_buffer *)a.buffer)->id : -1);
    script_put(s, there ? a.part : PART_WHOLE);
    script_put(s, a.row);
    script_put(s, !there || (a.row == 0 && a.rows == all.rows) ? -1 - a.rows : a.rows);
    script_put(s, a.col);
    script_put(s, !there || (a.col == 0 && a.cols == a.buffer->shape.cols) ? -1 - a.cols : a.cols);
}

static void begin(ops *o, script_call call) { script_begin(self(o)->out, call); }
static flux1_status end(ops *o)
{
    const script_ops *s = self(o);
    TRY(script_end(s->out, o->err));
    return s->acts <= SCRIPT_IDS && s->weight_count <= SCRIPT_IDS && s->block_count <= SCRIPT_IDS &&
                   s->marks <= SCRIPT_IDS
               ? FLUX1_OK
               : error_set(o->err, FLUX1_ERR_UNSUPPORTED,
                           "a recording has at most %d activations, weights, blocks or marks in a stage", SCRIPT_IDS);
}

static void put(ops *o, int64_t cell) { script_put(self(o)->out, cell); }
static void put_act(ops *o, act a) { ops_script_put_act(o, a); }
static void put_real(ops *o, float v) { put(o, f32_bits(v)); }
static void put_weight(ops *o, const weight *w) { put(o, w ? ((const noted_weight *)w)->id : -1); }

static void put_epilogue(ops *o, const epilogue *e)
{
    put_act(o, e->addend);
    put(o, e->f);
    put_act(o, e->mul);
    put_act(o, e->gate);
    put_act(o, e->residual);
}

static void put_attention(ops *o, act q, act k, act v, const attention_args *a)
{
    put_act(o, q);
    put_act(o, k);
    put_act(o, v);
    put(o, a->heads);
    put_real(o, a->scale);
    put(o, a->causal);
    put_act(o, a->bias);
    put(o, a->int8);
}

/* What the call was given by name, once. */
static ops_given take_given(ops *o)
{
    const ops_given g = o->given;
    o->given = (ops_given){0};
    return g;
}

static flux1_status cannot(ops *o, const char *what)
{
    return error_set(o->err, FLUX1_ERR_UNSUPPORTED, "a recording cannot have %s", what);
}

static flux1_status plain(ops *o, const linear_weight *w)
{
    return w->adapter_count ? cannot(o, "adapters (LoRA)") : FLUX1_OK;
}

/* ---- memory ---- */

static void note_release_to(script_ops *s, int64_t acts)
{
    while (s->buffers && s->buffers->id >= acts) {
        noted_buffer *b = s->buffers;
        s->buffers = b->below;
        free(b);
    }
}

static void note_destroy(ops *o)
{
    script_ops *s = self(o);
    if (!o)
        return;
    note_release_to(s, 0);
    for (noted_weight *w = s->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    for (noted_block *b = s->blocks, *next; b; b = next) {
        next = b->next;
        free(b->head.name);
        free(b);
    }
    free(s->mark);
    free(s);
}

static flux1_status note_reserve(ops *o, size_t bytes)
{
    (void)o, (void)bytes;
    return FLUX1_OK;
}

static flux1_status note_create(ops *o, act_role role, act_shape shape, act *out)
{
    script_ops *s = self(o);
    noted_buffer *b = calloc(1, sizeof *b);
    if (!b)
        return error_oom(o->err, sizeof *b, "an activation's shape");
    *b = (noted_buffer){.head = {.shape = shape, .role = role}, .id = s->acts++, .below = s->buffers};
    s->buffers = b;
    *out = act_whole(&b->head);
    const int64_t cells[] = {b->id,      role,         shape.batch, shape.rows[PART_TEXT], shape.rows[PART_IMAGE],
                             shape.cols, shape.height, shape.width};
    begin(o, CALL_CREATE);
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        put(o, cells[i]);
    return end(o);
}

/* A mark that is never released has no effect: script_prune takes its line out. Out of memory shows at the next call.
 */
static size_t note_mark(ops *o)
{
    script_ops *s = self(o);
    if (s->marks == s->mark_room) {
        const size_t room = 2 * s->mark_room + 64;
        int64_t *more = realloc(s->mark, room * sizeof *more);
        if (!more) {
            s->out->failed = true;
            return 0;
        }
        s->mark = more;
        s->mark_room = room;
    }
    s->mark[s->marks] = s->acts;
    begin(o, CALL_MARK);
    put(o, (int64_t)s->marks);
    return s->marks++;
}

static void note_release(ops *o, size_t mark)
{
    script_ops *s = self(o);
    if (mark >= s->marks || !s->buffers || s->buffers->id < s->mark[mark])
        return;
    note_release_to(s, s->mark[mark]);
    begin(o, CALL_RELEASE);
    put(o, (int64_t)mark);
}

static flux1_status note_upload(ops *o, const tensor *host, act out)
{
    const ops_given g = take_given(o);
    (void)host;
    if (!g.name)
        return cannot(o, "an upload without a name");
    begin(o, CALL_INPUT);
    script_put_text(self(o)->out, g.name);
    put(o, g.first);
    put_act(o, out);
    return end(o);
}

static flux1_status note_download(ops *o, act in, tensor *host)
{
    (void)host;
    begin(o, CALL_OUTPUT);
    put_act(o, in);
    return end(o);
}

static flux1_status note_exchange(ops *o, size_t bytes, void **out)
{
    (void)bytes, (void)out;
    return cannot(o, "exchange memory: ranks exchange tensors");
}

static size_t note_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o, (void)a, (void)rows;
    return 0;
}

static flux1_status note_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    (void)in, (void)first, (void)rows, (void)bytes;
    return cannot(o, "packed rows: ranks exchange tensors");
}

static flux1_status note_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    (void)bytes, (void)out, (void)first, (void)rows;
    return cannot(o, "packed rows: ranks exchange tensors");
}

/* ---- weights ---- */

static flux1_status note_block_create(ops *o, const char *name, block **out)
{
    script_ops *s = self(o);
    noted_block *b = calloc(1, sizeof *b);
    if (!b || !(b->head.name = strdup(name))) {
        free(b);
        return error_oom(o->err, sizeof *b, "a weight block");
    }
    b->id = s->block_count++;
    b->next = s->blocks;
    s->blocks = b;
    *out = &b->head;
    begin(o, CALL_BLOCK);
    put(o, b->id);
    script_put_text(s->out, name);
    return end(o);
}

static void note_block_destroy(ops *o, block *b) { (void)o, (void)b; } /* of a stage's end */

static void put_block(ops *o, const block *b) { put(o, ((const noted_block *)b)->id); }

static flux1_status note_pieces(ops *o, int64_t id, bool bias, const weight_recipe *r)
{
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const tensor *t = &p->source->view;
        if (p->source->computed_from)
            return cannot(o, "adapters that are merged into weights");
        const int64_t rows = t->dims ? t->shape[0] : 1, cells[] = {p->source->half_of ? p->source->half_of : rows,
                                                                   tensor_row_elements(t),
                                                                   p->source_row + p->source->half_row,
                                                                   p->source_col,
                                                                   p->rows,
                                                                   p->cols,
                                                                   p->row,
                                                                   p->col};
        begin(o, CALL_PIECE);
        put(o, id);
        put(o, bias);
        script_put_text(self(o)->out, p->source->name);
        for (size_t k = 0; k < sizeof cells / sizeof *cells; k++)
            put(o, cells[k]);
        TRY(end(o));
    }
    return FLUX1_OK;
}

static flux1_status note_bias(ops *o, int64_t id, const weight_recipe *bias)
{
    begin(o, CALL_BIAS);
    put(o, id);
    put(o, bias->rows);
    return note_pieces(o, id, true, bias);
}

static flux1_status note_recipe(ops *o, int64_t id, const block *b, const weight_recipe *w, const weight_recipe *bias)
{
    const int64_t cells[] = {w->role, w->rows, w->cols, w->kernel, w->heads, w->coarse, w->int8};
    begin(o, CALL_WEIGHT);
    put(o, id);
    put_block(o, b);
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        put(o, cells[i]);
    TRY(note_pieces(o, id, false, w));
    if (bias)
        TRY(note_bias(o, id, bias));
    begin(o, CALL_PREPARE);
    put(o, id);
    return end(o);
}

static flux1_status note_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    script_ops *s = self(o);
    noted_weight *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(o->err, sizeof *p, "a weight");
    p->head = (weight){
        .role = w->role, .rows = w->rows, .cols = w->cols, .kernel = w->kernel, .has_bias = bias != NULL, .owner = b};
    p->id = s->weight_count++;
    p->next = s->weights;
    s->weights = p;
    *out = &p->head;
    return note_recipe(o, p->id, b, w, bias);
}

static flux1_status note_block_begin(ops *o, block *b)
{
    b->held = true;
    begin(o, CALL_BEGIN);
    put_block(o, b);
    return end(o);
}

static flux1_status note_block_end(ops *o, block *b)
{
    b->held = false;
    begin(o, CALL_END);
    put_block(o, b);
    return end(o);
}

static void note_rest(ops *o) { (void)o; }

/* ---- order: whoever makes the calls again counts the steps ---- */

static flux1_status note_step_set(ops *o, int64_t step)
{
    o->step = step;
    return FLUX1_OK;
}

static flux1_status note_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)o, (void)recording;
    *done = false;
    return FLUX1_OK;
}

static flux1_status note_step_record(ops *o) { return end(o); }

/* An order that a backend may use; a script has the calls one after the other. */
static flux1_status note_branch(ops *o, int which)
{
    (void)o, (void)which;
    return FLUX1_OK;
}

static flux1_status note_step_end(ops *o, int64_t step)
{
    (void)step;
    return end(o);
}

static flux1_status note_step_wait(ops *o, int64_t step, int *slot)
{
    (void)step;
    *slot = -1;
    return end(o);
}

static void note_step_unwind(ops *o, size_t mark) { (void)o, (void)mark; }
static flux1_status note_sync(ops *o) { return end(o); }

static flux1_status note_finite(ops *o, act a, int slot)
{
    begin(o, CALL_FINITE);
    put_act(o, a);
    put(o, slot);
    return end(o);
}

static flux1_status note_finite_first(ops *o, int *slot)
{
    *slot = -1;
    begin(o, CALL_CHECK);
    return end(o);
}

/* ---- arithmetic ---- */

static flux1_status note_product(ops *o, act in, const weight *w, const epilogue *e, act out)
{
    begin(o, CALL_LINEAR);
    put_act(o, in);
    put_weight(o, w);
    put_epilogue(o, e);
    put_act(o, out);
    return end(o);
}

static flux1_status note_linear(ops *o, act in, const linear_weight *w, const epilogue *e, act out)
{
    TRY(plain(o, w));
    return note_product(o, in, w->w, e, out);
}

/* The layers that read norm->out are a hint to backends, and not written. */
static flux1_status note_linear_norm(ops *o, act in, const linear_weight *w, const epilogue *e, act out,
                                     const norm_behind *norm)
{
    TRY(plain(o, w));
    begin(o, CALL_LINEAR_NORM);
    put_act(o, in);
    put_weight(o, w->w);
    put_epilogue(o, e);
    put_act(o, out);
    put(o, norm->slot);
    put_weight(o, norm->w);
    put_act(o, norm->shift);
    put_act(o, norm->scale);
    put_real(o, norm->eps);
    put_act(o, norm->out);
    return end(o);
}

static flux1_status put_qkv(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    TRY(plain(o, &w->qkv));
    put_act(o, in);
    put_weight(o, w->qkv.w);
    put_weight(o, w->norm_q);
    put_weight(o, w->norm_k);
    put(o, w->heads);
    put_real(o, w->eps);
    put_act(o, rope);
    put_act(o, qkv);
    return FLUX1_OK;
}

static flux1_status note_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    begin(o, CALL_QKV_NORM_ROPE);
    TRY(put_qkv(o, in, w, rope, qkv));
    return end(o);
}

static flux1_status note_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv,
                                         const linear_weight *up, act hidden)
{
    TRY(plain(o, up));
    begin(o, CALL_SINGLE_PRODUCTS);
    TRY(put_qkv(o, in, w, rope, qkv));
    put_weight(o, up->w);
    put_act(o, hidden);
    return end(o);
}

static flux1_status note_mlp(ops *o, act in, const linear_weight *up, activation f, const linear_weight *down,
                             const epilogue *e, act out)
{
    TRY(plain(o, up));
    TRY(plain(o, down));
    begin(o, CALL_MLP);
    put_act(o, in);
    put_weight(o, up->w);
    put(o, f);
    put_weight(o, down->w);
    put_epilogue(o, e);
    put_act(o, out);
    return end(o);
}

static flux1_status note_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    begin(o, CALL_LAYER_NORM);
    put_act(o, in);
    put_weight(o, w);
    put_act(o, shift);
    put_act(o, scale);
    put_real(o, eps);
    put_act(o, out);
    return end(o);
}

static flux1_status note_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    begin(o, CALL_RMS_NORM);
    put_act(o, in);
    put_weight(o, w);
    put_real(o, eps);
    put_act(o, out);
    return end(o);
}

static flux1_status note_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    begin(o, CALL_HEAD_NORM_ROPE);
    put_act(o, x);
    put(o, heads);
    put_weight(o, w);
    put_real(o, eps);
    put_act(o, rope);
    return end(o);
}

static flux1_status note_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    begin(o, CALL_ATTENTION);
    put_attention(o, q, k, v, a);
    put_act(o, out);
    return end(o);
}

static flux1_status note_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    begin(o, CALL_ATTENTION_PART);
    put_attention(o, q, k, v, a);
    put_act(o, out);
    put_act(o, lse);
    return end(o);
}

static flux1_status note_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    begin(o, CALL_ATTENTION_MERGE);
    put(o, heads);
    put_act(o, out);
    put_act(o, lse);
    put_act(o, other);
    put_act(o, other_lse);
    return end(o);
}

/* ---- planes ---- */

static void put_between(ops *o, act in, act top, act bottom)
{
    put_act(o, in);
    put_act(o, top);
    put_act(o, bottom);
}

static flux1_status note_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    begin(o, CALL_CONV);
    put_between(o, in, top, bottom);
    put_weight(o, w);
    put(o, stride);
    put_act(o, residual);
    put_act(o, out);
    return end(o);
}

static flux1_status note_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    begin(o, CALL_UPSAMPLE_CONV);
    put_between(o, in, top, bottom);
    put_weight(o, w);
    put_act(o, out);
    return end(o);
}

static flux1_status note_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w,
                                   act residual, act out)
{
    begin(o, CALL_NORM_CONV);
    put_between(o, in, top, bottom);
    put_act(o, n->stats);
    put(o, n->groups);
    put_weight(o, n->w);
    put_real(o, n->eps);
    put(o, n->silu);
    put_weight(o, w);
    put_act(o, residual);
    put_act(o, out);
    return end(o);
}

static flux1_status note_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    begin(o, CALL_GROUP_NORM);
    put_act(o, in);
    put(o, groups);
    put_weight(o, w);
    put_real(o, eps);
    put(o, silu);
    put_act(o, out);
    return end(o);
}

static flux1_status note_group_stats(ops *o, act in, int64_t groups, act stats)
{
    begin(o, CALL_GROUP_STATS);
    put_act(o, in);
    put(o, groups);
    put_act(o, stats);
    return end(o);
}

static flux1_status note_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                                     act out)
{
    begin(o, CALL_GROUP_APPLY);
    put_act(o, in);
    put_act(o, stats);
    put(o, groups);
    put_weight(o, w);
    put_real(o, eps);
    put(o, silu);
    put_act(o, out);
    return end(o);
}

static flux1_status note_upsample(ops *o, act in, act out)
{
    begin(o, CALL_UPSAMPLE);
    put_act(o, in);
    put_act(o, out);
    return end(o);
}

/* ---- rows ---- */

static flux1_status note_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    begin(o, CALL_EMBED);
    put_act(o, ids);
    put_weight(o, table);
    put_weight(o, positions);
    put(o, first);
    put_act(o, out);
    return end(o);
}

static flux1_status note_activate(ops *o, activation f, act in, act mul, act out)
{
    begin(o, CALL_ACTIVATE);
    put(o, f);
    put_act(o, in);
    put_act(o, mul);
    put_act(o, out);
    return end(o);
}

static flux1_status note_add(ops *o, act x, float s, act gate, act y, act out)
{
    begin(o, CALL_ADD);
    put_act(o, x);
    put_real(o, s);
    put_act(o, gate);
    put_act(o, y);
    put_act(o, out);
    return end(o);
}

static flux1_status note_euler(ops *o, act x, act v, act dsigma)
{
    begin(o, CALL_EULER);
    put_act(o, x);
    put_act(o, v);
    put_act(o, dsigma);
    return end(o);
}

static flux1_status note_cast(ops *o, act in, act out)
{
    begin(o, CALL_CAST);
    put_act(o, in);
    put_act(o, out);
    return end(o);
}

static flux1_status note_copy_rows(ops *o, act in, int64_t first, act out)
{
    const ops_given g = take_given(o);
    begin(o, CALL_COPY_ROWS);
    put_act(o, in);
    put(o, g.name ? 0 : first);
    script_put_text(self(o)->out, g.name);
    put_act(o, out);
    return end(o);
}

/* ---- the table ---- */

/* Every entry that returns a status is checked before it is written. */
#define CHECKED_void(name, args, call) \
    static void checked_##name args { note_##name call; }
#define CHECKED_size_t(name, args, call) \
    static size_t checked_##name args { return note_##name call; }
#define CHECKED_flux1_status(name, args, call) \
    static flux1_status checked_##name args    \
    {                                          \
        TRY(ops_cancelled(o));                 \
        TRY(check_##name call);                \
        return note_##name call;               \
    }
#define CHECKED(ret, name, args, call) CHECKED_##ret(name, args, call)
OPS_PRIMITIVES(CHECKED)
OPS_COMPOSITES(CHECKED)

static const ops_table script_table = {.name = "script",
#define ROW(ret, name, args, call) .name = checked_##name,
                                       OPS_PRIMITIVES(ROW) OPS_COMPOSITES(ROW)
#undef ROW
};

flux1_status ops_script_create(const ops_config *c, script *out, ops **o)
{
    script_ops *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(c->err, sizeof *s, "a recording");
    s->head = (ops){.fn = &script_table, .err = c->err, .cancel = c->cancel, .counts_only = true};
    s->out = out;
    *o = &s->head;
    return FLUX1_OK;
}
