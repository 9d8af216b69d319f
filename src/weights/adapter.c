#include "weights/adapter.h"

#include "weights/adapter_read.h"
#include "weights/store_base.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- order ---- */

static int compare(const adapter_term *a, model_part part, const char *target, adapter_place place)
{
    const int by_name = a->part == part ? strcmp(a->target, target) : (a->part > part) - (a->part < part);
    return by_name ? by_name : (a->place > place) - (a->place < place);
}

static bool same_place(const adapter_term *a, const adapter_term *b)
{
    return compare(a, b->part, b->target, b->place) == 0;
}

static int by_target(const void *a, const void *b)
{
    const adapter_term *x = a, *y = b;
    const int order = compare(x, y->part, y->target, y->place);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

const adapter_term *adapter_find(const adapter_file *f, model_part part, const char *target, adapter_place place)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare(&f->term[middle], part, target, place);
        if (order == 0)
            return &f->term[middle];
        if (order > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static const store_tensor *head_of(const adapter_file *f, const adapter_term *t) { return f->change[t->change].head; }

/* Whether two terms in order of places are for one tensor, whichever way they get to it. */
static bool same_tensor(const adapter_term *a, const adapter_term *b)
{
    return a->part == b->part && !strcmp(a->target, b->target) &&
           (a->place == ADAPTER_BIAS) == (b->place == ADAPTER_BIAS);
}

/* Neither is known to be the one that counts: ComfyUI takes whichever it comes to last, by its own order of names and
 * kinds, other programs the kinds that they know. */
static flux1_status refuse_both(const adapter_file *f, const adapter_term *a, const adapter_term *b, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT,
                     "%s: \"%s\" (%s) and \"%s\" (%s) are both for the layer \"%s\"; flux1 applies one of a file to a "
                     "layer, so remove the other from it",
                     f->store->path, head_of(f, a)->name, adapter_kind_name(f->change[a->change].kind),
                     head_of(f, b)->name, adapter_kind_name(f->change[b->change].kind), a->target);
}

/* Two spellings of a layer are one entry, if they are of one kind: the first of their order stays. */
static flux1_status sort(adapter_file *f, flux1_error *err)
{
    size_t kept = 0;
    if (f->count)
        qsort(f->term, f->count, sizeof *f->term, by_target);
    for (size_t i = 1; i < f->count; i++) {
        const adapter_term *t = &f->term[i];
        const bool kinds = f->change[t[-1].change].kind != f->change[t->change].kind;
        if (same_tensor(t - 1, t) && (kinds || by_target(t - 1, t) == 0))
            return refuse_both(f, t - 1, t, err);
    }
    for (size_t i = 0; i < f->count; i++)
        if (kept > 0 && same_place(&f->term[kept - 1], &f->term[i]))
            free(f->term[i].target);
        else
            f->term[kept++] = f->term[i];
    f->count = kept;
    return FLUX1_OK;
}

/* ---- the model ---- */

/* Canny's and depth's layer for the picture takes the control picture's channels too. */
static bool widens_input(const adapter_term *t, const adapter_change *c, const store_tensor *w)
{
    return t->part == MODEL_TRANSFORMER && !strcmp(t->target, "x_embedder") && w->view.dims == 2 &&
           c->cols == 2 * w->view.shape[1];
}

/* The layer's sizes, where the entry fits several. */
static void take_sizes(adapter_term *t, adapter_change *c, const tensor *w)
{
    if (t->rows == 0 && w->dims > 0)
        t->rows = w->shape[0];
    if (c->cols == 0 && w->dims <= 2)
        c->cols = w->dims == 2 ? w->shape[1] : 1;
}

/* A single block of columns is that of all: they are a multiple of it. */
static flux1_status check_columns(const adapter_term *t, const adapter_change *c, flux1_error *err)
{
    const adapter_rotation_form *f = &c->rotation;
    if (f->stages == 0 || f->of_rows || c->cols % f->width == 0)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: \"%s\" rotates %" PRId64 " inputs, the model's \"%s\" has %" PRId64
                     "; the adapter was made for another model",
                     c->head->file, c->head->name, f->width, t->target, c->cols);
}

