#include "ops/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

flux1_status ops_cancelled(const ops *o)
{
    if (o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed))
        return error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
    return FLUX1_OK;
}

static flux1_status outside(const ops *o, const char *operation, const weight *w)
{
    return error_set(o->err, FLUX1_ERR_INTERNAL, "%s uses a weight of block \"%s\" outside its bracket", operation,
                     w->owner->name);
}

flux1_status ops_begin(const ops *o, const char *operation, const weight *w)
{
    TRY(ops_cancelled(o));
    return w && !w->owner->held ? outside(o, operation, w) : FLUX1_OK;
}

/* ---- one call under examination ---- */

typedef struct call {
    const ops *o;
    const char *entry;
} call;

/* An operand and its name in ops.h. */
typedef struct operand {
    const char *name;
    act a;
} operand;

#define NAMED(x) ((operand){#x, x})

static const char *const role_names[ACT_ROLES] = {"RESIDUAL", "LINEAR", "HEADS", "PARTIAL", "PLANE",
                                                  "TABLE",    "STATS",  "ROPE",  "IDS"};

static flux1_status refuse(const call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static flux1_status refuse(const call *c, const char *format, ...)
{
    char why[384];
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    return error_set(c->o->err, FLUX1_ERR_INTERNAL, "%s: %s", c->entry, why);
}

/* "in [2 x 5, 64]": batch, rows, columns. */
typedef struct text {
    char s[112];
} text;

static text shown(const operand *x)
{
    text t;
    if (act_present(x->a))
        snprintf(t.s, sizeof t.s, "%s [%" PRId64 " x %" PRId64 ", %" PRId64 "]", x->name, act_batch(x->a),
                 act_rows(x->a), x->a.cols);
    else
        snprintf(t.s, sizeof t.s, "%s (left out)", x->name);
    return t;
}

/* Two operands do not go together. */
static flux1_status disagree(const call *c, operand a, operand b, const char *how)
{
    return refuse(c, "%s and %s %s", shown(&a).s, shown(&b).s, how);
}

static flux1_status window(const call *c, operand x)
{
    const act *a = &x.a;
    if (!act_present(*a))
        return refuse(c, "%s is left out", x.name);
    const act_shape *s = &a->buffer->shape;
    int64_t rows = a->part == PART_WHOLE ? s->rows[0] + s->rows[1] : s->rows[a->part];
    if (a->row < 0 || a->rows < 0 || a->row > rows - a->rows)
        return refuse(c, "%s: rows %" PRId64 " to %" PRId64 " of a part of %" PRId64, x.name, a->row, a->row + a->rows,
                      rows);
    if (a->col < 0 || a->cols < 0 || a->col > s->cols - a->cols)
        return refuse(c, "%s: columns %" PRId64 " to %" PRId64 " of %" PRId64, x.name, a->col, a->col + a->cols,
                      s->cols);
    return FLUX1_OK;
}

static flux1_status has_role(const call *c, operand x, act_role role)
{
    return x.a.buffer->role == role
               ? FLUX1_OK
               : refuse(c, "%s is %s, should be %s", x.name, role_names[x.a.buffer->role], role_names[role]);
}

static flux1_status same_rows(const call *c, operand a, operand b)
{
    return act_rows(a.a) == act_rows(b.a) && act_batch(a.a) == act_batch(b.a)
               ? FLUX1_OK
               : disagree(c, a, b, "differ in batch or rows");
}

static flux1_status same_shape(const call *c, operand a, operand b)
{
    return a.a.cols == b.a.cols ? same_rows(c, a, b) : disagree(c, a, b, "differ in columns");
}

static bool overlap(act a, act b)
{
    int64_t p = act_first_row(a), q = act_first_row(b);
    return a.buffer == b.buffer && p < q + b.rows && q < p + a.rows && a.col < b.col + b.cols && b.col < a.col + a.cols;
}

static bool same_window(act a, act b)
{
    return a.buffer == b.buffer && act_first_row(a) == act_first_row(b) && a.rows == b.rows && a.col == b.col &&
           a.cols == b.cols;
}

/* An output may not lie over an input … */
static flux1_status apart(const call *c, operand in, operand out)
{
    return overlap(in.a, out.a) ? disagree(c, in, out, "overlap") : FLUX1_OK;
}

/* … but for an input that is the output itself. */
static flux1_status apart_or_same(const call *c, operand in, operand out)
{
    return same_window(in.a, out.a) ? FLUX1_OK : apart(c, in, out);
}

/* An operand of the output's shape that may be left out. */
static flux1_status beside(const call *c, operand x, operand out)
{
    if (!act_present(x.a))
        return FLUX1_OK;
    TRY(window(c, x));
    return same_shape(c, x, out);
}

/* One row a step and entry of the output's batch, up to the step counter; may be left out. */
static flux1_status table(const call *c, operand t, operand out, int64_t cols)
{
    if (!act_present(t.a))
        return FLUX1_OK;
    TRY(window(c, t));
    TRY(has_role(c, t, ACT_TABLE));
    int64_t batch = act_batch(out.a);
    if (act_batch(t.a) != 1 || t.a.cols != cols)
        return disagree(c, t, out, "do not go together: a table has batch 1 and the output's columns");
    if (act_rows(t.a) % (batch > 0 ? batch : 1) || act_rows(t.a) / (batch > 0 ? batch : 1) <= c->o->step)
        return refuse(c, "%s has no row for each of %" PRId64 " batch entries at step %" PRId64, shown(&t).s, batch,
                      c->o->step);
    return FLUX1_OK;
}

static const char *const weight_names[] = {[WEIGHT_LINEAR] = "linear",
                                           [WEIGHT_QKV] = "q|k|v",
                                           [WEIGHT_VECTOR] = "vector",
                                           [WEIGHT_CONV] = "convolution",
                                           [WEIGHT_TABLE] = "table"};

static flux1_status weight_is(const call *c, const char *name, const weight *w, weight_role role)
{
    if (!w)
        return refuse(c, "%s is left out", name);
    if (!w->owner->held)
        return outside(c->o, c->entry, w);
    if (w->role != role && !(role == WEIGHT_LINEAR && w->role == WEIGHT_QKV))
        return refuse(c, "%s is a %s weight of block \"%s\", should be %s", name, weight_names[w->role], w->owner->name,
                      weight_names[role]);
    return FLUX1_OK;
}

static flux1_status sized(const call *c, const char *name, const weight *w, int64_t rows, int64_t cols)
{
    return w->rows == rows && w->cols == cols
               ? FLUX1_OK
               : refuse(c, "%s of block \"%s\" is [%" PRId64 ", %" PRId64 "], should be [%" PRId64 ", %" PRId64 "]",
                        name, w->owner->name, w->rows, w->cols, rows, cols);
}

static flux1_status vector_of(const call *c, const char *name, const weight *w, int64_t n)
{
    TRY(weight_is(c, name, w, WEIGHT_VECTOR));
    return sized(c, name, w, n, 1);
}

static flux1_status plane(const call *c, operand x)
{
    TRY(window(c, x));
    TRY(has_role(c, x, ACT_PLANE));
    const act_shape *s = &x.a.buffer->shape;
    if (x.a.rows != s->rows[0] + s->rows[1] || s->height * s->width != x.a.rows)
        return refuse(c, "%s is not a whole plane of %" PRId64 " x %" PRId64, shown(&x).s, s->height, s->width);
    return FLUX1_OK;
}

static flux1_status count(const call *c, const char *name, int64_t n)
{
    return n >= 0 ? FLUX1_OK : refuse(c, "%s is %" PRId64, name, n);
}

/* Rows [first, first + rows) are rows of x. */
static flux1_status range(const call *c, operand x, int64_t first, int64_t rows)
{
    return first >= 0 && rows >= 0 && first <= act_rows(x.a) - rows
               ? FLUX1_OK
               : refuse(c, "rows %" PRId64 " to %" PRId64 " of %s", first, first + rows, shown(&x).s);
}

#define CALL(name) \
    const call *c = &(call) { o, #name }

/* ---- memory ---- */

flux1_status check_reserve(ops *o, size_t arena_bytes)
{
    (void)o, (void)arena_bytes;
    return FLUX1_OK;
}

flux1_status check_create(ops *o, act_role role, act_shape shape, act *out)
{
    CALL(create);
    (void)out;
    if (shape.batch < 0 || shape.rows[0] < 0 || shape.rows[1] < 0 || shape.cols < 0 || shape.height < 0 ||
        shape.width < 0)
        return refuse(c, "a shape has a count below 0: %" PRId64 " x (%" PRId64 " + %" PRId64 "), %" PRId64,
                      shape.batch, shape.rows[0], shape.rows[1], shape.cols);
    if ((shape.height || shape.width) &&
        (role != ACT_PLANE || shape.rows[0] || shape.height * shape.width != shape.rows[1]))
        return refuse(c, "height %" PRId64 " x width %" PRId64 " for %s of %" PRId64 " rows", shape.height, shape.width,
                      role_names[role], shape.rows[1]);
    return FLUX1_OK;
}

flux1_status ops_host_fits(const ops *o, const char *operation, const tensor *host, act a)
{
    call c = {o, operation};
    dtype type = a.buffer->role == ACT_IDS ? DTYPE_I32 : DTYPE_F32;
    int64_t elements = act_batch(a) * act_rows(a) * a.cols;
    if (host->type != type || tensor_elements(host) != elements)
        return refuse(&c, "the host has %" PRId64 " elements of type %s, %s takes %s", tensor_elements(host),
                      dtype_describe(host->type)->name, shown(&(operand){"the activation", a}).s,
                      dtype_describe(type)->name);
    return FLUX1_OK;
}

/* A dry run's caller may have no values, or others than it will have. */
flux1_status check_upload(ops *o, const tensor *host, act out)
{
    CALL(upload);
    TRY(window(c, NAMED(out)));
    return ops_counts_only(o) ? FLUX1_OK : ops_host_fits(o, "upload", host, out);
}

flux1_status check_download(ops *o, act in, tensor *host)
{
    CALL(download);
    TRY(window(c, NAMED(in)));
    return ops_counts_only(o) ? FLUX1_OK : ops_host_fits(o, "download", host, in);
}

flux1_status check_exchange(ops *o, size_t bytes, void **out)
{
    (void)o, (void)bytes, (void)out;
    return FLUX1_OK;
}

/* ---- weights ---- */

flux1_status check_block_create(ops *o, const char *name, block **out)
{
    CALL(block_create);
    (void)out;
    return name ? FLUX1_OK : refuse(c, "a block without a name");
}

/* The pieces lie in the matrix and in their sources, and are as many elements as it has. A source without bytes stands
 * for one that is missing: the store tells of that. */
static flux1_status tiles(const call *c, const char *name, const weight_recipe *r)
{
    int64_t elements = 0;
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const tensor *t = &p->source->view;
        int64_t rows = t->dims ? t->shape[0] : 1, cols = rows ? tensor_elements(t) / rows : 0;
        bool inside = p->row >= 0 && p->col >= 0 && p->rows >= 0 && p->cols >= 0 && p->row + p->rows <= r->rows &&
                      p->col + p->cols <= r->cols;
        bool there = p->source_row >= 0 && p->source_col >= 0 && p->source_row + p->rows <= rows &&
                     p->source_col + p->cols <= cols;
        if (!inside || (!there && t->data))
            return refuse(c, "%s: a piece of \"%s\" is not inside of it, or not inside the recipe's matrix", name,
                          p->source->name);
        elements += p->rows * p->cols;
    }
    if (elements != r->rows * r->cols)
        return refuse(c, "%s: pieces of %" PRId64 " elements for a matrix [%" PRId64 ", %" PRId64 "]", name, elements,
                      r->rows, r->cols);
    return FLUX1_OK;
}

flux1_status check_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    CALL(prepare);
    (void)out;
    TRY(tiles(c, "w", w));
    if (b->held)
        return refuse(c, "block \"%s\" is begun: its weights are known before", b->name);
    if (w->role == WEIGHT_CONV ? (w->kernel != 1 && w->kernel != 3) || w->cols % (w->kernel * w->kernel) : w->kernel)
        return refuse(c, "w [%" PRId64 ", %" PRId64 "], a %s weight, has kernel %d", w->rows, w->cols,
                      weight_names[w->role], w->kernel);
    if (w->role == WEIGHT_QKV && w->rows % (3 * (w->heads > 0 ? w->heads : 1)))
        return refuse(c, "w has %" PRId64 " rows of q, k and v for %" PRId64 " heads", w->rows, w->heads);
    if (w->role == WEIGHT_VECTOR && w->cols != 1)
        return refuse(c, "w [%" PRId64 ", %" PRId64 "] is a vector", w->rows, w->cols);
    if (!bias)
        return FLUX1_OK;
    TRY(tiles(c, "bias", bias));
    if (bias->role != WEIGHT_VECTOR || bias->rows != w->rows || bias->cols != 1 || w->role == WEIGHT_TABLE)
        return refuse(c, "bias [%" PRId64 ", %" PRId64 "] for w [%" PRId64 ", %" PRId64 "], a %s weight", bias->rows,
                      bias->cols, w->rows, w->cols, weight_names[w->role]);
    return FLUX1_OK;
}

