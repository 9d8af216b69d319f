/* The VAE's planes: pixels row by row, of channels side by side. */
#include "tools/card_worker.h"

#include "base/checked.h"

/* A convolution's weights as the library packs them: a row for each input's channel and pixel. Of large filters columns
 * of cores share the inputs by eights, and three pixels' rows are whole tiles on each (seen in mock mode). */
static int64_t filter_rows(const card_worker *w, int64_t inputs, int64_t outputs)
{
    enum { LARGE = 256, UNIT = 8 };
    const int64_t units = i64_ceil_div(inputs, UNIT), columns = i64_max(1, w->m->grid[1]);
    const bool shared = inputs >= LARGE && outputs >= LARGE;
    const int64_t each = shared ? i64_ceil_div(units, columns) : units, cores = i64_ceil_div(units, each);
    return cores * 3 * i64_ceil_div(3 * UNIT * each, CARD_TILE) * CARD_TILE;
}

static void take_filter(card_worker *w, card_weight *f)
{
    if (f->taken)
        return;
    f->taken = true;
    const int64_t rows = filter_rows(w, f->cols / 9, f->rows);
    card_take(&w->space, card_matrix(w, rows, f->rows, CARD_BF16, false) +
                             (f->biased ? card_matrix(w, CARD_TILE, f->rows, CARD_BF16, false) : 0));
}

/* ---- planes ---- */

static card_tensor plane(int64_t rows, int64_t cols, bool by_rows)
{
    return (card_tensor){1, rows, cols, CARD_BF16, by_rows, 0};
}

/* Of a plane whose rows the devices do not share evenly: where the picture ends stays, a value for each pixel. */
static void take_end(card_worker *w, const card_act *a)
{
    const int64_t ranks = (int64_t)w->shape->sp * w->shape->tp;
    if (ranks * a->height * w->r->width > w->r->height * a->width)
        card_stay(w, (card_buffer){CARD_END, 0, 0, 0, plane(a->height * a->width, 1, false)});
}

/* A plane with a row above and one below; keeps x. */
static card_tensor *with_neighbours(card_worker *w, card_tensor *x, int64_t width)
{
    const card_ways a = card_ways_of(w, AXIS_ALL);
    card_tensor *edges[2] = {0};
    for (int i = 0; i < a.count; i++) {
        card_tensor *mine = card_make(&w->space, plane(width, 2 * x->cols, true));
        edges[i] = card_gathered(w, mine, CARD_ROWS, a.axis[i], a.ranks[i], true);
        drop(w, mine);
    }
    card_tensor *out = card_make(&w->space, plane(x->rows + 2 * width, x->cols, true));
    for (int i = 0; i < a.count; i++)
        drop(w, edges[i]);
    return out;
}

/* 1×1 or 3×3, in the worker's order; takes x. */
static card_tensor *convolved(card_worker *w, card_tensor *x, int64_t width, card_weight *by)
{
    if (by->kernel == 1)
        return card_product(w, x, by);
    const int64_t rows = x->rows;
    card_tensor *flat = card_laid(&w->space, x, true);
    drop(w, x);
    if (w->shape->sp * w->shape->tp > 1) {
        card_tensor *more = with_neighbours(w, flat, width);
        drop(w, flat);
        flat = more;
    }
    take_filter(w, by);
    card_tensor *y = card_make(&w->space, plane(rows, by->rows, false));
    drop(w, flat);
    return y;
}

/* y, or y and a residual; takes y. */
static void put_with(card_worker *w, card_tensor *y, card_operand residual)
{
    if (residual.act >= 0)
        y = card_changed_by(w, y, residual);
    card_put(w, card_next_act(w), y);
}

void make_conv(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next_act(w), (void)card_next_act(w); /* top, bottom */
    card_weight *by = card_next_weight(w);
    if (by->kernel == 3)
        take_end(w, &w->act[in.act]);
    (void)card_next(w); /* stride: 1 */
    const card_operand residual = card_next_act(w);
    card_tensor *y = convolved(w, card_get(w, in), w->act[in.act].width, by);
    put_with(w, y, residual);
}

/* Of each column a factor and a sum, then SiLU; keeps x. */
static card_tensor *group_normed(card_worker *w, card_tensor *x, bool silu)
{
    card_tensor *y = card_changed(w, like(w, x));
    return silu ? card_changed(w, y) : y;
}

void make_norm_conv(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next_act(w), (void)card_next_act(w), (void)card_next_act(w); /* top, bottom, stats */
    (void)card_next(w), (void)card_next(w), (void)card_next(w);             /* groups, the norm's weights, eps */
    const bool silu = card_next(w) != 0;
    card_weight *by = card_next_weight(w);
    const card_operand residual = card_next_act(w);
    card_tensor *x = card_get(w, in), *y = convolved(w, group_normed(w, x, silu), w->act[in.act].width, by);
    put_with(w, y, residual);
    drop(w, x);
}

void make_upsample_conv(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next_act(w), (void)card_next_act(w); /* top, bottom */
    card_weight *by = card_next_weight(w);
    card_tensor *x = card_get(w, in), *flat = card_laid(&w->space, x, true);
    card_tensor *twice = card_make(&w->space, plane(4 * x->rows, x->cols, true));
    drop(w, flat);
    drop(w, x);
    card_put(w, card_next_act(w), convolved(w, twice, 2 * w->act[in.act].width, by));
}

/* Means over rows go by parts that many cores share, in float32. */
static void group_means(card_worker *w, const card_tensor *x)
{
    int64_t parts = 64;
    while (parts > 1 && x->rows % (parts * CARD_TILE))
        parts /= 2;
    card_tensor part = {parts, 1, x->cols, CARD_BF16, false, 0};
    card_tensor *sums = card_make(&w->space, part);
    part.cell = CARD_F32;
    card_tensor *exact = card_make(&w->space, part);
    drop(w, sums);
    drop(w, exact);
}

/* Takes x. */
static void moments(card_worker *w, card_tensor *x)
{
    group_means(w, x);
    card_tensor *off = card_changed(w, x), *square = like(w, off);
    group_means(w, square);
    drop(w, square);
    drop(w, off);
}

static card_tensor *stats(card_worker *w, int64_t groups)
{
    return card_make(&w->space, (card_tensor){1, groups, 2, CARD_F32, false, 0});
}

void make_group_stats(card_worker *w)
{
    const card_operand in = card_next_act(w);
    const int64_t groups = card_next(w);
    take_end(w, &w->act[in.act]);
    moments(w, card_get(w, in));
    card_put(w, card_next_act(w), stats(w, groups));
}

static void group_norm(card_worker *w, card_operand in, bool stated)
{
    (void)card_next(w), (void)card_next(w), (void)card_next(w); /* groups, the norm's weights, eps */
    const bool silu = card_next(w) != 0;
    card_tensor *x = card_get(w, in);
    if (!stated)
        moments(w, card_keep(x));
    card_put(w, card_next_act(w), group_normed(w, x, silu));
    drop(w, x);
}

void make_group_norm(card_worker *w) { group_norm(w, card_next_act(w), false); }

void make_group_apply(card_worker *w)
{
    const card_operand in = card_next_act(w);
    (void)card_next_act(w); /* stats */
    group_norm(w, in, true);
}