/* t->base: the model's tensor; NULL if it has none. A pair for a table or a vector is merged. */
static flux1_status check_layer(adapter_term *t, adapter_change *c, const store *s, flux1_error *err)
{
    char name[NAME_BYTES_MAX + 8], shape[200];
    snprintf(name, sizeof name, "%s.%s", t->target, t->place == ADAPTER_BIAS ? "bias" : "weight");
    const store_tensor *w = t->base = s ? store_find(s, name) : NULL;
    if (!w)
        return FLUX1_OK;
    take_sizes(t, c, &w->view);
    const int64_t cols = w->view.dims == 1 ? 1 : w->view.dims == 2 ? w->view.shape[1] : 0;
    if (w->view.dims > 0 && w->view.shape[0] == t->rows && cols == c->cols) {
        if (t->place == ADAPTER_BESIDE && (w->view.dims == 1 || name_is_table(w->name)))
            t->place = ADAPTER_WEIGHT; /* nothing is multiplied there that a pair could run beside */
        return check_columns(t, c, err);
    }
    if (widens_input(t, c, w))
        return adapter_refuse_control(c->head->file, err);
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: \"%s\" is for a layer of shape [%" PRId64 ", %" PRId64
                     "], the model's \"%s\" is %s; the LoRA was made for another model",
                     c->head->file, c->head->name, t->rows, c->cols, t->target,
                     tensor_shape_text(w->view.dims, w->view.shape, shape, sizeof shape));
}

/* Takes the terms out whose layers the model lacks. */
static flux1_status keep_terms(adapter_file *f, const store *const stores[MODEL_PARTS], flux1_error *err)
{
    size_t kept = 0;
    flux1_status st = FLUX1_OK;
    for (size_t i = 0; i < f->count; i++) {
        adapter_term *t = &f->term[i];
        if (st == FLUX1_OK)
            st = check_layer(t, &f->change[t->change], stores[t->part], err);
        if (st == FLUX1_OK && !t->base) {
            if (!(f->change[t->change].companion && head_of(f, t) == f->change[t->change - 1].head))
                adapter_add_stray(f, head_of(f, t)->name);
            free(t->target);
            continue;
        }
        f->term[kept++] = *t;
    }
    f->count = kept;
    return st;
}

/* By entry, whether it has a term. */
static void mark_entries(const adapter_file *f, bool *marks)
{
    for (size_t i = 0; i < f->count; i++)
        marks[f->term[i].change] = true;
}

/* What is said about the entries that have a layer. */
static void count_applied(adapter_file *f, const bool *applied)
{
    for (size_t i = 0; i < f->changes; i++) {
        const adapter_change *c = &f->change[i];
        if (!applied[i])
            continue;
        f->kinds |= 1u << c->kind;
        f->applied += !c->companion;
        if (c->rank) {
            f->rank_min = f->rank_max && f->rank_min < c->rank ? f->rank_min : c->rank;
            f->rank_max = f->rank_max > c->rank ? f->rank_max : c->rank;
        }
    }
    for (size_t i = 0; i < f->count; i++) {
        adapter_term *t = &f->term[i];
        f->merged[t->part] += t->place != ADAPTER_BESIDE;
        if (t->place == ADAPTER_BESIDE && t->swapped)
            t->up.half[0] = &t->half[0], t->up.half[1] = &t->half[1];
    }
}

/* What mixes rows needs all layers of its entry. */
static flux1_status check_whole(const adapter_file *f, flux1_error *err)
{
    for (size_t i = 0; i < f->count; i++) {
        const adapter_term *t = &f->term[i];
        const adapter_change *c = &f->change[t->change];
        int64_t rows = 0;
        for (size_t k = 0; k < f->count && adapter_change_mixes_rows(c); k++)
            rows += f->term[k].change == t->change ? f->term[k].rows : 0;
        if (adapter_change_mixes_rows(c) && rows != c->rows)
            return error_set(err, FLUX1_ERR_FORMAT,
                             "%s: \"%s\" rotates %" PRId64
                             " rows together, and another entry changes some of them, or the "
                             "model lacks them",
                             f->store->path, c->head->name, c->rows);
    }
    return FLUX1_OK;
}

