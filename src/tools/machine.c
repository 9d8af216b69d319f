/* A machine's JSON, checked key by key. */
#include "tools/machine.h"

#include "base/builder.h"
#include "base/checked.h"
#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESH_SIDE_MAX 1024

static const char *const DTYPE_NAME[MACHINE_DTYPES] = {"f32", "bf16"};

machine_dtype machine_dtype_of(const ops_config *c) { return (machine_dtype){c->arithmetic == DTYPE_BF16, c->int8}; }

const char *machine_dtype_name(machine_dtype type)
{
    static const char *const in_int8[] = {[INT8_FINE] = "int8", [INT8_ROTATED] = "int8-fast"};
    return type.int8 ? in_int8[type.int8] : DTYPE_NAME[type.exact];
}

/* ---- getters ---- */

/* A number from `least` to `most`; as it was if absent. */
static flux1_status get_number(const json_value *o, const char *name, const char *key, double least, double most,
                               double *out, flux1_error *err)
{
    double value = *out;
    TRY(json_get_real(o, name, key, &value, err));
    const json_value *v = json_object_get(o, key);
    if (v && !json_is(v, JSON_NULL) && !(value >= least && value <= most))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is %g, it should be from %g to %g", name, key, value, least,
                         most);
    *out = value;
    return FLUX1_OK;
}

/* Below what any machine has, and above: no result of the arithmetic overflows. */
#define RATE_MOST 1e21

static flux1_status get_rate(const json_value *o, const char *name, const char *key, double *out, flux1_error *err)
{
    return get_number(o, name, key, 1, RATE_MOST, out, err);
}

static flux1_status get_seconds(const json_value *o, const char *name, const char *key, double *out, flux1_error *err)
{
    return get_number(o, name, key, 0, 60, out, err);
}

static flux1_status get_pair(const json_value *o, const char *name, const char *key, int out[2], flux1_error *err)
{
    int64_t pair[2];
    size_t count = 2;
    const json_value *v = json_object_get(o, key);
    if (!v || json_is(v, JSON_NULL))
        return FLUX1_OK;
    TRY(json_get_ints(o, name, key, 1, MESH_SIDE_MAX, pair, 2, &count, err));
    if (count != 2)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" has %zu numbers, it should have two", name, key, count);
    out[0] = (int)pair[0];
    out[1] = (int)pair[1];
    return FLUX1_OK;
}

static flux1_status get_text(const json_value *o, const char *name, const char *key, char *out, size_t room,
                             flux1_error *err)
{
    const char *text = NULL;
    TRY(json_get_string(o, name, key, &text, err));
    if (text && strlen(text) >= room)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" has %zu bytes, it should have at most %zu", name, key,
                         strlen(text), room - 1);
    if (text)
        snprintf(out, room, "%s", text);
    return FLUX1_OK;
}

/* One of the words; its index. */
static flux1_status get_word(const json_value *o, const char *name, const char *key, const char *const *words,
                             int count, int *out, flux1_error *err)
{
    const char *text = NULL;
    TRY(json_get_string(o, name, key, &text, err));
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return FLUX1_OK;
        }
    if (!text)
        return FLUX1_OK;
    builder list = {0};
    for (int i = 0; i < count; i++)
        builder_format(&list, "%s\"%s\"", i == 0 ? "" : i + 1 == count ? " or " : ", ", words[i]);
    flux1_status st = error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is \"%s\", it should be %s", name, key, text,
                                list.text ? list.text : "a known word");
    builder_free(&list);
    return st;
}

/* A member that must be an object where it is there. */
static flux1_status get_object(const json_value *o, const char *name, const char *key, const json_value **out,
                               flux1_error *err)
{
    const json_value *v = json_object_get(o, key);
    *out = v && !json_is(v, JSON_NULL) ? v : NULL;
    return !*out || json_is_object(*out)
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" should be an object", name, key);
}

/* A misspelt key would be a machine other than the one that was meant. */
static flux1_status know_keys(const json_value *o, const char *name, const char *const *keys, flux1_error *err)
{
    const char *key;
    for (size_t i = 0; json_object_at(o, i, &key); i++) {
        int k = 0;
        while (keys[k] && strcmp(keys[k], key) != 0)
            k++;
        if (keys[k])
            continue;
        builder list = {0};
        for (k = 0; keys[k]; k++)
            builder_format(&list, "%s%s", k ? ", " : "", keys[k]);
        flux1_status st = error_set(err, FLUX1_ERR_FORMAT, "%s: unknown key \"%.64s\"; allowed: %s", name, key,
                                    list.text ? list.text : "none");
        builder_free(&list);
        return st;
    }
    return FLUX1_OK;
}

/* ---- parts ---- */

static flux1_status read_by_dtype(const json_value *o, const char *name, const char *key, double out[MACHINE_DTYPES],
                                  flux1_error *err)
{
    static const char *const keys[] = {"f32", "bf16", NULL};
    const json_value *by;
    TRY(get_object(o, name, key, &by, err));
    if (!by)
        return FLUX1_OK;
    TRY(know_keys(by, name, keys, err));
    for (int t = 0; t < MACHINE_DTYPES; t++)
        TRY(get_rate(by, name, DTYPE_NAME[t], &out[t], err));
    return FLUX1_OK;
}

