#include "ops/record.h"

#include "base/checked.h"

#include <string.h>

enum { RECORD_ALIGN = 16 };

typedef flux1_status again_fn(ops *o, const recorded *r);

struct recorded {
    again_fn *again;
    recorded *next;
};

static const ops_table record_table;

/* ---- the list ---- */

/* Room for one more call, already linked; NULL if it is only measured or does not fit. */
static void *append(ops *o, size_t bytes, again_fn *again)
{
    call_list *l = o->calls;
    size_t size = size_round_up(bytes, RECORD_ALIGN);
    l->count++;
    l->bytes += size;
    if (o->counts_only || l->spoiled)
        return NULL;
    recorded *r = arena_take_end(l->memory, size);
    if (!r) {
        l->spoiled = true;
        return NULL;
    }
    *r = (recorded){.again = again};
    if (l->now->latest)
        l->now->latest->next = r;
    else
        l->now->first = r;
    l->now->latest = r;
    return r;
}

void record_drop(ops *o)
{
    call_list *l = o->calls;
    if (!l)
        return;
    if (o->fn == &record_table)
        o->fn = l->under;
    arena_release_end(l->memory);
    *l = (call_list){.memory = l->memory};
}

static flux1_status replay(ops *o, const call_part *p)
{
    for (const recorded *r = p->first; r; r = r->next)
        TRY(r->again(o, r));
    return FLUX1_OK;
}

flux1_status record_step(ops *o, uint64_t number, bool *done)
{
    call_list *l = o->calls;
    *done = false;
    if (!l)
        return FLUX1_OK;
    call_part *p = &l->part[number % OPS_STEP_PARTS];
    const bool same = !l->recording && l->step == number / OPS_STEP_PARTS;
    *done = same && p->complete && p->mark == arena_mark(l->memory);
    if (*done)
        return replay(o, p);
    if (!same || p->complete)
        record_drop(o);
    l->step = number / OPS_STEP_PARTS;
    *p = (call_part){.mark = arena_mark(l->memory)};
    l->now = p;
    l->under = o->fn;
    l->recording = true;
    o->fn = &record_table;
    return FLUX1_OK;
}

typedef struct other_call {
    recorded head;
    recorded_fn *fn;
    _Alignas(RECORD_ALIGN) unsigned char args[];
} other_call;

static flux1_status again_other(ops *o, const recorded *r)
{
    const other_call *c = (const other_call *)r;
    return c->fn(o, c->args);
}

void record_other(ops *o, recorded_fn *fn, const void *args, size_t bytes)
{
    other_call *c = record_active(o) ? append(o, sizeof *c + bytes, again_other) : NULL;
    if (!c)
        return;
    c->fn = fn;
    memcpy(c->args, args, bytes);
}

/* ---- memory: the same calls, which must give the same addresses ---- */

static flux1_status moved(ops *o, const char *what)
{
    return error_set(o->err, FLUX1_ERR_INTERNAL, "a recorded step: %s is not where it was when it was recorded", what);
}

typedef struct create_call {
    recorded head;
    act_role role;
    act_shape shape;
    const act_buffer *made;
} create_call;

static flux1_status again_create(ops *o, const recorded *r)
{
    const create_call *c = (const create_call *)r;
    act out;
    TRY(ops_create(o, c->role, c->shape, &out));
    return out.buffer == c->made ? FLUX1_OK : moved(o, "an activation");
}

static void store_create(ops *o, act_role role, act_shape shape, const act *out)
{
    create_call *c = append(o, sizeof *c, again_create);
    if (c)
        *c = (create_call){c->head, role, shape, out->buffer};
}

typedef struct exchange_call {
    recorded head;
    size_t bytes;
    const void *made;
} exchange_call;

static flux1_status again_exchange(ops *o, const recorded *r)
{
    const exchange_call *c = (const exchange_call *)r;
    void *out;
    TRY(ops_exchange(o, c->bytes, &out));
    return out == c->made ? FLUX1_OK : moved(o, "exchange memory");
}

static void store_exchange(ops *o, size_t bytes, void *const *out)
{
    exchange_call *c = append(o, sizeof *c, again_exchange);
    if (c)
        *c = (exchange_call){c->head, bytes, *out};
}

typedef struct release_call {
    recorded head;
    size_t mark;
} release_call;

static flux1_status again_release(ops *o, const recorded *r)
{
    ops_release(o, ((const release_call *)r)->mark);
    return FLUX1_OK;
}

static void store_release(ops *o, size_t mark)
{
    release_call *c = append(o, sizeof *c, again_release);
    if (c)
        *c = (release_call){c->head, mark};
}

/* ---- weights and arithmetic: entry, its parameters, what is kept of them, their values, the call again ---- */