static flux1_status check_model(adapter_file *f, const store *const stores[MODEL_PARTS], flux1_error *err)
{
    bool *there = calloc(2 * f->changes + 1, sizeof *there);
    if (!there)
        return error_oom(err, 2 * f->changes, "a LoRA's layers");
    bool *applied = there + f->changes;
    flux1_status st = keep_terms(f, stores, err);
    mark_entries(f, there);
    if (st == FLUX1_OK)
        st = sort(f, err);
    if (st == FLUX1_OK) {
        mark_entries(f, applied);
        for (size_t i = 0; i < f->changes; i++)
            if (there[i] && !applied[i])
                adapter_add_stray(f, f->change[i].head->name);
        count_applied(f, applied);
        st = check_whole(f, err);
    }
    free(there);
    return st;
}

static flux1_status check_stranger(const adapter_file *f, bool alike, flux1_error *err)
{
    for (size_t i = 0; i < store_count(f->store); i++) {
        const char *model = adapter_stranger(store_at(f->store, i)->name, alike);
        if (model)
            return error_set(err, FLUX1_ERR_MODEL,
                             alike ? "%s: it is a LoRA of %s, not of FLUX.1, though some layers have the same names"
                                   : "%s: nothing in it is for FLUX.1; it looks like a LoRA of %s",
                             f->store->path, model);
    }
    return FLUX1_OK;
}

static flux1_status nothing_applies(const adapter_file *f, flux1_error *err)
{
    const char *path = f->store->path;
    TRY(check_stranger(f, false, err));
    return error_set(err, FLUX1_ERR_MODEL, "%s: nothing in it is for this model%s%s%s; is it a LoRA of FLUX.1?", path,
                     f->stray_count ? " (it has " : "", f->strays, f->stray_count ? ")" : "");
}

static flux1_status make_zeros(adapter_file *f, flux1_error *err)
{
    int64_t rows = 1, rank = 1;
    for (size_t i = 0; i < f->count; i++) {
        const adapter_term *t = &f->term[i];
        const bool beside = t->place == ADAPTER_BESIDE;
        rows = beside && t->rows > rows ? t->rows : rows;
        rank = beside && f->change[t->change].rank > rank ? f->change[t->change].rank : rank;
    }
    f->zeros = *store_at(f->store, 0); /* its key: this file, at the header */
    f->zeros.offset = 0;
    f->zeros.half[0] = f->zeros.half[1] = NULL;
    f->zeros.view = (tensor){.type = DTYPE_F8_E4M3, .dims = 2, .shape = {rows, rank}};
    f->zeros.view.data = calloc((size_t)rows, (size_t)rank);
    return f->zeros.view.data ? FLUX1_OK : error_oom(err, tensor_bytes(&f->zeros.view), "a LoRA");
}

static flux1_status fill(adapter_file *f, const store *const stores[MODEL_PARTS], flux1_error *err)
{
    TRY(check_stranger(f, true, err));
    TRY(adapter_read(f, err));
    TRY(check_model(f, stores, err));
    return f->count ? make_zeros(f, err) : nothing_applies(f, err);
}

flux1_status adapter_open(const char *path, const store *const stores[MODEL_PARTS], adapter_file **out,
                          flux1_error *err)
{
    adapter_file *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f)
        return error_oom(err, sizeof *f, path);
    flux1_status st = store_open_file(path, &f->store, err);
    if (st == FLUX1_OK)
        st = fill(f, stores, err);
    if (st != FLUX1_OK) {
        adapter_close(f);
        return st;
    }
    store_let_pages_go(f->store); /* scales, alphas and the like have been read */
    *out = f;
    return FLUX1_OK;
}

void adapter_close(adapter_file *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        free(f->term[i].target);
    free(f->term);
    free(f->change);
    free(f->zeros.view.data);
    store_close(f->store);
    free(f);
}
