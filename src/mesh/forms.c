/* The parallel forms: operations of the backend, and exchanges between ranks (exchange.h). On one rank each is the
 * plain operation. */
#include "mesh/exchange.h"

#include "base/checked.h"

static flux1_status create_like(ops *o, act_role role, act a, int64_t cols, act *out)
{
    TRY(ops_create(o, role, shape_like(a, cols), out));
    *out = act_of(*out, a.part);
    return FLUX1_OK;
}

flux1_status mesh_gather(mesh *m, act x, act full)
{
    if (m->tp == 1)
        return ops_cast(m->o, x, full);
    if (x.buffer->role != full.buffer->role)
        return mesh_enter(m, &(norm){.kind = NORM_NONE}, x, full);
    return m->exchange->gather_rows(m, AXIS_TP, x, full, 1);
}

static flux1_status apply_norm(ops *o, const norm *n, act x, act out)
{
    switch (n->kind) {
    case NORM_LAYER: return ops_layer_norm(o, x, n->w, n->shift, n->scale, n->eps, out);
    case NORM_RMS: return ops_rms_norm(o, x, n->w, n->eps, out);
    case NORM_NONE: break;
    }
    return ops_cast(o, x, out);
}

/* Where a norm goes: to `full` itself, or to this rank's rows of it, which are then gathered. */
static flux1_status enter_to(mesh *m, act x, act full, act *out)
{
    *out = full;
    return m->tp == 1 ? FLUX1_OK : create_like(m->o, full.buffer->role, x, x.cols, out);
}

static flux1_status enter_end(mesh *m, act out, act full)
{
    return m->tp == 1 ? FLUX1_OK : m->exchange->gather_rows(m, AXIS_TP, out, full, 1);
}

flux1_status mesh_enter(mesh *m, const norm *n, act x, act full)
{
    size_t mark = ops_mark(m->o);
    act out;
    TRY(enter_to(m, x, full, &out));
    TRY(apply_norm(m->o, n, x, out));
    TRY(enter_end(m, out, full));
    ops_release(m->o, mark);
    return FLUX1_OK;
}

flux1_status mesh_joint_enter(mesh *m, const norm n[2], act x, act full)
{
    size_t mark = ops_mark(m->o);
    act out;
    TRY(enter_to(m, x, full, &out));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        TRY(apply_norm(m->o, &n[p], part_of(x, p), part_of(out, p)));
    TRY(enter_end(m, out, full));
    ops_release(m->o, mark);
    return FLUX1_OK;
}

/* x += gate ⊙ Σ over tp of the rows of `partial` that belong to this rank, each part with its gate: one exchange. */
static flux1_status scatter_rows(mesh *m, act partial, const act gate[2], act x)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act sum;
    TRY(create_like(o, ACT_PARTIAL, x, x.cols, &sum));
    TRY(m->exchange->reduce_rows(m, AXIS_TP, partial, sum));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        act mine = part_of(x, p);
        if (act_rows(mine) > 0)
            TRY(ops_add(o, mine, 1, gate[p], part_of(sum, p), mine));
    }
    ops_release(o, mark);
    return FLUX1_OK;
}

/* Where a row-parallel product goes: to the residual itself, or to a partial sum that scatter_rows adds to it. */
static flux1_status leave_to(mesh *m, act in, act x, act *out)
{
    *out = x;
    return m->tp == 1 ? FLUX1_OK : create_like(m->o, ACT_PARTIAL, in, x.cols, out);
}

static epilogue leave_epilogue(const mesh *m, act gate, act out)
{
    return m->tp == 1 ? (epilogue){.gate = gate, .residual = out} : (epilogue){0};
}

static flux1_status leave_end(mesh *m, act out, const act gate[2], act x)
{
    return m->tp == 1 ? FLUX1_OK : scatter_rows(m, out, gate, x);
}

/* The product that ends a block. Where its rows are this rank's own, what comes next is one call with it. p: the part
 * of next's that belongs to it. */
static flux1_status leave_product(mesh *m, act in, const linear_weight *w, act gate, act out, const mesh_next *next,
                                  act_part p)
{
    epilogue e = leave_epilogue(m, gate, out);
    if (m->tp > 1 || !next)
        return ops_linear(m->o, in, w, &e, out);
    const act_part like = p == PART_WHOLE ? PART_IMAGE : p;
    const norm *n = &next->n[like];
    norm_behind behind = {.slot = next->slot,
                          .w = n->w,
                          .shift = n->shift,
                          .scale = n->scale,
                          .eps = n->eps,
                          .out = p == PART_WHOLE ? next->full : part_of(next->full, p),
                          .readers = {next->readers[like][0], next->readers[like][1]}};
    return ops_linear_norm(m->o, in, w, &e, out, &behind);
}

