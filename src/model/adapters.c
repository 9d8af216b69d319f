#include "model/adapters.h"

#include <stdlib.h>

/* The mesh as the place was cut for it. */
static mesh mesh_of(const linear_place *p, const mesh *m)
{
    mesh own = *m;
    own.tp = p->tp;
    own.tp_rank = p->tp_rank;
    return own;
}

/* [rank, this rank's inputs] */
static flux1_status down_of(const linear_place *p, const mesh *m, const adapter_term *t, weight_recipe *out,
                            flux1_error *err)
{
    *out = recipe_whole(WEIGHT_LINEAR, t->down);
    if (p->how != LINEAR_ROW)
        return FLUX1_OK;
    weight_recipe first = recipe_cols(out, 0, p->first), rest = recipe_cols(out, p->first, p->in - p->first);
    first = mesh_row_slice(m, &first, p->unit);
    rest = mesh_row_slice(m, &rest, 1);
    return recipe_beside(&first, &rest, out, err);
}

/* [this rank's outputs, rank]: rows of the terms that share t's down, zeros where a stacked layer has none. */
static flux1_status up_of(const linear_place *p, const mesh *m, const adapter_file *f, model_part part,
                          const adapter_term *t, weight_recipe *out, flux1_error *err)
{
    const int64_t rank = t->down->view.shape[0];
    const weight_recipe zeros = recipe_whole(WEIGHT_LINEAR, &f->zeros);
    for (int i = 0; i < p->parts; i++) {
        const adapter_term *own = adapter_find(f, part, p->name[i], ADAPTER_BESIDE);
        weight_recipe rows, before = *out;
        if (own && own->down == t->down)
            rows = recipe_whole(WEIGHT_LINEAR, &own->up);
        else {
            rows = recipe_cols(&zeros, 0, rank);
            rows = recipe_rows(&rows, 0, p->out);
        }
        if (p->how == LINEAR_COLUMN)
            rows = mesh_column_slice(m, &rows, p->unit);
        if (i == 0)
            *out = rows;
        else
            TRY(recipe_stack(&before, &rows, out, err));
    }
    return FLUX1_OK;
}

static flux1_status add(const linear_place *p, mesh *m, const adapter_use *use, model_part part, const adapter_term *t,
                        adapter *out)
{
    weight_recipe down, up = {0};
    weight *made[2];
    const mesh own = mesh_of(p, m);
    if (!p->block->added)
        TRY(ops_block_create(m->o, p->name[0], &p->block->added));
    TRY(down_of(p, &own, t, &down, m->err));
    TRY(up_of(p, &own, use->file, part, t, &up, m->err));
    TRY(ops_prepare(m->o, p->block->added, &down, NULL, &made[0]));
    TRY(ops_prepare(m->o, p->block->added, &up, NULL, &made[1]));
    *out = (adapter){.down = made[0], .up = made[1], .scale = use->scale * t->scale};
    p->w->adapter_count++;
    return FLUX1_OK;
}

/* Every matrix `down` that the layers stacked at p have in the file makes one term. */
static flux1_status add_all(const linear_place *p, mesh *m, const adapter_use *use, model_part part, adapter *lists)
{
    const store_tensor *seen[LINEAR_PARTS] = {0};
    for (int i = 0; i < p->parts && use->scale != 0; i++) {
        const adapter_term *t = adapter_find(use->file, part, p->name[i], ADAPTER_BESIDE);
        bool again = false;
        for (int k = 0; t && k < i; k++)
            again = again || seen[k] == t->down;
        if (!t || again)
            continue;
        seen[i] = t->down;
        TRY(add(p, m, use, part, t, &lists[p->w->adapter_count]));
    }
    return FLUX1_OK;
}

flux1_status adapters_attach(block_list *made, mesh *m, model_part part, const adapter_use *use, int count)
{
    const size_t each = (size_t)count * LINEAR_PARTS;
    flux1_status st = FLUX1_OK;
    block_list_plain(made);
    if (count == 0)
        return FLUX1_OK;
    if (!(made->added = calloc(made->places * each + 1, sizeof *made->added)))
        return error_oom(m->err, made->places * each * sizeof *made->added, "the adapters");
    for (size_t i = 0; st == FLUX1_OK && i < made->places; i++) {
        const linear_place *p = &made->place[i];
        p->w->adapters = made->added + i * each;
        for (int k = 0; st == FLUX1_OK && k < count; k++)
            st = add_all(p, m, &use[k], part, made->added + i * each);
    }
    if (st != FLUX1_OK)
        block_list_plain(made);
    return st;
}
