#include "tools/convert.h"

#include "weights/store_base.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Tensors of the VAE whose names are the same everywhere, so that its map does not have them. */
static const char *const same_everywhere[] = {"encoder.conv_in.*",  "encoder.conv_out.*", "decoder.conv_in.*",
                                              "decoder.conv_out.*", "quant_conv.*",       "post_quant_conv.*"};

static bool is_same_everywhere(const convert_job *j, const char *name)
{
    for (size_t i = 0; j->part == MODEL_VAE && i < sizeof same_everywhere / sizeof *same_everywhere; i++)
        if (fnmatch(same_everywhere[i], name, 0) == 0)
            return true;
    return false;
}

/* Left out in silence: not weights, or another name of one. */
static bool is_unused(const convert_job *j, const char *name)
{
    static const char *const unused[] = {"*position_ids", "logit_scale", "text_projection.weight", NULL};
    return name_listed(name, unused) ||
           (strcmp(name, "encoder.embed_tokens.weight") == 0 && store_find(j->s, "shared.weight"));
}

static convert_tensor *find(const convert_job *j, const char *name)
{
    for (size_t i = j->count; i-- > 0;) /* shares of a tensor often follow each other */
        if (strcmp(j->tensor[i].name, name) == 0)
            return &j->tensor[i];
    return NULL;
}

static flux1_status new_tensor(convert_job *j, const char *name, int of, bool swapped, convert_tensor **out)
{
    TRY(grow((void **)&j->tensor, &j->room, j->count, sizeof *j->tensor, j->err));
    *out = &j->tensor[j->count++];
    **out = (convert_tensor){.of = of, .swapped = swapped};
    snprintf((*out)->name, sizeof(*out)->name, "%s", name);
    return FLUX1_OK;
}

/* Puts the item where its share belongs: slices are in the order of their shares. */
static flux1_status add_slice(convert_job *j, const store_tensor *item, const char *name, const name_row *row)
{
    convert_tensor *t = find(j, name);
    const int first = row ? row->first : 0;
    if (!t)
        TRY(new_tensor(j, name, row ? row->of : 1, row && row->form == NAME_SWAPPED, &t));
    else if (t->of == 1 || t->slices == CONVERT_SLICES)
        return error_set(j->err, FLUX1_ERR_MODEL, "%s: two tensors are both \"%s\" in the other naming", item->file,
                         name);
    int at = t->slices++;
    for (; at > 0 && t->share[at - 1] > first; at--) {
        t->share[at] = t->share[at - 1];
        t->slice[at] = t->slice[at - 1];
    }
    t->share[at] = first;
    t->slice[at] = (convert_slice){.item = item, .rows = row ? row->count : 1};
    if (row && row->form == NAME_MATRIX && item->view.dims == 2) {
        t->dims = 4; /* a 1x1 convolution there */
        t->shape[2] = t->shape[3] = 1;
    }
    return FLUX1_OK;
}

static flux1_status add_item(convert_job *j, const store_tensor *item, int levels)
{
    const name_map *map = name_map_of(j->part);
    char name[NAME_BYTES_MAX];
    if (is_unused(j, item->name))
        return FLUX1_OK;
    if (!tensor_decodes(&item->view))
        return error_set(j->err, FLUX1_ERR_UNSUPPORTED, "%s: tensor \"%s\" is %s, which flux1 does not read",
                         item->file, item->stored_as, dtype_describe(item->view.type)->name);
    for (size_t i = 0; i < map->rows; i++)
        if (name_inverts(&map->row[i], item->name, levels, name))
            return j->names == CONVERT_FILES ? add_slice(j, item, name, &map->row[i])
                                             : add_slice(j, item, item->name, NULL);
    if (is_same_everywhere(j, item->name) && strlen(item->name) < NAME_BYTES_MAX)
        return add_slice(j, item, item->name, NULL);
    if (j->left_out++ == 0)
        context_log(j->context, FLUX1_LOG_WARNING, "%s: tensor \"%s\" is none of FLUX.1's; it is left out", item->file,
                    item->stored_as);
    return FLUX1_OK;
}

