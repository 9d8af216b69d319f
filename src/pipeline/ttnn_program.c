#include "pipeline/ttnn_program.h"

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
    *p = (ttnn_program){0};
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

/* The model's, of a request's shapes. */
static flux1_status read_models(flux1_context *c, const flux1_model *m, const mesh_config *shape, ttnn_part_id part,
                                ttnn_program *p)
{
    recording_results shapes;
    recording_inputs inputs; /* shapes alone */
    tensor *const results[TTNN_PART_COUNT] = {&shapes.pooled, &shapes.embeds, &shapes.latent, &shapes.pixels};
    TRY(recording_inputs_make(c, m, &p->r, "", &inputs, &shapes));
    inputs.stage = parts[part].first;
    const script_sources from = recording_sources(&inputs, results[part]);
    const flux1_status st = read_recipes(c, shape, part, &from, p);
    recording_inputs_free(&inputs);
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
    return p->there && !p->from_file && p->model == m->source.number && p->length == r->length &&
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
                        .from_file = given != NULL};
    flux1_status st = given ? move_stages(given, part, &p->r, &c->error)
                            : recording_make_stages(c, m, r, shape, parts[part].first, parts[part].stages, &p->r);
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