flux1_status check_block_begin(ops *o, block *b)
{
    CALL(block_begin);
    return b->held ? refuse(c, "block \"%s\" is begun twice", b->name) : FLUX1_OK;
}

flux1_status check_block_end(ops *o, block *b)
{
    CALL(block_end);
    return b->held ? FLUX1_OK : refuse(c, "block \"%s\" is ended, but was not begun", b->name);
}

/* ---- order ---- */

static flux1_status step_is(const call *c, int64_t step)
{
    return step >= 0 ? FLUX1_OK : refuse(c, "step %" PRId64, step);
}

flux1_status check_step_set(ops *o, int64_t step)
{
    CALL(step_set);
    return step_is(c, step);
}

flux1_status check_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)o, (void)recording, (void)done;
    return FLUX1_OK;
}

flux1_status check_step_record(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

flux1_status check_branch(ops *o, int which)
{
    CALL(branch);
    return which >= 0 && which <= 2 ? FLUX1_OK : refuse(c, "branch %d", which);
}

flux1_status check_step_end(ops *o, int64_t step)
{
    CALL(step_end);
    return step_is(c, step);
}

flux1_status check_step_wait(ops *o, int64_t step, int *slot)
{
    CALL(step_wait);
    (void)slot;
    return step_is(c, step);
}

flux1_status check_sync(ops *o)
{
    (void)o;
    return FLUX1_OK;
}

/* ---- arithmetic ---- */

flux1_status check_product(ops *o, act in, const weight *w, const epilogue *e, act out)
{
    CALL(product);
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    TRY(weight_is(c, "w", w, WEIGHT_LINEAR));
    TRY(sized(c, "w", w, out.cols, in.cols));
    TRY(same_rows(c, NAMED(in), NAMED(out)));
    TRY(apart(c, NAMED(in), NAMED(out)));
    const operand addend = {"addend", e->addend}, mul = {"mul", e->mul}, residual = {"residual", e->residual};
    TRY(beside(c, addend, NAMED(out)));
    if (act_present(e->addend))
        TRY(has_role(c, addend, ACT_PARTIAL));
    TRY(apart(c, addend, NAMED(out)));
    TRY(beside(c, mul, NAMED(out)));
    TRY(apart(c, mul, NAMED(out)));
    TRY(table(c, (operand){"gate", e->gate}, NAMED(out), out.cols));
    TRY(beside(c, residual, NAMED(out)));
    return apart_or_same(c, residual, NAMED(out));
}

flux1_status check_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    CALL(layer_norm);
    (void)eps;
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    TRY(same_shape(c, NAMED(in), NAMED(out)));
    TRY(apart(c, NAMED(in), NAMED(out)));
    if (w)
        TRY(vector_of(c, "w", w, in.cols));
    TRY(table(c, NAMED(shift), NAMED(out), out.cols));
    return table(c, NAMED(scale), NAMED(out), out.cols);
}

