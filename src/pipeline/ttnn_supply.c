#include "pipeline/ttnn_supply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static flux1_status broken(const char *keys, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT, "device ttnn: the worker asks for \"%.120s\", which is none", keys);
}

static flux1_status read_wish(const char *keys, ttnn_wish *out, flux1_error *err)
{
    char name[TTNN_WORD];
    int64_t bias;
    if (!ttnn_number(keys, "w", &out->w) || !ttnn_number(keys, "bias", &bias) || bias > 1 ||
        !ttnn_number(keys, "rows", &out->rows) || !ttnn_number(keys, "cols", &out->cols) ||
        !ttnn_key(keys, "form", name))
        return broken(keys, err);
    out->bias = bias == 1;
    out->form = ttnn_form_find(name);
    return out->form < TTNN_FORM_COUNT ? FLUX1_OK : broken(keys, err);
}

/* ---- weights ---- */

/* From the cache on disk, or packed. */
static flux1_status take_arrays(ttnn_supplies *k, const ttnn_arrays *a, void *memory, flux1_error *err)
{
    k->bytes += (double)a->bytes;
    if (ttnn_disk_take(&k->disk, a, memory)) {
        k->from_disk += (double)a->bytes;
        return FLUX1_OK;
    }
    TRY(ttnn_arrays_pack(a, k->workers, memory, err));
    ttnn_disk_put(&k->disk, a, memory);
    return FLUX1_OK;
}

static flux1_status give_weight(ttnn_supplies *k, ttnn_worker *w, const char *keys, char answer[TTNN_ANSWER],
                                flux1_error *err)
{
    static const char *const names[] = {[VARY_NOT] = "not", [VARY_SP] = "sp", [VARY_TP] = "tp", [VARY_ALL] = "all"};
    void *memory;
    ttnn_wish q;
    ttnn_arrays a;
    TRY(read_wish(keys, &q, err));
    flux1_status st = ttnn_arrays_find(k->program, &q, &a, err);
    if (st != FLUX1_OK)
        return st == FLUX1_ERR_FORMAT ? broken(keys, err) : st;
    st = ttnn_worker_memory(w, a.bytes, &memory, err);
    if (st == FLUX1_OK)
        st = take_arrays(k, &a, memory, err);
    snprintf(answer, TTNN_ANSWER, "vary=%s arrays=%d bytes=%zu", names[a.vary], a.count, a.each);
    ttnn_arrays_free(&a);
    return st;
}

/* ---- inputs ---- */

static flux1_status give_input(const ttnn_supplies *k, ttnn_worker *w, const char *keys, char answer[TTNN_ANSWER],
                               flux1_error *err)
{
    char name[TTNN_WORD];
    int64_t given;
    int32_t row;
    tensor t;
    void *memory;
    if (!ttnn_key(keys, "name", name))
        return broken(keys, err);
    const bool is_row = k->from->row(k->from->user, name, &given, err) == FLUX1_OK;
    error_clear(err);
    if (is_row) {
        row = (int32_t)given;
        t = (tensor){.type = DTYPE_I32, .dims = 2, .shape = {1, 1}, .data = &row};
    } else if (k->from->input(k->from->user, name, &t, err) != FLUX1_OK)
        return broken(keys, err);
    const size_t bytes = tensor_bytes(&t);
    TRY(ttnn_worker_memory(w, bytes, &memory, err));
    memcpy(memory, t.data, bytes);
    snprintf(answer, TTNN_ANSWER, "rows=%" PRId64 " cols=%" PRId64 " type=%s", t.shape[0], t.shape[1],
             t.type == DTYPE_I32 ? "int32" : "float32");
    return FLUX1_OK;
}

flux1_status ttnn_supplies_give(void *user, ttnn_worker *w, const char *what, const char *keys,
                                char answer[TTNN_ANSWER], flux1_error *err)
{
    ttnn_supplies *k = user;
    return strcmp(what, "weight") == 0 ? give_weight(k, w, keys, answer, err) : give_input(k, w, keys, answer, err);
}
