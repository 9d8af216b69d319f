/* Products, norms and what works row by row, as the worker holds tensors in them. */
#include "tools/card_worker.h"

static bool has_rows(card_worker *w, card_operand at) { return card_window(&w->act[at.act], at).rows > 0; }
static card_tensor *get_flat(card_worker *w, card_operand at) { return card_flat(&w->space, card_get(w, at)); }

/* ---- products ---- */

typedef struct ending {
    card_operand addend, mul, gate, residual;
    activation f;
} ending;

/* Takes x. */
card_tensor *card_product(card_worker *w, card_tensor *x, const card_weight *by)
{
    if (x->cell != CARD_BF16) {
        card_tensor narrow = *x;
        narrow.cell = CARD_BF16;
        card_tensor *y = card_make(&w->space, narrow);
        drop(w, x);
        x = y;
    }
    card_tensor *y = card_make(&w->space, (card_tensor){1, x->rows, by->rows, CARD_BF16, false, 0});
    drop(w, x);
    return y;
}

static card_tensor *activated(card_worker *w, card_tensor *x, activation f)
{
    if (f == ACTIVATION_NONE)
        return x;
    if (f != ACTIVATION_QUICK_GELU)
        return card_changed(w, x);
    card_tensor *scaled = like(w, x), *gate = card_changed(w, scaled), *y = card_changed(w, x);
    drop(w, gate);
    return y;
}

/* A table's row at the step's number; of a table of one row itself. */
static void take_now(card_worker *w, card_operand at)
{
    const card_operand all = card_window(&w->act[at.act], at);
    for (size_t i = 0; i < w->nows; i++)
        if (w->now[i].act == at.act && w->now[i].col == all.col && w->now[i].cols == all.cols)
            return;
    if (!card_grow(w, (void **)&w->now, sizeof *w->now, w->nows, &w->now_room))
        return;
    w->now[w->nows++] = (card_now){at.act, all.col, all.cols};
    card_tensor *table = card_get(w, (card_operand){at.act, all.part, 0, -1, all.col, all.cols});
    card_tensor row = *table;
    row.rows = 1;
    if (table->rows > 1)
        card_take(&w->space, card_bytes(&w->space, &row));
    drop(w, table);
}

static ending take_ending(card_worker *w)
{
    ending e = {.addend = card_next_act(w)};
    e.f = (activation)card_next(w);
    e.mul = card_next_act(w);
    e.gate = card_next_act(w);
    e.residual = card_next_act(w);
    return e;
}

/* What comes behind a product; takes y. */
static card_tensor *finished(card_worker *w, card_tensor *y, const ending *e)
{
    if (e->addend.act >= 0)
        y = card_changed_by(w, y, e->addend);
    y = activated(w, y, e->f);
    if (e->mul.act >= 0)
        y = card_changed_by(w, y, e->mul);
    if (e->gate.act >= 0) {
        take_now(w, e->gate);
        y = card_changed(w, y);
    }
    return e->residual.act >= 0 ? card_changed_by(w, y, e->residual) : y;
}

static void multiply(card_worker *w, card_operand in, const card_weight *by, const ending *e, card_operand out)
{
    if (has_rows(w, out))
        card_put(w, out, finished(w, card_product(w, get_flat(w, in), by), e));
}

void make_linear(card_worker *w)
{
    const card_operand in = card_next_act(w);
    const card_weight *by = card_next_weight(w);
    const ending e = take_ending(w);
    multiply(w, in, by, &e, card_next_act(w));
}

static void normalise(card_worker *w, card_operand in, card_operand shift, card_operand scale, card_operand out)
{
    card_tensor *factor = NULL;
    if (!has_rows(w, out))
        return;
    if (scale.act >= 0) { /* one more than the row of the table */
        take_now(w, scale);
        factor =
            card_make(&w->space, (card_tensor){1, 1, card_window(&w->act[scale.act], scale).cols, CARD_BF16, false, 0});
    }
    if (shift.act >= 0)
        take_now(w, shift);
    card_tensor *x = card_get(w, in);
    card_put(w, out, card_changed(w, x));
    drop(w, factor);
}

void make_linear_norm(card_worker *w)
{
    const card_operand in = card_next_act(w);
    const card_weight *by = card_next_weight(w);
    const ending e = take_ending(w);
    const card_operand out = card_next_act(w);
    (void)card_next(w), (void)card_next(w); /* slot, the norm's weights */
    const card_operand shift = card_next_act(w), scale = card_next_act(w);
    (void)card_next(w); /* eps */
    multiply(w, in, by, &e, out);
    normalise(w, out, shift, scale, card_next_act(w));
}

/* RMS norm, then x·cos + rotated(x)·sin; keeps x. */
static card_tensor *turned(card_worker *w, card_tensor *x, const card_weight *factor, bool rope)
{
    card_tensor *y = factor ? like(w, x) : card_keep(x);
    if (!rope)
        return y;
    card_tensor *straight = like(w, y), *rotated = like(w, y), *across = card_changed(w, rotated), *sum = like(w, y);
    drop(w, straight);
    drop(w, across);
    drop(w, y);
    return sum;
}

