#include "tools/card_tensors.h"

#include "base/checked.h"

#include <stdlib.h>

enum { TILE = 32 };

/* ---- tensors ---- */

double card_bytes(const card_space *s, const card_tensor *t)
{
    const double tile_pages =
        (double)t->heads * (double)i64_ceil_div(t->rows, TILE) * (double)i64_ceil_div(t->cols, TILE);
    const double pages = t->by_rows ? (double)t->heads * (double)t->rows : tile_pages;
    const double page = t->by_rows ? (double)t->cols * t->cell : TILE
    *TILE
    *t->cell;
    const double of_bank = pages / s->banks;
    const double whole = (double)(int64_t)of_bank;
    return (whole + (whole < of_bank)) * page * s->banks;
}

void card_take(card_space *s, double bytes)
{
    s->used += bytes;
    s->most = s->used > s->most ? s->used : s->most;
}

card_tensor *card_make(card_space *s, card_tensor t)
{
    card_tensor *made = malloc(sizeof *made);
    if (!made) {
        s->failed = true;
        return &s->none;
    }
    *made = t;
    made->holders = 1;
    card_take(s, card_bytes(s, made));
    return made;
}

card_tensor *card_like(card_space *s, const card_tensor *t) { return card_make(s, *t); }

card_tensor *card_keep(card_tensor *t)
{
    t->holders++;
    return t;
}

void card_drop(card_space *s, card_tensor *t)
{
    if (!t || t == &s->none || --t->holders > 0)
        return;
    s->used -= card_bytes(s, t);
    free(t);
}

card_tensor *card_rows(card_space *s, card_tensor *t, int64_t rows)
{
    card_tensor some = *t;
    some.rows = rows;
    return rows == t->rows ? card_keep(t) : card_make(s, some);
}

static card_tensor *some_columns(card_space *s, card_tensor *t, int64_t cols)
{
    card_tensor some = *t;
    some.cols = cols;
    return cols == t->cols ? card_keep(t) : card_make(s, some);
}

card_tensor *card_flat(card_space *s, card_tensor *t)
{
    if (t->heads == 1)
        return t;
    card_tensor flat = *t;
    flat.cols *= flat.heads;
    flat.heads = 1;
    card_tensor *out = card_make(s, flat);
    card_drop(s, t);
    return out;
}

card_tensor *card_laid(card_space *s, card_tensor *t, bool by_rows)
{
    card_tensor other = *t;
    other.by_rows = by_rows;
    return t->by_rows == by_rows ? card_keep(t) : card_make(s, other);
}

/* ---- pieces ---- */

card_operand card_window(const card_act *a, card_operand at)
{
    if (at.part == PART_WHOLE && (!a->rows[PART_TEXT] || !a->rows[PART_IMAGE]))
        at.part = a->rows[PART_TEXT] ? PART_TEXT : PART_IMAGE;
    const int64_t rows = at.part == PART_WHOLE ? a->rows[PART_TEXT] + a->rows[PART_IMAGE] : a->rows[at.part];
    at.rows = at.rows < 0 ? rows - at.row : at.rows;
    at.cols = at.cols < 0 ? a->cols - at.col : at.cols;
    return at;
}

static int64_t rows_of(const card_act *a, act_part part)
{
    return part == PART_WHOLE ? a->rows[PART_TEXT] + a->rows[PART_IMAGE] : a->rows[part];
}

static void add_piece(card_space *s, card_act *a, card_piece p)
{
    if (a->pieces == a->room) {
        const size_t room = 2 * a->room + 4;
        card_piece *more = realloc(a->piece, room * sizeof *more);
        if (!more) {
            s->failed = true;
            card_drop(s, p.t);
            return;
        }
        a->piece = more;
        a->room = room;
    }
    a->piece[a->pieces++] = p;
}

static void remove_piece(card_space *s, card_act *a, size_t i)
{
    card_drop(s, a->piece[i].t);
    for (a->pieces--; i < a->pieces; i++)
        a->piece[i] = a->piece[i + 1];
}

void card_act_drop(card_space *s, card_act *a)
{
    while (a->pieces)
        remove_piece(s, a, a->pieces - 1);
    free(a->piece);
    *a = (card_act){0};
}

static bool is_row_of(const card_piece *p, act_part part, int64_t col, int64_t cols)
{
    return p->row >= 0 && p->part == part && p->col == col && p->cols == cols;
}

/* Tables whose rows have all been written become one tensor. */
static void complete(card_space *s, card_act *a, act_part part)
{
    for (size_t i = 0; i < a->pieces; i++) {
        const card_piece one = a->piece[i];
        int64_t written = 0;
        for (size_t k = 0; one.row == 0 && k < a->pieces; k++)
            written += is_row_of(&a->piece[k], part, one.col, one.cols) ? a->piece[k].t->rows : 0;
        if (one.row != 0 || one.part != part || written != rows_of(a, part))
            continue;
        card_tensor whole = *one.t;
        whole.rows = written;
        for (size_t k = a->pieces; k-- > 0;)
            if (is_row_of(&a->piece[k], part, one.col, one.cols))
                remove_piece(s, a, k);
        add_piece(s, a, (card_piece){part, -1, one.col, one.cols, card_make(s, whole)});
        i = (size_t)-1; /* places have changed */
    }
}

