#include "mesh/script_record.h"

#include "mesh/exchange.h"

/* An axis that is all ranks is called so, whatever it is to the model's code. */
static void begin(mesh *m, script_call call, mesh_axis axis)
{
    script *s = ops_script_of(m->o);
    script_begin(s, call);
    script_put(s, axis_size(m, axis) == m->ranks ? AXIS_ALL : axis);
}

static void put(mesh *m, int64_t v) { script_put(ops_script_of(m->o), v); }
static flux1_status end(mesh *m) { return script_end(ops_script_of(m->o), m->err); }

static flux1_status write_gather_rows(mesh *m, mesh_axis axis, act x, act full, int64_t unit)
{
    begin(m, CALL_GATHER_ROWS, axis);
    ops_script_put_act(m->o, x);
    put(m, unit);
    ops_script_put_act(m->o, full);
    return end(m);
}

static flux1_status write_gather_columns(mesh *m, mesh_axis axis, act mine, act full)
{
    begin(m, CALL_GATHER_COLUMNS, axis);
    ops_script_put_act(m->o, mine);
    ops_script_put_act(m->o, full);
    return end(m);
}

static flux1_status write_reduce_rows(mesh *m, mesh_axis axis, act partial, act sum)
{
    begin(m, CALL_REDUCE_ROWS, axis);
    ops_script_put_act(m->o, partial);
    ops_script_put_act(m->o, sum);
    return end(m);
}

static flux1_status write_ring_begin(mesh *m, kv_ring *r, act k, act v)
{
    begin(m, CALL_RING_BEGIN, r->axis);
    put(m, r->units[PART_TEXT]);
    put(m, r->units[PART_IMAGE]);
    put(m, r->unit);
    ops_script_put_act(m->o, k);
    ops_script_put_act(m->o, v);
    return end(m);
}

static flux1_status write_ring_receive(mesh *m, kv_ring *r, act k, act v)
{
    (void)r;
    script_begin(ops_script_of(m->o), CALL_RING_RECEIVE);
    ops_script_put_act(m->o, k);
    ops_script_put_act(m->o, v);
    return end(m);
}

static flux1_status write_halo_row(mesh *m, act in, int64_t row, int distance, bool wanted, act out)
{
    script_begin(ops_script_of(m->o), CALL_HALO_ROW);
    ops_script_put_act(m->o, in);
    put(m, row);
    put(m, distance);
    put(m, wanted);
    ops_script_put_act(m->o, out);
    return end(m);
}

/* What ranks tell each other of values (whether a NaN arose) is the business of whoever makes the calls. */
static flux1_status share_nothing(mesh *m, const float *mine, int64_t count, float *all)
{
    (void)m, (void)mine;
    for (int64_t i = 0; i < count; i++)
        all[i] = -1;
    return FLUX1_OK;
}

static const exchange_table written = {
    .gather_rows = write_gather_rows,
    .gather_columns = write_gather_columns,
    .reduce_rows = write_reduce_rows,
    .ring_begin = write_ring_begin,
    .ring_receive = write_ring_receive,
    .halo_row = write_halo_row,
    .share = share_nothing,
};

flux1_status mesh_script_record(const mesh_config *c, const ops_config *config, int rank, mesh_body *body, void *arg,
                                script *out, flux1_error *err)
{
    mesh m = {.err = err};
    ops_config with = *config;
    mesh_set_rank(&m, c, rank);
    m.exchange = &written;
    with.err = err;
    TRY(ops_script_create(&with, out, &m.o));
    flux1_status st = body(arg, &m);
    ops_destroy(m.o);
    return st;
}
