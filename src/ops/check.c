#include "ops/check_call.h"

#include <inttypes.h>
#include <math.h>

flux1_status ops_cancelled(const ops *o)
{
    if (o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed))
        return error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
    return FLUX1_OK;
}

flux1_status ops_begin(const ops *o, const char *operation, const weight *w)
{
    TRY(ops_cancelled(o));
    return w && !w->owner->held ? call_outside_block(o, operation, w) : FLUX1_OK;
}

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
        return call_refuse(c, "a shape has a count below 0: %" PRId64 " x (%" PRId64 " + %" PRId64 "), %" PRId64,
                           shape.batch, shape.rows[0], shape.rows[1], shape.cols);
    if ((shape.height || shape.width) &&
        (role != ACT_PLANE || shape.rows[0] || shape.height * shape.width != shape.rows[1]))
        return call_refuse(c, "height %" PRId64 " x width %" PRId64 " for %s of %" PRId64 " rows", shape.height,
                           shape.width, call_role_names[role], shape.rows[1]);
    return FLUX1_OK;
}

flux1_status ops_host_fits(const ops *o, const char *operation, const tensor *host, act a)
{
    call c = {o, operation};
    dtype type = a.buffer->role == ACT_IDS ? DTYPE_I32 : DTYPE_F32;
    int64_t elements = act_batch(a) * act_rows(a) * a.cols;
    if (host->type != type || tensor_elements(host) != elements)
        return call_refuse(&c, "the host has %" PRId64 " elements of type %s, %s takes %s", tensor_elements(host),
                           dtype_describe(host->type)->name, call_operand_text(&(operand){"the activation", a}).s,
                           dtype_describe(type)->name);
    return FLUX1_OK;
}

/* A dry run's caller may have no values, or others than it will have. */
flux1_status check_upload(ops *o, const tensor *host, act out)
{
    CALL(upload);
    TRY(call_window(c, NAMED(out)));
    return ops_counts_only(o) ? FLUX1_OK : ops_host_fits(o, "upload", host, out);
}

flux1_status check_download(ops *o, act in, tensor *host)
{
    CALL(download);
    TRY(call_window(c, NAMED(in)));
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
    return name ? FLUX1_OK : call_refuse(c, "a block without a name");
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
            return call_refuse(c, "%s: a piece of \"%s\" is not inside of it, or not inside the recipe's matrix", name,
                               p->source->name);
        elements += p->rows * p->cols;
    }
    if (elements != r->rows * r->cols)
        return call_refuse(c, "%s: pieces of %" PRId64 " elements for a matrix [%" PRId64 ", %" PRId64 "]", name,
                           elements, r->rows, r->cols);
    return FLUX1_OK;
}

flux1_status check_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    CALL(prepare);
    (void)out;
    TRY(tiles(c, "w", w));
    if (b->held)
        return call_refuse(c, "block \"%s\" is begun: its weights are known before", b->name);
    if (w->role == WEIGHT_CONV ? (w->kernel != 1 && w->kernel != 3) || w->cols % (w->kernel * w->kernel) : w->kernel)
        return call_refuse(c, "w [%" PRId64 ", %" PRId64 "], a %s weight, has kernel %d", w->rows, w->cols,
                           call_weight_names[w->role], w->kernel);
    if (w->role == WEIGHT_QKV && w->rows % (3 * (w->heads > 0 ? w->heads : 1)))
        return call_refuse(c, "w has %" PRId64 " rows of q, k and v for %" PRId64 " heads", w->rows, w->heads);
    if (w->role == WEIGHT_VECTOR && w->cols != 1)
        return call_refuse(c, "w [%" PRId64 ", %" PRId64 "] is a vector", w->rows, w->cols);
    if (!bias)
        return FLUX1_OK;
    TRY(tiles(c, "bias", bias));
    if (bias->role != WEIGHT_VECTOR || bias->rows != w->rows || bias->cols != 1 || w->role == WEIGHT_TABLE)
        return call_refuse(c, "bias [%" PRId64 ", %" PRId64 "] for w [%" PRId64 ", %" PRId64 "], a %s weight",
                           bias->rows, bias->cols, w->rows, w->cols, call_weight_names[w->role]);
    return FLUX1_OK;
}

flux1_status check_block_begin(ops *o, block *b)
{
    CALL(block_begin);
    return b->held ? call_refuse(c, "block \"%s\" is begun twice", b->name) : FLUX1_OK;
}