/* clang-format off */
#define RECORDED_CALLS(X) \
    X(block_begin, (ops *o, block *b), (block *b;), (b), (o, c->b)) \
    X(block_end, (ops *o, block *b), (block *b;), (b), (o, c->b)) \
    X(product, (ops *o, act in, const weight *w, const epilogue *e, act out), \
      (act in; const weight *w; epilogue e; act out;), (in, w, *e, out), (o, c->in, c->w, &c->e, c->out)) \
    X(layer_norm, (ops *o, act in, const weight *w, act shift, act scale, float eps, act out), \
      (act in; const weight *w; act shift; act scale; float eps; act out;), (in, w, shift, scale, eps, out), \
      (o, c->in, c->w, c->shift, c->scale, c->eps, c->out)) \
    X(rms_norm, (ops *o, act in, const weight *w, float eps, act out), \
      (act in; const weight *w; float eps; act out;), (in, w, eps, out), (o, c->in, c->w, c->eps, c->out)) \
    X(head_norm_rope, (ops *o, act x, int64_t heads, const weight *w, float eps, act rope), \
      (act x; int64_t heads; const weight *w; float eps; act rope;), (x, heads, w, eps, rope), \
      (o, c->x, c->heads, c->w, c->eps, c->rope)) \
    X(attention, (ops *o, act q, act k, act v, const attention_args *a, act out), \
      (act q; act k; act v; attention_args a; act out;), (q, k, v, *a, out), (o, c->q, c->k, c->v, &c->a, c->out)) \
    X(attention_part, (ops *o, act q, act k, act v, const attention_args *a, act out, act lse), \
      (act q; act k; act v; attention_args a; act out; act lse;), (q, k, v, *a, out, lse), \
      (o, c->q, c->k, c->v, &c->a, c->out, c->lse)) \
    X(attention_merge, (ops *o, int64_t heads, act out, act lse, act other, act other_lse), \
      (int64_t heads; act out; act lse; act other; act other_lse;), (heads, out, lse, other, other_lse), \
      (o, c->heads, c->out, c->lse, c->other, c->other_lse)) \
    X(conv, (ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out), \
      (act in; act top; act bottom; const weight *w; int stride; act residual; act out;), \
      (in, top, bottom, w, stride, residual, out), \
      (o, c->in, c->top, c->bottom, c->w, c->stride, c->residual, c->out)) \
    X(group_stats, (ops *o, act in, int64_t groups, act stats), (act in; int64_t groups; act stats;), \
      (in, groups, stats), (o, c->in, c->groups, c->stats)) \
    X(group_apply, (ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu, act out), \
      (act in; act stats; int64_t groups; const weight *w; float eps; bool silu; act out;), \
      (in, stats, groups, w, eps, silu, out), (o, c->in, c->stats, c->groups, c->w, c->eps, c->silu, c->out)) \
    X(upsample, (ops *o, act in, act out), (act in; act out;), (in, out), (o, c->in, c->out)) \
    X(embed, (ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out), \
      (act ids; const weight *table; const weight *positions; int64_t first; act out;), \
      (ids, table, positions, first, out), (o, c->ids, c->table, c->positions, c->first, c->out)) \
    X(activate, (ops *o, activation f, act in, act mul, act out), (activation f; act in; act mul; act out;), \
      (f, in, mul, out), (o, c->f, c->in, c->mul, c->out)) \
    X(add, (ops *o, act x, float s, act gate, act y, act out), (act x; float s; act gate; act y; act out;), \
      (x, s, gate, y, out), (o, c->x, c->s, c->gate, c->y, c->out)) \
    X(euler, (ops *o, act x, act v, act dsigma), (act x; act v; act dsigma;), (x, v, dsigma), \
      (o, c->x, c->v, c->dsigma)) \
    X(cast, (ops *o, act in, act out), (act in; act out;), (in, out), (o, c->in, c->out)) \
    X(copy_rows, (ops *o, act in, int64_t first, act out), (act in; int64_t first; act out;), (in, first, out), \
      (o, c->in, c->first, c->out)) \
    X(pack, (ops *o, act in, int64_t first, int64_t rows, void *bytes), \
      (act in; int64_t first; int64_t rows; void *bytes;), (in, first, rows, bytes), \
      (o, c->in, c->first, c->rows, c->bytes)) \
    X(unpack, (ops *o, const void *bytes, act out, int64_t first, int64_t rows), \
      (const void *bytes; act out; int64_t first; int64_t rows;), (bytes, out, first, rows), \
      (o, c->bytes, c->out, c->first, c->rows)) \
    X(finite, (ops *o, act a, int slot), (act a; int slot;), (a, slot), (o, c->a, c->slot)) \
    X(linear, (ops *o, act in, const linear_weight *w, const epilogue *e, act out), \
      (act in; linear_weight w; epilogue e; act out;), (in, *w, *e, out), (o, c->in, &c->w, &c->e, c->out)) \
    X(linear_norm, (ops *o, act in, const linear_weight *w, const epilogue *e, act out, const norm_behind *norm), \
      (act in; linear_weight w; epilogue e; act out; norm_behind norm;), (in, *w, *e, out, *norm), \
      (o, c->in, &c->w, &c->e, c->out, &c->norm)) \
    X(qkv_norm_rope, (ops *o, act in, const qkv_weights *w, act rope, act qkv), \
      (act in; qkv_weights w; act rope; act qkv;), (in, *w, rope, qkv), (o, c->in, &c->w, c->rope, c->qkv)) \
    X(mlp, (ops *o, act in, const linear_weight *up, activation f, const linear_weight *down, const epilogue *e, \
      act out), \
      (act in; linear_weight up; activation f; linear_weight down; epilogue e; act out;), \
      (in, *up, f, *down, *e, out), (o, c->in, &c->up, c->f, &c->down, &c->e, c->out)) \
    X(single_products, (ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up, \
      act hidden), \
      (act in; qkv_weights w; act rope; act qkv; linear_weight up; act hidden;), (in, *w, rope, qkv, *up, hidden), \
      (o, c->in, &c->w, c->rope, c->qkv, &c->up, c->hidden)) \
    X(group_norm, (ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out), \
      (act in; int64_t groups; const weight *w; float eps; bool silu; act out;), (in, groups, w, eps, silu, out), \
      (o, c->in, c->groups, c->w, c->eps, c->silu, c->out)) \
    X(upsample_conv, (ops *o, act in, act top, act bottom, const weight *w, act out), \
      (act in; act top; act bottom; const weight *w; act out;), (in, top, bottom, w, out), \
      (o, c->in, c->top, c->bottom, c->w, c->out)) \
    X(norm_conv, (ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual, act out), \
      (act in; act top; act bottom; norm_before n; const weight *w; act residual; act out;), \
      (in, top, bottom, *n, w, residual, out), \
      (o, c->in, c->top, c->bottom, &c->n, c->w, c->residual, c->out))