flux1_status check_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    CALL(rms_norm);
    (void)eps;
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    TRY(same_shape(c, NAMED(in), NAMED(out)));
    TRY(apart(c, NAMED(in), NAMED(out)));
    return vector_of(c, "w", w, in.cols);
}

/* Columns are `heads` heads; *dim: the head's size, 0 for no heads. */
static flux1_status heads_of(const call *c, operand x, int64_t heads, int64_t *dim)
{
    *dim = heads > 0 ? x.a.cols / heads : 0;
    return heads >= 0 && *dim * heads == x.a.cols ? FLUX1_OK
                                                  : refuse(c, "%s has %" PRId64 " heads", shown(&x).s, heads);
}

flux1_status check_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    CALL(head_norm_rope);
    int64_t dim;
    (void)eps;
    TRY(window(c, NAMED(x)));
    TRY(heads_of(c, NAMED(x), heads, &dim));
    if (w && heads > 0)
        TRY(vector_of(c, "w", w, dim));
    if (!act_present(rope) || heads == 0)
        return FLUX1_OK;
    TRY(window(c, NAMED(rope)));
    TRY(has_role(c, NAMED(rope), ACT_ROPE));
    if (act_batch(rope) != 1 || act_rows(rope) != act_rows(x) || rope.cols != dim || dim % 2)
        return disagree(c, NAMED(rope), NAMED(x), "do not go together: one batch entry, x's rows, one head's pairs");
    return FLUX1_OK;
}

