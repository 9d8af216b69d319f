/* Exchanges by bytes: rows are packed into exchange memory, moved by a communicator and unpacked. */
#include "mesh/exchange.h"

#include "base/checked.h"

act part_of(act a, act_part p)
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

act_shape shape_like(act a, int64_t cols)
{
    return shape_rows(act_batch(a), act_rows(part_of(a, PART_TEXT)), act_rows(part_of(a, PART_IMAGE)), cols);
}

static comm *comm_of(const mesh *m, mesh_axis a)
{
    return a == AXIS_SP ? m->sp_comm : a == AXIS_TP ? m->tp_comm : m->all;
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
static flux1_status gather_rows(mesh *m, mesh_axis axis, act x, act full, int64_t unit)
{
    ops *o = m->o;
    comm *c = comm_of(m, axis);
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

static flux1_status gather_columns(mesh *m, mesh_axis axis, act mine, act full)
{
    ops *o = m->o;
    comm *c = comm_of(m, axis);
    int64_t rows = act_rows(full), most = i64_ceil_div(full.cols, c->size);
    size_t mark = ops_mark(o), bytes = ops_pack_bytes(o, act_columns(full, 0, most), rows);
    void *send, *recv;
    TRY(ops_exchange(o, bytes, &send));
    TRY(ops_exchange(o, bytes * (size_t)c->size, &recv));
    TRY(ops_pack(o, mine, 0, rows, send));
    TRY(c->fn->all_gather(c, send, recv, bytes));
    for (int r = 0; r < c->size; r++) {
        cut theirs = cut_of(full.cols, c->size, r);
        TRY(ops_unpack(o, (char *)recv + (size_t)r * bytes, act_columns(full, theirs.begin, theirs.count), 0, rows));
    }
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status reduce_rows(mesh *m, mesh_axis axis, act partial, act sum)
{
    ops *o = m->o;
    comm *c = comm_of(m, axis);
    shares s = shares_of(o, c, partial, partial, 1);
    size_t mark = ops_mark(o);
    void *send, *recv;
    TRY(ops_exchange(o, s.bytes * (size_t)s.size, &send));
    TRY(ops_exchange(o, s.bytes * (size_t)(1 + c->away), &recv));
    for (int r = 0; r < s.size; r++)
        for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
            cut theirs = share_rows(&s, r, p);
            if (theirs.count > 0)
                TRY(ops_pack(o, part_of(partial, p), theirs.begin, theirs.count, share_at(&s, send, r, p)));
        }
    TRY(c->fn->reduce_scatter(c, send, recv, s.bytes / sizeof(float)));
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        act of = part_of(sum, p);
        if (act_rows(of) > 0)
            TRY(ops_unpack(o, share_at(&s, recv, 0, p), of, 0, act_rows(of)));
    }
    ops_release(o, mark);
    return FLUX1_OK;
}

int64_t ring_rows(const mesh *m, const kv_ring *r, int source)
{
    int size = axis_size(m, r->axis);
    return (cut_of(r->units[PART_TEXT], size, source).count + cut_of(r->units[PART_IMAGE], size, source).count) *
           r->unit;
}

static flux1_status ring_begin(mesh *m, kv_ring *r, act k, act v)
{
    ops *o = m->o;
    comm *c = comm_of(m, r->axis);
    r->turn = 0;
    r->bytes = ops_pack_bytes(o, k, ring_rows(m, r, 0)); /* rank 0 has the most */
    TRY(ops_exchange(o, 2 * r->bytes, &r->here));
    TRY(ops_exchange(o, 2 * r->bytes, &r->next));
    TRY(ops_pack(o, k, 0, act_rows(k), r->here));
    TRY(ops_pack(o, v, 0, act_rows(v), (char *)r->here + r->bytes));
    return c->fn->shift_begin(c, r->here, r->next, 2 * r->bytes, 1);
}

static flux1_status ring_receive(mesh *m, kv_ring *r, act k, act v)
{
    ops *o = m->o;
    comm *c = comm_of(m, r->axis);
    TRY(c->fn->shift_end(c));
    void *arrived = r->next;
    r->next = r->here;
    r->here = arrived;
    if (++r->turn + 1 < c->size)
        TRY(c->fn->shift_begin(c, r->here, r->next, 2 * r->bytes, 1));
    TRY(ops_unpack(o, r->here, k, 0, act_rows(k)));
    return ops_unpack(o, (char *)r->here + r->bytes, v, 0, act_rows(v));
}

static flux1_status halo_row(mesh *m, act in, int64_t row, int distance, bool wanted, act out)
{
    ops *o = m->o;
    comm *c = m->all;
    int64_t width = in.buffer->shape.width;
    size_t bytes = ops_pack_bytes(o, in, width);
    void *send, *recv;
    TRY(ops_exchange(o, bytes, &send));
    TRY(ops_exchange(o, bytes, &recv));
    if (act_rows(in) > 0)
        TRY(ops_pack(o, in, row * width, width, send));
    TRY(c->fn->shift_begin(c, send, recv, bytes, distance));
    TRY(c->fn->shift_end(c));
    return wanted ? ops_unpack(o, recv, out, 0, width) : FLUX1_OK;
}

static flux1_status share(mesh *m, const float *mine, int64_t count, float *all)
{
    ops *o = m->o;
    size_t mark = ops_mark(o);
    act one, every;
    tensor from = {.type = DTYPE_F32, .dims = 2, .shape = {1, count}, .data = (void *)mine},
           to = {.type = DTYPE_F32, .dims = 2, .shape = {m->ranks, count}, .data = all};
    TRY(ops_create(o, ACT_PARTIAL, shape_rows(1, 0, 1, count), &one));
    TRY(ops_create(o, ACT_PARTIAL, shape_rows(1, 0, m->ranks, count), &every));
    TRY(ops_upload(o, &from, one));
    TRY(gather_rows(m, AXIS_ALL, one, every, 1));
    TRY(ops_download(o, every, &to));
    ops_release(o, mark);
    return FLUX1_OK;
}

const exchange_table exchange_bytes = {
    .gather_rows = gather_rows,
    .gather_columns = gather_columns,
    .reduce_rows = reduce_rows,
    .ring_begin = ring_begin,
    .ring_receive = ring_receive,
    .halo_row = halo_row,
    .share = share,
};