flux1_status mesh_enter_next(mesh *m, act x, const mesh_next *next)
{
    if (next->slot >= 0)
        TRY(ops_finite(m->o, x, next->slot));
    if (!next->mine)
        return mesh_joint_enter(m, next->n, x, next->full);
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        act rows = part_of(x, p);
        TRY(apply_norm(m->o, &next->n[p], rows, act_slice(part_of(next->full, p), 0, act_rows(rows))));
    }
    return FLUX1_OK;
}

/* What comes next, where ranks have added up their products before. */
static flux1_status leave_next(mesh *m, act x, const mesh_next *next)
{
    return m->tp == 1 || !next ? FLUX1_OK : mesh_enter_next(m, x, next);
}

flux1_status mesh_leave(mesh *m, act in, const linear_weight *w, act gate, act x, const mesh_next *next)
{
    size_t mark = ops_mark(m->o);
    act out;
    TRY(leave_to(m, in, x, &out));
    TRY(leave_product(m, in, w, gate, out, next, PART_WHOLE));
    TRY(leave_end(m, out, (const act[]){gate, gate}, x));
    ops_release(m->o, mark);
    return leave_next(m, x, next);
}

flux1_status mesh_joint_leave(mesh *m, act in, const linear_weight *const w[2], const act gate[2], act x,
                              const mesh_next *next)
{
    size_t mark = ops_mark(m->o);
    act out;
    TRY(leave_to(m, in, x, &out));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(ops_branch(m->o, BRANCH_OF(p)));
        TRY(leave_product(m, part_of(in, p), w[p], gate[p], part_of(out, p), next, p));
    }
    TRY(ops_branch(m->o, 0));
    TRY(leave_end(m, out, gate, x));
    ops_release(m->o, mark);
    return leave_next(m, x, next);
}

flux1_status mesh_mlp(mesh *m, act in, const linear_weight *up, activation f, const linear_weight *down, act gate,
                      act x)
{
    size_t mark = ops_mark(m->o);
    act out;
    TRY(leave_to(m, in, x, &out));
    epilogue e = leave_epilogue(m, gate, out);
    TRY(ops_mlp(m->o, in, up, f, down, &e, out));
    TRY(leave_end(m, out, (const act[]){gate, gate}, x));
    ops_release(m->o, mark);
    return FLUX1_OK;
}

flux1_status mesh_joint_mlp(mesh *m, act in, const linear_weight *const up[2], activation f,
                            const linear_weight *const down[2], const act gate[2], act x, const mesh_next *next)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act out, hidden;
    TRY(leave_to(m, in, x, &out));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(ops_branch(o, BRANCH_OF(p)));
        act from = part_of(in, p);
        size_t before = ops_mark(o);
        TRY(create_like(o, ACT_LINEAR, from, up[p]->w->rows, &hidden));
        TRY(ops_linear(o, from, up[p], &(epilogue){.f = f}, hidden));
        TRY(leave_product(m, hidden, down[p], gate[p], part_of(out, p), next, p));
        ops_release(o, before);
    }
    TRY(ops_branch(o, 0));
    TRY(leave_end(m, out, gate, x));
    ops_release(o, mark);
    return leave_next(m, x, next);
}

