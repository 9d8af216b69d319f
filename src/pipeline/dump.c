#include "pipeline/dump.h"

#include "base/file.h"
#include "base/json_write.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char name[64];
    tensor values; /* with the batch in front, unless the name is one for all pictures */
} entry;

typedef struct fact {
    char *key, *text;
} fact;

struct dump {
    int64_t batch;
    size_t facts;
    fact *fact;
    size_t count, capacity;
    entry *entries;
};

flux1_status dump_create(int64_t batch, dump **out, flux1_error *err)
{
    dump *d = calloc(1, sizeof *d);
    if (!d)
        return error_oom(err, sizeof *d, "the dump");
    d->batch = batch;
    *out = d;
    return FLUX1_OK;
}

void dump_destroy(dump *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->count; i++)
        tensor_free(&d->entries[i].values);
    for (size_t i = 0; i < d->facts; i++) {
        free(d->fact[i].key);
        free(d->fact[i].text);
    }
    free(d->fact);
    free(d->entries);
    free(d);
}

flux1_status dump_note(dump *d, const char *key, const char *text, flux1_error *err)
{
    if (!d)
        return FLUX1_OK;
    fact *more = realloc(d->fact, (d->facts + 1) * sizeof *more);
    if (!more)
        return error_oom(err, 0, "the dump's metadata");
    d->fact = more;
    fact *f = &d->fact[d->facts++];
    *f = (fact){strdup(key), strdup(text)};
    return f->key && f->text ? FLUX1_OK : error_oom(err, strlen(text), "the dump's metadata");
}

static flux1_status add_entry(dump *d, const char *name, dtype type, int dims, const int64_t *shape, flux1_error *err)
{
    if (d->count == d->capacity) {
        size_t capacity = 2 * d->capacity + 8;
        entry *more = realloc(d->entries, capacity * sizeof *more);
        if (!more)
            return error_oom(err, capacity * sizeof *more, "the dump");
        d->entries = more;
        d->capacity = capacity;
    }
    entry *e = &d->entries[d->count];
    *e = (entry){0};
    strncpy(e->name, name, sizeof e->name - 1);
    TRY(tensor_create(type, dims, shape, &e->values, err));
    d->count++;
    return FLUX1_OK;
}

flux1_status dump_add(dump *d, const char *name, dtype type, int dims, const int64_t *shape, int64_t index,
                      const void *data, flux1_error *err)
{
    if (!d)
        return FLUX1_OK;
    size_t i = 0;
    while (i < d->count && strcmp(d->entries[i].name, name) != 0)
        i++;
    if (i == d->count) {
        int64_t whole[TENSOR_DIMS] = {d->batch};
        memcpy(whole + (index >= 0), shape, (size_t)dims * sizeof *shape);
        TRY(add_entry(d, name, type, dims + (index >= 0), whole, err));
    }
    tensor *t = &d->entries[i].values;
    size_t bytes = tensor_bytes(t) / (index >= 0 ? (size_t)d->batch : 1);
    if (bytes)
        memcpy((char *)t->data + (index >= 0 ? (size_t)index * bytes : 0), data, bytes);
    return FLUX1_OK;
}

/* {"name":{"dtype":"F32","shape":[…],"data_offsets":[begin,end]},…}, padded with spaces to a multiple of 8. */
static flux1_status header_text(const dump *d, char **text, size_t *length, flux1_error *err)
{
    json_writer w = {.style = JSON_COMPACT};
    size_t offset = 0;
    json_begin_object(&w, NULL);
    if (d->facts)
        json_begin_object(&w, "__metadata__");
    for (size_t i = 0; i < d->facts; i++)
        json_put_string(&w, d->fact[i].key, d->fact[i].text);
    if (d->facts)
        json_end_object(&w);
    for (size_t i = 0; i < d->count; i++) {
        const tensor *t = &d->entries[i].values;
        json_begin_object(&w, d->entries[i].name);
        json_put_string(&w, "dtype", dtype_describe(t->type)->name);
        json_begin_array(&w, "shape");
        for (int k = 0; k < t->dims; k++)
            json_put_integer(&w, NULL, t->shape[k]);
        json_end_array(&w);
        json_begin_array(&w, "data_offsets");
        json_put_unsigned(&w, NULL, offset);
        json_put_unsigned(&w, NULL, offset += tensor_bytes(t));
        json_end_array(&w);
        json_end_object(&w);
    }
    json_end_object(&w);
    while (!w.text.failed && w.text.length % 8)
        builder_add(&w.text, " ");
    *length = w.text.length;
    return json_take(&w, "the dump's header", text, err);
}

flux1_status dump_write(const dump *d, const char *path, flux1_error *err)
{
    flux1_status st;
    file_writer w = {0};
    size_t length = 0;
    unsigned char prefix[8];
    char *header;
    TRY(header_text(d, &header, &length, err));
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)(length >> (8 * i));
    TRY_CLEANUP(file_begin(path, &w, err));
    fwrite(prefix, 1, 8, w.stream); /* a failed write is remembered by the stream and told by file_commit */
    fwrite(header, 1, length, w.stream);
    for (size_t i = 0; i < d->count; i++)
        fwrite(d->entries[i].values.data, 1, tensor_bytes(&d->entries[i].values), w.stream);
    st = file_commit(&w, err);
cleanup:
    file_abandon(&w);
    free(header);
    return st;
}