/* Of two rates for one operation the second would never count. */
static flux1_status check_single(const machine *m, const char *name, const char *operation, flux1_error *err)
{
    if (!*operation)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"operation\" is null, it should be a name", name);
    for (int i = 0; i < m->rates; i++)
        if (strcmp(m->rate[i].operation, operation) == 0)
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"rates\" has two for the operation \"%s\": leave one", name,
                             operation);
    return FLUX1_OK;
}

static flux1_status read_rates(const json_value *root, const char *name, machine *m, flux1_error *err)
{
    static const char *const keys[] = {"operation", "flops_per_second", "bytes_per_second", "weight_bytes_per_second",
                                       NULL};
    const json_value *list = json_object_get(root, "rates"), *item;
    if (!list || json_is(list, JSON_NULL))
        return FLUX1_OK;
    if (!json_is_array(list) || json_array_size(list) > MACHINE_RATES)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"rates\" should be a list of at most %d objects", name,
                         MACHINE_RATES);
    for (size_t i = 0; (item = json_array_get(list, i)); i++) {
        machine_rate *r = &m->rate[m->rates];
        int which = -1;
        if (!json_is_object(item))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"rates\" should be a list of objects", name);
        TRY(know_keys(item, name, keys, err));
        TRY(json_require(item, name, "operation", err));
        TRY(get_word(item, name, "operation", machine_operations, MACHINE_OPERATIONS, &which, err));
        snprintf(r->operation, sizeof r->operation, "%s", which < 0 ? "" : machine_operations[which]);
        TRY(check_single(m, name, r->operation, err));
        TRY(read_by_dtype(item, name, "flops_per_second", r->flops, err));
        TRY(get_rate(item, name, "bytes_per_second", &r->bytes, err));
        TRY(get_rate(item, name, "weight_bytes_per_second", &r->weights, err));
        m->rates++;
    }
    return FLUX1_OK;
}

static flux1_status read_exchanges(const json_value *root, const char *name, machine *m, flux1_error *err)
{
    static const char *const kinds[] = {"all_gather", "reduce_scatter", "shift", NULL};
    static const char *const keys[] = {"seconds", "hop_seconds", "bytes_per_second", "pair_bytes_per_second", NULL};
    const json_value *all, *one;
    TRY(get_object(root, name, "exchange", &all, err));
    if (!all)
        return FLUX1_OK;
    TRY(know_keys(all, name, kinds, err));
    for (int k = 0; k < EXCHANGES; k++) {
        machine_exchange *x = &m->exchange[k];
        TRY(get_object(all, name, kinds[k], &one, err));
        if (!one)
            continue;
        TRY(know_keys(one, name, keys, err));
        TRY(json_require(one, name, "bytes_per_second", err));
        TRY(get_seconds(one, name, "seconds", &x->seconds, err));
        TRY(get_seconds(one, name, "hop_seconds", &x->hop, err));
        TRY(get_rate(one, name, "bytes_per_second", &x->rate, err));
        TRY(get_rate(one, name, "pair_bytes_per_second", &x->pair_rate, err));
    }
    return FLUX1_OK;
}

static flux1_status read_efficiency(const json_value *root, const char *name, machine *m, flux1_error *err)
{
    static const char *const keys[] = {"products", "collectives", NULL};
    const json_value *e;
    TRY(get_object(root, name, "efficiency", &e, err));
    if (!e)
        return FLUX1_OK;
    TRY(know_keys(e, name, keys, err));
    TRY(get_number(e, name, "products", 1e-6, 1, &m->products, err));
    return get_number(e, name, "collectives", 1e-6, 1, &m->collectives, err);
}

static flux1_status read_chip(const json_value *root, const char *name, machine *m, flux1_error *err)
{
    static const char *const chips[] = {"this-cpu"}, *const layouts[] = {"rows", "tiles"};
    int chip = -1, layout = 0;
    int64_t banks = 1, wide = m->wide_cell;
    TRY(get_word(root, name, "chip", chips, 1, &chip, err));
    TRY(get_word(root, name, "layout", layouts, 2, &layout, err));
    TRY(get_word(root, name, "dtype", DTYPE_NAME, MACHINE_DTYPES, &m->dtype, err));
    m->this_cpu = chip == 0;
    m->tiles = layout == 1;
    TRY(json_get_bool(root, name, "packs", &m->packs, err));
    TRY(get_number(root, name, "weight_cell_bytes", 0.25, 4, &m->weight_cell, err));
    TRY(json_get_int(root, name, "wide_cell_bytes", 2, 4, &wide, err));
    m->wide_cell = (int)wide;
    TRY(get_number(root, name, "memory_bytes", 1, 1e18, &m->memory, err));
    TRY(json_get_int(root, name, "memory_banks", 1, 1024, &banks, err));
    m->banks = (int)banks;
    TRY(get_rate(root, name, "memory_bytes_per_second", &m->memory_rate, err));
    TRY(get_seconds(root, name, "launch_seconds", &m->launch, err));
    TRY(get_pair(root, name, "grid", m->grid, err));
    TRY(read_by_dtype(root, name, "peak_flops_per_second", m->peak, err));
    return read_rates(root, name, m, err);
}