static flux1_status attended(const call *c, act q, act k, act v, const attention_args *a, act out)
{
    int64_t dim;
    TRY(window(c, NAMED(q)));
    TRY(window(c, NAMED(k)));
    TRY(window(c, NAMED(v)));
    TRY(window(c, NAMED(out)));
    TRY(heads_of(c, NAMED(q), a->heads, &dim));
    TRY(same_shape(c, NAMED(k), NAMED(v)));
    TRY(same_shape(c, NAMED(q), NAMED(out)));
    if (k.cols != q.cols || act_batch(k) != act_batch(q))
        return disagree(c, NAMED(q), NAMED(k), "differ in batch or columns");
    TRY(apart(c, NAMED(q), NAMED(out)));
    TRY(apart(c, NAMED(k), NAMED(out)));
    TRY(apart(c, NAMED(v), NAMED(out)));
    const operand bias = {"bias", a->bias};
    if (a->int8 && (a->causal || act_present(a->bias)))
        return refuse(c, "int8 cannot be combined with a causal mask or a bias");
    if (a->int8 && !(a->scale >= 0 && isfinite(a->scale))) /* a block's highest is found before it is scaled */
        return refuse(c, "int8 takes a scale that is finite and not negative");
    if (!act_present(a->bias))
        return FLUX1_OK;
    TRY(window(c, bias));
    TRY(has_role(c, bias, ACT_TABLE));
    if (act_rows(q) != act_rows(k) || a->bias.cols != 2 * act_rows(q) - 1 || act_rows(a->bias) != a->heads ||
        act_batch(a->bias) != 1)
        return refuse(c, "%s for %s and %" PRId64 " heads: should be [1 x heads, 2·rows − 1], and q have k's rows",
                      shown(&bias).s, shown(&NAMED(q)).s, a->heads);
    return FLUX1_OK;
}

