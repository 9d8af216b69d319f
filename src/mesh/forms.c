/* The parallel forms for token streams: default versions, which pack, move bytes and unpack. On one rank each is the
 * plain operation. */
#include "mesh/mesh.h"

#include "base/checked.h"

cut cut_of(int64_t n, int size, int rank)
{
    int64_t each = i64_ceil_div(n, size), begin = i64_min(n, each * rank);
    return (cut){begin, i64_min(n, begin + each) - begin};
}

cut mesh_span(const mesh *m, int64_t total) { return cut_of(total, m->sp, m->sp_rank); }

cut mesh_rows(const mesh *m, int64_t total)
{
    cut span = mesh_span(m, total), mine = cut_of(span.count, m->tp, m->tp_rank);
    mine.begin += span.begin;
    return mine;
}

weight_recipe mesh_column_slice(const mesh *m, const weight_recipe *r, int64_t unit)
{
    cut mine = cut_of(r->rows / unit, m->tp, m->tp_rank);
    return recipe_rows(r, mine.begin * unit, mine.count * unit);
}

weight_recipe mesh_row_slice(const mesh *m, const weight_recipe *r, int64_t unit)
{
    cut mine = cut_of(r->cols / unit, m->tp, m->tp_rank);
    return recipe_cols(r, mine.begin * unit, mine.count * unit);
}

/* What `a` names of part p; no rows of the other part. */
static act part_of(act a, act_part p)
{
    const int64_t *rows = a.buffer->shape.rows;
    if (a.part == p)
        return a;
    if (a.part != PART_WHOLE)
        return act_slice(act_of(a, p), 0, 0);
    int64_t begin = p == PART_IMAGE ? rows[PART_TEXT] : 0, end = begin + rows[p],
            first = i64_min(end, i64_max(begin, a.row)), last = i64_max(first, i64_min(end, a.row + a.rows));
    return act_slice(act_of(a, p), first - begin, last - first);
}

/* The rows that `a` names, as a tensor of its own with the same parts. */
static act_shape shape_like(act a, int64_t cols)
{
    return shape_rows(act_batch(a), act_rows(part_of(a, PART_TEXT)), act_rows(part_of(a, PART_IMAGE)), cols);
}

static flux1_status create_like(ops *o, act_role role, act a, int64_t cols, act *out)
{
    TRY(ops_create(o, role, shape_like(a, cols), out));
    *out = act_of(*out, a.part);
    return FLUX1_OK;
}

/* How rows lie in exchange memory: for each rank its prompt rows, then its image rows, with room for as many as any
 * rank has of that part. Cuts are in units of `unit` rows. */
typedef struct shares {
    int size;
    int64_t units[2], unit;
    size_t image, bytes; /* of one rank: where its image rows begin; all */
} shares;

/* all: the rows of all ranks; packed: an act of the columns and the type that are exchanged. */
static shares shares_of(ops *o, const comm *c, act all, act packed, int64_t unit)
{
    shares s = {.size = c->size, .unit = unit};
    size_t bytes[2];
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        s.units[p] = act_rows(part_of(all, p)) / unit;
        bytes[p] = ops_pack_bytes(o, packed, i64_ceil_div(s.units[p], s.size) * unit);
    }
    s.image = bytes[PART_TEXT];
    s.bytes = bytes[PART_TEXT] + bytes[PART_IMAGE];
    return s;
}

static char *share_at(const shares *s, void *memory, int rank, act_part p)
{
    return (char *)memory + (size_t)rank * s->bytes + (p == PART_IMAGE ? s->image : 0);
}

static cut share_rows(const shares *s, int rank, act_part p)
{
    cut theirs = cut_of(s->units[p], s->size, rank);
    return (cut){theirs.begin * s->unit, theirs.count * s->unit};
}

