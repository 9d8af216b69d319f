#include "weights/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value takes up to 100 bytes while the header is read: a hostile one must not turn 100 MB into many GB. FLUX.1's
 * largest has some 12,000. */
#define HEADER_VALUES_MAX 4000000u

static flux1_status header_length(const unsigned char *bytes, size_t size, const char *path, size_t *length,
                                  flux1_error *err)
{
    if (size == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the file is empty; fetch it again", path);
    if (size < 8)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: has %zu bytes, a safetensors or GGUF file has at least 8; fetch it again", path, size);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | bytes[i];
    if (n > SAFETENSORS_HEADER_MAX)
        return error_set(
            err, FLUX1_ERR_FORMAT,
            "%s: neither a safetensors nor a GGUF file: its first 8 bytes ask for a header of %llu bytes, and at "
            "most %u are allowed",
            path, (unsigned long long)n, SAFETENSORS_HEADER_MAX);
    if (n > size - 8)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: the header should have %llu bytes, but the file ends after %zu of them; fetch it again",
                         path, (unsigned long long)n, size - 8);
    if (n == 0 || bytes[8] != '{')
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: neither a safetensors nor a GGUF file: its header does not begin with '{'", path);
    *length = (size_t)n;
    return FLUX1_OK;
}

static flux1_status check_value_count(const char *header, size_t length, const char *path, flux1_error *err)
{
    size_t values = 0;
    for (size_t i = 0; i < length; i++)
        values += header[i] == ',' || header[i] == '{' || header[i] == '[';
    if (values > HEADER_VALUES_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: the header holds more than %u values; no FLUX.1 file does", path,
                         HEADER_VALUES_MAX);
    return FLUX1_OK;
}

static flux1_status check_metadata(const json_value *metadata, const char *path, flux1_error *err)
{
    const char *key;
    const json_value *value;
    if (!json_is_object(metadata))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"__metadata__\" is not an object of texts", path);
    for (size_t i = 0; (value = json_object_at(metadata, i, &key)); i++)
        if (!json_is_string(value))
            return error_set(err, FLUX1_ERR_FORMAT, "%s: \"__metadata__\": \"%s\" is not a text", path, key);
    return FLUX1_OK;
}

/* dtype and shape of one tensor; *bytes is what they come to. */
static flux1_status parse_type(const json_value *object, const char *where, tensor *view, size_t *bytes,
                               flux1_error *err)
{
    const char *type = NULL;
    size_t dims = 0;
    int64_t elements;
    char text[256];
    TRY(json_require(object, where, "dtype", err));
    TRY(json_require(object, where, "shape", err));
    TRY(json_get_string(object, where, "dtype", &type, err));
    if (!dtype_from_name(type, strlen(type), &view->type))
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: the dtype \"%s\" is not known to this version", where, type);
    TRY(json_get_ints(object, where, "shape", 0, INT64_MAX, view->shape, TENSOR_DIMS, &dims, err));
    view->dims = (int)dims;
    if (!tensor_size(view->type, view->dims, view->shape, &elements, bytes))
        return error_set(
            err, FLUX1_ERR_FORMAT,
            "%s: the shape %s of %s has more bytes or more elements than can be counted, or ends within a byte", where,
            tensor_shape_text((int)dims, view->shape, text, sizeof text), dtype_describe(view->type)->name);
    return FLUX1_OK;
}

static flux1_status parse_entry(const json_value *object, const char *where, const unsigned char *data,
                                size_t data_size, safetensors_entry *entry, flux1_error *err)
{
    int64_t range[2] = {0, 0};
    size_t count = 0, bytes = 0;
    char text[256];
    if (!json_is_object(object))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: is not an object with dtype, shape and data_offsets", where);
    TRY(parse_type(object, where, &entry->view, &bytes, err));
    TRY(json_require(object, where, "data_offsets", err));
    TRY(json_get_ints(object, where, "data_offsets", 0, INT64_MAX, range, 2, &count, err));
    if (count != 2 || range[0] > range[1])
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"data_offsets\" should be a begin and an end", where);
    entry->begin = (size_t)range[0];
    entry->end = (size_t)range[1];
    if (entry->end > data_size)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: its data ends at byte %zu of the data section, but the file has only %zu; fetch it again",
                         where, entry->end, data_size);
    if (entry->end - entry->begin != bytes)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: its data has %zu bytes, the shape %s of %s needs %zu", where,
                         entry->end - entry->begin,
                         tensor_shape_text(entry->view.dims, entry->view.shape, text, sizeof text),
                         dtype_describe(entry->view.type)->name, bytes);
    entry->view.data = (void *)(uintptr_t)(data + entry->begin);
    return FLUX1_OK;
}