flux1_status mesh_table(mesh *m, act in, const linear_weight *w, act table)
{
    ops *o = m->o;
    if (m->tp == 1)
        return ops_linear(o, in, w, &(epilogue){0}, table);
    size_t mark = ops_mark(o);
    act mine;
    TRY(ops_create(o, ACT_TABLE, shape_rows(act_batch(table), 0, act_rows(table), w->w->rows), &mine));
    TRY(ops_linear(o, in, w, &(epilogue){0}, mine));
    TRY(m->exchange->gather_columns(m, AXIS_TP, mine, table));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* ---- ring attention ---- */

typedef struct ring {
    mesh *m;
    act q;
    const attention_args *args;
    kv_ring kv;
    act_role role; /* of k and v */
    act sum, lse, part, part_lse;
} ring;

/* This rank's k and v are on their way when this returns. */
static flux1_status ring_begin(ring *r, act k, act v)
{
    r->role = k.buffer->role;
    return r->m->exchange->ring_begin(r->m, &r->kv, k, v);
}

static flux1_status ring_create(ring *r)
{
    ops *o = r->m->o;
    act_shape s = shape_like(r->q, r->q.cols), l = shape_like(r->q, r->args->heads);
    TRY(ops_create(o, ACT_PARTIAL, s, &r->sum));
    TRY(ops_create(o, ACT_PARTIAL, s, &r->part));
    TRY(ops_create(o, ACT_STATS, l, &r->lse));
    return ops_create(o, ACT_STATS, l, &r->part_lse);
}

/* Attention over the k and v of rank `source`, which come next, merged into the sum. */
static flux1_status ring_merge(ring *r, int source)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    act k, v;
    act_shape s = shape_rows(act_batch(r->q), 0, ring_rows(r->m, &r->kv, source), r->q.cols);
    TRY(ops_create(o, r->role, s, &k));
    TRY(ops_create(o, r->role, s, &v));
    TRY(r->m->exchange->ring_receive(r->m, &r->kv, k, v));
    TRY(ops_attention_part(o, r->q, k, v, r->args, r->part, r->part_lse));
    TRY(ops_attention_merge(o, r->args->heads, r->sum, r->lse, r->part, r->part_lse));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* After ring_begin with the same k and v. */
static flux1_status ring_attention(ring *r, act k, act v, act out)
{
    ops *o = r->m->o;
    const int size = axis_size(r->m, r->kv.axis), rank = axis_rank(r->m, r->kv.axis);
    TRY(ring_create(r));
    TRY(ops_attention_part(o, r->q, k, v, r->args, r->sum, r->lse));
    for (int turn = 1; turn < size; turn++)
        TRY(ring_merge(r, (rank + turn) % size));
    return ops_cast(o, r->sum, out);
}

static flux1_status whole_ring(ring *r, act k, act v, act out)
{
    size_t mark = ops_mark(r->m->o);
    TRY(ring_begin(r, k, v));
    TRY(ring_attention(r, k, v, out));
    ops_release(r->m->o, mark);
    return FLUX1_OK;
}

/* Of tokens, over sp. */
static ring token_ring(mesh *m, act q, const attention_args *a, const int64_t rows[2])
{
    return (ring){.m = m, .q = q, .args = a, .kv = {.axis = AXIS_SP, .units = {rows[0], rows[1]}, .unit = 1}};
}

flux1_status mesh_attention(mesh *m, act q, act k, act v, const attention_args *a, const int64_t rows[2], act out)
{
    if (m->sp == 1)
        return ops_attention(m->o, q, k, v, a, out);
    ring r = token_ring(m, q, a, rows);
    return whole_ring(&r, k, v, out);
}

flux1_status mesh_single_attention(mesh *m, act in, const qkv_weights *w, act rope, act qkv, const linear_weight *up,
                                   act hidden, const attention_args *a, const int64_t rows[2], act out)
{
    ops *o = m->o;
    const epilogue gelu = {.f = ACTIVATION_GELU_TANH};
    int64_t width = qkv.cols / 3;
    const bool all = out.part == in.part;
    act q = act_columns(all ? qkv : part_of(qkv, out.part), 0, width), k = act_columns(qkv, width, width),
        v = act_columns(qkv, 2 * width, width), asking = all ? in : part_of(in, out.part);
    if (m->sp == 1 && all) {
        TRY(ops_single_products(o, in, w, rope, qkv, up, hidden));
        return ops_attention(o, q, k, v, a, out);
    }
    if (m->sp == 1) {
        TRY(ops_qkv_norm_rope(o, in, w, rope, qkv));
        TRY(ops_linear(o, asking, up, &gelu, hidden));
        return ops_attention(o, q, k, v, a, out);
    }
    ring r = token_ring(m, q, a, rows);
    size_t mark = ops_mark(o);
    TRY(ops_qkv_norm_rope(o, in, w, rope, qkv));
    TRY(ring_begin(&r, k, v));
    TRY(ops_linear(o, asking, up, &gelu, hidden));
    TRY(ring_attention(&r, k, v, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_collect(mesh *m, act x, int64_t total, tensor *host)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act span = x, all;
    if (m->tp > 1) {
        TRY(ops_create(o, x.buffer->role, shape_rows(act_batch(x), 0, mesh_span(m, total).count, x.cols), &span));
        TRY(m->exchange->gather_rows(m, AXIS_TP, x, span, 1));
    }
    all = span;
    if (m->sp > 1) {
        TRY(ops_create(o, x.buffer->role, shape_rows(act_batch(x), 0, total, x.cols), &all));
        TRY(m->exchange->gather_rows(m, AXIS_SP, span, all, 1));
    }
    if (host)
        TRY(ops_download(o, all, host));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* ---- image planes ---- */

plane_cut mesh_plane_cut(const mesh *m, int64_t latent_rows)
{
    return (plane_cut){latent_rows, cut_of(latent_rows, m->ranks, m->rank)};
}

/* One row of `in` from the rank at `distance`, where there is one with rows; a zeroed act at the picture's border.
 * `row` is the one to send the other way. */
static flux1_status halo_row(mesh *m, act in, int64_t row, int distance, bool wanted, act *out)
{
    act halo;
    TRY(ops_create(m->o, ACT_PLANE, shape_plane(act_batch(in), 1, in.buffer->shape.width, in.cols), &halo));
    TRY(m->exchange->halo_row(m, in, row, distance, wanted, halo));
    *out = wanted ? halo : (act){0};
    return FLUX1_OK;
}

flux1_status mesh_plane_halo(mesh *m, const plane_cut *p, act first, act last, act *top, act *bottom)
{
    const cut *mine = &p->mine;
    *top = *bottom = (act){0};
    if (m->ranks == 1)
        return FLUX1_OK;
    TRY(halo_row(m, first, 0, 1, mine->count > 0 && mine->begin + mine->count < p->total, bottom));
    if (!last.buffer)
        return FLUX1_OK;
    const int64_t row = i64_max(0, last.buffer->shape.height - 1);
    return halo_row(m, last, row, -1, mine->count > 0 && mine->begin > 0, top);
}

flux1_status mesh_conv(mesh *m, const plane_cut *p, act in, const weight *w, int stride, act residual, act out)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act top = {0}, bottom = {0};
    if (w->kernel > 1)
        TRY(mesh_plane_halo(m, p, in, stride == 1 ? in : (act){0}, &top, &bottom));
    TRY(ops_conv(o, in, top, bottom, w, stride, residual, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_plane_stats(mesh *m, act mine, act *all)
{
    const int64_t sets = act_rows(mine);
    *all = mine;
    if (m->ranks == 1)
        return FLUX1_OK;
    TRY(ops_create(m->o, ACT_STATS, shape_rows(act_batch(mine), 0, sets * m->ranks, mine.cols), all));
    return m->exchange->gather_rows(m, AXIS_ALL, mine, *all, sets);
}

flux1_status mesh_upsample_conv(mesh *m, const plane_cut *p, act in, const weight *w, act out)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act top, bottom;
    TRY(mesh_plane_halo(m, p, in, in, &top, &bottom));
    TRY(ops_upsample_conv(o, in, top, bottom, w, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* Statistics of `in`, of all ranks. */
static flux1_status plane_stats(mesh *m, act in, int64_t groups, act *all)
{
    act mine;
    TRY(ops_create(m->o, ACT_STATS, shape_rows(act_batch(in), 0, groups, 3), &mine));
    TRY(ops_group_stats(m->o, in, groups, mine));
    return mesh_plane_stats(m, mine, all);
}

flux1_status mesh_norm_conv(mesh *m, const plane_cut *p, act in, const norm_before *n, const weight *w, act residual,
                            act out)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    norm_before with = *n;
    act top, bottom;
    TRY(plane_stats(m, in, n->groups, &with.stats));
    TRY(mesh_plane_halo(m, p, in, in, &top, &bottom));
    TRY(ops_norm_conv(o, in, top, bottom, &with, w, residual, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_group_norm(mesh *m, act in, int64_t groups, const weight *w, float eps, bool silu, act out)
{
    ops *o = m->o;
    if (m->ranks == 1)
        return ops_group_norm(o, in, groups, w, eps, silu, out);
    size_t mark = ops_mark(o);
    act all;
    TRY(plane_stats(m, in, groups, &all));
    TRY(ops_group_apply(o, in, all, groups, w, eps, silu, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_plane_attention(mesh *m, const plane_cut *p, int64_t width, act q, act k, act v,
                                  const attention_args *a, act out)
{
    if (m->ranks == 1)
        return ops_attention(m->o, q, k, v, a, out);
    ring r = {.m = m, .q = q, .args = a, .kv = {.axis = AXIS_ALL, .units = {0, p->total}, .unit = width}};
    return whole_ring(&r, k, v, out);
}

flux1_status mesh_plane_collect(mesh *m, const plane_cut *p, act x, int64_t total_rows, tensor *host)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act all = x;
    if (m->ranks > 1) {
        TRY(ops_create(o, x.buffer->role, shape_rows(act_batch(x), 0, total_rows, x.cols), &all));
        TRY(m->exchange->gather_rows(m, AXIS_ALL, x, all, total_rows / p->total));
    }
    if (host)
        TRY(ops_download(o, all, host));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_share(mesh *m, const float *mine, int64_t count, float *all)
{
    if (m->ranks > 1)
        return m->exchange->share(m, mine, count, all);
    for (int64_t i = 0; mine && i < count; i++)
        all[i] = mine[i];
    return FLUX1_OK;
}

flux1_status mesh_lowest(mesh *m, int *value)
{
    float one = (float)*value, every[MESH_RANKS_MAX]; /* no allocation: the step loop comes here */
    if (m->ranks == 1)
        return FLUX1_OK;
    TRY(mesh_share(m, &one, 1, every));
    for (int r = 0; r < m->ranks && !ops_counts_only(m->o); r++)
        if (every[r] >= 0 && (*value < 0 || (int)every[r] < *value))
            *value = (int)every[r];
    return FLUX1_OK;
}
