/* What ranks exchange. Operands that would not fit together are refused here; what ranks would send each other
 * different numbers of bytes of shows when their dry runs are compared. */
#include "mesh/script_player.h"

/* Rows of `in` are this rank's share of out's. */
static flux1_status check_share(const player *p, mesh_axis axis, act in, act out, int64_t unit)
{
    const int size = axis_size(p->m, axis), rank = axis_rank(p->m, axis);
    for (act_part part = PART_TEXT; part <= PART_IMAGE; part++) {
        const int64_t all = act_rows(part_of(out, part));
        if (unit < 1 || all % unit || cut_of(all / unit, size, rank).count * unit != act_rows(part_of(in, part)))
            return player_refuse(p, "the rows of one operand are not this rank's share of the other's");
    }
    return in.cols == out.cols && act_batch(in) == act_batch(out) && in.buffer->role == out.buffer->role
               ? FLUX1_OK
               : player_refuse(p, "operands of an exchange differ in role, batch or columns");
}

flux1_status play_gather_rows(player *p)
{
    const mesh_axis axis = (mesh_axis)player_take(p);
    act in, out;
    TRY(player_need_act(p, &in));
    const int64_t unit = player_take(p);
    TRY(player_need_act(p, &out));
    TRY(check_share(p, axis, in, out, unit));
    return p->m->exchange->gather_rows(p->m, axis, in, out, unit);
}

flux1_status play_gather_columns(player *p)
{
    const mesh_axis axis = (mesh_axis)player_take(p);
    act in, out;
    TRY(player_need_act(p, &in));
    TRY(player_need_act(p, &out));
    if (in.cols != cut_of(out.cols, axis_size(p->m, axis), axis_rank(p->m, axis)).count ||
        act_rows(in) != act_rows(out) || act_batch(in) != 1 || act_batch(out) != 1 ||
        in.buffer->role != out.buffer->role)
        return player_refuse(p, "the columns of one operand are not this rank's share of the other's");
    return p->m->exchange->gather_columns(p->m, axis, in, out);
}

flux1_status play_reduce_rows(player *p)
{
    const mesh_axis axis = (mesh_axis)player_take(p);
    act in, out;
    TRY(player_need_act(p, &in));
    TRY(player_need_act(p, &out));
    TRY(check_share(p, axis, out, in, 1));
    if (in.buffer->role != ACT_PARTIAL)
        return player_refuse(p, "a sum over ranks of something else than partial");
    return p->m->exchange->reduce_rows(p->m, axis, in, out);
}

flux1_status play_ring_begin(player *p)
{
    act k, v;
    kv_ring r = {.axis = (mesh_axis)player_take(p)};
    r.units[PART_TEXT] = player_take(p);
    r.units[PART_IMAGE] = player_take(p);
    r.unit = player_take(p);
    TRY(player_need_act(p, &k));
    TRY(player_need_act(p, &v));
    if (r.units[0] < 0 || r.units[1] < 0 || r.unit < 1 || axis_size(p->m, r.axis) < 2)
        return player_refuse(p, "a ring of no rows, or of one rank");
    if (act_rows(k) != act_rows(v) || k.cols != v.cols || act_batch(k) != act_batch(v) ||
        k.buffer->role != v.buffer->role || act_rows(k) != ring_rows(p->m, &r, axis_rank(p->m, r.axis)))
        return player_refuse(p, "k and v are not this rank's share of the ring's rows");
    p->ring = r;
    p->turning = true;
    TRY(p->m->exchange->ring_begin(p->m, &p->ring, k, v));
    p->ring_at = ops_mark(p->m->o);
    return FLUX1_OK;
}

flux1_status play_ring_receive(player *p)
{
    act k, v;
    TRY(player_need_act(p, &k));
    TRY(player_need_act(p, &v));
    if (!p->turning)
        return player_refuse(p, "no ring has begun, or all of it has come");
    const int size = axis_size(p->m, p->ring.axis), rank = axis_rank(p->m, p->ring.axis), turn = p->ring.turn + 1;
    const int64_t rows = ring_rows(p->m, &p->ring, (rank + turn) % size);
    if (act_rows(k) != rows || act_rows(v) != rows || k.cols != v.cols || act_batch(k) != act_batch(v) ||
        k.buffer->role != v.buffer->role)
        return player_refuse(p, "k and v have not the rows of the rank that they come from");
    if (p->ring.bytes < ops_pack_bytes(p->m->o, k, rows))
        return player_refuse(p, "k and v are wider than what comes");
    p->turning = turn + 1 < size;
    return p->m->exchange->ring_receive(p->m, &p->ring, k, v);
}

flux1_status play_halo_row(player *p)
{
    act in, out;
    TRY(player_need_act(p, &in));
    const int64_t row = player_take(p);
    const bool alike = p->s->vary[p->cell] == VARY_NOT;
    const int64_t distance = player_take(p), wanted = player_take(p);
    TRY(player_need_act(p, &out));
    const act_shape *s = &in.buffer->shape;
    if (!alike)
        return player_refuse(p, "distance is one number for all ranks: each sends where another waits for it");
    if (distance != 1 && distance != -1)
        return player_refuse(p, "a halo row from farther than a neighbour");
    if (in.buffer->role != ACT_PLANE || out.buffer->role != ACT_PLANE || act_rows(in) != s->height * s->width ||
        act_rows(out) != s->width || in.cols != out.cols || act_batch(in) != act_batch(out) || row < 0 ||
        (s->height > 0 && row >= s->height))
        return player_refuse(p, "a halo row is a row of the plane");
    return p->m->exchange->halo_row(p->m, in, row, (int)distance, wanted != 0, out);
}
