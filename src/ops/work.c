#include "ops/work.h"

#include "base/checked.h"
#include "ops/int8.h"
#include "ops/layout.h"

#include <string.h>

void work_cells(const ops_config *c, const ops_sizing *sizing, size_t cell[ACT_ROLES])
{
    for (int role = 0; role < ACT_ROLES; role++)
        cell[role] = sizing->cell_bytes                                         ? sizing->cell_bytes(c, (act_role)role)
                     : layout_bf16(c->arithmetic == DTYPE_BF16, (act_role)role) ? 2
                                                                                : 4;
}

/* Bytes of an act, 0 for one left out. */
static size_t bytes_of(const ops *o, act a)
{
    return act_present(a) ? (size_t)(act_batch(a) * act_rows(a) * a.cols) * o->cell[a.buffer->role] : 0;
}

/* Of a table: the rows that one step reads. */
static size_t bytes_of_step(const ops *o, act table, act out)
{
    return act_present(table) ? (size_t)(act_batch(out) * table.cols) * o->cell[ACT_TABLE] : 0;
}

static size_t weight_bytes(const weight *w) { return w ? w->file_bytes : 0; }

/* An operation on rows × columns of x; w, whose bytes are all read, may be NULL. */
static ops_event on_rows(const ops *o, const char *operation, act x, const weight *w)
{
    return (ops_event){.kind = EVENT_COMPUTE,
                       .operation = operation,
                       .block = w ? w->owner->name : NULL,
                       .batch = act_batch(x),
                       .m = act_rows(x),
                       .n = x.cols,
                       .bytes_out = bytes_of(o, x),
                       .bytes_weights = weight_bytes(w)};
}

static ops_event moved(const ops *o, const char *operation, act x)
{
    ops_event e = on_rows(o, operation, x, NULL);
    e.kind = EVENT_MEMORY;
    return e;
}

static ops_event plain(ops_event_kind kind, const char *operation, const block *b)
{
    return (ops_event){.kind = kind, .operation = operation, .block = b ? b->name : NULL};
}

/* ---- memory, weights, order ---- */

ops_event work_reserve(ops *o, size_t arena_bytes)
{
    (void)o, (void)arena_bytes;
    return plain(EVENT_MEMORY, "reserve", NULL);
}

ops_event work_create(ops *o, act_role role, act_shape shape, act *out)
{
    (void)role, (void)shape;
    return moved(o, "create", *out);
}

ops_event work_upload(ops *o, const tensor *host, act out)
{
    (void)host;
    return moved(o, "upload", out);
}

ops_event work_download(ops *o, act in, tensor *host)
{
    (void)host;
    ops_event e = moved(o, "download", in);
    e.bytes_in = e.bytes_out, e.bytes_out = 0;
    return e;
}

ops_event work_exchange(ops *o, size_t bytes, void **out)
{
    (void)o, (void)out;
    return (ops_event){.kind = EVENT_MEMORY, .operation = "exchange", .bytes_out = bytes};
}

ops_event work_block_create(ops *o, const char *name, block **out)
{
    (void)o, (void)name;
    return plain(EVENT_WEIGHTS, "block_create", *out);
}

ops_event work_prepare(ops *o, block *b, const weight_recipe *w, const weight_recipe *bias, weight **out)
{
    (void)o, (void)bias;
    ops_event e = plain(EVENT_WEIGHTS, "prepare", b);
    e.m = w->rows;
    e.n = w->cols;
    e.bytes_weights = (*out)->file_bytes;
    return e;
}

ops_event work_block_begin(ops *o, block *b)
{
    (void)o;
    return plain(EVENT_WEIGHTS, "block_begin", b);
}

ops_event work_block_end(ops *o, block *b)
{
    (void)o;
    return plain(EVENT_WEIGHTS, "block_end", b);
}