flux1_status check_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    CALL(attention);
    return attended(c, q, k, v, a, out);
}

/* A row's log-sum-exp, for each head. */
static flux1_status sums_of(const call *c, operand lse, operand out, int64_t heads)
{
    TRY(window(c, lse));
    TRY(has_role(c, lse, ACT_STATS));
    TRY(has_role(c, out, ACT_PARTIAL));
    TRY(same_rows(c, lse, out));
    return lse.a.cols == heads ? FLUX1_OK
                               : refuse(c, "%s: should have %" PRId64 " columns, one a head", shown(&lse).s, heads);
}

flux1_status check_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    CALL(attention_part);
    TRY(attended(c, q, k, v, a, out));
    return sums_of(c, NAMED(lse), NAMED(out), a->heads);
}

flux1_status check_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    CALL(attention_merge);
    int64_t dim;
    TRY(window(c, NAMED(out)));
    TRY(window(c, NAMED(other)));
    TRY(heads_of(c, NAMED(out), heads, &dim));
    TRY(same_shape(c, NAMED(other), NAMED(out)));
    TRY(sums_of(c, NAMED(lse), NAMED(out), heads));
    TRY(sums_of(c, NAMED(other_lse), NAMED(other), heads));
    TRY(apart(c, NAMED(other), NAMED(out)));
    return apart(c, NAMED(other_lse), NAMED(lse));
}

/* ---- planes ---- */

static flux1_status halo(const call *c, operand x, const weight *w, operand in)
{
    if (!act_present(x.a))
        return FLUX1_OK;
    TRY(plane(c, x));
    const act_shape *s = &x.a.buffer->shape, *t = &in.a.buffer->shape;
    if (w->kernel != 3)
        return refuse(c, "%s beside a kernel of %d", shown(&x).s, w->kernel);
    return s->height == 1 && s->width == t->width && s->batch == t->batch && x.a.cols == in.a.cols
               ? FLUX1_OK
               : disagree(c, x, in, "do not go together: one row of the same width");
}

