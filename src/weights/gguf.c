#include "weights/gguf.h"

#include "base/checked.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 65536u /* of metadata, and tensors: FLUX.1's largest has 1,160 */
#define NAME_MAX_BYTES 255u
#define NESTING_MAX 4
#define DIMS_MAX 4u
#define ALIGNMENT_KEY "general.alignment"
#define ARCHITECTURE_KEY "general.architecture"
#define ORIGINAL_SHAPE_KEY "comfy.gguf.orig_shape." /* city96: the shape of a tensor that was stored flat */

/* Metadata's types by number, with the bytes of those that have a fixed size. */
enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_STRING = 8, TYPE_ARRAY = 9, TYPE_COUNT = 13 };
static const uint8_t value_bytes[TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct slice {
    const char *text;
    size_t length;
} slice;

/* What was read of the metadata, and the place in the file. */
typedef struct reader {
    const unsigned char *bytes;
    size_t at, size;
    const char *path;
    flux1_error *err;
    size_t alignment;
    slice architecture;
    slice *key; /* of the metadata, in the file's order */
    const unsigned char **value;
    size_t keys;
    size_t *offset; /* of tensors, in the file's order */
} reader;

static flux1_status bad(const reader *r, const char *what)
{
    return error_set(r->err, FLUX1_ERR_FORMAT, "%s: %s", r->path, what);
}

static flux1_status need(const reader *r, uint64_t bytes)
{
    if (bytes <= r->size - r->at)
        return FLUX1_OK;
    return error_set(r->err, FLUX1_ERR_FORMAT, "%s: the header is cut off at byte %zu; fetch it again", r->path,
                     r->size);
}

static uint64_t load(const unsigned char *p, int bytes)
{
    uint64_t n = 0;
    for (int i = bytes - 1; i >= 0; i--)
        n = n << 8 | p[i];
    return n;
}

static flux1_status read_number(reader *r, int bytes, uint64_t *out)
{
    TRY(need(r, (uint64_t)bytes));
    *out = load(r->bytes + r->at, bytes);
    r->at += (size_t)bytes;
    return FLUX1_OK;
}

static flux1_status read_string(reader *r, slice *out)
{
    uint64_t length;
    TRY(read_number(r, 8, &length));
    TRY(need(r, length));
    *out = (slice){(const char *)r->bytes + r->at, (size_t)length};
    r->at += (size_t)length;
    return FLUX1_OK;
}

/* A key's or a tensor's name. */
static flux1_status read_name(reader *r, const char *of, slice *out)
{
    TRY(read_string(r, out));
    if (out->length == 0 || out->length > NAME_MAX_BYTES || memchr(out->text, 0, out->length) ||
        !utf8_valid(out->text, out->length))
        return error_set(r->err, FLUX1_ERR_FORMAT,
                         "%s: a %s's name of %zu bytes before byte %zu; it should be 1 to %u bytes of text", r->path,
                         of, out->length, r->at, NAME_MAX_BYTES);
    return FLUX1_OK;
}

/* ---- metadata ---- */

static flux1_status skip_value(reader *r, uint64_t type, int nesting)
{
    slice text;
    uint64_t element, count;
    if (type >= TYPE_COUNT)
        return error_set(r->err, FLUX1_ERR_FORMAT, "%s: metadata of the unknown type %" PRIu64 " before byte %zu",
                         r->path, type, r->at);
    if (type == TYPE_STRING)
        return read_string(r, &text);
    if (type != TYPE_ARRAY) {
        TRY(need(r, value_bytes[type]));
        r->at += value_bytes[type];
        return FLUX1_OK;
    }
    if (nesting == NESTING_MAX)
        return bad(r, "metadata has lists in lists in lists; no FLUX.1 file does");
    TRY(read_number(r, 4, &element));
    TRY(read_number(r, 8, &count));
    if (element >= TYPE_COUNT)
        return bad(r, "metadata has a list of an unknown type");
    if (value_bytes[element]) {
        if (count > (r->size - r->at) / value_bytes[element])
            return need(r, UINT64_MAX);
        r->at += (size_t)count * value_bytes[element];
        return FLUX1_OK;
    }
    for (uint64_t i = 0; i < count; i++)
        TRY(skip_value(r, element, nesting + 1));
    return FLUX1_OK;
}

static bool is_key(slice s, const char *key) { return s.length == strlen(key) && memcmp(s.text, key, s.length) == 0; }

static flux1_status read_alignment(reader *r, uint64_t type)
{
    uint64_t n = 0;
    if (type != TYPE_U32)
        return bad(r, ALIGNMENT_KEY " should be a 32-bit number");
    TRY(read_number(r, 4, &n));
    if (n == 0 || (n & (n - 1)))
        return error_set(r->err, FLUX1_ERR_FORMAT, "%s: " ALIGNMENT_KEY " is %" PRIu64 "; it should be a power of two",
                         r->path, n);
    r->alignment = (size_t)n;
    return FLUX1_OK;
}

static flux1_status read_metadata(reader *r, uint64_t count)
{
    r->alignment = 32;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t type;
        slice key;
        TRY(read_name(r, "key", &key));
        TRY(read_number(r, 4, &type));
        r->key[i] = key;
        r->value[i] = r->bytes + r->at - 4; /* type and value */
        r->keys++;
        if (is_key(key, ALIGNMENT_KEY))
            TRY(read_alignment(r, type));
        else if (is_key(key, ARCHITECTURE_KEY) && type == TYPE_STRING)
            TRY(read_string(r, &r->architecture));
        else
            TRY(skip_value(r, type, 0));
    }
    return FLUX1_OK;
}