ops_event work_step_set(ops *o, int64_t step)
{
    (void)o, (void)step;
    return plain(EVENT_ORDER, "step_set", NULL);
}

ops_event work_step_replay(ops *o, uint64_t recording, bool *done)
{
    (void)o, (void)recording, (void)done;
    return plain(EVENT_ORDER, "step_replay", NULL);
}

ops_event work_step_record(ops *o)
{
    (void)o;
    return plain(EVENT_ORDER, "step_record", NULL);
}

ops_event work_branch(ops *o, int which)
{
    (void)o, (void)which;
    return plain(EVENT_ORDER, "branch", NULL);
}

ops_event work_step_end(ops *o, int64_t step)
{
    (void)o, (void)step;
    return plain(EVENT_ORDER, "step_end", NULL);
}

ops_event work_step_wait(ops *o, int64_t step, int *slot)
{
    (void)o, (void)step, (void)slot;
    return plain(EVENT_ORDER, "step_wait", NULL);
}

ops_event work_sync(ops *o)
{
    (void)o;
    return plain(EVENT_ORDER, "sync", NULL);
}

ops_event work_finite_first(ops *o, int *slot)
{
    (void)o, (void)slot;
    return plain(EVENT_ORDER, "finite_first", NULL);
}

/* ---- arithmetic ---- */

ops_event work_product(ops *o, act in, const weight *w, const epilogue *e, act out)
{
    int64_t rows = act_batch(in) * act_rows(in);
    ops_event event = on_rows(o, "product", out, w);
    event.k = in.cols;
    event.int8 = w->int8;
    event.flops = 2.0 * (double)rows * (double)w->rows * (double)w->cols;
    event.bytes_in = bytes_of(o, in) + bytes_of(o, e->addend) + bytes_of(o, e->mul) + bytes_of(o, e->residual) +
                     bytes_of_step(o, e->gate, out);
    return event;
}

ops_event work_layer_norm(ops *o, act in, const weight *w, act shift, act scale, float eps, act out)
{
    (void)eps;
    ops_event e = on_rows(o, "layer_norm", out, w);
    e.bytes_in = bytes_of(o, in) + bytes_of_step(o, shift, out) + bytes_of_step(o, scale, out);
    return e;
}

ops_event work_rms_norm(ops *o, act in, const weight *w, float eps, act out)
{
    (void)eps;
    ops_event e = on_rows(o, "rms_norm", out, w);
    e.bytes_in = bytes_of(o, in);
    return e;
}

ops_event work_head_norm_rope(ops *o, act x, int64_t heads, const weight *w, float eps, act rope)
{
    (void)eps;
    ops_event e = on_rows(o, "head_norm_rope", x, w);
    e.heads = heads;
    e.bytes_in = e.bytes_out + bytes_of(o, rope);
    return e;
}

static ops_event attend(ops *o, const char *operation, act q, act k, act v, const attention_args *a, act out, act lse)
{
    ops_event e = on_rows(o, operation, q, NULL);
    e.n = act_rows(k);
    e.k = a->heads ? q.cols / a->heads : 0;
    e.heads = a->heads;
    e.int8 = a->int8 && int8_attends(o->attends, e.k) ? o->attends : INT8_NONE;
    e.flops = 4.0 * (double)act_batch(q) * (double)act_rows(q) * (double)act_rows(k) * (double)q.cols;
    e.bytes_in = bytes_of(o, q) + bytes_of(o, k) + bytes_of(o, v) + bytes_of(o, a->bias);
    e.bytes_out = bytes_of(o, out) + bytes_of(o, lse);
    return e;
}

ops_event work_attention(ops *o, act q, act k, act v, const attention_args *a, act out)
{
    return attend(o, "attention", q, k, v, a, out, (act){0});
}

ops_event work_attention_part(ops *o, act q, act k, act v, const attention_args *a, act out, act lse)
{
    return attend(o, "attention_part", q, k, v, a, out, lse);
}