flux1_status check_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    CALL(conv);
    TRY(plane(c, NAMED(in)));
    TRY(plane(c, NAMED(out)));
    TRY(weight_is(c, "w", w, WEIGHT_CONV));
    TRY(sized(c, "w", w, out.cols, in.cols * w->kernel * w->kernel));
    const act_shape *s = &in.buffer->shape, *t = &out.buffer->shape;
    if (stride != 1 && (stride != 2 || w->kernel != 3))
        return refuse(c, "stride %d of a kernel of %d", stride, w->kernel);
    if (t->height != s->height / stride || t->width != s->width / stride || s->batch != t->batch)
        return disagree(c, NAMED(in), NAMED(out), "differ in batch, height or width");
    TRY(halo(c, NAMED(top), w, NAMED(in)));
    TRY(halo(c, NAMED(bottom), w, NAMED(in)));
    if (stride == 2 && act_present(top))
        return refuse(c, "%s beside stride 2, which begins at the first row", shown(&NAMED(top)).s);
    TRY(apart(c, NAMED(in), NAMED(out)));
    TRY(beside(c, NAMED(residual), NAMED(out)));
    return apart_or_same(c, NAMED(residual), NAMED(out));
}

static flux1_status groups_of(const call *c, operand in, int64_t groups)
{
    return groups > 0 && in.a.cols % groups == 0
               ? FLUX1_OK
               : refuse(c, "%s in %" PRId64 " groups of channels", shown(&in).s, groups);
}

flux1_status check_group_stats(ops *o, act in, int64_t groups, act stats)
{
    CALL(group_stats);
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(stats)));
    TRY(has_role(c, NAMED(stats), ACT_STATS));
    TRY(groups_of(c, NAMED(in), groups));
    if (act_rows(stats) != groups || stats.cols != 3 || act_batch(stats) != act_batch(in))
        return disagree(c, NAMED(stats), NAMED(in), "do not go together: count, mean and M2 of each group");
    return FLUX1_OK;
}

static flux1_status normalised(const call *c, operand in, int64_t groups, const weight *w, operand out)
{
    TRY(window(c, in));
    TRY(window(c, out));
    TRY(same_shape(c, in, out));
    TRY(groups_of(c, in, groups));
    TRY(apart_or_same(c, in, out));
    return vector_of(c, "w", w, in.a.cols);
}

static flux1_status stats_of(const call *c, operand stats, int64_t groups, operand in)
{
    TRY(window(c, stats));
    TRY(has_role(c, stats, ACT_STATS));
    const int64_t rows = act_rows(stats.a);
    return rows % groups == 0 && rows > 0 && stats.a.cols == 3 && act_batch(stats.a) == act_batch(in.a)
               ? FLUX1_OK
               : disagree(c, stats, in, "do not go together: sets of count, mean and M2 of each group");
}

flux1_status check_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu,
                               act out)
{
    CALL(group_apply);
    (void)eps, (void)silu;
    TRY(normalised(c, NAMED(in), groups, w, NAMED(out)));
    return stats_of(c, NAMED(stats), groups, NAMED(in));
}

static flux1_status doubled(const call *c, operand in, operand out)
{
    const act_shape *s = &in.a.buffer->shape, *t = &out.a.buffer->shape;
    return t->height == 2 * s->height && t->width == 2 * s->width && s->batch == t->batch
               ? FLUX1_OK
               : disagree(c, in, out, "do not go together: twice the height and width");
}

flux1_status check_upsample(ops *o, act in, act out)
{
    CALL(upsample);
    TRY(plane(c, NAMED(in)));
    TRY(plane(c, NAMED(out)));
    TRY(doubled(c, NAMED(in), NAMED(out)));
    return in.cols == out.cols ? FLUX1_OK : disagree(c, NAMED(in), NAMED(out), "differ in channels");
}

/* ---- rows ---- */

flux1_status check_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    CALL(embed);
    TRY(window(c, NAMED(ids)));
    TRY(window(c, NAMED(out)));
    TRY(has_role(c, NAMED(ids), ACT_IDS));
    TRY(weight_is(c, "table", table, WEIGHT_TABLE));
    TRY(sized(c, "table", table, table->rows, out.cols));
    TRY(same_rows(c, NAMED(ids), NAMED(out)));
    if (ids.cols != 1)
        return refuse(c, "%s: should have one column", shown(&NAMED(ids)).s);
    if (!positions)
        return FLUX1_OK;
    TRY(weight_is(c, "positions", positions, WEIGHT_TABLE));
    TRY(sized(c, "positions", positions, positions->rows, out.cols));
    return first >= 0 && first <= positions->rows - act_rows(out)
               ? FLUX1_OK
               : refuse(c, "positions from %" PRId64 " of %" PRId64 " for %s", first, positions->rows,
                        shown(&NAMED(out)).s);
}

