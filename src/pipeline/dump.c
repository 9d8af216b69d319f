#include "pipeline/dump.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char name[64];
    tensor values; /* with the batch in front, unless the name is one for all pictures */
} entry;

struct dump {
    int64_t batch;
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
    free(d->entries);
    free(d);
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

flux1_status dump_add(dump *d, const char *name, dtype type, int dims, const int64_t *shape, int64_t index, const void *data, flux1_error *err)
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

/* NULL when out of memory. */
static json_t *shape_list(const tensor *t)
{
    json_t *list = json_array();
    for (int k = 0; list && k < t->dims; k++)
        if (json_array_append_new(list, json_integer(t->shape[k])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

/* {"name":{"dtype":"F32","shape":[…],"data_offsets":[begin,end]},…}, padded with spaces to a multiple of 8. */
static char *header_text(const dump *d, size_t *length)
{
    size_t offset = 0;
    json_t *root = json_object(), *one;
    char *text = NULL;
    for (size_t i = 0; root && i < d->count; i++) {
        const tensor *t = &d->entries[i].values;
        one = json_pack("{s:s,s:o,s:[I,I]}", "dtype", t->type == DTYPE_I32 ? "I32" : "F32", "shape", shape_list(t), "data_offsets", (json_int_t)offset,
                        (json_int_t)(offset + tensor_bytes(t)));
        offset += tensor_bytes(t);
        if (!one || json_object_set_new(root, d->entries[i].name, one) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    char *compact = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!compact)
        return NULL;
    size_t n = strlen(compact), padded = size_round_up(n, 8);
    if ((text = malloc(padded))) {
        memcpy(text, compact, n);
        memset(text + n, ' ', padded - n);
        *length = padded;
    }
    free(compact);
    return text;
}

flux1_status dump_write(const dump *d, const char *path, flux1_error *err)
{
    flux1_status st;
    file_writer w = {0};
    size_t length = 0;
    unsigned char prefix[8];
    char *header = header_text(d, &length);
    if (!header)
        return error_oom(err, 0, "the dump's header");
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