/* Rows of both parts, each rank's cut (in units of `unit` rows) of full's, to every rank: one exchange. */
static flux1_status gather_rows(mesh *m, comm *c, act x, act full, int64_t unit)
{
    ops *o = m->o;
    shares s = shares_of(o, c, full, x, unit);
    size_t mark = ops_mark(o);
    void *send, *recv;
    TRY(ops_exchange(o, s.bytes, &send));
    TRY(ops_exchange(o, s.bytes * (size_t)s.size, &recv));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        if (act_rows(part_of(x, p)) > 0)
            TRY(ops_pack(o, part_of(x, p), 0, act_rows(part_of(x, p)), share_at(&s, send, 0, p)));
    TRY(c->fn->all_gather(c, send, recv, s.bytes));
    for (int r = 0; r < s.size; r++)
        for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
            cut theirs = share_rows(&s, r, p);
            if (theirs.count > 0)
                TRY(ops_unpack(o, share_at(&s, recv, r, p), part_of(full, p), theirs.begin, theirs.count));
        }
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_gather(mesh *m, act x, act full)
{
    if (m->tp == 1)
        return ops_cast(m->o, x, full);
    if (x.buffer->role != full.buffer->role)
        return mesh_enter(m, &(norm){.kind = NORM_NONE}, x, full);
    return gather_rows(m, m->tp_comm, x, full, 1);
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
    return m->tp == 1 ? FLUX1_OK : gather_rows(m, m->tp_comm, out, full, 1);
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
    comm *c = m->tp_comm;
    shares s = shares_of(o, c, partial, partial, 1);
    size_t mark = ops_mark(o);
    void *send, *recv;
    act sum;
    TRY(ops_exchange(o, s.bytes * (size_t)s.size, &send));
    TRY(ops_exchange(o, s.bytes * (size_t)(1 + c->away), &recv));
    for (int r = 0; r < s.size; r++)
        for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
            cut theirs = share_rows(&s, r, p);
            if (theirs.count > 0)
                TRY(ops_pack(o, part_of(partial, p), theirs.begin, theirs.count, share_at(&s, send, r, p)));
        }
    TRY(c->fn->reduce_scatter(c, send, recv, s.bytes / sizeof(float)));
    TRY(create_like(o, ACT_PARTIAL, x, x.cols, &sum));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        act mine = part_of(x, p), of = part_of(sum, p);
        if (act_rows(mine) == 0)
            continue;
        TRY(ops_unpack(o, share_at(&s, recv, 0, p), of, 0, act_rows(of)));
        TRY(ops_add(o, mine, 1, gate[p], of, mine));
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
    comm *c = m->tp_comm;
    if (m->tp == 1)
        return ops_linear(o, in, w, &(epilogue){0}, table);
    size_t mark = ops_mark(o);
    int64_t rows = act_rows(table), most = i64_ceil_div(table.cols, c->size);
    act mine;
    TRY(ops_create(o, ACT_TABLE, shape_rows(act_batch(table), 0, rows, w->w->rows), &mine));
    TRY(ops_linear(o, in, w, &(epilogue){0}, mine));
    size_t bytes = ops_pack_bytes(o, act_columns(table, 0, most), rows);
    void *send, *recv;
    TRY(ops_exchange(o, bytes, &send));
    TRY(ops_exchange(o, bytes * (size_t)c->size, &recv));
    TRY(ops_pack(o, mine, 0, rows, send));
    TRY(c->fn->all_gather(c, send, recv, bytes));
    for (int r = 0; r < c->size; r++) {
        cut theirs = cut_of(table.cols, c->size, r);
        TRY(ops_unpack(o, (char *)recv + (size_t)r * bytes, act_columns(table, theirs.begin, theirs.count), 0, rows));
    }
    ops_release(o, mark);
    return FLUX1_OK;
}

/* ---- ring attention ---- */

typedef struct ring {
    mesh *m;
    comm *c;
    act q;
    const attention_args *args;
    int64_t units[2], unit; /* rows of all ranks = units · unit of each part, cut by units */
    act_role role;          /* of k and v */
    size_t bytes;           /* of k or v, as exchanged */
    void *here, *next;      /* k and v in use, and those that arrive */
    act sum, lse, part, part_lse;
} ring;

/* Keys of rank `source`: those of its prompt rows, then those of its image rows. */
static int64_t ring_rows(const ring *r, int source)
{
    int size = r->c->size;
    return (cut_of(r->units[PART_TEXT], size, source).count + cut_of(r->units[PART_IMAGE], size, source).count) *
           r->unit;
}

