/* A machine as the JSON that machine_read takes. */
#include "tools/machine.h"

static void put_pair(json_writer *w, const char *key, const int pair[2])
{
    json_begin_array(w, key);
    json_put_integer(w, NULL, pair[0]);
    json_put_integer(w, NULL, pair[1]);
    json_end_array(w);
}

static void put_positive(json_writer *w, const char *key, double value)
{
    if (value > 0)
        json_put_real(w, key, value);
}

static void put_by_dtype(json_writer *w, const char *key, const double value[MACHINE_DTYPES])
{
    if (!(value[0] > 0) && !(value[1] > 0))
        return;
    json_begin_object(w, key);
    put_positive(w, "f32", value[0]);
    put_positive(w, "bf16", value[1]);
    json_end_object(w);
}

static void put_rates(json_writer *w, const machine *m)
{
    json_begin_array(w, "rates");
    for (int i = 0; i < m->rates; i++) {
        json_begin_object(w, NULL);
        json_put_string(w, "operation", m->rate[i].operation);
        put_by_dtype(w, "flops_per_second", m->rate[i].flops);
        put_positive(w, "bytes_per_second", m->rate[i].bytes);
        put_positive(w, "weight_bytes_per_second", m->rate[i].weights);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_exchange(json_writer *w, const char *key, const machine_exchange *x)
{
    if (!(x->rate > 0))
        return;
    json_begin_object(w, key);
    json_put_real(w, "seconds", x->seconds);
    json_put_real(w, "hop_seconds", x->hop);
    json_put_real(w, "bytes_per_second", x->rate);
    put_positive(w, "pair_bytes_per_second", x->pair_rate);
    json_end_object(w);
}

static void put_chip(json_writer *w, const machine *m)
{
    if (m->this_cpu)
        json_put_string(w, "chip", "this-cpu");
    json_put_string(w, "layout", m->tiles ? "tiles" : "rows");
    json_put_bool(w, "packs", m->packs);
    json_put_string(w, "dtype", m->dtype ? "bf16" : "f32");
    json_put_real(w, "weight_cell_bytes", m->weight_cell);
    json_put_integer(w, "wide_cell_bytes", m->wide_cell);
    put_positive(w, "memory_bytes", m->memory);
    json_put_integer(w, "memory_banks", m->banks);
    put_positive(w, "memory_bytes_per_second", m->memory_rate);
    json_put_real(w, "launch_seconds", m->launch);
    if (m->grid[0])
        put_pair(w, "grid", m->grid);
    put_by_dtype(w, "peak_flops_per_second", m->peak);
    put_rates(w, m);
}

void machine_write(json_writer *w, const machine *m)
{
    json_begin_object(w, NULL);
    json_put_string(w, "name", m->name);
    json_put_string(w, "about", m->about);
    put_pair(w, "mesh", m->mesh);
    if (m->chips)
        json_put_integer(w, "chips", m->chips);
    put_chip(w, m);
    json_begin_object(w, "efficiency");
    json_put_real(w, "products", m->products);
    json_put_real(w, "collectives", m->collectives);
    json_end_object(w);
    put_pair(w, "links", m->links);
    json_begin_object(w, "exchange");
    put_exchange(w, "all_gather", &m->exchange[EXCHANGE_GATHER]);
    put_exchange(w, "reduce_scatter", &m->exchange[EXCHANGE_SCATTER]);
    put_exchange(w, "shift", &m->exchange[EXCHANGE_SHIFT]);
    json_end_object(w);
    json_put_real(w, "overlap", m->overlap);
    json_end_object(w);
}
