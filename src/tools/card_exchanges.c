/* Exchanges, whose buffers stay, and attention, of which a ring is one. */
#include "tools/card_worker.h"

#include "base/checked.h"

enum { TURNS = 2 }; /* sets of buffers, used by turns */
typedef enum buffer_use { USE_GATHER = CARD_END + 1, USE_SUMS, USE_SHARE, USE_KEYS, USE_VALUES } buffer_use;

/* ---- exchanges ---- */

card_ways card_ways_of(const card_worker *w, mesh_axis along)
{
    const mesh_config *c = w->shape;
    const int axis[2] = {c->tp_axis, c->sp_axis}, ranks[2] = {c->tp, c->sp};
    card_ways out = {0};
    for (int i = 0; i < 2; i++)
        if (ranks[i] > 1 && (along == AXIS_ALL || along == (i ? AXIS_SP : AXIS_TP))) {
            out.axis[out.count] = axis[i];
            out.ranks[out.count++] = ranks[i];
        }
    return out;
}

static bool is_same_buffer(const card_buffer *a, const card_buffer *b)
{
    return a->use == b->use && a->turn == b->turn && a->axis == b->axis && a->dim == b->dim &&
           a->t.heads == b->t.heads && a->t.rows == b->t.rows && a->t.cols == b->t.cols && a->t.cell == b->t.cell &&
           a->t.by_rows == b->t.by_rows;
}

void card_stay(card_worker *w, card_buffer b)
{
    for (size_t i = 0; i < w->buffers; i++)
        if (is_same_buffer(&w->buffer[i], &b))
            return;
    if (!card_grow(w, (void **)&w->buffer, sizeof *w->buffer, w->buffers, &w->buffer_room))
        return;
    w->buffer[w->buffers++] = b;
    card_take(&w->space, card_bytes(&w->space, &b.t));
}

static int next_turn(card_worker *w, bool scatter, int axis) { return w->turn[scatter][axis]++ % TURNS; }

/* The shares of all ranks of an axis; keeps x. Those that are no whole tiles travel by rows; plain: as x is already. */
card_tensor *card_gathered(card_worker *w, card_tensor *x, int dim, int axis, int ranks, bool plain)
{
    const bool tiles = (dim == CARD_ROWS ? x->rows : x->cols) % CARD_TILE == 0 && !plain;
    card_tensor *sent = tiles || plain ? card_keep(x) : card_laid(&w->space, x, true);
    card_tensor all = *sent;
    all.rows *= dim == CARD_ROWS ? ranks : 1;
    all.cols *= dim == CARD_COLS ? ranks : 1;
    card_stay(w, (card_buffer){USE_GATHER, next_turn(w, false, axis), axis, dim, all});
    all.by_rows = plain && all.by_rows;
    card_tensor *out = card_make(&w->space, all);
    drop(w, sent);
    return out;
}

/* All but the first rows are zeros that fill up the last ranks' shares; takes x. */
static card_tensor *cut_to(card_worker *w, card_tensor *x, int64_t rows)
{
    if (x->rows <= rows)
        return x;
    card_tensor *some = card_rows(&w->space, x, rows);
    drop(w, x);
    return some;
}

/* The same along all of these axes, one after the other, to so many rows; takes x. */
static card_tensor *gathered_along(card_worker *w, card_tensor *x, int dim, mesh_axis along, int64_t rows)
{
    const card_ways a = card_ways_of(w, along);
    for (int i = 0; i < a.count; i++) {
        card_tensor *y = card_gathered(w, x, dim, a.axis[i], a.ranks[i], false);
        drop(w, x);
        x = y;
    }
    return cut_to(w, x, rows);
}

/* Of an exchange of an activation: prompt and picture each by itself. */
typedef card_tensor *exchange_fn(card_worker *w, card_tensor *x, int dim, mesh_axis along, int64_t rows);

static void exchange(card_worker *w, exchange_fn *f, int dim, mesh_axis along, card_operand in, card_operand out)
{
    const card_act *a = &w->act[out.act];
    if (out.part != PART_WHOLE || !a->rows[PART_TEXT] || !a->rows[PART_IMAGE]) {
        card_put(w, out, f(w, card_get(w, in), dim, along, card_window(a, out).rows));
        return;
    }
    for (act_part part = PART_TEXT; part <= PART_IMAGE; part++) {
        in.part = out.part = part;
        card_put(w, out, f(w, card_get(w, in), dim, along, a->rows[part]));
    }
}