/* The pieces inside of these columns, heads side by side and one beside the other; NULL where they do not fill them. */
static card_tensor *columns_together(card_space *s, card_act *a, act_part part, int64_t col, int64_t cols)
{
    int64_t found = 0;
    card_tensor joined = {0};
    for (size_t i = 0; i < a->pieces; i++) {
        const card_piece *p = &a->piece[i];
        if (p->part != part || p->row >= 0 || p->col < col || p->col + p->cols > col + cols)
            continue;
        joined = *p->t;
        found += p->cols;
    }
    if (!found || found != cols)
        return NULL;
    joined.cols = cols;
    joined.heads = 1;
    return card_make(s, joined);
}

/* All rows of a part, these columns; NULL where it is not held like that. */
static card_tensor *columns(card_space *s, card_act *a, act_part part, int64_t col, int64_t cols)
{
    complete(s, a, part);
    for (size_t i = 0; i < a->pieces; i++) {
        const card_piece *p = &a->piece[i];
        if (p->part == part && p->row < 0 && p->col <= col && col + cols <= p->col + p->cols)
            return p->col == col && p->cols == cols ? card_keep(p->t) : some_columns(s, p->t, cols);
    }
    return columns_together(s, a, part, col, cols);
}

static card_tensor *both_parts(card_space *s, card_act *a, int64_t col, int64_t cols)
{
    card_tensor *text = columns(s, a, PART_TEXT, col, cols), *image = columns(s, a, PART_IMAGE, col, cols), *out = NULL;
    if (text && image) {
        card_tensor both = *text;
        both.rows += image->rows;
        out = card_make(s, both);
    }
    card_drop(s, text);
    card_drop(s, image);
    return out;
}

static card_tensor *part_of_whole(card_space *s, card_act *a, act_part part, int64_t col, int64_t cols)
{
    card_tensor *whole = columns(s, a, PART_WHOLE, col, cols);
    card_tensor *out = whole ? card_rows(s, whole, a->rows[part]) : NULL;
    card_drop(s, whole);
    return out;
}

static card_tensor *written_rows(card_act *a, card_operand at)
{
    for (size_t i = 0; i < a->pieces; i++)
        if (is_row_of(&a->piece[i], at.part, at.col, at.cols) && a->piece[i].row == at.row &&
            a->piece[i].t->rows == at.rows)
            return card_keep(a->piece[i].t);
    return NULL;
}

/* What was never written counts as if it had been: the worker refuses it. */
static card_tensor *unwritten(card_space *s, card_operand at)
{
    return card_make(s, (card_tensor){.heads = 1, .rows = at.rows, .cols = at.cols, .cell = 2});
}

card_tensor *card_read(card_space *s, card_act *a, card_operand at)
{
    at = card_window(a, at);
    card_tensor *x = written_rows(a, at);
    if (x)
        return x;
    x = columns(s, a, at.part, at.col, at.cols);
    if (!x)
        x = at.part == PART_WHOLE ? both_parts(s, a, at.col, at.cols) : part_of_whole(s, a, at.part, at.col, at.cols);
    if (!x)
        return unwritten(s, at);
    card_tensor *some = card_rows(s, x, at.rows);
    card_drop(s, x);
    return some;
}

/* What stays of a piece when these columns of a part are written: the other part, and its other columns. */
static void keep_outside(card_space *s, card_act *a, card_piece p, card_operand at)
{
    const int64_t ends[2][2] = {{p.col, i64_max(p.col, at.col)},
                                {i64_min(p.col + p.cols, at.col + at.cols), p.col + p.cols}};
    if (at.part != PART_WHOLE && p.part == PART_WHOLE) {
        const act_part other = at.part == PART_TEXT ? PART_IMAGE : PART_TEXT;
        add_piece(s, a, (card_piece){other, -1, p.col, p.cols, card_rows(s, p.t, a->rows[other])});
    }
    for (int i = 0; i < 2; i++)
        if (ends[i][0] < ends[i][1])
            add_piece(s, a,
                      (card_piece){p.part, p.row, ends[i][0], ends[i][1] - ends[i][0],
                                   some_columns(s, p.t, ends[i][1] - ends[i][0])});
}

static bool is_written_over(const card_piece *p, card_operand at)
{
    const bool other_part = at.part != PART_WHOLE && p->part != PART_WHOLE && p->part != at.part;
    return p->row < 0 && !other_part && p->col < at.col + at.cols && at.col < p->col + p->cols;
}

static void write_some_rows(card_space *s, card_act *a, card_operand at, card_tensor *t)
{
    for (size_t i = 0; i < a->pieces; i++)
        if (is_row_of(&a->piece[i], at.part, at.col, at.cols) && a->piece[i].row == at.row) {
            card_drop(s, a->piece[i].t);
            a->piece[i].t = t;
            return;
        }
    add_piece(s, a, (card_piece){at.part, at.row, at.col, at.cols, t});
}

void card_write(card_space *s, card_act *a, card_operand at, card_tensor *t)
{
    at = card_window(a, at);
    if (at.rows != rows_of(a, at.part)) {
        write_some_rows(s, a, at, t);
        return;
    }
    for (size_t i = 0, n = a->pieces; i < n;) {
        const card_piece p = a->piece[i];
        if (!is_written_over(&p, at)) {
            i++;
            continue;
        }
        keep_outside(s, a, p, at); /* behind those that are gone through */
        remove_piece(s, a, i);
        n--;
    }
    add_piece(s, a, (card_piece){at.part, -1, at.col, at.cols, t});
}
