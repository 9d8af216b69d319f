#include "weights/adapter.h"

#include "weights/adapter_names.h"
#include "weights/store_base.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- alphas in the metadata (PEFT's adapter config, written by diffusers) ---- */

typedef struct peft {
    json_value *json; /* NULL: the file has none */
} peft;

static flux1_status peft_open(const adapter_file *f, peft *out, flux1_error *err)
{
    char name[600];
    const char *text = container_metadata(&f->store->file[0], "lora_adapter_metadata");
    *out = (peft){0};
    if (!text)
        return FLUX1_OK;
    snprintf(name, sizeof name, "%s: lora_adapter_metadata", f->store->path);
    return json_parse(text, strlen(text), name, &out->json, err);
}

static const json_value *peft_value(const peft *p, model_part part, const char *key)
{
    static const char *const prefixes[MODEL_PARTS] = {
        [MODEL_CLIP] = "text_encoder.", [MODEL_T5] = "text_encoder_2.", [MODEL_TRANSFORMER] = "transformer."};
    char full[80];
    snprintf(full, sizeof full, "%s%s", prefixes[part] ? prefixes[part] : "", key);
    return json_object_get(p->json, full);
}

/* Of a pattern's table the value with the longest key that the layer's name ends with, at a dot. */
static const json_value *peft_pattern(const json_value *patterns, const char *target)
{
    const json_value *value, *best = NULL;
    const char *key;
    const size_t length = strlen(target);
    size_t longest = 0;
    for (size_t i = 0; json_is_object(patterns) && (value = json_object_at(patterns, i, &key)); i++) {
        const size_t n = strlen(key);
        if (n > length || n <= longest || strcmp(target + length - n, key) != 0 ||
            (n < length && target[length - n - 1] != '.'))
            continue;
        best = value;
        longest = n;
    }
    return best;
}

/* *alpha stays as it is where the metadata have none. */
static void peft_scale(const peft *p, model_part part, const char *target, int64_t rank, double *scale)
{
    if (!json_is_object(p->json))
        return;
    const json_value *alpha = peft_pattern(peft_value(p, part, "alpha_pattern"), target);
    if (!alpha)
        alpha = peft_value(p, part, "lora_alpha");
    if (json_is_number(alpha))
        *scale = json_number_value(alpha) /
                 (json_is_true(peft_value(p, part, "use_rslora")) ? sqrt((double)rank) : (double)rank);
}

/* ---- terms ---- */

static void add_stray(adapter_file *f, const char *name)
{
    const size_t used = strlen(f->strays);
    if (f->stray_count++ < ADAPTER_STRAYS_NAMED)
        snprintf(f->strays + used, sizeof f->strays - used, "%s%s", used ? ", " : "", name);
}

static flux1_status matrix(const store_tensor *t, int64_t *rows, int64_t *cols, flux1_error *err)
{
    const tensor *v = &t->view;
    char text[200];
    int dims = v->dims;
    while (dims > 2 && v->shape[dims - 1] == 1)
        dims--;
    if (dims != 2 || v->shape[0] < 1 || v->shape[1] < 1 || dtype_describe(v->type)->block_elements != 1 ||
        !tensor_decodes(v))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is %s %s; it should be a matrix of floats", t->file,
                         t->name, dtype_describe(v->type)->name,
                         tensor_shape_text(v->dims, v->shape, text, sizeof text));
    *rows = v->shape[0];
    *cols = v->shape[1];
    return FLUX1_OK;
}

static flux1_status read_alpha(const adapter_file *f, const char *base, size_t length, int64_t rank, double *scale,
                               flux1_error *err)
{
    char name[NAME_BYTES_MAX + 8];
    float alpha;
    snprintf(name, sizeof name, "%.*s.alpha", (int)length, base);
    const store_tensor *t = store_find(f->store, name);
    if (!t)
        return FLUX1_OK;
    if (tensor_elements(&t->view) != 1 || !tensor_decodes(&t->view))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" should be one number", t->file, name);
    TRY(tensor_decode(&t->view, 0, 1, &alpha, err));
    if (!isfinite(alpha))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is NaN or infinite; fetch the file again", t->file,
                         name);
    *scale = (double)alpha / (double)rank;
    return FLUX1_OK;
}

/* Rows [first, first + count) of a tensor of single elements. */
static store_tensor some_rows(const store_tensor *t, int64_t first, int64_t count)
{
    store_tensor out = *t;
    const size_t skip = (size_t)(first * t->view.shape[1]) * (size_t)dtype_describe(t->view.type)->block_bytes;
    out.view.data = (unsigned char *)t->view.data + skip;
    out.view.shape[0] = count;
    out.offset += skip;
    return out;
}