/* This rank's k and v are on their way when this returns. */
static flux1_status ring_begin(ring *r, act k, act v)
{
    ops *o = r->m->o;
    r->role = k.buffer->role;
    r->bytes = ops_pack_bytes(o, k, ring_rows(r, 0)); /* rank 0 has the most */
    TRY(ops_exchange(o, 2 * r->bytes, &r->here));
    TRY(ops_exchange(o, 2 * r->bytes, &r->next));
    TRY(ops_pack(o, k, 0, act_rows(k), r->here));
    TRY(ops_pack(o, v, 0, act_rows(v), (char *)r->here + r->bytes));
    return r->c->fn->shift_begin(r->c, r->here, r->next, 2 * r->bytes, 1);
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

/* Attention over the k and v that came from rank `source`, merged into the sum. */
static flux1_status ring_merge(ring *r, const char *bytes, int source)
{
    ops *o = r->m->o;
    size_t mark = ops_mark(o);
    int64_t rows = ring_rows(r, source);
    act k, v;
    act_shape s = shape_rows(act_batch(r->q), 0, rows, r->q.cols);
    TRY(ops_create(o, r->role, s, &k));
    TRY(ops_create(o, r->role, s, &v));
    TRY(ops_unpack(o, bytes, k, 0, rows));
    TRY(ops_unpack(o, bytes + r->bytes, v, 0, rows));
    TRY(ops_attention_part(o, r->q, k, v, r->args, r->part, r->part_lse));
    TRY(ops_attention_merge(o, r->args->heads, r->sum, r->lse, r->part, r->part_lse));
    ops_release(o, mark);
    return FLUX1_OK;
}

/* After ring_begin with the same k and v. */
static flux1_status ring_attention(ring *r, act k, act v, act out)
{
    ops *o = r->m->o;
    comm *c = r->c;
    TRY(ring_create(r));
    TRY(ops_attention_part(o, r->q, k, v, r->args, r->sum, r->lse));
    for (int turn = 1; turn < c->size; turn++) {
        TRY(c->fn->shift_end(c));
        void *arrived = r->next;
        r->next = r->here;
        r->here = arrived;
        if (turn + 1 < c->size)
            TRY(c->fn->shift_begin(c, r->here, r->next, 2 * r->bytes, 1));
        TRY(ring_merge(r, r->here, (c->rank + turn) % c->size));
    }
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

flux1_status mesh_attention(mesh *m, act q, act k, act v, const attention_args *a, const int64_t rows[2], act out)
{
    if (m->sp == 1)
        return ops_attention(m->o, q, k, v, a, out);
    ring r = {.m = m, .c = m->sp_comm, .q = q, .args = a, .units = {rows[0], rows[1]}, .unit = 1};
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
    ring r = {.m = m, .c = m->sp_comm, .q = q, .args = a, .units = {rows[0], rows[1]}, .unit = 1};
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
        TRY(gather_rows(m, m->tp_comm, x, span, 1));
    }
    all = span;
    if (m->sp > 1) {
        TRY(ops_create(o, x.buffer->role, shape_rows(act_batch(x), 0, total, x.cols), &all));
        TRY(gather_rows(m, m->sp_comm, span, all, 1));
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
    ops *o = m->o;
    comm *c = m->all;
    int64_t width = in.buffer->shape.width;
    size_t bytes = ops_pack_bytes(o, in, width);
    void *send, *recv;
    act halo;
    TRY(ops_create(o, ACT_PLANE, shape_plane(act_batch(in), 1, width, in.cols), &halo));
    TRY(ops_exchange(o, bytes, &send));
    TRY(ops_exchange(o, bytes, &recv));
    if (act_rows(in) > 0)
        TRY(ops_pack(o, in, row * width, width, send));
    TRY(c->fn->shift_begin(c, send, recv, bytes, distance));
    TRY(c->fn->shift_end(c));
    *out = (act){0};
    if (!wanted)
        return FLUX1_OK;
    TRY(ops_unpack(o, recv, halo, 0, width));
    *out = halo;
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
    const int64_t row = last.buffer->shape.height - 1;
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
    return gather_rows(m, m->all, mine, *all, sets);
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
    ring r = {.m = m, .c = m->all, .q = q, .args = a, .units = {0, p->total}, .unit = width};
    return whole_ring(&r, k, v, out);
}

flux1_status mesh_plane_collect(mesh *m, const plane_cut *p, act x, int64_t total_rows, tensor *host)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act all = x;
    if (m->ranks > 1) {
        TRY(ops_create(o, x.buffer->role, shape_rows(act_batch(x), 0, total_rows, x.cols), &all));
        TRY(gather_rows(m, m->all, x, all, total_rows / p->total));
    }
    if (host)
        TRY(ops_download(o, all, host));
    ops_release(o, mark);
    return FLUX1_OK;
}

flux1_status mesh_share(mesh *m, const float *mine, int64_t count, float *all)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act one, every;
    tensor from = {.type = DTYPE_F32, .dims = 2, .shape = {1, count}, .data = (void *)mine},
           to = {.type = DTYPE_F32, .dims = 2, .shape = {m->ranks, count}, .data = all};
    if (m->ranks == 1) {
        for (int64_t i = 0; mine && i < count; i++)
            all[i] = mine[i];
        return FLUX1_OK;
    }
    TRY(ops_create(o, ACT_PARTIAL, shape_rows(1, 0, 1, count), &one));
    TRY(ops_create(o, ACT_PARTIAL, shape_rows(1, 0, m->ranks, count), &every));
    TRY(ops_upload(o, &from, one));
    TRY(gather_rows(m, m->all, one, every, 1));
    TRY(ops_download(o, every, &to));
    ops_release(o, mark);
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
