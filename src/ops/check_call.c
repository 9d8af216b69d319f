#include "ops/check_call.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

flux1_status call_outside_block(const ops *o, const char *operation, const weight *w)
{
    return error_set(o->err, FLUX1_ERR_INTERNAL, "%s uses a weight of block \"%s\" outside its bracket", operation,
                     w->owner->name);
}

const char *const call_role_names[ACT_ROLES] = {"RESIDUAL", "LINEAR", "HEADS", "PARTIAL", "PLANE",
                                                "TABLE",    "STATS",  "ROPE",  "IDS"};

flux1_status call_refuse(const call *c, const char *format, ...)
{
    char why[384];
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    return error_set(c->o->err, FLUX1_ERR_INTERNAL, "%s: %s", c->entry, why);
}

operand_text call_operand_text(const operand *x)
{
    operand_text t;
    if (act_present(x->a))
        snprintf(t.s, sizeof t.s, "%s [%" PRId64 " x %" PRId64 ", %" PRId64 "]", x->name, act_batch(x->a),
                 act_rows(x->a), x->a.cols);
    else
        snprintf(t.s, sizeof t.s, "%s (left out)", x->name);
    return t;
}

flux1_status call_disagree(const call *c, operand a, operand b, const char *how)
{
    return call_refuse(c, "%s and %s %s", call_operand_text(&a).s, call_operand_text(&b).s, how);
}

flux1_status call_window(const call *c, operand x)
{
    const act *a = &x.a;
    if (!act_present(*a))
        return call_refuse(c, "%s is left out", x.name);
    const act_shape *s = &a->buffer->shape;
    int64_t rows = a->part == PART_WHOLE ? s->rows[0] + s->rows[1] : s->rows[a->part];
    if (a->row < 0 || a->rows < 0 || a->row > rows - a->rows)
        return call_refuse(c, "%s: rows %" PRId64 " to %" PRId64 " of a part of %" PRId64, x.name, a->row,
                           a->row + a->rows, rows);
    if (a->col < 0 || a->cols < 0 || a->col > s->cols - a->cols)
        return call_refuse(c, "%s: columns %" PRId64 " to %" PRId64 " of %" PRId64, x.name, a->col, a->col + a->cols,
                           s->cols);
    return FLUX1_OK;
}

flux1_status call_role(const call *c, operand x, act_role role)
{
    return x.a.buffer->role == role ? FLUX1_OK
                                    : call_refuse(c, "%s is %s, should be %s", x.name,
                                                  call_role_names[x.a.buffer->role], call_role_names[role]);
}

flux1_status call_same_rows(const call *c, operand a, operand b)
{
    return act_rows(a.a) == act_rows(b.a) && act_batch(a.a) == act_batch(b.a)
               ? FLUX1_OK
               : call_disagree(c, a, b, "differ in batch or rows");
}

flux1_status call_same_shape(const call *c, operand a, operand b)
{
    return a.a.cols == b.a.cols ? call_same_rows(c, a, b) : call_disagree(c, a, b, "differ in columns");
}

static bool call_overlaps(act a, act b)
{
    int64_t p = act_first_row(a), q = act_first_row(b);
    return a.buffer == b.buffer && p < q + b.rows && q < p + a.rows && a.col < b.col + b.cols && b.col < a.col + a.cols;
}

static bool call_same_window(act a, act b)
{
    return a.buffer == b.buffer && act_first_row(a) == act_first_row(b) && a.rows == b.rows && a.col == b.col &&
           a.cols == b.cols;
}

flux1_status call_apart(const call *c, operand in, operand out)
{
    return call_overlaps(in.a, out.a) ? call_disagree(c, in, out, "overlap") : FLUX1_OK;
}

flux1_status call_apart_or_same(const call *c, operand in, operand out)
{
    return call_same_window(in.a, out.a) ? FLUX1_OK : call_apart(c, in, out);
}

flux1_status call_beside(const call *c, operand x, operand out)
{
    if (!act_present(x.a))
        return FLUX1_OK;
    TRY(call_window(c, x));
    return call_same_shape(c, x, out);
}

flux1_status call_table(const call *c, operand t, operand out, int64_t cols)
{
    if (!act_present(t.a))
        return FLUX1_OK;
    TRY(call_window(c, t));
    TRY(call_role(c, t, ACT_TABLE));
    int64_t batch = act_batch(out.a);
    if (act_batch(t.a) != 1 || t.a.cols != cols)
        return call_disagree(c, t, out, "do not go together: a table has batch 1 and the output's columns");
    if (act_rows(t.a) % (batch > 0 ? batch : 1) || act_rows(t.a) / (batch > 0 ? batch : 1) <= c->o->step)
        return call_refuse(c, "%s has no row for each of %" PRId64 " batch entries at step %" PRId64,
                           call_operand_text(&t).s, batch, c->o->step);
    return FLUX1_OK;
}

const char *const call_weight_names[] = {[WEIGHT_LINEAR] = "linear",
                                         [WEIGHT_QKV] = "q|k|v",
                                         [WEIGHT_VECTOR] = "vector",
                                         [WEIGHT_CONV] = "convolution",
                                         [WEIGHT_TABLE] = "table"};

flux1_status call_weight(const call *c, const char *name, const weight *w, weight_role role)
{
    if (!w)
        return call_refuse(c, "%s is left out", name);
    if (!w->owner->held)
        return call_outside_block(c->o, c->entry, w);
    if (w->role != role && !(role == WEIGHT_LINEAR && w->role == WEIGHT_QKV))
        return call_refuse(c, "%s is a %s weight of block \"%s\", should be %s", name, call_weight_names[w->role],
                           w->owner->name, call_weight_names[role]);
    return FLUX1_OK;
}

flux1_status call_weight_size(const call *c, const char *name, const weight *w, int64_t rows, int64_t cols)
{
    return w->rows == rows && w->cols == cols
               ? FLUX1_OK
               : call_refuse(c,
                             "%s of block \"%s\" is [%" PRId64 ", %" PRId64 "], should be [%" PRId64 ", %" PRId64 "]",
                             name, w->owner->name, w->rows, w->cols, rows, cols);
}

flux1_status call_vector(const call *c, const char *name, const weight *w, int64_t n)
{
    TRY(call_weight(c, name, w, WEIGHT_VECTOR));
    return call_weight_size(c, name, w, n, 1);
}

flux1_status call_plane(const call *c, operand x)
{
    TRY(call_window(c, x));
    TRY(call_role(c, x, ACT_PLANE));
    const act_shape *s = &x.a.buffer->shape;
    if (x.a.rows != s->rows[0] + s->rows[1] || s->height * s->width != x.a.rows)
        return call_refuse(c, "%s is not a whole plane of %" PRId64 " x %" PRId64, call_operand_text(&x).s, s->height,
                           s->width);
    return FLUX1_OK;
}

flux1_status call_count(const call *c, const char *name, int64_t n)
{
    return n >= 0 ? FLUX1_OK : call_refuse(c, "%s is %" PRId64, name, n);
}

flux1_status call_row_range(const call *c, operand x, int64_t first, int64_t rows)
{
    return first >= 0 && rows >= 0 && first <= act_rows(x.a) - rows
               ? FLUX1_OK
               : call_refuse(c, "rows %" PRId64 " to %" PRId64 " of %s", first, first + rows, call_operand_text(&x).s);
}
