#include "model/loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 256

flux1_status load_block(loader *l, held_block *out, const char *format, ...)
{
    char name[NAME_MAX_BYTES];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    block_list *made = l->made;
    made->o = l->m->o;
    if (made->count == made->room) {
        size_t room = 2 * made->room + 16;
        block **more = realloc(made->block, room * sizeof(block *));
        if (!more)
            return error_oom(l->m->err, room * sizeof(block *), "a model's blocks");
        made->block = more;
        made->room = room;
    }
    TRY(ops_block_create(l->m->o, name, &l->block));
    l->block->filed = store_files(l->s) > 0;
    made->block[made->count++] = l->block;
    l->held = out;
    out->own = l->block;
    return FLUX1_OK;
}

void block_list_plain(block_list *l)
{
    for (size_t i = l->places; i-- > 0;) {
        const linear_place *p = &l->place[i];
        ops_block_destroy(l->o, p->block->added);
        p->block->added = NULL;
        p->w->adapters = NULL;
        p->w->adapter_count = 0;
    }
    free(l->added);
    l->added = NULL;
}

void block_list_idle(const block_list *l, bool idle)
{
    for (size_t i = 0; i < l->count; i++)
        l->block[i]->idle = idle;
    for (size_t i = 0; i < l->places; i++)
        if (l->place[i].block->added)
            l->place[i].block->added->idle = idle;
}

void block_list_free(block_list *l)
{
    block_list_plain(l);
    for (size_t i = l->count; i-- > 0;)
        ops_block_destroy(l->o, l->block[i]);
    rounded_free(l->rounded);
    adapter_merges_free(&l->merged);
    free(l->block);
    free(l->place);
    *l = (block_list){0};
}

static flux1_status add_place(loader *l, const linear_place *p)
{
    block_list *made = l->made;
    if (made->places == made->place_room) {
        size_t room = 2 * made->place_room + 16;
        linear_place *more = realloc(made->place, room * sizeof *more);
        if (!more)
            return error_oom(l->m->err, room * sizeof *more, "a model's layers");
        made->place = more;
        made->place_room = room;
    }
    linear_place *added = &made->place[made->places++];
    *added = *p;
    added->block = l->held;
    added->tp = l->m->tp;
    added->tp_rank = l->m->tp_rank;
    return FLUX1_OK;
}

flux1_status load_place(loader *l, const char *name, int64_t out, int64_t in, int64_t first, int64_t unit,
                        linear_weight *w)
{
    linear_place p = {.w = w, .parts = 1, .out = out, .in = in, .how = LINEAR_ROW, .unit = unit, .first = first};
    snprintf(p.name[0], sizeof p.name[0], "%s", name);
    return add_place(l, &p);
}

flux1_status load_recipe(loader *l, weight_role role, const char *name, int dims, const int64_t *shape,
                         weight_recipe *out)
{
    const store_tensor *t = NULL;
    if (l->claim)
        TRY(store_claim(l->s, name, dims, shape, &t, l->m->err));
    else if (!(t = store_find(l->s, name)))
        return error_set(l->m->err, FLUX1_ERR_INTERNAL, "%s: tensor \"%s\" was there when the folder was opened",
                         store_path(l->s), name);
    if (!t) {
        /* messages about it are the store's, which has copied the name; ours ends with this call */
        l->missing = (store_tensor){
            .name = "a missing tensor", .file = store_path(l->s), .view = {.type = DTYPE_F32, .dims = dims}};
        memcpy(l->missing.view.shape, shape, (size_t)dims * sizeof shape[0]);
        t = &l->missing;
    }
    if (l->use_count)
        TRY(adapter_merges_take(&l->made->merged, l->uses, l->use_count, l->part, ADAPTER_MERGE_OTHERS, &t, l->m->err));
    if (l->bfp8 && role == WEIGHT_LINEAR && !l->claim) {
        TRY(rounded_add(&l->made->rounded, t, l->m->err));
        t = rounded_tensor(l->made->rounded);
    }
    *out = recipe_whole(role, t);
    return FLUX1_OK;
}

static flux1_status load_named(loader *l, weight_role role, const char *name, const char *suffix, int dims,
                               const int64_t *shape, weight_recipe *out)
{
    char full[NAME_MAX_BYTES];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    return load_recipe(l, role, full, dims, shape, out);
}

flux1_status load_prepared(loader *l, weight_recipe *w, const weight_recipe *bias, weight **out)
{
    const bool linear = w->role == WEIGHT_LINEAR || w->role == WEIGHT_QKV;
    w->coarse = l->coarse && linear;
    w->int8 = l->int8 && linear;
    return ops_prepare(l->m->o, l->block, w, bias, out);
}