static flux1_status add_term(adapter_file *f, const store_tensor *down, const store_tensor *up,
                             const adapter_targets *to, int i, double scale, flux1_error *err)
{
    const name_row *row = to->row[i];
    const int64_t rows = up->view.shape[0];
    if (row && rows % row->of)
        return error_set(err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has %" PRId64 " rows; they should be %d equal parts",
                         up->file, up->name, rows, row->of);
    TRY(grow((void **)&f->term, &f->room, f->count, sizeof *f->term, err));
    adapter_term *t = &f->term[f->count];
    *t = (adapter_term){.part = to->part, .down = down, .up = *up, .scale = (float)scale, .pair = f->pairs};
    if (row)
        t->up = some_rows(up, rows / row->of * row->first, rows / row->of * row->count);
    if (row && row->form == NAME_SWAPPED) {
        if (rows % 2)
            return error_set(err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has %" PRId64 " rows; they should be two halves",
                             up->file, up->name, rows);
        t->half[0] = some_rows(up, rows / 2, rows / 2);
        t->half[1] = some_rows(up, 0, rows / 2);
    }
    if (!(t->target = strdup(to->name[i])))
        return error_oom(err, 0, "a LoRA's layers");
    f->count++;
    return FLUX1_OK;
}

/* The other half of a pair. */
static flux1_status find_other(const adapter_file *f, const store_tensor *one, const adapter_key *key,
                               const store_tensor **out, flux1_error *err)
{
    char name[2 * NAME_BYTES_MAX];
    snprintf(name, sizeof name, "%.*s%s", (int)key->base, one->name, key->pair);
    *out = store_find(f->store, name);
    return *out ? FLUX1_OK
                : error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is there without \"%s\"; fetch the file again",
                            one->file, one->name, name);
}

static flux1_status add_pair(adapter_file *f, const store_tensor *down, const adapter_key *key, const peft *p,
                             flux1_error *err)
{
    adapter_targets to;
    const store_tensor *up;
    int64_t rank, in, out, cols;
    TRY(find_other(f, down, key, &up, err));
    TRY(matrix(down, &rank, &in, err));
    TRY(matrix(up, &out, &cols, err));
    if (rank != cols || rank > ADAPTER_RANK_MAX)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: tensors \"%s\" and \"%s\" have the ranks %" PRId64 " and %" PRId64
                         "; they should be equal, and at most %d",
                         down->file, down->name, up->name, rank, cols, ADAPTER_RANK_MAX);
    adapter_targets_find(down->name, key->base, &to);
    if (to.count == 0)
        add_stray(f, down->name);
    else {
        double scale = 1;
        peft_scale(p, to.part, to.name[0], rank, &scale);
        TRY(read_alpha(f, down->name, key->base, rank, &scale, err));
        for (int i = 0; i < to.count; i++)
            TRY(add_term(f, down, up, &to, i, scale, err));
        f->rank_min = f->rank_max && f->rank_min < rank ? f->rank_min : rank;
        f->rank_max = f->rank_max > rank ? f->rank_max : rank;
    }
    f->pairs++;
    return FLUX1_OK;
}

/* Black Forest Labs' control LoRAs take a picture beside the latent. */
static bool is_control(const store *s)
{
    return store_find(s, "img_in.lora_A.weight") && store_find(s, "single_blocks.0.norm.key_norm.scale");
}

static flux1_status add_all(adapter_file *f, const peft *p, flux1_error *err)
{
    const store *s = f->store;
    if (is_control(s))
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: a control LoRA (canny or depth), which needs a control picture; flux1 takes none yet",
                         s->path);
    for (size_t i = 0; i < store_count(s); i++) {
        const store_tensor *t = store_at(s, i), *other;
        const adapter_key key = adapter_key_read(t->name);
        if (key.role == ADAPTER_OTHER)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: it has %s (tensor \"%s\"); flux1 applies low-rank LoRA alone (lora_down and lora_up, "
                             "or lora_A and lora_B)",
                             s->path, key.kind, t->name);
        if (key.role == ADAPTER_DOWN)
            TRY(add_pair(f, t, &key, p, err));
        if (key.role == ADAPTER_UP)
            TRY(find_other(f, t, &key, &other, err));
        if (key.role == ADAPTER_NONE)
            add_stray(f, t->name);
    }
    return FLUX1_OK;
}

/* ---- order ---- */

static int compare(const adapter_term *a, model_part part, const char *target)
{
    return a->part != part ? (a->part > part) - (a->part < part) : strcmp(a->target, target);
}

static int by_target(const void *a, const void *b)
{
    const adapter_term *y = b;
    return compare(a, y->part, y->target);
}

