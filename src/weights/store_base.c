#include "weights/store_base.h"

#include "base/checked.h"

#include <stdatomic.h>
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
    for (size_t i = 0; i < s->file_count; i++) {
        safetensors_free(&s->file[i].header);
        file_map_close(&s->file[i].map);
        free(s->file[i].path);
    }
    for (size_t i = 0; i < s->fault_count; i++) {
        free(s->fault[i].name);
        free(s->fault[i].text);
    }
    free(s->fault);
    free(s->file);
    free(s->block);
    free(s->item);
    free(s->path);
    free(s);
}

const char *store_path(const store *s) { return s->path; }

const store_tensor *store_find(const store *s, const char *name)
{
    size_t position;
    const store_item *item = store_lookup(s, name, &position);
    return item ? &item->tensor : NULL;
}

size_t store_count(const store *s) { return s->count; }
const store_tensor *store_at(const store *s, size_t index) { return &s->item[index]->tensor; }
