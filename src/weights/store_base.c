#include "weights/store_base.h"

#include "base/checked.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

flux1_status grow(void **array, size_t *capacity, size_t count, size_t element, flux1_error *err)
{
    if (count < *capacity)
        return FLUX1_OK;
    size_t wanted = *capacity ? 2 * *capacity : 64, bytes = 0;
    void *larger = size_mul(wanted, element, &bytes) ? realloc(*array, bytes) : NULL;
    if (!larger)
        return error_oom(err, bytes, "the list of tensors");
    *array = larger;
    *capacity = wanted;
    return FLUX1_OK;
}

struct store_memory {
    store_memory *next;
    max_align_t bytes[];
};

flux1_status store_keep(store *s, size_t bytes, void **out, flux1_error *err)
{
    size_t all;
    store_memory *m = size_add(bytes, sizeof *m, &all) ? calloc(1, all) : NULL;
    if (!m)
        return error_oom(err, bytes, s->path);
    m->next = s->memory;
    s->memory = m;
    *out = m->bytes;
    return FLUX1_OK;
}

store_raw *store_raw_find(const store *s, const char *base, size_t base_length, const char *ending)
{
    size_t low = 0, high = s->raw_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *name = s->raw[middle].tensor.name;
        int order = strncmp(base, name, base_length); /* a name that ends before is smaller than base */
        if (order == 0)
            order = strcmp(ending, name + base_length);
        if (order == 0)
            return &s->raw[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

store_item *store_lookup(const store *s, const char *name, size_t *position)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, s->item[middle]->tensor.name);
        if (order == 0) {
            *position = middle;
            return s->item[middle];
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *position = low;
    return NULL;
}

flux1_status store_create(const char *path, store **out, flux1_error *err)
{
    static atomic_ullong last;
    *out = NULL;
    store *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return error_oom(err, sizeof *s, path);
    }
    s->number = atomic_fetch_add(&last, 1) + 1;
    *out = s;
    return FLUX1_OK;
}

void store_close(store *s)
{
    if (!s)
        return;
    if (s->maker)
        s->maker->free(s);
    for (size_t i = 0; i < s->file_count; i++)
        container_close(&s->file[i]);
    for (store_memory *m = s->memory, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    for (size_t i = 0; i < s->fault_count; i++) {
        free(s->fault[i].name);
        free(s->fault[i].text);
    }
    for (int i = 0; i < STORE_NOTES; i++)
        free(s->note[i]);
    free(s->fault);
    free(s->file);
    free(s->raw);
    free(s->block);
    free(s->item);
    free(s->path);
    free(s);
}

const char *store_path(const store *s) { return s->path; }
const char *store_variant(const store *s) { return s->variant; }
const char *store_note(const store *s, store_note_kind kind) { return s->note[kind]; }
size_t store_files(const store *s) { return s->file_count; }
const container *store_file(const store *s, size_t index) { return &s->file[index]; }

const store_tensor *store_find(const store *s, const char *name)
{
    size_t position;
    const store_item *item = store_lookup(s, name, &position);
    return item ? &item->tensor : NULL;
}

size_t store_count(const store *s) { return s->count; }
const store_tensor *store_at(const store *s, size_t index) { return &s->item[index]->tensor; }