const adapter_term *adapter_find(const adapter_file *f, model_part part, const char *target)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare(&f->term[middle], part, target);
        if (order == 0)
            return &f->term[middle];
        if (order > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static flux1_status sort(adapter_file *f, flux1_error *err)
{
    if (f->count)
        qsort(f->term, f->count, sizeof *f->term, by_target);
    for (size_t i = 0; i < f->count; i++) {
        adapter_term *t = &f->term[i];
        if (t->half[0].view.data)
            t->up.half[0] = &t->half[0], t->up.half[1] = &t->half[1];
        if (i > 0 && by_target(t - 1, t) == 0)
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" and \"%s\" are both for the layer \"%s\"",
                             f->store->path, t[-1].down->name, t->down->name, t->target);
    }
    return FLUX1_OK;
}

/* ---- the model ---- */

/* *has: whether the model has the layer. */
static flux1_status check_layer(const adapter_term *t, const store *s, bool *has, flux1_error *err)
{
    char name[NAME_BYTES_MAX + 8], shape[200];
    snprintf(name, sizeof name, "%s.weight", t->target);
    const store_tensor *w = s ? store_find(s, name) : NULL;
    *has = w != NULL;
    if (!w ||
        (w->view.dims == 2 && w->view.shape[0] == t->up.view.shape[0] && w->view.shape[1] == t->down->view.shape[1]))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: \"%s\" is for a layer of shape [%" PRId64 ", %" PRId64
                     "], the model's \"%s\" is %s; the LoRA was made for another model",
                     t->down->file, t->down->name, t->up.view.shape[0], t->down->view.shape[1], t->target,
                     tensor_shape_text(w->view.dims, w->view.shape, shape, sizeof shape));
}

static flux1_status check_model(adapter_file *f, const store *const stores[MODEL_PARTS], flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    bool *lost = calloc(f->pairs + 1, sizeof *lost);
    if (!lost)
        return error_oom(err, f->pairs, "a LoRA's layers");
    size_t kept = 0;
    for (size_t i = 0; st == FLUX1_OK && i < f->count; i++) {
        bool has;
        adapter_term *t = &f->term[i];
        st = check_layer(t, stores[t->part], &has, err);
        if (has && st == FLUX1_OK) {
            lost[t->pair] = true; /* found, for now */
            f->term[kept] = *t;
            if (t->up.half[0])
                f->term[kept].up.half[0] = &f->term[kept].half[0], f->term[kept].up.half[1] = &f->term[kept].half[1];
            if (kept++ != i)
                t->target = NULL;
        } else if (st == FLUX1_OK) {
            add_stray(f, t->down->name);
            free(t->target);
            t->target = NULL;
        }
    }
    if (st == FLUX1_OK) {
        f->count = kept;
        for (size_t i = 0; i < f->pairs; i++)
            f->applied += lost[i];
    }
    free(lost);
    return st;
}

static flux1_status nothing_applies(const adapter_file *f, flux1_error *err)
{
    const char *path = f->store->path;
    for (size_t i = 0; i < store_count(f->store); i++) {
        const char *model = adapter_stranger(store_at(f->store, i)->name);
        if (model)
            return error_set(err, FLUX1_ERR_MODEL, "%s: nothing in it is for FLUX.1; it looks like a LoRA of %s", path,
                             model);
    }
    return error_set(err, FLUX1_ERR_MODEL, "%s: nothing in it is for this model%s%s%s; is it a LoRA of FLUX.1?", path,
                     f->stray_count ? " (it has " : "", f->strays, f->stray_count ? ")" : "");
}

static flux1_status make_zeros(adapter_file *f, flux1_error *err)
{
    int64_t rows = 1;
    for (size_t i = 0; i < f->count; i++)
        rows = rows > f->term[i].up.view.shape[0] ? rows : f->term[i].up.view.shape[0];
    f->zeros = *store_at(f->store, 0); /* its key: this file, at the header */
    f->zeros.offset = 0;
    f->zeros.half[0] = f->zeros.half[1] = NULL;
    f->zeros.view = (tensor){.type = DTYPE_F8_E4M3, .dims = 2, .shape = {rows, f->rank_max}};
    f->zeros.view.data = calloc((size_t)rows, (size_t)f->rank_max);
    return f->zeros.view.data ? FLUX1_OK : error_oom(err, tensor_bytes(&f->zeros.view), "a LoRA");
}

static flux1_status fill(adapter_file *f, const store *const stores[MODEL_PARTS], flux1_error *err)
{
    peft p;
    TRY(peft_open(f, &p, err));
    flux1_status st = add_all(f, &p, err);
    json_free(p.json);
    if (st == FLUX1_OK)
        st = sort(f, err);
    if (st == FLUX1_OK)
        st = check_model(f, stores, err);
    if (st != FLUX1_OK)
        return st;
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
    free(f->zeros.view.data);
    store_close(f->store);
    free(f);
}