ops_event work_attention_merge(ops *o, int64_t heads, act out, act lse, act other, act other_lse)
{
    ops_event e = on_rows(o, "attention_merge", out, NULL);
    e.heads = heads;
    e.bytes_out += bytes_of(o, lse);
    e.bytes_in = e.bytes_out + bytes_of(o, other) + bytes_of(o, other_lse);
    return e;
}

ops_event work_conv(ops *o, act in, act top, act bottom, const weight *w, int stride, act residual, act out)
{
    (void)stride;
    int64_t pixels = act_batch(out) * act_rows(out);
    ops_event e = on_rows(o, "conv", out, w);
    e.k = w->cols;
    e.flops = 2.0 * (double)pixels * (double)w->rows * (double)w->cols;
    e.bytes_in = bytes_of(o, in) + bytes_of(o, top) + bytes_of(o, bottom) + bytes_of(o, residual);
    return e;
}

ops_event work_group_stats(ops *o, act in, int64_t groups, act stats)
{
    (void)groups;
    ops_event e = on_rows(o, "group_stats", in, NULL);
    e.bytes_in = e.bytes_out, e.bytes_out = bytes_of(o, stats);
    return e;
}

ops_event work_group_apply(ops *o, act in, act stats, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    (void)groups, (void)eps, (void)silu;
    ops_event e = on_rows(o, "group_apply", out, w);
    e.bytes_in = bytes_of(o, in) + bytes_of(o, stats);
    return e;
}

static ops_event from_to(ops *o, const char *operation, act in, act out)
{
    ops_event e = on_rows(o, operation, out, NULL);
    e.bytes_in = bytes_of(o, in);
    return e;
}

ops_event work_upsample(ops *o, act in, act out) { return from_to(o, "upsample", in, out); }

ops_event work_embed(ops *o, act ids, const weight *table, const weight *positions, int64_t first, act out)
{
    (void)first;
    ops_event e = on_rows(o, "embed", out, table);
    int64_t all = table->rows > 0 ? table->rows : 1, rows = i64_min(act_batch(out) * act_rows(out), all);
    e.bytes_in = bytes_of(o, ids);
    e.bytes_weights = weight_bytes(table) / (size_t)all * (size_t)rows; /* of the table, what is looked up */
    if (positions && positions->rows > 0)
        e.bytes_weights += weight_bytes(positions) / (size_t)positions->rows * (size_t)act_rows(out);
    return e;
}

ops_event work_activate(ops *o, activation f, act in, act mul, act out)
{
    (void)f;
    ops_event e = from_to(o, "activate", in, out);
    e.bytes_in += bytes_of(o, mul);
    return e;
}

ops_event work_add(ops *o, act x, float s, act gate, act y, act out)
{
    (void)s;
    ops_event e = on_rows(o, "add", out, NULL);
    e.bytes_in = bytes_of(o, x) + bytes_of(o, y) + bytes_of_step(o, gate, out);
    return e;
}

ops_event work_euler(ops *o, act x, act v, act dsigma)
{
    ops_event e = on_rows(o, "euler", x, NULL);
    e.bytes_in = e.bytes_out + bytes_of(o, v) + bytes_of_step(o, dsigma, x);
    return e;
}

ops_event work_cast(ops *o, act in, act out) { return from_to(o, "cast", in, out); }

ops_event work_copy_rows(ops *o, act in, int64_t first, act out)
{
    (void)first;
    return from_to(o, "copy_rows", act_slice(in, 0, act_rows(out)), out);
}

static ops_event packed(ops *o, const char *operation, act rows)
{
    ops_event e = moved(o, operation, rows);
    e.bytes_in = e.bytes_out;
    return e;
}

ops_event work_pack(ops *o, act in, int64_t first, int64_t rows, void *bytes)
{
    (void)bytes;
    return packed(o, "pack", act_slice(in, first, rows));
}