static int by_slice(const void *a, const void *b)
{
    const slice *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static flux1_status check_keys(const reader *r)
{
    flux1_status st = FLUX1_OK;
    slice *sorted = malloc((r->keys + 1) * sizeof *sorted);
    if (!sorted)
        return error_oom(r->err, r->keys * sizeof *sorted, r->path);
    memcpy(sorted, r->key, r->keys * sizeof *sorted);
    qsort(sorted, r->keys, sizeof *sorted, by_slice);
    for (size_t i = 1; i < r->keys && st == FLUX1_OK; i++)
        if (by_slice(&sorted[i - 1], &sorted[i]) == 0)
            st = error_set(r->err, FLUX1_ERR_FORMAT, "%s: the metadata has \"%.*s\" twice", r->path,
                           (int)sorted[i].length, sorted[i].text);
    free(sorted);
    return st;
}

/* ---- tensors ---- */

static flux1_status read_info(reader *r, gguf_entry *e, size_t *offset)
{
    slice name;
    uint64_t dims, n, type;
    TRY(read_name(r, "tensor", &name));
    if (!(e->name = strndup(name.text, name.length)))
        return error_oom(r->err, name.length + 1, r->path);
    TRY(read_number(r, 4, &dims));
    if (dims > DIMS_MAX)
        return error_set(r->err, FLUX1_ERR_FORMAT,
                         "%s: tensor \"%s\" has %" PRIu64 " dimensions, at most %u are allowed", r->path, e->name, dims,
                         DIMS_MAX);
    e->view.dims = (int)dims;
    for (int i = (int)dims - 1; i >= 0; i--) {
        TRY(read_number(r, 8, &n));
        if (n > INT64_MAX)
            return error_set(r->err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" has a dimension of %" PRIu64, r->path,
                             e->name, n);
        e->view.shape[i] = (int64_t)n;
    }
    TRY(read_number(r, 4, &type));
    if (!dtype_from_ggml((uint32_t)type, &e->view.type))
        return error_set(r->err, FLUX1_ERR_UNSUPPORTED,
                         "%s: tensor \"%s\" has ggml's type number %" PRIu64 ", which is not known to this version",
                         r->path, e->name, type);
    TRY(read_number(r, 8, &n));
    if (n > SIZE_MAX)
        return error_set(r->err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" begins at byte %" PRIu64, r->path, e->name, n);
    *offset = (size_t)n;
    return FLUX1_OK;
}

/* Its row is whole blocks; its bytes follow the ones before and lie in the file. `*end` moves to where the next begins.
 */
static flux1_status place(const reader *r, gguf_entry *e, size_t offset, const unsigned char *data, size_t data_size,
                          size_t *end)
{
    const dtype_info *info = dtype_describe(e->view.type);
    const int64_t row = e->view.dims ? e->view.shape[e->view.dims - 1] : 1;
    int64_t elements;
    size_t bytes;
    char text[256];
    if (row % info->block_elements || !tensor_size(e->view.type, e->view.dims, e->view.shape, &elements, &bytes))
        return error_set(
            r->err, FLUX1_ERR_FORMAT,
            "%s: tensor \"%s\" cannot have the shape %s: rows of %s are multiples of %d elements, and its size "
            "must be countable",
            r->path, e->name, tensor_shape_text(e->view.dims, e->view.shape, text, sizeof text), info->name,
            info->block_elements);
    if (offset != *end)
        return error_set(r->err, FLUX1_ERR_FORMAT,
                         "%s: tensor \"%s\" begins at byte %zu of the data, but the one before it ends at %zu", r->path,
                         e->name, offset, *end);
    if (offset > data_size || bytes > data_size - offset)
        return error_set(
            r->err, FLUX1_ERR_FORMAT,
            "%s: tensor \"%s\" needs %zu bytes from byte %zu of the data, but the file has only %zu; fetch it "
            "again",
            r->path, e->name, bytes, offset, data_size);
    if (!size_add(offset + bytes, r->alignment - 1, end))
        return bad(r, "the tensors have more bytes than can be counted");
    *end &= ~(r->alignment - 1);
    e->view.data = (void *)(uintptr_t)(data + offset);
    return FLUX1_OK;
}

static flux1_status place_all(const reader *r, gguf *g)
{
    size_t start = size_round_up(r->at, r->alignment), end = 0;
    size_t data_size = start < r->size ? r->size - start : 0;
    for (size_t i = 0; i < g->count; i++)
        TRY(place(r, &g->entry[i], r->offset[i], r->bytes + (data_size ? start : 0), data_size, &end));
    return FLUX1_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const gguf_entry *)a)->name, ((const gguf_entry *)b)->name);
}