flux1_status load_linear(loader *l, const char *name, int64_t out, int64_t in, bool bias, linear_cut how, int64_t unit,
                         linear_weight *w)
{
    weight_recipe r, b;
    TRY(load_named(l, WEIGHT_LINEAR, name, ".weight", 2, (int64_t[]){out, in}, &r));
    if (bias)
        TRY(load_named(l, WEIGHT_VECTOR, name, ".bias", 1, &out, &b));
    if (how == LINEAR_COLUMN) {
        r = mesh_column_slice(l->m, &r, unit);
        if (bias)
            b = mesh_column_slice(l->m, &b, unit);
    }
    if (how == LINEAR_ROW) {
        r = mesh_row_slice(l->m, &r, unit);
        bias = bias && mesh_adds_bias(l->m); /* the ranks' sums are added: the bias counts once */
    }
    linear_place p = {.w = w, .parts = 1, .out = out, .in = in, .how = how, .unit = unit, .first = in};
    snprintf(p.name[0], sizeof p.name[0], "%s", name);
    TRY(add_place(l, &p));
    *w = (linear_weight){0};
    return load_prepared(l, &r, bias ? &b : NULL, &w->w);
}

/* Layers [out, in] of one input, each cut by units of its rows, one below the other; their biases likewise. */
static flux1_status load_stack(loader *l, const linear_place *p, bool bias, weight_recipe *all, weight_recipe *all_bias)
{
    weight_recipe one, joined;
    for (int i = 0; i < p->parts; i++) {
        TRY(load_named(l, WEIGHT_LINEAR, p->name[i], ".weight", 2, (int64_t[]){p->out, p->in}, &one));
        one = mesh_column_slice(l->m, &one, p->unit);
        if (i)
            TRY(recipe_stack(all, &one, &joined, l->m->err));
        *all = i ? joined : one;
        if (!bias)
            continue;
        TRY(load_named(l, WEIGHT_VECTOR, p->name[i], ".bias", 1, &p->out, &one));
        one = mesh_column_slice(l->m, &one, p->unit);
        if (i)
            TRY(recipe_stack(all_bias, &one, &joined, l->m->err));
        *all_bias = i ? joined : one;
    }
    *p->w = (linear_weight){0};
    return add_place(l, p);
}

flux1_status load_qkv(loader *l, const char *q, const char *k, const char *v, int64_t heads, int64_t dim, int64_t in,
                      bool bias, linear_weight *w)
{
    linear_place p = {.w = w, .parts = 3, .out = heads * dim, .in = in, .how = LINEAR_COLUMN, .unit = dim, .first = in};
    weight_recipe all = {0}, all_bias = {0};
    snprintf(p.name[0], sizeof p.name[0], "%s", q);
    snprintf(p.name[1], sizeof p.name[1], "%s", k);
    snprintf(p.name[2], sizeof p.name[2], "%s", v);
    TRY(load_stack(l, &p, bias, &all, &all_bias));
    all.role = WEIGHT_QKV;
    all.heads = all.rows / dim / 3;
    return load_prepared(l, &all, bias ? &all_bias : NULL, &w->w);
}

flux1_status load_pair(loader *l, const char *first, const char *second, int64_t out, int64_t in, linear_weight *w)
{
    linear_place p = {.w = w, .parts = 2, .out = out, .in = in, .how = LINEAR_COLUMN, .unit = 1, .first = in};
    weight_recipe all = {0};
    snprintf(p.name[0], sizeof p.name[0], "%s", first);
    snprintf(p.name[1], sizeof p.name[1], "%s", second);
    TRY(load_stack(l, &p, false, &all, NULL));
    return load_prepared(l, &all, NULL, &w->w);
}

flux1_status load_norm(loader *l, const char *name, int64_t n, bool bias, weight **w)
{
    weight_recipe r, b;
    TRY(load_named(l, WEIGHT_VECTOR, name, ".weight", 1, &n, &r));
    if (bias)
        TRY(load_named(l, WEIGHT_VECTOR, name, ".bias", 1, &n, &b));
    return load_prepared(l, &r, bias ? &b : NULL, w);
}

flux1_status load_conv(loader *l, const char *name, int64_t out, int64_t in, int kernel, weight **w)
{
    weight_recipe r, b;
    TRY(load_named(l, WEIGHT_CONV, name, ".weight", 4, (int64_t[]){out, in, kernel, kernel}, &r));
    TRY(load_named(l, WEIGHT_VECTOR, name, ".bias", 1, &out, &b));
    r.kernel = kernel;
    return load_prepared(l, &r, &b, w);
}

flux1_status load_table(loader *l, const char *name, int64_t entries, int64_t width, weight **w)
{
    weight_recipe r;
    TRY(load_recipe(l, WEIGHT_TABLE, name, 2, (int64_t[]){entries, width}, &r));
    return load_prepared(l, &r, NULL, w);
}

flux1_status finite_report(mesh *m, const char *model, const char *const *names, const char *where)
{
    int slot;
    TRY(ops_finite_first(m->o, &slot));
    TRY(mesh_lowest(m, &slot)); /* a NaN is one rank's at first; the block that made it is the one to name */
    return finite_told(m, slot, model, names, where);
}

flux1_status finite_told(mesh *m, int slot, const char *model, const char *const *names, const char *where)
{
    if (slot < 0)
        return FLUX1_OK;
    return error_set(m->err, FLUX1_ERR_NUMERIC,
                     "%s: NaN or infinity in %s%s; flux1 info --verify looks for a damaged weight", model, names[slot],
                     where);
}
