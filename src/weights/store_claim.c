/* Claims, and the one message that names every fault among them. */
#include "weights/store_base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_LISTED 16 /* of each kind; the rest is counted */

static flux1_status note_fault(store *s, store_fault_kind kind, const char *name, const char *text, flux1_error *err)
{
    for (size_t i = 0; i < s->fault_count; i++)
        if (s->fault[i].kind == kind && strcmp(s->fault[i].name, name) == 0)
            return FLUX1_OK;
    void *list = s->fault;
    TRY(grow(&list, &s->fault_capacity, s->fault_count, sizeof *s->fault, err));
    s->fault = list;
    store_fault fault = {.kind = kind, .name = strdup(name), .text = strdup(text)};
    if (!fault.name || !fault.text) {
        free(fault.name);
        free(fault.text);
        return error_oom(err, strlen(name) + strlen(text) + 2, "a message");
    }
    s->fault[s->fault_count++] = fault;
    return FLUX1_OK;
}

/* "", or where the file has it under another name. */
static const char *origin(const store_tensor *t, char *out, size_t size)
{
    out[0] = '\0';
    if (t->stored_as && strcmp(t->stored_as, t->name) != 0)
        snprintf(out, size, "(\"%s\" in the file) ", t->stored_as);
    return out;
}

static bool same_shape(const tensor *t, int dims, const int64_t *shape)
{
    if (t->dims != dims)
        return false;
    for (int i = 0; i < dims; i++)
        if (t->shape[i] != shape[i])
            return false;
    return true;
}

flux1_status store_claim(store *s, const char *name, int dims, const int64_t *shape, const store_tensor **out,
                         flux1_error *err)
{
    size_t position;
    *out = NULL;
    store_item *item = store_lookup(s, name, &position);
    if (!item && s->maker)
        TRY(s->maker->add(s, name, position, dims, shape, &item, err));
    if (!item)
        return note_fault(s, FAULT_MISSING, name, "", err);
    item->claimed = true;
    const tensor *t = &item->tensor.view;
    if (!same_shape(t, dims, shape)) {
        char has[200], wanted[200], from[NAME_BYTES_MAX + 24], text[800];
        snprintf(text, sizeof text, "%shas shape %s, the configuration asks for %s",
                 origin(&item->tensor, from, sizeof from), tensor_shape_text(t->dims, t->shape, has, sizeof has),
                 tensor_shape_text(dims, shape, wanted, sizeof wanted));
        return note_fault(s, FAULT_SHAPE, name, text, err);
    }
    if (!tensor_decodes(t)) {
        char from[NAME_BYTES_MAX + 24], text[480];
        snprintf(text, sizeof text, "%sis %s, which this version cannot compute with%s",
                 origin(&item->tensor, from, sizeof from), dtype_describe(t->type)->name,
                 dtype_describe(t->type)->needs_scale ? " without a scale beside it" : "");
        return note_fault(s, FAULT_DTYPE, name, text, err);
    }
    *out = &item->tensor;
    return FLUX1_OK;
}

/* A text being put together in a fixed buffer; what does not fit is left out at the end. */
typedef struct text {
    char buffer[FLUX1_MESSAGE_MAX];
    size_t used;
} text;

static void append(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(text *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(t->buffer + t->used, sizeof t->buffer - t->used, format, ap);
    va_end(ap);
    if (n > 0)
        t->used = (size_t)n < sizeof t->buffer - t->used ? t->used + (size_t)n : sizeof t->buffer - 1;
}

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

static void append_faults(text *t, const store *s, store_fault_kind kind)
{
    size_t total = 0, listed = 0;
    for (size_t i = 0; i < s->fault_count; i++)
        total += s->fault[i].kind == kind;
    if (total == 0)
        return;
    append(t, "%s", t->used ? "; " : "");
    if (kind == FAULT_MISSING)
        append(t, "%zu tensor%s missing: ", total, total == 1 ? " is" : "s are");
    for (size_t i = 0; i < s->fault_count && listed < NAMES_LISTED; i++) {
        const store_fault *f = &s->fault[i];
        if (f->kind != kind)
            continue;
        const char *between = listed++ ? ", " : "";
        if (kind == FAULT_MISSING)
            append(t, "%s\"%s\"", between, f->name);
        else
            append(t, "%stensor \"%s\" %s", between, f->name, f->text);
    }
    if (total > listed)
        append(t, " and %zu more", total - listed);
}

static void append_unclaimed(text *t, const store *s, const char *const *ignore)
{
    size_t total = 0;
    for (size_t i = 0; i < s->count; i++)
        total += !s->item[i]->claimed && !name_listed(s->item[i]->tensor.name, ignore);
    if (total == 0)
        return;
    append(t, "%s%zu tensor%s that such a model does not have: ", t->used ? "; " : "", total, plural(total));
    size_t listed = 0;
    for (size_t i = 0; i < s->count && listed < NAMES_LISTED; i++)
        if (!s->item[i]->claimed && !name_listed(s->item[i]->tensor.name, ignore))
            append(t, "%s\"%s\"", listed++ ? ", " : "", s->item[i]->tensor.name);
    if (total > listed)
        append(t, " and %zu more", total - listed);
}

flux1_status store_check(const store *s, bool unclaimed_too, const char *const *ignore, flux1_error *err)
{
    text t = {.used = 0};
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        append_faults(&t, s, (store_fault_kind)kind);
    const bool faulty = t.used > 0;
    if (unclaimed_too)
        append_unclaimed(&t, s, ignore);
    if (t.used == 0)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: %s%s", s->path, t.buffer,
                     faulty ? " (do the weights belong to this config.json?)" : "");
}
