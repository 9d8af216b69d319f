#include "pipeline/ttnn_program.h"

#include "base/hash.h"
#include "pipeline/recording_inputs.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    recording_stage first;
    int stages;
} parts[TTNN_PART_COUNT] = {
#define TTNN_PART_ROW(id, first, stages) {RECORDING_##first, stages},
    TTNN_PARTS(TTNN_PART_ROW)
#undef TTNN_PART_ROW
};

recording_stage ttnn_first_stage(ttnn_part_id part) { return parts[part].first; }
int ttnn_stages(ttnn_part_id part) { return parts[part].stages; }

void ttnn_program_free(ttnn_program *p)
{
    recording_free(&p->r);
    free(p->recipe);
    adapter_merges_free(&p->merges);
    adapter_set_change(&p->adapters, NULL);
    *p = (ttnn_program){0};
}

/* ---- adapters ---- */

uint64_t ttnn_program_edition(const ttnn_program *p)
{
    uint64_t number[2 * ADAPTERS_MAX] = {0};
    const adapter_set *s = &p->adapters;
    for (int i = 0; i < s->count; i++) {
        number[2 * i] = s->adapter[i]->number;
        memcpy(&number[2 * i + 1], &s->scale[i], sizeof s->scale[i]);
    }
    return s->count ? hash_bytes(number, 2 * (size_t)s->count * sizeof *number) : 0;
}

flux1_status ttnn_program_tensor(ttnn_program *p, const flux1_model *m, ttnn_part_id part, const char *name,
                                 const store_tensor **out, flux1_error *err)
{
    adapter_use uses[ADAPTERS_MAX];
    TRY(recording_tensor_find(m, parts[part].first, name, out, err));
    if (p->adapters.count == 0)
        return FLUX1_OK;
    adapter_set_uses(&p->adapters, uses);
    return adapter_merges_take(&p->merges, uses, p->adapters.count, component_part(recording_part(parts[part].first)),
                               ADAPTER_MERGE_ALL, out, err);
}

static void hold_adapters(ttnn_program *p, const request *r, ttnn_part_id part)
{
    adapter_set mine;
    adapter_set_of_part(&r->adapters, component_part(recording_part(parts[part].first)), &mine);
    adapter_set_change(&p->adapters, &mine);
}

static bool has_adapters(const ttnn_program *p, const request *r, ttnn_part_id part)
{
    adapter_set mine;
    adapter_set_of_part(&r->adapters, component_part(recording_part(parts[part].first)), &mine);
    return adapter_set_same(&p->adapters, &mine);
}

/* ---- recipes ---- */

/* Ranks of a part's stages, in a dry run, which checks the calls and shows the recipes. */
typedef struct reading {
    ttnn_program *p;
    ttnn_part_id part;
    const script_sources *from;
    flux1_error *err;
} reading;

static flux1_status keep_recipes(const reading *k, const player *from, int rank)
{
    ttnn_program *p = k->p;
    const size_t count = player_weights(from);
    if (!p->recipe) {
        p->weights = count;
        p->recipe = calloc((size_t)p->ranks * count + 1, sizeof *p->recipe);
        if (!p->recipe)
            return error_oom(k->err, (size_t)p->ranks * count * sizeof *p->recipe, "the weights' recipes");
    }
    if (count != p->weights)
        return error_set(k->err, FLUX1_ERR_FORMAT, "stage %s: ranks differ in their weights",
                         recording_names[parts[k->part].first]);
    for (size_t i = 0; i < count; i++) {
        ttnn_recipe *r = &p->recipe[(size_t)rank * count + i];
        r->there = player_recipe(from, (int64_t)i, &r->w, &r->bias, &r->has_bias);
    }
    return FLUX1_OK;
}

static flux1_status read_body(void *arg, mesh *m)
{
    reading *k = arg;
    player *p = NULL;
    const size_t mark = ops_mark(m->o);
    TRY(player_create(m, k->from, &p));
    flux1_status st = FLUX1_OK;
    for (int i = 0; st == FLUX1_OK && i < parts[k->part].stages; i++)
        st = player_run(p, &k->p->r.stage[parts[k->part].first + i]);
    if (st == FLUX1_OK)
        st = keep_recipes(k, p, m->rank);
    player_destroy(p);
    if (st == FLUX1_OK)
        ops_release(m->o, mark);
    return st;
}

static flux1_status read_recipes(flux1_context *c, const mesh_config *shape, ttnn_part_id part,
                                 const script_sources *from, ttnn_program *p)
{
    reading k = {.p = p, .part = part, .from = from, .err = &c->error};
    const mesh_device host = {.kind = &ops_ref_device,
                              .config = {.arithmetic = DTYPE_F32, .threads = 1, .cancel = &c->cancel}};
    p->ranks = mesh_ranks(shape);
    flux1_status st = FLUX1_OK;
    for (int r = 0; st == FLUX1_OK && r < p->ranks; r++) {
        ops_count count;
        st = mesh_dry_run(shape, &host, r, read_body, &k, &count, &c->error);
    }
    return st;
}

/* A model's inputs, in front since the functions of recording_sources take them, and the program whose adapters are in
 * the tensors. */
typedef struct models_sources {
    recording_inputs inputs; /* shapes alone */
    ttnn_program *p;
    ttnn_part_id part;
} models_sources;

static flux1_status find_merged(void *user, const char *name, const store_tensor **out, flux1_error *err)
{
    const models_sources *k = user;
    return ttnn_program_tensor(k->p, k->inputs.m, k->part, name, out, err);
}