flux1_status check_activate(ops *o, activation f, act in, act mul, act out)
{
    CALL(activate);
    (void)f;
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    TRY(same_shape(c, NAMED(in), NAMED(out)));
    TRY(beside(c, NAMED(mul), NAMED(out)));
    TRY(apart(c, NAMED(mul), NAMED(out)));
    return apart_or_same(c, NAMED(in), NAMED(out));
}

flux1_status check_add(ops *o, act x, float s, act gate, act y, act out)
{
    CALL(add);
    (void)s;
    TRY(window(c, NAMED(x)));
    TRY(window(c, NAMED(y)));
    TRY(window(c, NAMED(out)));
    TRY(same_shape(c, NAMED(x), NAMED(out)));
    if (y.cols != x.cols || act_batch(y) != act_batch(x) || (act_rows(y) != act_rows(x) && act_rows(y) != 1))
        return disagree(c, NAMED(y), NAMED(x), "do not go together: x's rows or one, x's batch and columns");
    TRY(table(c, NAMED(gate), NAMED(out), out.cols));
    TRY(apart_or_same(c, NAMED(x), NAMED(out)));
    return apart_or_same(c, NAMED(y), NAMED(out));
}

flux1_status check_euler(ops *o, act x, act v, act dsigma)
{
    CALL(euler);
    TRY(window(c, NAMED(x)));
    TRY(window(c, NAMED(v)));
    TRY(same_shape(c, NAMED(x), NAMED(v)));
    TRY(apart(c, NAMED(v), NAMED(x)));
    if (!act_present(dsigma))
        return refuse(c, "dsigma is left out");
    return table(c, NAMED(dsigma), NAMED(x), 1);
}

static flux1_status copied(const call *c, act in, int64_t first, act out)
{
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    if (in.cols != out.cols || act_batch(in) != act_batch(out))
        return disagree(c, NAMED(in), NAMED(out), "differ in batch or columns");
    TRY(range(c, NAMED(in), first, act_rows(out)));
    return apart(c, NAMED(in), NAMED(out));
}

flux1_status check_cast(ops *o, act in, act out)
{
    CALL(cast);
    TRY(copied(c, in, 0, out));
    return same_rows(c, NAMED(in), NAMED(out));
}

flux1_status check_copy_rows(ops *o, act in, int64_t first, act out)
{
    CALL(copy_rows);
    return copied(c, in, first, out);
}

flux1_status check_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    CALL(pack);
    (void)bytes;
    TRY(window(c, NAMED(in)));
    return range(c, NAMED(in), first, rows);
}

flux1_status check_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    CALL(unpack);
    (void)bytes;
    TRY(window(c, NAMED(out)));
    return range(c, NAMED(out), first, rows);
}

flux1_status check_finite(ops *o, act a, int slot)
{
    CALL(finite);
    TRY(window(c, NAMED(a)));
    return slot >= 0 && slot < OPS_SLOTS ? FLUX1_OK : refuse(c, "slot %d of %d", slot, OPS_SLOTS);
}

flux1_status check_finite_first(ops *o, int *slot)
{
    (void)o, (void)slot;
    return FLUX1_OK;
}

/* ---- composites: what their primitives would ask ---- */

static flux1_status adapted(const call *c, act in, const linear_weight *w, act out)
{
    TRY(count(c, "adapter_count", w->adapter_count));
    for (int i = 0; i < w->adapter_count; i++) {
        const weight *up = w->adapters[i].up, *down = w->adapters[i].down;
        TRY(weight_is(c, "up", up, WEIGHT_LINEAR));
        TRY(weight_is(c, "down", down, WEIGHT_LINEAR));
        TRY(sized(c, "up", up, out.cols, down->rows));
        TRY(sized(c, "down", down, up->cols, in.cols));
    }
    return FLUX1_OK;
}

flux1_status check_linear(ops *o, act in, const linear_weight *w, const epilogue *e, act out)
{
    CALL(linear);
    TRY(check_product(o, in, w->w, e, out));
    return adapted(c, in, w, out);
}

flux1_status check_linear_norm(ops *o, act in, const linear_weight *w, const epilogue *e, act out,
                               const norm_behind *norm)
{
    CALL(linear_norm);
    const operand normed = {"norm", norm->out}, beside_it[] = {NAMED(in), {"residual", e->residual}, {"mul", e->mul}};
    TRY(check_linear(o, in, w, e, out));
    TRY(check_layer_norm(o, out, norm->w, norm->shift, norm->scale, norm->eps, norm->out));
    for (size_t i = 0; i < sizeof beside_it / sizeof *beside_it; i++)
        TRY(apart(c, beside_it[i], normed));
    for (int i = 0; i < 2 && norm->readers[i]; i++)
        TRY(sized(c, "reader", norm->readers[i]->w, norm->readers[i]->w->rows, norm->out.cols));
    return norm->slot >= -1 && norm->slot < OPS_SLOTS ? FLUX1_OK : refuse(c, "slot %d of %d", norm->slot, OPS_SLOTS);
}