flux1_status check_block_end(ops *o, block *b)
{
    CALL(block_end);
    return b->held ? FLUX1_OK : call_refuse(c, "block \"%s\" is ended, but was not begun", b->name);
}

/* ---- order ---- */

static flux1_status step_is(const call *c, int64_t step)
{
    return step >= 0 ? FLUX1_OK : call_refuse(c, "step %" PRId64, step);
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
    return which >= 0 && which <= 2 ? FLUX1_OK : call_refuse(c, "branch %d", which);
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
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_weight(c, "w", w, WEIGHT_LINEAR));
    TRY(call_weight_size(c, "w", w, out.cols, in.cols));
    TRY(call_same_rows(c, NAMED(in), NAMED(out)));
    TRY(call_apart(c, NAMED(in), NAMED(out)));
    const operand addend = {"addend", e->addend}, mul = {"mul", e->mul}, residual = {"residual", e->residual};
    TRY(call_beside(c, addend, NAMED(out)));
    if (act_present(e->addend))
        TRY(call_role(c, addend, ACT_PARTIAL));
    TRY(call_apart(c, addend, NAMED(out)));
    TRY(call_beside(c, mul, NAMED(out)));
    TRY(call_apart(c, mul, NAMED(out)));
    TRY(call_table(c, (operand){"gate", e->gate}, NAMED(out), out.cols));
    TRY(call_beside(c, residual, NAMED(out)));
    return call_apart_or_same(c, residual, NAMED(out));
}

flux1_status check_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    CALL(layer_norm);
    (void)eps;
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_same_shape(c, NAMED(in), NAMED(out)));
    TRY(call_apart(c, NAMED(in), NAMED(out)));
    if (w)
        TRY(call_vector(c, "w", w, in.cols));
    TRY(call_table(c, NAMED(shift), NAMED(out), out.cols));
    return call_table(c, NAMED(scale), NAMED(out), out.cols);
}

flux1_status check_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    CALL(rms_norm);
    (void)eps;
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_same_shape(c, NAMED(in), NAMED(out)));
    TRY(call_apart(c, NAMED(in), NAMED(out)));
    return call_vector(c, "w", w, in.cols);
}

/* Columns are `heads` heads; *dim: the head's size, 0 for no heads. */
static flux1_status heads_of(const call *c, operand x, int64_t heads, int64_t *dim)
{
    *dim = heads > 0 ? x.a.cols / heads : 0;
    return heads >= 0 && *dim * heads == x.a.cols
               ? FLUX1_OK
               : call_refuse(c, "%s has %" PRId64 " heads", call_operand_text(&x).s, heads);
}

flux1_status check_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    CALL(head_norm_rope);
    int64_t dim;
    (void)eps;
    TRY(call_window(c, NAMED(x)));
    TRY(heads_of(c, NAMED(x), heads, &dim));
    if (w && heads > 0)
        TRY(call_vector(c, "w", w, dim));
    if (!act_present(rope) || heads == 0)
        return FLUX1_OK;
    TRY(call_window(c, NAMED(rope)));
    TRY(call_role(c, NAMED(rope), ACT_ROPE));
    if (act_batch(rope) != 1 || act_rows(rope) != act_rows(x) || rope.cols != dim || dim % 2)
        return call_disagree(c, NAMED(rope), NAMED(x),
                             "do not go together: one batch entry, x's rows, one head's pairs");
    return FLUX1_OK;
}