/* The model's, of a request's shapes. */
static flux1_status read_models(flux1_context *c, const flux1_model *m, const mesh_config *shape, ttnn_part_id part,
                                ttnn_program *p)
{
    recording_results shapes;
    models_sources k = {.p = p, .part = part};
    tensor *const results[TTNN_PART_COUNT] = {&shapes.pooled, &shapes.embeds, &shapes.latent, &shapes.pixels};
    TRY(recording_inputs_make(c, m, &p->r, "", &k.inputs, &shapes));
    script_sources from = recording_sources(&k.inputs, results[part]);
    from.tensor = find_merged;
    from.user = &k;
    const flux1_status st = read_recipes(c, shape, part, &from, p);
    recording_inputs_free(&k.inputs);
    return st;
}

const weight_recipe *ttnn_program_recipe(const ttnn_program *p, int rank, int64_t w, bool bias)
{
    if (w < 0 || (size_t)w >= p->weights)
        return NULL;
    const ttnn_recipe *r = &p->recipe[(size_t)rank * p->weights + (size_t)w];
    return !r->there || (bias && !r->has_bias) ? NULL : bias ? &r->bias : &r->w;
}

static bool same_recipe(const weight_recipe *a, const weight_recipe *b)
{
    if (!a || !b)
        return a == b;
    if (a->rows != b->rows || a->cols != b->cols || a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++) {
        const recipe_piece *x = &a->piece[i], *y = &b->piece[i];
        if (x->source != y->source || x->source_row != y->source_row || x->source_col != y->source_col ||
            x->row != y->row || x->col != y->col || x->rows != y->rows || x->cols != y->cols)
            return false;
    }
    return true;
}

script_vary ttnn_program_varies(const ttnn_program *p, int64_t w, bool bias)
{
    const int tp = p->r.mesh.tp;
    bool by_sp = false, by_tp = false;
    for (int r = 0; r < p->ranks; r++) {
        const weight_recipe *mine = ttnn_program_recipe(p, r, w, bias);
        by_sp |= !same_recipe(mine, ttnn_program_recipe(p, r % tp, w, bias));
        by_tp |= !same_recipe(mine, ttnn_program_recipe(p, r / tp * tp, w, bias));
    }
    return by_sp && by_tp ? VARY_ALL : by_sp ? VARY_SP : by_tp ? VARY_TP : VARY_NOT;
}

/* ---- made ---- */

static flux1_status copy_head(const recording *from, recording *to, flux1_error *err)
{
    const size_t bytes = (size_t)(from->steps + 1) * sizeof *from->sigmas;
    *to = (recording){.guidance = from->guidance,
                      .mesh = from->mesh,
                      .width = from->width,
                      .height = from->height,
                      .steps = from->steps,
                      .clip_tokens = from->clip_tokens,
                      .t5_tokens = from->t5_tokens,
                      .guidance_scale = from->guidance_scale};
    if (!(to->sigmas = malloc(bytes)))
        return error_oom(err, bytes, "a recording");
    memcpy(to->sigmas, from->sigmas, bytes);
    return FLUX1_OK;
}

static flux1_status move_stages(recording *from, ttnn_part_id part, recording *to, flux1_error *err)
{
    TRY(copy_head(from, to, err));
    for (int i = parts[part].first; i < (int)parts[part].first + parts[part].stages; i++) {
        to->stage[i] = from->stage[i];
        from->stage[i] = (script){0};
    }
    return FLUX1_OK;
}

static bool is_of(const ttnn_program *p, const flux1_model *m, const request *r, ttnn_part_id part)
{
    const bool sized = part == TTNN_DENOISER || part == TTNN_DECODER; /* the others know the prompt's length alone */
    if (part == TTNN_DENOISER && (p->passes != r->passes || p->scale != r->true_cfg_scale))
        return false;
    return p->there && !p->from_file && p->model == m->source.number && p->length == r->length &&
           has_adapters(p, r, part) &&
           (!sized || (p->width == r->width && p->height == r->height && p->steps == r->steps));
}

flux1_status ttnn_program_make(flux1_context *c, const flux1_model *m, const request *r, const mesh_config *shape,
                               recording *given, ttnn_part_id part, ttnn_program *p, bool *made)
{
    *made = given ? given->stage[parts[part].first].lines > 0 : !is_of(p, m, r, part);
    if (!*made)
        return FLUX1_OK;
    ttnn_program_free(p);
    *p = (ttnn_program){.model = m->source.number,
                        .width = r->width,
                        .height = r->height,
                        .steps = r->steps,
                        .length = r->length,
                        .passes = r->passes,
                        .scale = r->true_cfg_scale,
                        .from_file = given != NULL};
    request plain = *r;
    plain.adapters = (adapter_set){0};
    hold_adapters(p, r, part);
    flux1_status st = given ? move_stages(given, part, &p->r, &c->error)
                            : recording_make_stages(c, m, &plain, shape, parts[part].first, parts[part].stages, &p->r);
    if (st == FLUX1_OK)
        st = read_models(c, m, shape, part, p);
    p->there = st == FLUX1_OK;
    if (st != FLUX1_OK)
        ttnn_program_free(p);
    return st;
}

flux1_status ttnn_program_take(flux1_context *c, recording *given, ttnn_part_id part, const script_sources *from,
                               ttnn_program *p)
{
    ttnn_program_free(p);
    *p = (ttnn_program){.from_file = true};
    flux1_status st = move_stages(given, part, &p->r, &c->error);
    if (st == FLUX1_OK)
        st = read_recipes(c, &p->r.mesh, part, from, p);
    p->there = st == FLUX1_OK;
    if (st != FLUX1_OK)
        ttnn_program_free(p);
    return st;
}