/* clang-format on */

#define UNPAREN(...) __VA_ARGS__
#define KEEP(name, args, fields, values, call)                  \
    typedef struct name##_call {                                \
        recorded head;                                          \
        UNPAREN fields                                          \
    } name##_call;                                              \
    static flux1_status again_##name(ops *o, const recorded *r) \
    {                                                           \
        const name##_call *c = (const name##_call *)r;          \
        return ops_##name call;                                 \
    }                                                           \
    static void store_##name args                               \
    {                                                           \
        name##_call *c = append(o, sizeof *c, again_##name);    \
        if (c)                                                  \
            *c = (name##_call){c->head, UNPAREN values};        \
    }
RECORDED_CALLS(KEEP)

static void spoil(ops *o) { o->calls->spoiled = true; }

static void finish(ops *o)
{
    call_list *l = o->calls;
    o->fn = l->under;
    l->recording = false;
    l->now->complete = !l->spoiled && !o->counts_only;
    if (l->spoiled)
        record_drop(o);
}

/* What cannot be repeated, and the end. */
#define store_reserve(...) spoil(o)
#define store_upload(...) spoil(o)
#define store_download(...) spoil(o)
#define store_block_create(...) spoil(o)
#define store_prepare(...) spoil(o)
#define store_step_set(...) spoil(o)
#define store_step_replay(...) spoil(o)
#define store_step_end(...) spoil(o)
#define store_step_wait(...) spoil(o)
#define store_sync(...) spoil(o)
#define store_finite_first(...) spoil(o)
#define store_step_record(...) finish(o)
#define store_branch(...) (void)0 /* a CPU works in order */

/* ---- the table over the backend's ---- */

/* An entry that returns a status is recorded when it has gone well, unless it made calls that were. */
#define RECORD_flux1_status(name, args, call) \
    static flux1_status record_##name args    \
    {                                         \
        size_t count = o->calls->count;       \
        TRY(o->calls->under->name call);      \
        if (o->calls->count == count)         \
            store_##name call;                \
        return FLUX1_OK;                      \
    }
#define RECORD_size_t(name, args, call) \
    static size_t record_##name args { return o->calls->under->name call; }
#define RECORD_void(name, args, call) /* below */
#define RECORD(ret, name, args, call) RECORD_##ret(name, args, call)
OPS_PRIMITIVES(RECORD)
OPS_COMPOSITES(RECORD)

static void record_release(ops *o, size_t mark)
{
    o->calls->under->release(o, mark);
    store_release(o, mark);
}

static void record_block_destroy(ops *o, block *b)
{
    spoil(o);
    o->calls->under->block_destroy(o, b);
}

static void record_rest(ops *o)
{
    spoil(o);
    o->calls->under->rest(o);
}

static void record_step_unwind(ops *o, size_t mark)
{
    record_drop(o);
    ops_step_unwind(o, mark);
}

static void record_destroy(ops *o)
{
    record_drop(o);
    ops_destroy(o);
}

static const ops_table record_table = {.name = "record",
#define ROW(ret, name, args, call) .name = record_##name,
                                       OPS_PRIMITIVES(ROW) OPS_COMPOSITES(ROW)
#undef ROW
};