static flux1_status attended(const call *c, act q, act k, act v, const attention_args *a, act out)
{
    int64_t dim;
    TRY(call_window(c, NAMED(q)));
    TRY(call_window(c, NAMED(k)));
    TRY(call_window(c, NAMED(v)));
    TRY(call_window(c, NAMED(out)));
    TRY(heads_of(c, NAMED(q), a->heads, &dim));
    TRY(call_same_shape(c, NAMED(k), NAMED(v)));
    TRY(call_same_shape(c, NAMED(q), NAMED(out)));
    if (k.cols != q.cols || act_batch(k) != act_batch(q))
        return call_disagree(c, NAMED(q), NAMED(k), "differ in batch or columns");
    TRY(call_apart(c, NAMED(q), NAMED(out)));
    TRY(call_apart(c, NAMED(k), NAMED(out)));
    TRY(call_apart(c, NAMED(v), NAMED(out)));
    const operand bias = {"bias", a->bias};
    if (a->int8 && (a->causal || act_present(a->bias)))
        return call_refuse(c, "int8 cannot be combined with a causal mask or a bias");
    if (a->int8 && !(a->scale >= 0 && isfinite(a->scale))) /* a block's highest is found before it is scaled */
        return call_refuse(c, "int8 takes a scale that is finite and not negative");
    if (!act_present(a->bias))
        return FLUX1_OK;
    TRY(call_window(c, bias));
    TRY(call_role(c, bias, ACT_TABLE));
    if (act_rows(q) != act_rows(k) || a->bias.cols != 2 * act_rows(q) - 1 || act_rows(a->bias) != a->heads ||
        act_batch(a->bias) != 1)
        return call_refuse(c, "%s for %s and %" PRId64 " heads: should be [1 x heads, 2·rows − 1], and q have k's rows",
                           call_operand_text(&bias).s, call_operand_text(&NAMED(q)).s, a->heads);
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
    TRY(call_window(c, lse));
    TRY(call_role(c, lse, ACT_STATS));
    TRY(call_role(c, out, ACT_PARTIAL));
    TRY(call_same_rows(c, lse, out));
    return lse.a.cols == heads
               ? FLUX1_OK
               : call_refuse(c, "%s: should have %" PRId64 " columns, one a head", call_operand_text(&lse).s, heads);
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
    TRY(call_window(c, NAMED(out)));
    TRY(call_window(c, NAMED(other)));
    TRY(heads_of(c, NAMED(out), heads, &dim));
    TRY(call_same_shape(c, NAMED(other), NAMED(out)));
    TRY(sums_of(c, NAMED(lse), NAMED(out), heads));
    TRY(sums_of(c, NAMED(other_lse), NAMED(other), heads));
    TRY(call_apart(c, NAMED(other), NAMED(out)));
    return call_apart(c, NAMED(other_lse), NAMED(lse));
}

/* ---- rows ---- */

flux1_status check_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    CALL(embed);
    TRY(call_window(c, NAMED(ids)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_role(c, NAMED(ids), ACT_IDS));
    TRY(call_weight(c, "table", table, WEIGHT_TABLE));
    TRY(call_weight_size(c, "table", table, table->rows, out.cols));
    TRY(call_same_rows(c, NAMED(ids), NAMED(out)));
    if (ids.cols != 1)
        return call_refuse(c, "%s: should have one column", call_operand_text(&NAMED(ids)).s);
    if (!positions)
        return FLUX1_OK;
    TRY(call_weight(c, "positions", positions, WEIGHT_TABLE));
    TRY(call_weight_size(c, "positions", positions, positions->rows, out.cols));
    return first >= 0 && first <= positions->rows - act_rows(out)
               ? FLUX1_OK
               : call_refuse(c, "positions from %" PRId64 " of %" PRId64 " for %s", first, positions->rows,
                             call_operand_text(&NAMED(out)).s);
}

flux1_status check_activate(ops *o, activation f, act in, act mul, act out)
{
    CALL(activate);
    (void)f;
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_same_shape(c, NAMED(in), NAMED(out)));
    TRY(call_beside(c, NAMED(mul), NAMED(out)));
    TRY(call_apart(c, NAMED(mul), NAMED(out)));
    return call_apart_or_same(c, NAMED(in), NAMED(out));
}

flux1_status check_add(ops *o, act x, float s, act gate, act y, act out)
{
    CALL(add);
    (void)s;
    TRY(call_window(c, NAMED(x)));
    TRY(call_window(c, NAMED(y)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_same_shape(c, NAMED(x), NAMED(out)));
    if (y.cols != x.cols || act_batch(y) != act_batch(x) || (act_rows(y) != act_rows(x) && act_rows(y) != 1))
        return call_disagree(c, NAMED(y), NAMED(x), "do not go together: x's rows or one, x's batch and columns");
    TRY(call_table(c, NAMED(gate), NAMED(out), out.cols));
    TRY(call_apart_or_same(c, NAMED(x), NAMED(out)));
    return call_apart_or_same(c, NAMED(y), NAMED(out));
}

flux1_status check_euler(ops *o, act x, act v, act dsigma)
{
    CALL(euler);
    TRY(call_window(c, NAMED(x)));
    TRY(call_window(c, NAMED(v)));
    TRY(call_same_shape(c, NAMED(x), NAMED(v)));
    TRY(call_apart(c, NAMED(v), NAMED(x)));
    if (!act_present(dsigma))
        return call_refuse(c, "dsigma is left out");
    return call_table(c, NAMED(dsigma), NAMED(x), 1);
}

static flux1_status copied(const call *c, act in, int64_t first, act out)
{
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    if (in.cols != out.cols || act_batch(in) != act_batch(out))
        return call_disagree(c, NAMED(in), NAMED(out), "differ in batch or columns");
    TRY(call_row_range(c, NAMED(in), first, act_rows(out)));
    return call_apart(c, NAMED(in), NAMED(out));
}

flux1_status check_cast(ops *o, act in, act out)
{
    CALL(cast);
    TRY(copied(c, in, 0, out));
    return call_same_rows(c, NAMED(in), NAMED(out));
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
    TRY(call_window(c, NAMED(in)));
    return call_row_range(c, NAMED(in), first, rows);
}

flux1_status check_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    CALL(unpack);
    (void)bytes;
    TRY(call_window(c, NAMED(out)));
    return call_row_range(c, NAMED(out), first, rows);
}