const gguf_entry *gguf_find(const gguf *g, const char *name)
{
    const gguf_entry key = {.name = (char *)(uintptr_t)name};
    return g->count ? bsearch(&key, g->entry, g->count, sizeof *g->entry, by_name) : NULL;
}

/* A list of 32-bit numbers at `value` (its type in front), as the shape of the tensor. */
static flux1_status reshape(const reader *r, gguf_entry *e, const unsigned char *value)
{
    const uint64_t count =
        load(value, 4) == TYPE_ARRAY && load(value + 4, 4) == TYPE_I32 ? load(value + 8, 8) : UINT64_MAX;
    tensor t = e->view;
    int64_t elements = -1;
    size_t bytes;
    if (count <= TENSOR_DIMS) {
        t.dims = (int)count;
        for (int i = 0; i < t.dims; i++)
            t.shape[i] = (int32_t)load(value + 16 + 4 * i, 4);
    }
    if (count > TENSOR_DIMS || !tensor_size(t.type, t.dims, t.shape, &elements, &bytes) ||
        elements != tensor_elements(&e->view))
        return error_set(r->err, FLUX1_ERR_FORMAT, "%s: \"" ORIGINAL_SHAPE_KEY "%s\" is not a shape of that tensor",
                         r->path, e->name);
    e->view = t;
    return FLUX1_OK;
}

static flux1_status reshape_all(const reader *r, gguf *g)
{
    const size_t prefix = strlen(ORIGINAL_SHAPE_KEY);
    for (size_t i = 0; i < r->keys; i++) {
        slice key = r->key[i];
        if (key.length <= prefix || memcmp(key.text, ORIGINAL_SHAPE_KEY, prefix) != 0)
            continue;
        char name[NAME_MAX_BYTES + 1] = "";
        memcpy(name, key.text + prefix, key.length - prefix);
        const gguf_entry *e = gguf_find(g, name);
        if (e)
            TRY(reshape(r, &g->entry[e - g->entry], r->value[i]));
    }
    return FLUX1_OK;
}

static flux1_status read_tensors(reader *r, uint64_t count, gguf *g)
{
    for (uint64_t i = 0; i < count; i++) {
        g->count++; /* freed with the others, also if what follows fails */
        TRY(read_info(r, &g->entry[i], &r->offset[i]));
    }
    TRY(place_all(r, g));
    qsort(g->entry, g->count, sizeof *g->entry, by_name);
    for (size_t i = 1; i < g->count; i++)
        if (by_name(&g->entry[i - 1], &g->entry[i]) == 0)
            return error_set(r->err, FLUX1_ERR_FORMAT, "%s: there are two tensors \"%s\"", r->path, g->entry[i].name);
    return reshape_all(r, g);
}

