#include "weights/rounded.h"

#include "base/checked.h"
#include "base/hash.h"
#include "tensor/tiles.h"
#include "weights/recipe.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDED_BFP8 = 0xbf8 }; /* in the identity of what is computed */

struct rounded_weight {
    tensor_values head;
    store_tensor tensor;
    store_sources sources;
    weight_recipe base;
    rounded_weight *before;
};

/* `count` columns from `col` of the group of rows that begins at `row`, rounded; returns its rows in *rows. */
static flux1_status round_group(const weight_recipe *base, int64_t row, int64_t col, int64_t count, float *group,
                                int64_t *rows, flux1_error *err)
{
    *rows = i64_min(BFP8_GROUP, base->rows - row);
    TRY(recipe_decode_rows(base, row, *rows, col, count, group, err));
    bfp8_round_columns(group, count, (int)*rows, count);
    return FLUX1_OK;
}

static flux1_status rounded_rows(const tensor_values *v, int64_t row, int64_t rows, int64_t col, int64_t count,
                                 float *out, flux1_error *err)
{
    const weight_recipe *base = &((const rounded_weight *)v)->base;
    const size_t bytes = (size_t)(BFP8_GROUP * count) * sizeof(float);
    float *group = malloc(bytes ? bytes : 1);
    flux1_status st = FLUX1_OK;
    if (!group)
        return error_oom(err, bytes, "rounding a weight");
    for (int64_t done = 0, some; done < rows && st == FLUX1_OK; done += some) {
        const int64_t within = (row + done) % BFP8_GROUP;
        int64_t there;
        st = round_group(base, row + done - within, col, count, group, &there, err);
        some = i64_min(there - within, rows - done);
        if (st == FLUX1_OK)
            memcpy(out + done * count, group + within * count, (size_t)(some * count) * sizeof *out);
    }
    free(group);
    return st;
}

/* Whole rows together where the elements are that, otherwise part of one row. */
static flux1_status rounded_decode(const tensor_values *v, int64_t first, int64_t count, float *out, flux1_error *err)
{
    const int64_t width = ((const rounded_weight *)v)->base.cols;
    while (count > 0) {
        const int64_t row = first / width, col = first % width;
        const bool whole = col == 0 && count >= width;
        const int64_t rows = whole ? count / width : 1, cols = whole ? width : i64_min(count, width - col);
        TRY(rounded_rows(v, row, rows, col, cols, out, err));
        first += rows * cols;
        count -= rows * cols;
        out += rows * cols;
    }
    return FLUX1_OK;
}

/* What its values are made of: the file's tensor, or what the base is computed from. */
static flux1_status list_sources(rounded_weight *r, const store_tensor *base, flux1_error *err)
{
    const store_sources *from = base->computed_from;
    r->sources.count = from ? from->count : 1;
    r->sources.tensor = calloc(r->sources.count, sizeof *r->sources.tensor);
    if (!r->sources.tensor)
        return error_oom(err, 0, "rounding a weight");
    for (size_t i = 0; i < r->sources.count; i++)
        r->sources.tensor[i] = from ? from->tensor[i] : base;
    const uint64_t identity[] = {ROUNDED_BFP8, from ? from->hash : 0};
    r->sources.hash = hash_bytes(identity, sizeof identity);
    return FLUX1_OK;
}

flux1_status rounded_add(rounded_weight **list, const store_tensor *base, flux1_error *err)
{
    rounded_weight *r = calloc(1, sizeof *r);
    if (!r)
        return error_oom(err, sizeof *r, "rounding a weight");
    r->head = (tensor_values){rounded_decode, rounded_rows};
    r->base = recipe_whole(WEIGHT_LINEAR, base);
    r->tensor = *base;
    r->tensor.half[0] = r->tensor.half[1] = NULL;
    r->tensor.view.type = DTYPE_COMPUTED;
    r->tensor.view.scale = NULL;
    r->tensor.view.data = &r->head;
    r->tensor.computed_from = &r->sources;
    flux1_status st = list_sources(r, base, err);
    if (st != FLUX1_OK) {
        free(r);
        return st;
    }
    r->before = *list;
    *list = r;
    return FLUX1_OK;
}

const store_tensor *rounded_tensor(const rounded_weight *r) { return &r->tensor; }

void rounded_free(rounded_weight *list)
{
    for (rounded_weight *r = list, *before; r; r = before) {
        before = r->before;
        free(r->sources.tensor);
        free(r);
    }
}