static flux1_status rows_and_inner(const call *c, const char *name, const linear_weight *w, int64_t rows, int64_t cols)
{
    TRY(weight_is(c, name, w->w, WEIGHT_LINEAR));
    return sized(c, name, w->w, rows, cols);
}

flux1_status check_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    CALL(qkv_norm_rope);
    if (qkv.cols % 3)
        return refuse(c, "%s: should have columns of q, k and v", shown(&NAMED(qkv)).s);
    TRY(check_linear(o, in, &w->qkv, &(epilogue){0}, qkv));
    TRY(check_head_norm_rope(o, act_columns(qkv, 0, qkv.cols / 3), w->heads, w->norm_q, w->eps, rope));
    return check_head_norm_rope(o, act_columns(qkv, qkv.cols / 3, qkv.cols / 3), w->heads, w->norm_k, w->eps, rope);
}

flux1_status check_mlp(ops *o, act in, const linear_weight *up, activation f, const linear_weight *down,
                       const epilogue *e, act out)
{
    CALL(mlp);
    (void)f, (void)e;
    TRY(window(c, NAMED(in)));
    TRY(window(c, NAMED(out)));
    TRY(weight_is(c, "up", up->w, WEIGHT_LINEAR));
    TRY(rows_and_inner(c, "up", up, up->w->rows, in.cols));
    TRY(rows_and_inner(c, "down", down, out.cols, up->w->rows));
    TRY(same_rows(c, NAMED(in), NAMED(out)));
    return apart(c, NAMED(in), NAMED(out));
}

flux1_status check_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                   act hidden)
{
    TRY(check_qkv_norm_rope(o, in, w, rope, qkv));
    return check_linear(o, in, up, &(epilogue){0}, hidden);
}

flux1_status check_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    CALL(upsample_conv);
    TRY(plane(c, NAMED(in)));
    TRY(plane(c, NAMED(out)));
    TRY(weight_is(c, "w", w, WEIGHT_CONV));
    TRY(sized(c, "w", w, out.cols, in.cols * 9));
    TRY(doubled(c, NAMED(in), NAMED(out)));
    TRY(halo(c, NAMED(top), w, NAMED(in)));
    TRY(halo(c, NAMED(bottom), w, NAMED(in)));
    return apart(c, NAMED(in), NAMED(out));
}

/* `height` rows of a plane's pixels, as wide as out. */
static flux1_status lines_of(const call *c, operand x, int64_t height, int64_t cols, operand out)
{
    TRY(window(c, x));
    TRY(has_role(c, x, ACT_PLANE));
    return act_rows(x.a) == height * out.a.buffer->shape.width && x.a.cols == cols && act_batch(x.a) == act_batch(out.a)
               ? FLUX1_OK
               : disagree(c, x, out, "do not go together: rows of the same width");
}

flux1_status check_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual,
                             act out)
{
    CALL(norm_conv);
    TRY(plane(c, NAMED(out)));
    TRY(lines_of(c, NAMED(in), out.buffer->shape.height, in.cols, NAMED(out)));
    if (act_present(top))
        TRY(lines_of(c, NAMED(top), 1, in.cols, NAMED(out)));
    if (act_present(bottom))
        TRY(lines_of(c, NAMED(bottom), 1, in.cols, NAMED(out)));
    TRY(groups_of(c, NAMED(in), n->groups));
    TRY(vector_of(c, "the norm's w", n->w, in.cols));
    TRY(stats_of(c, (operand){"stats", n->stats}, n->groups, NAMED(in)));
    TRY(weight_is(c, "w", w, WEIGHT_CONV));
    TRY(sized(c, "w", w, out.cols, in.cols * 9));
    TRY(apart(c, NAMED(in), NAMED(out)));
    TRY(beside(c, NAMED(residual), NAMED(out)));
    return apart_or_same(c, NAMED(residual), NAMED(out));
}

flux1_status check_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    CALL(group_norm);
    (void)eps, (void)silu;
    return normalised(c, NAMED(in), groups, w, NAMED(out));
}