static int64_t rows_of(const tensor *t) { return t->dims > 0 ? t->shape[0] : 1; }

/* Whether the items of a fused tensor are all there, are equal in their other dimensions, and have the rows that their
 * shares say. */
static flux1_status check_shares(const convert_job *j, const convert_tensor *t)
{
    const tensor *one = &t->slice[0].item->view;
    const int64_t unit = t->of > 1 ? rows_of(one) / t->slice[0].rows : 0;
    int next = 0;
    for (int i = 0; t->of > 1 && i < t->slices; i++) {
        const tensor *v = &t->slice[i].item->view;
        if (t->share[i] != next || one->dims == 0 || v->dims != one->dims ||
            memcmp(v->shape + 1, one->shape + 1, (size_t)(one->dims - 1) * sizeof *one->shape) != 0 ||
            rows_of(v) != unit * t->slice[i].rows)
            return error_set(j->err, FLUX1_ERR_MODEL,
                             "%s: \"%s\" and the tensors beside it do not make one tensor \"%s\": one is missing, or "
                             "their shapes do not fit",
                             t->slice[i].item->file, t->slice[i].item->name, t->name);
        next += (int)t->slice[i].rows;
    }
    if (t->of > 1 && next != t->of)
        return error_set(j->err, FLUX1_ERR_MODEL, "%s: of the tensors that make \"%s\" there is only %s\"%s\"",
                         t->slice[0].item->file, t->name, t->slices > 1 ? "a part, as " : "", t->slice[0].item->name);
    return FLUX1_OK;
}

static flux1_status add_rows(const convert_job *j, convert_tensor *t, const store_tensor *item, int64_t first,
                             int64_t rows, int slot)
{
    const weight_recipe whole = recipe_whole(WEIGHT_LINEAR, item), some = recipe_rows(&whole, first, rows);
    weight_recipe joined = some;
    if (slot > 0)
        TRY(recipe_stack(&t->from, &some, &joined, j->err));
    t->slice[slot] = (convert_slice){.item = item, .at = slot ? t->from.rows : 0, .first = first, .rows = rows};
    t->from = joined;
    return FLUX1_OK;
}

/* Shape, and the rows that it is made of. */
static flux1_status finish(const convert_job *j, convert_tensor *t)
{
    const tensor *v = &t->slice[0].item->view;
    const int64_t rows = rows_of(v);
    TRY(check_shares(j, t));
    if (t->swapped && (v->dims == 0 || rows % 2))
        return error_set(j->err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has %" PRId64 " rows; they should be two halves",
                         t->slice[0].item->file, t->slice[0].item->name, rows);
    t->dims = t->dims ? t->dims : v->dims;
    memcpy(t->shape, v->shape, (size_t)v->dims * sizeof *v->shape);
    if (t->swapped) {
        const store_tensor *item = t->slice[0].item;
        TRY(add_rows(j, t, item, rows / 2, rows / 2, 0));
        TRY(add_rows(j, t, item, 0, rows / 2, 1));
        t->slices = 2;
    } else
        for (int i = 0; i < t->slices; i++)
            TRY(add_rows(j, t, t->slice[i].item, 0, rows_of(&t->slice[i].item->view), i));
    t->rows = t->from.rows;
    t->cols = t->from.cols;
    if (t->dims > 0)
        t->shape[0] = t->rows;
    return FLUX1_OK;
}

flux1_status convert_plan(convert_job *j)
{
    int levels = 0;
    for (size_t i = 0; i < store_count(j->s); i++)
        levels = name_levels_ours(name_map_of(j->part), store_at(j->s, i)->name, levels);
    for (size_t i = 0; i < store_count(j->s); i++)
        TRY(add_item(j, store_at(j->s, i), levels));
    for (size_t i = 0; i < j->count; i++)
        TRY(finish(j, &j->tensor[i]));
    if (j->left_out > 1)
        context_log(j->context, FLUX1_LOG_WARNING, "%s: %zu tensors in all are left out", j->in, j->left_out);
    return FLUX1_OK;
}