bool machine_exchanges(const machine *m)
{
    return m->exchange[EXCHANGE_GATHER].rate > 0 && m->exchange[EXCHANGE_SCATTER].rate > 0 &&
           m->exchange[EXCHANGE_SHIFT].rate > 0;
}

bool machine_joins(const machine *m) { return machine_exchanges(m) || (m->this_cpu && m->chips == 1); }

static flux1_status complete(const char *name, const machine *m, const json_value *root, flux1_error *err)
{
    int64_t ranks = (int64_t)m->mesh[0] * m->mesh[1];
    if (ranks > MESH_SIDE_MAX)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"mesh\" has %lld devices: at most %d", name, (long long)ranks,
                         MESH_SIDE_MAX);
    if (m->this_cpu && m->tiles)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: \"layout\" is \"tiles\", which the memory of \"this-cpu\" does not have: leave it out",
                         name);
    if (!m->this_cpu) { /* what the measurement would fill in */
        TRY(json_require(root, name, "memory_bytes", err));
        TRY(json_require(root, name, "memory_bytes_per_second", err));
        TRY(json_require(root, name, "peak_flops_per_second", err));
        if (!(m->peak[m->dtype] > 0))
            return error_set(
                err, FLUX1_ERR_FORMAT,
                "%s: \"peak_flops_per_second\" has no %s, which is the machine's \"dtype\"; give either of them", name,
                DTYPE_NAME[m->dtype]);
    }
    return ranks == 1 || machine_joins(m)
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT,
                           "%s: \"exchange\" should have all_gather, reduce_scatter and shift: the mesh has %lld "
                           "devices",
                           name, (long long)ranks);
}

flux1_status machine_read(const json_value *root, const char *name, machine *m, flux1_error *err)
{
    static const char *const keys[] = {"name",
                                       "about",
                                       "mesh",
                                       "chips",
                                       "chip",
                                       "layout",
                                       "packs",
                                       "dtype",
                                       "weight_cell_bytes",
                                       "wide_cell_bytes",
                                       "memory_bytes",
                                       "memory_banks",
                                       "memory_bytes_per_second",
                                       "launch_seconds",
                                       "grid",
                                       "peak_flops_per_second",
                                       "rates",
                                       "efficiency",
                                       "links",
                                       "exchange",
                                       "overlap",
                                       NULL};
    int64_t chips = 0;
    *m = (machine){.mesh = {1, 1},
                   .packs = true,
                   .dtype = 1,
                   .weight_cell = 2,
                   .wide_cell = 4,
                   .products = 1,
                   .collectives = 1,
                   .links = {1, 1},
                   .overlap = 1};
    if (!json_is_object(root))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: a machine should be a JSON object", name);
    TRY(know_keys(root, name, keys, err));
    snprintf(m->name, sizeof m->name, "%s", "machine");
    TRY(get_text(root, name, "name", m->name, sizeof m->name, err));
    TRY(get_text(root, name, "about", m->about, sizeof m->about, err));
    TRY(json_require(root, name, "mesh", err));
    TRY(get_pair(root, name, "mesh", m->mesh, err));
    TRY(json_get_int(root, name, "chips", 1, MESH_SIDE_MAX, &chips, err));
    m->chips = (int)chips;
    TRY(read_chip(root, name, m, err));
    TRY(read_efficiency(root, name, m, err));
    TRY(get_pair(root, name, "links", m->links, err));
    TRY(read_exchanges(root, name, m, err));
    TRY(get_number(root, name, "overlap", 0, 1, &m->overlap, err));
    return complete(name, m, root, err);
}

/* ---- names and files ---- */

static flux1_status read_text(const char *text, size_t bytes, const char *name, machine *out, flux1_error *err)
{
    json_value *root;
    TRY(json_parse(text, bytes, name, &root, err));
    flux1_status st = machine_read(root, name, out, err);
    json_free(root);
    return st;
}

static flux1_status unknown(const char *name, flux1_error *err)
{
    builder list = {0};
    for (int i = 0; machine_builtin_name(i); i++)
        builder_format(&list, "%s%s", i ? ", " : "", machine_builtin_name(i));
    flux1_status st = error_set(err, FLUX1_ERR_ARGUMENT, "machine \"%s\": no file of that name; built-in machines: %s",
                                name, list.text ? list.text : "");
    builder_free(&list);
    return st;
}

flux1_status machine_find(const char *name, machine *out, flux1_error *err)
{
    char *text;
    size_t bytes;
    const char *known = machine_builtin(name);
    if (known)
        return read_text(known, strlen(known), name, out, err);
    if (!file_exists(name))
        return unknown(name, err);
    TRY(file_read(name, (size_t)1 << 20, &text, &bytes, err));
    flux1_status st = read_text(text, bytes, name, out, err);
    free(text);
    return st;
}