ops_event work_unpack(ops *o, const void *bytes, act out, int64_t first, int64_t rows)
{
    (void)bytes;
    return packed(o, "unpack", act_slice(out, first, rows));
}

ops_event work_finite(ops *o, act a, int slot)
{
    (void)slot;
    ops_event e = on_rows(o, "finite", a, NULL);
    e.bytes_in = e.bytes_out, e.bytes_out = 0;
    return e;
}

/* ---- composites: their primitives together, as one call ---- */

ops_event work_linear(ops *o, act in, const linear_weight *w, const epilogue *e, act out)
{
    ops_event event = work_product(o, in, w->w, e, out);
    event.operation = "linear";
    return event;
}

ops_event work_linear_norm(ops *o, act in, const linear_weight *w, const epilogue *e, act out, const norm_behind *norm)
{
    ops_event event = work_product(o, in, w->w, e, out);
    event.operation = "linear_norm";
    event.bytes_in += bytes_of_step(o, norm->shift, out) + bytes_of_step(o, norm->scale, out);
    event.bytes_out += bytes_of(o, norm->out);
    event.bytes_weights += weight_bytes(norm->w);
    return event;
}

ops_event work_qkv_norm_rope(ops *o, act in, const qkv_weights *w, act rope, act qkv)
{
    ops_event e = work_product(o, in, w->qkv.w, &(epilogue){0}, qkv);
    e.operation = "qkv_norm_rope";
    e.heads = w->heads;
    e.bytes_in += bytes_of(o, rope);
    return e;
}

/* The second product, and what the first one adds. */
static ops_event two_products(ops_event first, ops_event second, const char *operation)
{
    second.operation = operation;
    second.flops += first.flops;
    second.bytes_in += first.bytes_in;
    second.bytes_weights += first.bytes_weights;
    return second;
}

ops_event work_mlp(ops *o, act in, const linear_weight *up, activation f, const linear_weight *down, const epilogue *e,
                   act out)
{
    (void)f;
    int64_t rows = act_batch(in) * act_rows(in);
    ops_event first = {.flops = 2.0 * (double)rows * (double)up->w->rows * (double)up->w->cols,
                       .bytes_in = bytes_of(o, in),
                       .bytes_weights = weight_bytes(up->w)},
              second = work_product(o, in, down->w, e, out);
    second.k = up->w->rows;
    second.bytes_in -= bytes_of(o, in); /* the hidden rows between them stay inside */
    return two_products(first, second, "mlp");
}

ops_event work_single_products(ops *o, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                               act hidden)
{
    ops_event e = two_products(work_product(o, in, up->w, &(epilogue){0}, hidden),
                               work_qkv_norm_rope(o, in, w, rope, qkv), "single_products");
    e.bytes_out += bytes_of(o, hidden);
    return e;
}

/* As it is done where no upsampled plane is made: by four kernels of 2×2. */
ops_event work_upsample_conv(ops *o, act in, act top, act bottom, const weight *w, act out)
{
    ops_event e = on_rows(o, "conv", out, w);
    e.k = 4 * in.cols;
    e.flops = 2.0 * (double)(act_batch(out) * act_rows(out)) * (double)w->rows * (double)e.k;
    e.bytes_in = bytes_of(o, in) + bytes_of(o, top) + bytes_of(o, bottom);
    return e;
}

ops_event work_norm_conv(ops *o, act in, act top, act bottom, const norm_before *n, const weight *w, act residual,
                         act out)
{
    ops_event e = work_conv(o, in, top, bottom, w, 1, residual, out);
    e.bytes_in += bytes_of(o, n->stats);
    e.bytes_weights += weight_bytes(n->w);
    return e;
}

ops_event work_group_norm(ops *o, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    (void)groups, (void)eps, (void)silu;
    ops_event e = on_rows(o, "group_norm", out, w);
    e.bytes_in = bytes_of(o, in);
    return e;
}
