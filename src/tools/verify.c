#include "tools/verify.h"

#include "base/checked.h"
#include "base/pool.h"
#include "weights/contents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 16384
#define NAMES_LISTED 16 /* in the message */

/* ---- which tensors there are ---- */

enum { READ = 1, KNOWN = 2 }; /* it is an item's; it is claimed, or nothing strange */

/* A file, once, whichever parts come from it. */
typedef struct checked_file {
    const container *file;
    unsigned char *mark; /* [tensors] */
} checked_file;

typedef struct value {
    const tensor *view;
    const char *file, *name;
} value;

typedef struct verification {
    checked_file *file;
    size_t files;
    value *value;
    size_t values, room;
    const atomic_int *cancel;
    atomic_int *bad; /* [values] */
    flux1_error *err;
} verification;

static checked_file *file_of(const verification *v, const file_identity *identity)
{
    for (size_t i = 0; i < v->files; i++)
        if (file_identity_same(&v->file[i].file->map.identity, identity))
            return &v->file[i];
    return NULL;
}

static flux1_status list_files(verification *v, const store *s)
{
    for (size_t i = 0; i < store_files(s); i++) {
        const container *c = store_file(s, i);
        if (file_of(v, &c->map.identity))
            continue;
        checked_file *more = realloc(v->file, (v->files + 1) * sizeof *more);
        unsigned char *mark = calloc(container_count(c) + 1, 1);
        v->file = more ? more : v->file;
        if (!more || !mark) {
            free(mark);
            return error_oom(v->err, container_count(c), "the check of weights");
        }
        v->file[v->files++] = (checked_file){c, mark};
    }
    return FLUX1_OK;
}

static flux1_status add_value(verification *v, const tensor *view, const char *file, const char *name)
{
    TRY(grow((void **)&v->value, &v->room, v->values, sizeof *v->value, v->err));
    v->value[v->values++] = (value){view, file, name};
    return FLUX1_OK;
}

/* Items are read as the model reads them, with their scales. */
static flux1_status list_items(verification *v, const store *s)
{
    for (size_t i = 0; i < store_count(s); i++) {
        const store_item *item = s->item[i];
        const store_tensor *t = &item->tensor;
        checked_file *f = file_of(v, &t->source);
        const size_t at = f ? container_find(f->file, t->stored_as) : SIZE_MAX;
        if (at != SIZE_MAX)
            f->mark[at] |= READ | (item->claimed || name_listed(t->name, folder_twins) ? KNOWN : 0);
        TRY(add_value(v, &t->view, t->file, t->name));
    }
    for (size_t i = 0; i < s->raw_count; i++) {
        const store_tensor *t = &s->raw[i].tensor;
        checked_file *f = file_of(v, &t->source);
        const size_t at = f && s->raw[i].beside ? container_find(f->file, t->name) : SIZE_MAX;
        if (at != SIZE_MAX)
            f->mark[at] |= KNOWN;
    }
    return FLUX1_OK;
}

/* What is in the files beside the items. */
static flux1_status list_rest(verification *v)
{
    for (size_t k = 0; k < v->files; k++) {
        const container *c = v->file[k].file;
        for (size_t i = 0; i < container_count(c); i++)
            if (!(v->file[k].mark[i] & READ))
                TRY(add_value(v, container_view(c, i), c->path, container_name(c, i)));
    }
    return FLUX1_OK;
}

static bool is_unknown(const checked_file *f, size_t i)
{
    const char *name = container_name(f->file, i);
    return !(f->mark[i] & KNOWN) && !contents_is_extra(name) && !name_listed(name, folder_twins);
}

static void list_unknown(const verification *v, json_writer *w)
{
    bool any = false;
    for (size_t k = 0; k < v->files; k++)
        for (size_t i = 0; i < container_count(v->file[k].file); i++)
            if (is_unknown(&v->file[k], i)) {
                if (!any)
                    json_begin_array(w, "unknown_tensors");
                any = true;
                json_put_string(w, NULL, container_name(v->file[k].file, i));
            }
    if (any)
        json_end_array(w);
}

/* ---- reading ---- */

static void verify_value(void *arg, int64_t index, int worker)
{
    (void)worker;
    verification *v = arg;
    const tensor *t = v->value[index].view;
    float chunk[CHUNK];
    const int64_t count = tensor_elements(t);
    if (!tensor_decodes(t))
        return;
    for (int64_t i = 0; i < count && !atomic_load_explicit(v->cancel, memory_order_relaxed); i += CHUNK) {
        const int64_t n = i64_min(CHUNK, count - i);
        if (tensor_decode(t, i, n, chunk, NULL) != FLUX1_OK)
            return;
        for (int64_t k = 0; k < n; k++)
            if (!isfinite(chunk[k])) {
                atomic_store(&v->bad[index], 1);
                return;
            }
    }
}

/* One message for all of them; a file is named where its tensors begin. */
static flux1_status tell_bad(const verification *v)
{
    flux1_status st = FLUX1_OK;
    size_t count = 0;
    const char *file = NULL;
    for (size_t i = 0; i < v->values; i++) {
        const value *x = &v->value[i];
        if (!atomic_load(&v->bad[i]) || count++ >= NAMES_LISTED)
            continue;
        if (st == FLUX1_OK)
            st = error_set(v->err, FLUX1_ERR_NUMERIC, "%s: NaN or infinity in tensor \"%s\"", x->file, x->name);
        else if (strcmp(file, x->file) == 0)
            error_append(v->err, ", \"%s\"", x->name);
        else
            error_append(v->err, "; %s: NaN or infinity in tensor \"%s\"", x->file, x->name);
        file = x->file;
    }
    if (count > NAMES_LISTED)
        error_append(v->err, " and %zu more", count - NAMES_LISTED);
    return st;
}

static flux1_status read_values(verification *v, int threads)
{
    pool *workers = NULL;
    if (!(v->bad = calloc(v->values + 1, sizeof *v->bad)))
        return error_oom(v->err, v->values * sizeof *v->bad, "the check of weights");
    TRY(pool_create(threads, &workers, v->err));
    pool_run(workers, (int64_t)v->values, verify_value, v);
    pool_destroy(workers);
    for (size_t i = 0; i < v->files; i++)
        TRY(file_map_check(&v->file[i].file->map, v->file[i].file->path, v->err));
    return atomic_load(v->cancel) ? error_set(v->err, FLUX1_ERR_CANCELLED, "cancelled") : tell_bad(v);
}

flux1_status verify_stores(flux1_context *c, store *const *stores, bool claimed, json_writer *w)
{
    verification v = {.cancel = &c->cancel, .err = &c->error};
    flux1_status st = FLUX1_OK;
    for (int p = 0; st == FLUX1_OK && p < COMPONENTS; p++)
        st = stores[p] ? list_files(&v, stores[p]) : FLUX1_OK;
    for (int p = 0; st == FLUX1_OK && p < COMPONENTS; p++)
        st = stores[p] ? list_items(&v, stores[p]) : FLUX1_OK;
    if (st == FLUX1_OK)
        st = list_rest(&v);
    if (st == FLUX1_OK && claimed)
        list_unknown(&v, w);
    if (st == FLUX1_OK)
        st = read_values(&v, c->device.config.threads);
    for (size_t i = 0; i < v.files; i++)
        free(v.file[i].mark);
    free(v.file);
    free(v.value);
    free(v.bad);
    return st;
}
