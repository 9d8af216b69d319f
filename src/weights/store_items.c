#include "weights/store_items.h"

#include "base/file_map.h"
#include "tensor/scale.h"
#include "weights/scales.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct mapping {
    store *s;
    const name_map *map; /* NULL: names stay */
    const char *prefix;
    int levels;
    flux1_error *err;
} mapping;

/* Called for each item that a raw tensor becomes; `row` NULL: the whole of it under the name it has. */
typedef flux1_status item_visitor(const mapping *m, const store_raw *raw, const name_row *row, const char *name);

/* The name behind the prefix; NULL if the tensor is none of the part's. */
static const char *part_name(const mapping *m, const store_raw *raw)
{
    const size_t prefix = strlen(m->prefix);
    const char *name = raw->tensor.name + prefix;
    if (raw->beside || strncmp(raw->tensor.name, m->prefix, prefix) != 0)
        return NULL;
    return m->map && name_listed(name, m->map->unused) ? NULL : name;
}

/* Of a row for tall or wide tensors: the weight's shape tells, also for the bias. */
static bool shape_fits(const mapping *m, const store_raw *raw, const name_row *row)
{
    if (row->form != NAME_TALL && row->form != NAME_WIDE)
        return true;
    const char *name = raw->tensor.name, *ending = strrchr(name, '.');
    const store_raw *weight = ending ? store_raw_find(m->s, name, (size_t)(ending - name), ".weight") : NULL;
    if (!weight || weight->tensor.view.dims != 2)
        return false;
    return (weight->tensor.view.shape[0] > weight->tensor.view.shape[1]) == (row->form == NAME_TALL);
}

static flux1_status visit(const mapping *m, item_visitor *visitor)
{
    char mapped[NAME_BYTES_MAX];
    for (size_t i = 0; i < m->s->raw_count; i++) {
        const store_raw *raw = &m->s->raw[i];
        const char *name = part_name(m, raw);
        bool known = false;
        for (size_t k = 0; name && m->map && k < m->map->rows; k++) {
            const name_row *row = &m->map->row[k];
            if (!name_matches(row, name, m->levels, mapped) || !shape_fits(m, raw, row))
                continue;
            known = true;
            TRY(visitor(m, raw, row, mapped));
        }
        if (name && !known)
            TRY(visitor(m, raw, NULL, name));
    }
    return FLUX1_OK;
}

static flux1_status count_item(const mapping *m, const store_raw *raw, const name_row *row, const char *name)
{
    (void)raw, (void)row, (void)name;
    m->s->capacity++;
    return FLUX1_OK;
}

/* Rows [first, first + count) of t, whose scale goes with them. */
static flux1_status cut_rows(const mapping *m, store_tensor *t, int64_t first, int64_t count)
{
    tensor *v = &t->view;
    const dtype_info *info = dtype_describe(v->type);
    const int64_t cols = v->shape[0] ? tensor_elements(v) / v->shape[0] : 0, begin = first * cols;
    if (begin % info->block_elements || count * cols % info->block_elements)
        return error_set(m->err, FLUX1_ERR_UNSUPPORTED, "%s: tensor \"%s\": blocks of %s do not end with its rows",
                         t->file, t->stored_as, info->name);
    const size_t bytes = (size_t)(begin / info->block_elements) * (size_t)info->block_bytes;
    v->data = (unsigned char *)v->data + bytes;
    t->offset += bytes;
    v->shape[0] = count;
    if (!v->scale || begin == 0)
        return FLUX1_OK;
    void *memory;
    TRY(store_keep(m->s, sizeof(tensor_scale), &memory, m->err));
    tensor_scale *scale = memory;
    *scale = *v->scale;
    scale->first += begin;
    v->scale = scale;
    return FLUX1_OK;
}