static flux1_status parse_entries(const json_value *root, const unsigned char *data, size_t data_size, const char *path,
                                  safetensors *out, flux1_error *err)
{
    const char *key;
    const json_value *value;
    size_t capacity = json_object_size(root);
    if (!(out->entry = calloc(capacity ? capacity : 1, sizeof *out->entry)))
        return error_oom(err, capacity * sizeof *out->entry, path);
    for (size_t i = 0; (value = json_object_at(root, i, &key)); i++) {
        if (strcmp(key, "__metadata__") == 0) {
            TRY(check_metadata(value, path, err));
            continue;
        }
        safetensors_entry *entry = &out->entry[out->count];
        size_t room = strlen(path) + strlen(key) + 16;
        char *where = malloc(room);
        if (!where || !(entry->name = strdup(key))) {
            free(where);
            return error_oom(err, room, path);
        }
        out->count++;
        snprintf(where, room, "%s: tensor \"%s\"", path, key);
        flux1_status st = parse_entry(value, where, data, data_size, entry, err);
        free(where);
        TRY(st);
    }
    return FLUX1_OK;
}

static int by_offset(const void *a, const void *b)
{
    const safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const safetensors_entry *)a)->name, ((const safetensors_entry *)b)->name);
}

/* The tensors tile the data section: from 0 to its end, without holes or overlap. */
static flux1_status check_tiling(const safetensors *s, size_t data_size, const char *path, flux1_error *err)
{
    size_t end = 0;
    for (size_t i = 0; i < s->count; i++) {
        const safetensors_entry *e = &s->entry[i];
        if (e->begin < end)
            return error_set(
                err, FLUX1_ERR_FORMAT,
                "%s: tensor \"%s\" begins at byte %zu of the data section and overlaps \"%s\", which ends at %zu", path,
                e->name, e->begin, s->entry[i - 1].name, end);
        if (e->begin > end)
            return error_set(
                err, FLUX1_ERR_FORMAT,
                "%s: tensor \"%s\" begins at byte %zu of the data section, but the one before it ends at %zu: a hole",
                path, e->name, e->begin, end);
        end = e->end;
    }
    if (end != data_size)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the tensors end at byte %zu of the data section, which has %zu",
                         path, end, data_size);
    return FLUX1_OK;
}

bool safetensors_like(const unsigned char *p, size_t size)
{
    return size > 8 && p[8] == '{' && !(p[4] | p[5] | p[6] | p[7]);
}

flux1_status safetensors_parse(const unsigned char *bytes, size_t size, const char *path, safetensors *out,
                               flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    safetensors parsed = {0};
    json_value *root = NULL;
    size_t length = 0;
    char *name = NULL;
    *out = parsed;
    TRY(header_length(bytes, size, path, &length, err));
    const char *header = (const char *)bytes + 8;
    const unsigned char *data = bytes + 8 + length;
    size_t data_size = size - 8 - length;
    TRY(check_value_count(header, length, path, err));

    size_t room = strlen(path) + 16;
    if (!(name = malloc(room)))
        return error_oom(err, room, path);
    snprintf(name, room, "%s: header", path);
    TRY_CLEANUP(json_parse(header, length, name, &root, err));
    TRY_CLEANUP(parse_entries(root, data, data_size, path, &parsed, err));
    qsort(parsed.entry, parsed.count, sizeof *parsed.entry, by_offset);
    TRY_CLEANUP(check_tiling(&parsed, data_size, path, err));
    qsort(parsed.entry, parsed.count, sizeof *parsed.entry, by_name);
    if (json_object_get(root, "__metadata__")) {
        parsed.header = root;
        root = NULL;
    }
    *out = parsed;
    parsed = (safetensors){0};
cleanup:
    safetensors_free(&parsed);
    json_free(root);
    free(name);
    return st;
}

void safetensors_free(safetensors *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->entry[i].name);
    free(s->entry);
    json_free(s->header);
    *s = (safetensors){0};
}

const char *safetensors_metadata(const safetensors *s, const char *key)
{
    const json_value *metadata = s->header ? json_object_get(s->header, "__metadata__") : NULL;
    return metadata ? json_string_value(json_object_get(metadata, key)) : NULL;
}

const safetensors_entry *safetensors_find(const safetensors *s, const char *name)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, s->entry[middle].name);
        if (order == 0)
            return &s->entry[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
