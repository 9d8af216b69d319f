/* A machine's arithmetic: bytes of what lies in its memory, seconds of an operation and of an exchange. */
#include "tools/machine.h"

#include "base/arena.h"
#include "base/checked.h"
#include "ops/layout.h"

#include <math.h>
#include <string.h>

enum { TILE = 32 };

/* ---- memory ---- */

static const machine *machine_of(const ops_config *c) { return ((const machine_device *)c->device)->m; }

static size_t machine_cell(const ops_config *c, act_role role)
{
    const machine *m = machine_of(c);
    if (role == ACT_RESIDUAL || role == ACT_PARTIAL)
        return (size_t)m->wide_cell;
    return layout_bf16(c->arithmetic == DTYPE_BF16, role) ? 2 : 4;
}

static double padded(const machine *m, int64_t n) { return (double)(m->tiles ? i64_ceil_div(n, TILE) * TILE : n); }

static size_t bytes_in_arena(double bytes)
{
    return bytes < 0x1p60 ? size_round_up((size_t)bytes, ARENA_ALIGN) : SIZE_MAX;
}

static size_t machine_act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    const machine *m = machine_of(c);
    double rows = padded(m, s->rows[0]) + padded(m, s->rows[1]);
    return bytes_in_arena((double)s->batch * rows * padded(m, s->cols) * (double)machine_cell(c, role));
}

static size_t machine_scratch(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    (void)c, (void)work, (void)m, (void)n, (void)k, (void)heads;
    return 0;
}

/* A matrix in the machine's own cells; vectors as rows of the arithmetic's type, float32 where nothing is tiled. */
static double matrix_bytes(const machine *m, const weight_recipe *w)
{
    if (w->role == WEIGHT_VECTOR)
        return padded(m, w->rows) * padded(m, 1) * (m->tiles ? 2 : 4);
    return padded(m, w->rows) * padded(m, w->cols) *
           (w->role == WEIGHT_TABLE && m->weight_cell < 2 ? 2 : m->weight_cell);
}

static size_t machine_weight_bytes(const ops_config *c, const weight_recipe *w, const weight_recipe *bias)
{
    const machine *m = machine_of(c);
    double bytes = matrix_bytes(m, w) + (bias ? matrix_bytes(m, bias) : 0);
    return bytes < 0x1p60 ? (size_t)ceil(bytes) : SIZE_MAX;
}

static const ops_sizing machine_sizing = {.act_bytes = machine_act_bytes,
                                          .cell_bytes = machine_cell,
                                          .scratch = machine_scratch,
                                          .weight_bytes = machine_weight_bytes};

const ops_device_kind machine_kind = {.name = "machine", .syntax = "machine", .sizing = &machine_sizing};

/* ---- seconds ---- */

const char *machine_product(int8_kind int8)
{
    static const char *const names[] = {
        [INT8_NONE] = "product", [INT8_FINE] = "product_int8", [INT8_ROTATED] = "product_int8_fast"};
    return names[int8];
}

const char *const machine_operations[MACHINE_OPERATIONS] = {"product",     "product_int8",   "product_int8_fast",
                                                            "attention",   "attention_int8", "attention_merge",
                                                            "conv",        "layer_norm",     "rms_norm",
                                                            "group_stats", "group_apply",    "head_norm_rope",
                                                            "upsample",    "embed",          "activate",
                                                            "add",         "euler",          "cast",
                                                            "copy_rows",   "finite",         "pack",
                                                            "unpack"};

const char *machine_attention(int8_kind int8) { return int8 ? "attention_int8" : "attention"; }

static const machine_rate *named(const machine *m, const char *operation)
{
    for (int i = 0; i < m->rates; i++)
        if (strcmp(m->rate[i].operation, operation) == 0)
            return &m->rate[i];
    return NULL;
}

/* What is in int8 and has no rate of its own goes at the exact one's. */
static const machine_rate *rate_of(const machine *m, const ops_event *e)
{
    const bool attention = strcmp(e->operation, "attention") == 0 || strcmp(e->operation, "attention_part") == 0;
    const char *plain = attention ? "attention" : e->operation;
    const machine_rate *own =
        e->int8 ? named(m, attention ? machine_attention(e->int8) : machine_product(e->int8)) : NULL;
    return own ? own : named(m, plain);
}

/* What a grid of cores wastes of a product's tiles: each core has as many rows and columns of them as the busiest. */
static double used_of_grid(const machine *m, int64_t rows, int64_t cols)
{
    if (!m->grid[0] || rows <= 0 || cols <= 0)
        return 1;
    double tiles_m = (double)i64_ceil_div(rows, TILE), tiles_n = (double)i64_ceil_div(cols, TILE);
    double busiest = ceil(tiles_m / m->grid[0]) * ceil(tiles_n / m->grid[1]);
    double other = ceil(tiles_m / m->grid[1]) * ceil(tiles_n / m->grid[0]); /* or the other way around */
    busiest = other < busiest ? other : busiest;
    return (double)rows / TILE
    *((double)cols / TILE) / (busiest * m->grid[0] * m->grid[1]);
}

double machine_compute(const machine *m, int type, double share, const ops_event *e, bool *by_flops)
{
    const machine_rate *r = rate_of(m, e);
    double flops = r && r->flops[type] > 0 ? r->flops[type] : m->peak[type];
    double bytes = r && r->bytes > 0 ? r->bytes : m->memory_rate;
    double used = strcmp(e->operation, "product") == 0 ? used_of_grid(m, e->batch * e->m, e->n) : 1;
    double by_work = e->flops > 0 ? e->flops / (flops * m->products * used / share) : 0;
    if (r && r->weights > 0)
        by_work += (double)e->bytes_weights / (r->weights / share);
    double by_memory = (double)(e->bytes_in + e->bytes_out + e->bytes_weights) / (bytes / share);
    *by_flops = by_work >= by_memory;
    return *by_flops ? by_work : by_memory;
}

static const machine_exchange *exchange_of(const machine *m, const char *operation)
{
    if (strncmp(operation, "all_gather", 10) == 0)
        return &m->exchange[EXCHANGE_GATHER];
    if (strncmp(operation, "reduce_scatter", 14) == 0)
        return &m->exchange[EXCHANGE_SCATTER];
    return &m->exchange[EXCHANGE_SHIFT];
}

double machine_exchange_seconds(const machine *m, const ops_event *e, int links)
{
    const machine_exchange *x = exchange_of(m, e->operation);
    double rate = e->ranks == 2 && x->pair_rate > 0 ? x->pair_rate : x->rate;
    return x->seconds + x->hop * (e->ranks - 1) + (double)e->bytes_moved / (rate * links * m->collectives);
}
