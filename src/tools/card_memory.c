#include "tools/card_memory.h"

#include "base/checked.h"
#include "base/ending.h"
#include "tools/card_worker.h"
#include "weights/recipe.h"

#include <stdlib.h>
#include <string.h>

static const char *take_text(card_worker *w) { return script_text(w->s, card_next(w)); }

/* ---- weights ---- */

static void make_weight(card_worker *w)
{
    card_weight *one = &w->weight[card_next(w)];
    (void)card_next(w); /* its block */
    const weight_role role = (weight_role)card_next(w);
    *one = (card_weight){.rows = card_next(w)};
    one->cols = card_next(w);
    one->kernel = card_next(w);
    const bool is_matrix = role == WEIGHT_LINEAR || role == WEIGHT_QKV || role == WEIGHT_CONV;
    if (one->kernel == 3)
        return;
    card_take(&w->space, role == WEIGHT_VECTOR  ? card_matrix(w, 1, one->rows, CARD_BF16, false)
                         : role == WEIGHT_TABLE ? card_matrix(w, one->rows, one->cols, CARD_BF16, true)
                         : is_matrix            ? card_matrix(w, one->cols, one->rows, w->weight_cell, false)
                                                : 0);
}

static void make_bias(card_worker *w)
{
    card_weight *one = &w->weight[card_next(w)];
    one->biased = true;
    if (one->kernel != 3)
        card_take(&w->space, card_matrix(w, 1, one->rows, CARD_BF16, false));
}

/* ---- memory ---- */

static void make_create(card_worker *w)
{
    const int64_t number = card_next(w);
    (void)card_next(w); /* role */
    (void)card_next(w); /* batch: 1 */
    card_act a = {.rows = {0}};
    a.rows[PART_TEXT] = card_next(w);
    a.rows[PART_IMAGE] = card_next(w);
    a.cols = card_next(w);
    a.height = card_next(w);
    a.width = card_next(w);
    w->act[number] = a;
    w->acts = number + 1;
}

static void release_to(card_worker *w, int64_t first)
{
    for (int64_t i = first; i < w->acts; i++)
        card_act_drop(&w->space, &w->act[i]);
    w->acts = i64_min(w->acts, first);
}

static void make_mark(card_worker *w) { w->mark[card_next(w)] = w->acts; }
static void make_release(card_worker *w) { release_to(w, w->mark[card_next(w)]); }

/* Cosines and sines, and a bias for each score, stay until the part ends. */
static void make_input(card_worker *w)
{
    const char *name = take_text(w);
    (void)card_next(w); /* first */
    const card_operand at = card_next_act(w), all = card_window(&w->act[at.act], at);
    static const char *const exact[] = {"noise", "dsigma", "time", "guidance"};
    card_tensor t = {.heads = 1, .rows = all.rows, .cols = all.cols, .cell = CARD_BF16};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        t.cell = strcmp(name, exact[i]) == 0 ? CARD_F32 : t.cell;
    if (strncmp(name, "rope.", 5) == 0) {
        card_take(&w->space, 2 * card_bytes(&w->space, &t));
    } else if (strcmp(name, "t5.bias") == 0) {
        const int64_t tokens = (all.cols + 1) / 2;
        card_take(&w->space, card_bytes(&w->space, &(card_tensor){all.rows, tokens, tokens, CARD_BF16, false, 0}));
    } else if (ends_in(name, ".ids")) {
        card_put(w, at, card_make(&w->space, (card_tensor){1, 1, all.rows, CARD_F32, true, 0}));
    } else
        card_put(w, at, card_make(&w->space, t));
}

/* The worker has it until the part's next one. */
static void make_output(card_worker *w)
{
    drop(w, w->result);
    w->result = card_get(w, card_next_act(w));
}

/* ---- a part ---- */

/* What is not here takes nothing. */
static card_make_fn *const makes[SCRIPT_CALLS_COUNT] = {
    [CALL_WEIGHT] = make_weight,
    [CALL_BIAS] = make_bias,
    [CALL_CREATE] = make_create,
    [CALL_MARK] = make_mark,
    [CALL_RELEASE] = make_release,
    [CALL_INPUT] = make_input,
    [CALL_OUTPUT] = make_output,
    [CALL_GATHER_ROWS] = make_gather_rows,
    [CALL_GATHER_COLUMNS] = make_gather_columns,
    [CALL_REDUCE_ROWS] = make_reduce_rows,
    [CALL_RING_BEGIN] = make_ring_begin,
    [CALL_LINEAR] = make_linear,
    [CALL_LINEAR_NORM] = make_linear_norm,
    [CALL_QKV_NORM_ROPE] = make_qkv_norm_rope,
    [CALL_MLP] = make_mlp,
    [CALL_SINGLE_PRODUCTS] = make_single_products,
    [CALL_LAYER_NORM] = make_layer_norm,
    [CALL_RMS_NORM] = make_rms_norm,
    [CALL_ATTENTION] = make_attention,
    [CALL_ATTENTION_PART] = make_attention_part,
    [CALL_CONV] = make_conv,
    [CALL_UPSAMPLE_CONV] = make_upsample_conv,
    [CALL_NORM_CONV] = make_norm_conv,
    [CALL_GROUP_NORM] = make_group_norm,
    [CALL_GROUP_STATS] = make_group_stats,
    [CALL_GROUP_APPLY] = make_group_apply,
    [CALL_EMBED] = make_embed,
    [CALL_ACTIVATE] = make_activate,
    [CALL_ADD] = make_add,
    [CALL_EULER] = make_euler,
    [CALL_CAST] = make_cast,
    [CALL_COPY_ROWS] = make_copy_rows,
};

static void make_all(card_worker *w, const script *s)
{
    w->s = s;
    for (size_t i = 0; i < s->lines && !w->space.failed; i++) {
        w->cell = s->line[i].first;
        if (makes[s->line[i].call])
            makes[s->line[i].call](w);
    }
}

flux1_status card_memory(const recording *r, recording_stage first, int stages, const machine *m, double weight_cell,
                         card_held *out, flux1_error *err)
{
    card_worker w = {.space = {.banks = m->banks}, .r = r, .shape = &r->mesh, .m = m, .weight_cell = weight_cell};
    w.act = calloc(SCRIPT_IDS, sizeof *w.act);
    w.weight = calloc(SCRIPT_IDS, sizeof *w.weight);
    w.mark = calloc(SCRIPT_IDS, sizeof *w.mark);
    w.space.failed = !w.act || !w.weight || !w.mark;
    for (int i = 0; i < stages && !w.space.failed; i++)
        make_all(&w, &r->stage[first + i]);
    *out = (card_held){.most = w.space.most, .kept = w.space.used};
    drop(&w, w.result);
    if (w.act)
        release_to(&w, 0);
    free(w.act);
    free(w.weight);
    free(w.mark);
    free(w.buffer);
    free(w.now);
    return w.space.failed ? error_oom(err, 0, "the plan of a card's memory") : FLUX1_OK;
}