void make_gather_rows(card_worker *w)
{
    const mesh_axis along = (mesh_axis)card_next(w);
    const card_operand in = card_next_act(w);
    (void)card_next(w); /* unit */
    exchange(w, gathered_along, CARD_ROWS, along, in, card_next_act(w));
}

void make_gather_columns(card_worker *w)
{
    const mesh_axis along = (mesh_axis)card_next(w);
    const card_operand in = card_next_act(w);
    exchange(w, gathered_along, CARD_COLS, along, in, card_next_act(w));
}

/* A rank's share of the sum; keeps x. On a line the sums of both directions lie in the first buffer. */
static card_tensor *scattered(card_worker *w, card_tensor *x, int dim, int axis, int ranks)
{
    const int turn = next_turn(w, true, axis);
    card_tensor sums = *x, share = *x;
    sums.heads *= 2;
    share.rows /= dim == CARD_ROWS ? ranks : 1;
    share.cols /= dim == CARD_COLS ? ranks : 1;
    card_stay(w, (card_buffer){USE_SUMS, turn, axis, dim, sums});
    card_stay(w, (card_buffer){USE_SHARE, turn, axis, dim, share});
    return card_make(&w->space, share);
}

/* A share of rows that is no whole tiles: sums of columns, all of them, and then a rank's rows; keeps x. */
static card_tensor *summed(card_worker *w, card_tensor *x, int axis, int ranks)
{
    card_tensor wide = *x, some = *x;
    wide.cols = i64_ceil_div(x->cols, CARD_TILE * ranks) * CARD_TILE * ranks;
    some.rows = i64_ceil_div(x->rows, ranks);
    some.by_rows = true;
    card_tensor *sum = scattered(w, &wide, CARD_COLS, axis, ranks),
                *all = card_gathered(w, sum, CARD_COLS, axis, ranks, false);
    drop(w, sum);
    card_tensor *rows = card_laid(&w->space, all, true), *mine = card_make(&w->space, some);
    drop(w, rows);
    card_tensor *out = card_laid(&w->space, mine, false);
    drop(w, mine);
    drop(w, all);
    return out;
}

/* x with more rows of zeros; takes it. */
static card_tensor *longer(card_worker *w, card_tensor *x, int64_t rows)
{
    card_tensor more = *x;
    more.rows = rows;
    more.by_rows = true;
    card_tensor *flat = card_laid(&w->space, x, true), *all = card_make(&w->space, more);
    drop(w, flat);
    drop(w, x);
    card_tensor *out = card_laid(&w->space, all, false);
    drop(w, all);
    return out;
}

static int64_t ranks_of(card_ways a)
{
    int64_t ranks = 1;
    for (int i = 0; i < a.count; i++)
        ranks *= a.ranks[i];
    return ranks;
}

/* To so many rows; takes x. */
static card_tensor *reduced_along(card_worker *w, card_tensor *x, int dim, mesh_axis along, int64_t rows)
{
    const card_ways a = card_ways_of(w, along);
    if (x->rows < rows * ranks_of(a))
        x = longer(w, x, rows * ranks_of(a));
    for (int i = a.count - 1; i >= 0; i--) {
        const bool tiles = x->rows % (CARD_TILE * a.ranks[i]) == 0;
        card_tensor *y = tiles ? scattered(w, x, dim, a.axis[i], a.ranks[i]) : summed(w, x, a.axis[i], a.ranks[i]);
        drop(w, x);
        x = y;
    }
    return x;
}

void make_reduce_rows(card_worker *w)
{
    const mesh_axis along = (mesh_axis)card_next(w);
    const card_operand in = card_next_act(w);
    exchange(w, reduced_along, CARD_ROWS, along, in, card_next_act(w));
}

/* ---- attention ---- */

/* [tokens, heads·width] as heads: cells of [tokens, heads, width] have whole tiles of heads. Takes x. */
static card_tensor *in_heads(card_worker *w, card_tensor *x, int64_t heads)
{
    if (x->heads == heads)
        return x;
    card_tensor *apart = card_make(&w->space, (card_tensor){x->rows, heads, x->cols / heads, x->cell, false, 0});
    card_tensor *out = card_make(&w->space, (card_tensor){heads, x->rows, x->cols / heads, x->cell, false, 0});
    drop(w, apart);
    drop(w, x);
    return out;
}