flux1_status check_finite(ops *o, act a, int slot)
{
    CALL(finite);
    TRY(call_window(c, NAMED(a)));
    return slot >= 0 && slot < OPS_SLOTS ? FLUX1_OK : call_refuse(c, "slot %d of %d", slot, OPS_SLOTS);
}

flux1_status check_finite_first(ops *o, int *slot)
{
    (void)o, (void)slot;
    return FLUX1_OK;
}

/* ---- composites: what their primitives would ask ---- */

static flux1_status adapted(const call *c, act in, const linear_weight *w, act out)
{
    TRY(call_count(c, "adapter_count", w->adapter_count));
    for (int i = 0; i < w->adapter_count; i++) {
        const weight *up = w->adapters[i].up, *down = w->adapters[i].down;
        TRY(call_weight(c, "up", up, WEIGHT_LINEAR));
        TRY(call_weight(c, "down", down, WEIGHT_LINEAR));
        TRY(call_weight_size(c, "up", up, out.cols, down->rows));
        TRY(call_weight_size(c, "down", down, up->cols, in.cols));
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
        TRY(call_apart(c, beside_it[i], normed));
    for (int i = 0; i < 2 && norm->readers[i]; i++)
        TRY(call_weight_size(c, "reader", norm->readers[i]->w, norm->readers[i]->w->rows, norm->out.cols));
    return norm->slot >= -1 && norm->slot < OPS_SLOTS ? FLUX1_OK
                                                      : call_refuse(c, "slot %d of %d", norm->slot, OPS_SLOTS);
}

static flux1_status rows_and_inner(const call *c, const char *name, const linear_weight *w, int64_t rows, int64_t cols)
{
    TRY(call_weight(c, name, w->w, WEIGHT_LINEAR));
    return call_weight_size(c, name, w->w, rows, cols);
}

flux1_status check_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    CALL(qkv_norm_rope);
    if (qkv.cols % 3)
        return call_refuse(c, "%s: should have columns of q, k and v", call_operand_text(&NAMED(qkv)).s);
    TRY(check_linear(o, in, &w->qkv, &(epilogue){0}, qkv));
    TRY(check_head_norm_rope(o, act_columns(qkv, 0, qkv.cols / 3), w->heads, w->norm_q, w->eps, rope));
    return check_head_norm_rope(o, act_columns(qkv, qkv.cols / 3, qkv.cols / 3), w->heads, w->norm_k, w->eps, rope);
}

flux1_status check_mlp(ops *o, act in, const linear_weight *up, activation f, const linear_weight *down,
                       const epilogue *e, act out)
{
    CALL(mlp);
    (void)f, (void)e;
    TRY(call_window(c, NAMED(in)));
    TRY(call_window(c, NAMED(out)));
    TRY(call_weight(c, "up", up->w, WEIGHT_LINEAR));
    TRY(rows_and_inner(c, "up", up, up->w->rows, in.cols));
    TRY(rows_and_inner(c, "down", down, out.cols, up->w->rows));
    TRY(call_same_rows(c, NAMED(in), NAMED(out)));
    return call_apart(c, NAMED(in), NAMED(out));
}

flux1_status check_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                   act hidden)
{
    TRY(check_qkv_norm_rope(o, in, w, rope, qkv));
    return check_linear(o, in, up, &(epilogue){0}, hidden);
}