/* ---- texts ---- */

static flux1_status keep_texts(const reader *r, gguf *g)
{
    if (!(g->text = calloc(r->keys + 1, sizeof *g->text)))
        return error_oom(r->err, r->keys * sizeof *g->text, r->path);
    for (size_t i = 0; i < r->keys; i++) {
        const unsigned char *value = r->value[i]; /* type, then for a text its length and bytes; checked before */
        if (load(value, 4) == TYPE_STRING)
            g->text[g->texts++] = (gguf_text){.key = r->key[i].text,
                                              .key_length = r->key[i].length,
                                              .text = (const char *)value + 12,
                                              .length = (size_t)load(value + 4, 8)};
    }
    return FLUX1_OK;
}

/* ---- the file ---- */

bool gguf_is(const unsigned char *bytes, size_t size) { return size >= 4 && memcmp(bytes, "GGUF", 4) == 0; }

static flux1_status check_version(const reader *r, uint64_t version)
{
    if (version == 2 || version == 3)
        return FLUX1_OK;
    if (version && (version & 0xffff) == 0)
        return error_set(r->err, FLUX1_ERR_UNSUPPORTED,
                         "%s: a GGUF file for big-endian machines; fetch the little-endian one", r->path);
    return error_set(r->err, FLUX1_ERR_UNSUPPORTED, "%s: version %" PRIu64 " of GGUF; this version reads 2 and 3%s",
                     r->path, version, version == 1 ? ": fetch a newer file" : "");
}

/* Version, counts; makes room for what will be read. */
static flux1_status begin(reader *r, gguf *g, uint64_t *tensors, uint64_t *keys)
{
    uint64_t version;
    if (!gguf_is(r->bytes, r->size))
        return bad(r, "this is not a GGUF file");
    r->at = 4;
    TRY(read_number(r, 4, &version));
    TRY(check_version(r, version));
    TRY(read_number(r, 8, tensors));
    TRY(read_number(r, 8, keys));
    if (*tensors > ENTRIES_MAX || *keys > ENTRIES_MAX)
        return error_set(r->err, FLUX1_ERR_LIMIT,
                         "%s: %" PRIu64 " tensors and %" PRIu64
                         " entries of metadata, at most %u are allowed; no FLUX.1 "
                         "file has more",
                         r->path, *tensors, *keys, ENTRIES_MAX);
    g->entry = calloc((size_t)*tensors + 1, sizeof *g->entry);
    r->offset = calloc((size_t)*tensors + 1, sizeof *r->offset);
    r->key = calloc((size_t)*keys + 1, sizeof *r->key);
    r->value = calloc((size_t)*keys + 1, sizeof *r->value);
    if (!g->entry || !r->offset || !r->key || !r->value)
        return error_oom(r->err, (size_t)*tensors * sizeof *g->entry, r->path);
    return FLUX1_OK;
}

flux1_status gguf_parse(const unsigned char *bytes, size_t size, const char *path, gguf *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    gguf parsed = {0};
    reader r = {.bytes = bytes, .size = size, .path = path, .err = err};
    uint64_t tensors = 0, keys = 0;
    *out = parsed;
    TRY_CLEANUP(begin(&r, &parsed, &tensors, &keys));
    TRY_CLEANUP(read_metadata(&r, keys));
    TRY_CLEANUP(check_keys(&r));
    TRY_CLEANUP(keep_texts(&r, &parsed));
    TRY_CLEANUP(read_tensors(&r, tensors, &parsed));
    parsed.architecture = r.architecture.text ? strndup(r.architecture.text, r.architecture.length) : strdup("");
    if (!parsed.architecture) {
        st = error_oom(err, r.architecture.length + 1, path);
        goto cleanup;
    }
    *out = parsed;
    parsed = (gguf){0};
cleanup:
    gguf_free(&parsed);
    free(r.offset);
    free(r.key);
    free((void *)r.value);
    return st;
}

void gguf_free(gguf *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->entry[i].name);
    free(g->entry);
    free(g->text);
    free(g->architecture);
    *g = (gguf){0};
}