/* Takes q, k and v. */
static card_tensor *attended(card_worker *w, card_tensor *q, card_tensor *k, card_tensor *v, int64_t heads)
{
    q = in_heads(w, q, heads);
    k = in_heads(w, k, heads);
    v = in_heads(w, v, heads);
    card_tensor *y = like(w, q);
    drop(w, q);
    drop(w, k);
    drop(w, v);
    return y;
}

static void take_attention(card_worker *w)
{
    w->q = card_next_act(w);
    w->k = card_next_act(w);
    w->v = card_next_act(w);
    w->heads = card_next(w);
    (void)card_next(w), (void)card_next(w); /* scale, causal */
    (void)card_next_act(w);                 /* bias */
    (void)card_next(w);                     /* int8 */
}

void make_attention(card_worker *w)
{
    take_attention(w);
    card_tensor *q = in_heads(w, card_get(w, w->q), w->heads), *k = in_heads(w, card_get(w, w->k), w->heads);
    card_tensor *y = attended(w, q, k, card_get(w, w->v), w->heads);
    card_put(w, card_next_act(w), y);
}

void make_ring_begin(card_worker *w)
{
    w->along = (mesh_axis)card_next(w);
    w->tokens = card_next(w);
    w->tokens += card_next(w);
    w->unit = card_next(w);
    w->tokens *= w->unit;
    w->ring = true;
    w->attends = false;
}

void make_attention_part(card_worker *w)
{
    if (!w->ring || w->attends) /* those of other ranks' keys are the same call */
        return;
    take_attention(w);
    w->attends = true;
}

/* Keys and values of all devices, made one after the other. */
static card_tensor *whole_attention(card_worker *w)
{
    card_tensor *q = card_get(w, w->q), *k = card_get(w, w->k), *v = card_get(w, w->v);
    const card_ways a = card_ways_of(w, w->along);
    for (int i = 0; i < a.count; i++) {
        card_tensor *keys = card_gathered(w, k, CARD_ROWS, a.axis[i], a.ranks[i], false);
        card_tensor *values = card_gathered(w, v, CARD_ROWS, a.axis[i], a.ranks[i], false);
        drop(w, k);
        drop(w, v);
        k = keys;
        v = values;
    }
    return attended(w, q, cut_to(w, k, w->tokens), cut_to(w, v, w->tokens), w->heads);
}

/* Whether keys go round: not of planes, which both axes of the mesh share, and of whole tiles on each device. */
static bool goes_round(card_worker *w)
{
    const int64_t rows = card_window(&w->act[w->k.act], w->k).rows;
    return w->unit == 1 && rows % CARD_TILE == 0 && rows * ranks_of(card_ways_of(w, w->along)) == w->tokens;
}

/* With a query for each key; buffers hold all ranks' keys and values. */
static card_tensor *ring_attention(card_worker *w)
{
    card_tensor *q = card_get(w, w->q), *k = card_get(w, w->k), *v = card_get(w, w->v);
    const int axis = w->shape->sp_axis, turn = next_turn(w, false, axis);
    const int64_t rows = q->rows;
    if (rows < k->rows) {
        card_tensor *front = card_rows(&w->space, k, k->rows - rows), *all = like(w, k);
        drop(w, q);
        drop(w, front);
        q = all;
    }
    card_tensor whole = *k;
    whole.rows = w->tokens;
    card_stay(w, (card_buffer){USE_KEYS, turn, axis, CARD_ROWS, whole});
    card_stay(w, (card_buffer){USE_VALUES, turn, axis, CARD_ROWS, whole});
    card_tensor *y = like(w, q), *some = card_rows(&w->space, y, rows);
    drop(w, y);
    drop(w, q);
    drop(w, k);
    drop(w, v);
    return some;
}

void make_cast(card_worker *w)
{
    const card_operand in = card_next_act(w), out = card_next_act(w);
    card_tensor *x;
    if (!w->ring || !w->attends)
        x = card_flat(&w->space, card_get(w, in));
    else
        x = card_flat(&w->space, goes_round(w) ? ring_attention(w) : whole_attention(w));
    w->ring = w->attends = false;
    card_put(w, out, x);
}