static flux1_status take_share(const mapping *m, store_tensor *t, const name_row *row)
{
    const int64_t rows = t->view.dims ? t->view.shape[0] : 1;
    if (row->of == 1)
        return FLUX1_OK;
    if (t->view.dims == 0 || rows % row->of)
        return error_set(m->err, FLUX1_ERR_MODEL,
                         "%s: tensor \"%s\" has %" PRId64 " rows; they should be %d equal parts", t->file, t->stored_as,
                         rows, row->of);
    return cut_rows(m, t, rows / row->of * row->first, rows / row->of * row->count);
}

static flux1_status swap_halves(const mapping *m, store_tensor *t)
{
    void *memory;
    const int64_t rows = t->view.dims ? t->view.shape[0] : 1;
    if (rows % 2)
        return error_set(m->err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has %" PRId64 " rows; they should be two halves",
                         t->file, t->stored_as, rows);
    TRY(store_keep(m->s, 2 * sizeof *t, &memory, m->err));
    store_tensor *half = memory;
    half[0] = half[1] = *t;
    TRY(cut_rows(m, &half[0], rows / 2, rows / 2));
    TRY(cut_rows(m, &half[1], 0, rows / 2));
    half[1].half_row = rows / 2;
    half[0].half_of = half[1].half_of = rows;
    t->half[0] = &half[0];
    t->half[1] = &half[1];
    return FLUX1_OK;
}

static void as_matrix(tensor *v)
{
    while (v->dims > 2 && v->shape[v->dims - 1] == 1)
        v->dims--;
}

static flux1_status add_item(const mapping *m, const store_raw *raw, const name_row *row, const char *name)
{
    store_item *item = &m->s->block[m->s->count];
    item->tensor = raw->tensor;
    if (row) {
        const size_t bytes = strlen(name) + 1;
        void *copy;
        TRY(store_keep(m->s, bytes, &copy, m->err));
        item->tensor.name = memcpy(copy, name, bytes);
        TRY(take_share(m, &item->tensor, row));
        if (row->form == NAME_MATRIX)
            as_matrix(&item->tensor.view);
        if (row->form == NAME_SWAPPED)
            TRY(swap_halves(m, &item->tensor));
    } else {
        item->tensor.name = name; /* the file's, behind the prefix */
    }
    m->s->item[m->s->count++] = item;
    return FLUX1_OK;
}

static int by_name(const void *a, const void *b)
{
    const store_item *const *x = a, *const *y = b;
    return strcmp((*x)->tensor.name, (*y)->tensor.name);
}

static flux1_status check_unique(const store *s, flux1_error *err)
{
    for (size_t i = 1; i < s->count; i++) {
        const store_tensor *a = &s->item[i - 1]->tensor, *b = &s->item[i]->tensor;
        if (strcmp(a->name, b->name) == 0)
            return error_set(err, FLUX1_ERR_MODEL, "%s: the tensors \"%s\" and \"%s\" are both \"%s\"", b->file,
                             a->stored_as, b->stored_as, a->name);
    }
    return FLUX1_OK;
}

void store_let_pages_go(const store *s)
{
    for (size_t i = 0; i < s->file_count; i++)
        file_map_wont_need(s->file[i].map.bytes, s->file[i].map.size);
}

flux1_status store_make_items(store *s, const name_map *map, const char *prefix, flux1_error *err)
{
    mapping m = {.s = s, .map = map, .prefix = prefix, .err = err};
    TRY(scales_attach(s, err));
    store_let_pages_go(s); /* what was read of scales */
    for (size_t i = 0; map && i < s->raw_count; i++) {
        const char *name = part_name(&m, &s->raw[i]);
        m.levels = name ? name_levels(map, name, m.levels) : m.levels;
    }
    TRY(visit(&m, count_item));
    s->block = calloc(s->capacity + 1, sizeof *s->block);
    s->item = calloc(s->capacity + 1, sizeof *s->item);
    if (!s->block || !s->item)
        return error_oom(err, s->capacity * (sizeof *s->block + sizeof *s->item), "the list of tensors");
    TRY(visit(&m, add_item));
    qsort(s->item, s->count, sizeof *s->item, by_name);
    return check_unique(s, err);
}