static card_operand third(const card_worker *w, card_operand at, int which)
{
    const card_act *a = &w->act[at.act];
    at = card_window(a, at);
    at.cols = a->cols / 3;
    at.col = which * at.cols;
    return at;
}

void make_qkv_norm_rope(card_worker *w)
{
    const card_operand in = card_next_act(w);
    const card_weight *by = card_next_weight(w), *norm_q = card_next_weight(w), *norm_k = card_next_weight(w);
    const int64_t heads = card_next(w);
    (void)card_next(w); /* eps */
    const bool rope = card_next_act(w).act >= 0;
    const card_operand out = card_next_act(w);
    card_tensor *x = card_product(w, card_get(w, in), by), *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = card_make(&w->space, (card_tensor){heads, x->rows, x->cols / 3 / heads, CARD_BF16, false, 0});
    for (int i = 0; i < 2; i++) {
        card_tensor *y = turned(w, part[i], i ? norm_k : norm_q, rope);
        drop(w, part[i]);
        part[i] = y;
    }
    for (int i = 0; i < 3; i++)
        card_put(w, third(w, out, i), part[i]);
    drop(w, x);
}

void make_single_products(card_worker *w)
{
    const size_t line = w->cell;
    const card_operand in = card_next_act(w);
    w->cell = line;
    make_qkv_norm_rope(w);
    const card_weight *up = card_next_weight(w);
    const card_operand hidden = card_next_act(w);
    card_put(w, hidden, activated(w, card_product(w, get_flat(w, in), up), ACTIVATION_GELU_TANH));
}

void make_mlp(card_worker *w)
{
    const card_operand in = card_next_act(w);
    const card_weight *up = card_next_weight(w);
    const activation f = (activation)card_next(w);
    const card_weight *down = card_next_weight(w);
    const ending e = take_ending(w);
    card_tensor *hidden = activated(w, card_product(w, get_flat(w, in), up), f);
    card_tensor *y = card_make(&w->space, (card_tensor){1, hidden->rows, down->rows, CARD_BF16, false, 0});
    drop(w, hidden);
    y = finished(w, y, &e);
    card_put(w, card_next_act(w), y);
}
/* ---- norms and the rest ---- */

void make_layer_norm(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next(w); /* weights */
    const card_operand shift = card_next_act(w), scale = card_next_act(w);
    (void)card_next(w); /* eps */
    normalise(w, in, shift, scale, card_next_act(w));
}

void make_rms_norm(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next(w), (void)card_next(w); /* weights, eps */
    card_tensor *x = card_get(w, in);
    card_put(w, card_next_act(w), card_changed(w, x));
}

void make_embed(card_worker *w)
{
    (void)card_next_act(w); /* ids */
    (void)card_next_weight(w);
    const bool positions = card_next_weight(w) != NULL;
    (void)card_next(w); /* first */
    const card_operand out = card_next_act(w), all = card_window(&w->act[out.act], out);
    card_tensor *y = card_make(&w->space, (card_tensor){1, all.rows, all.cols, CARD_BF16, false, 0});
    if (positions) {
        card_tensor *at = like(w, y);
        y = card_changed(w, y);
        drop(w, at);
    }
    card_put(w, out, y);
}

void make_copy_rows(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next(w), (void)card_next(w); /* first, given */
    const card_operand out = card_next_act(w);
    card_tensor *x = card_get(w, in);
    card_put(w, out, card_rows(&w->space, x, card_window(&w->act[out.act], out).rows));
    drop(w, x);
}

void make_activate(card_worker *w)
{
    const activation f = (activation)card_next(w);
    card_tensor *y = activated(w, card_get(w, card_next_act(w)), f);
    const card_operand mul = card_next_act(w);
    if (mul.act >= 0)
        y = card_changed_by(w, y, mul);
    card_put(w, card_next_act(w), y);
}

void make_add(card_worker *w)
{
    const card_operand x = card_next_act(w);
    const bool scaled = card_next(w) != 0x3f800000; /* 1 as a float */
    const card_operand gate = card_next_act(w), in = card_next_act(w), out = card_next_act(w);
    if (!has_rows(w, out))
        return;
    card_tensor *y = card_get(w, in);
    if (gate.act >= 0) {
        take_now(w, gate);
        y = card_changed(w, y);
    }
    if (scaled)
        y = card_changed(w, y);
    card_tensor *to = card_get(w, x), *sum = like(w, to);
    drop(w, to);
    drop(w, y);
    card_put(w, out, sum);
}

void make_euler(card_worker *w)
{
    const card_operand x = card_next_act(w), v = card_next_act(w);
    take_now(w, card_next_act(w));
    card_tensor *to = card_get(w, x), *velocity = card_changed(w, card_get(w, v)), *sum = like(w, to);
    drop(w, to);
    drop(w, velocity);
    card_put(w, x, sum);
}
