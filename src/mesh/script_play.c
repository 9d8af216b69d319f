#include "mesh/script_player.h"

#include "base/checked.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ELEMENTS_MAX_BITS = 44 }; /* of an activation */

/* ---- memory ---- */

static flux1_status keep_act(player *p, int64_t id, act a)
{
    TRY(player_room(p, (void **)&p->acts, sizeof *p->acts, &p->act_room, id));
    TRY(player_room(p, (void **)&p->order, sizeof *p->order, &p->order_room, p->made));
    p->acts[id] = a;
    p->order[p->made++] = id;
    return FLUX1_OK;
}

static bool fits(const act_shape *s)
{
    int64_t n;
    return i64_mul(s->batch, s->rows[0] + s->rows[1], &n) && i64_mul(n, s->cols, &n) &&
           n <= (int64_t)1 << ELEMENTS_MAX_BITS;
}

static flux1_status play_create(player *p)
{
    const int64_t id = player_take(p);
    const act_role role = (act_role)player_take(p);
    act_shape s;
    act a;
    s.batch = player_take(p);
    s.rows[PART_TEXT] = player_take(p);
    s.rows[PART_IMAGE] = player_take(p);
    s.cols = player_take(p);
    s.height = player_take(p);
    s.width = player_take(p);
    if ((size_t)id < p->act_room && act_present(p->acts[id]))
        return player_refuse(p, "a%" PRId64 " is there already", id);
    if (s.batch < 0 || s.rows[0] < 0 || s.rows[1] < 0 || s.cols < 0 || !fits(&s))
        return player_refuse(p, "a%" PRId64 ": a shape out of range", id);
    TRY(ops_create(p->m->o, role, s, &a));
    return keep_act(p, id, a);
}

static flux1_status play_mark(player *p)
{
    const int64_t id = player_take(p);
    TRY(player_room(p, (void **)&p->marks, sizeof *p->marks, &p->mark_room, id));
    p->marks[id] = (played_mark){.at = ops_mark(p->m->o), .made = p->made, .set = true};
    return FLUX1_OK;
}

static flux1_status play_release(player *p)
{
    const int64_t id = player_take(p);
    if ((size_t)id >= p->mark_room || !p->marks[id].set || p->marks[id].made > p->made)
        return player_refuse(p, "m%" PRId64 " is not set", id);
    if (p->turning && p->marks[id].at < p->ring_at)
        return player_refuse(p, "m%" PRId64 " was set before the ring, whose keys are still on their way", id);
    while (p->made > p->marks[id].made)
        p->acts[p->order[--p->made]] = (act){0};
    for (size_t i = 0; i < p->mark_room; i++) /* those set since are gone with what they marked */
        p->marks[i].set = p->marks[i].set && p->marks[i].at <= p->marks[id].at;
    ops_release(p->m->o, p->marks[id].at);
    return FLUX1_OK;
}

/* ---- what comes and goes by name ---- */

static flux1_status play_input(player *p)
{
    const char *name = player_text(p);
    const int64_t first = player_take(p);
    tensor host = {0};
    act out;
    TRY(player_need_act(p, &out));
    if (!name)
        return player_refuse(p, "an input without a name");
    TRY(p->from->input(p->from->user, name, &host, p->m->err));
    if (act_batch(out) != 1 || first < 0 || first > host.shape[0] - act_rows(out) || out.cols != host.shape[1] ||
        (host.type == DTYPE_I32) != (out.buffer->role == ACT_IDS))
        return player_refuse(
            p, "input %s has %" PRId64 " rows of %" PRId64 ", not rows %" PRId64 "+%" PRId64 " of %" PRId64, name,
            host.shape[0], host.shape[1], first, act_rows(out), out.cols);
    host.shape[0] = act_rows(out);
    if (host.data)
        host.data = (char *)host.data + (size_t)(first * out.cols) * 4;
    return ops_upload(p->m->o, &host, out);
}

static flux1_status play_output(player *p)
{
    tensor *to = p->from->output;
    act in;
    TRY(player_need_act(p, &in));
    if (!mesh_leads(p->m))
        return player_refuse(p, "an output of another rank than 0");
    if (act_batch(in) * act_rows(in) * in.cols != tensor_elements(to))
        return player_refuse(p, "the output has %" PRId64 " elements, should have %" PRId64,
                             act_batch(in) * act_rows(in) * in.cols, tensor_elements(to));
    p->gave = true;
    return ops_download(p->m->o, in, to);
}

static flux1_status play_finite(player *p)
{
    act in;
    TRY(player_need_act(p, &in));
    return ops_finite(p->m->o, in, (int)i64_min(player_take(p), OPS_SLOTS));
}

static flux1_status play_check(player *p)
{
    int slot;
    TRY(ops_finite_first(p->m->o, &slot));
    TRY(mesh_lowest(p->m, &slot));
    return slot < 0 ? FLUX1_OK
                    : error_set(p->m->err, FLUX1_ERR_NUMERIC,
                                "NaN or infinity in what finite slot=%d looks at; flux1 info --verify looks for a "
                                "damaged weight",
                                slot);
}

/* ---- all of them ---- */

static play_fn *const plays[SCRIPT_CALLS_COUNT] = {
    [CALL_BLOCK] = play_block,
    [CALL_WEIGHT] = play_weight,
    [CALL_BIAS] = play_bias,
    [CALL_PIECE] = play_piece,
    [CALL_PREPARE] = play_prepare,
    [CALL_BEGIN] = play_begin,
    [CALL_END] = play_end,
    [CALL_CREATE] = play_create,
    [CALL_MARK] = play_mark,
    [CALL_RELEASE] = play_release,
    [CALL_INPUT] = play_input,
    [CALL_OUTPUT] = play_output,
    [CALL_FINITE] = play_finite,
    [CALL_CHECK] = play_check,
    [CALL_GATHER_ROWS] = play_gather_rows,
    [CALL_GATHER_COLUMNS] = play_gather_columns,
    [CALL_REDUCE_ROWS] = play_reduce_rows,
    [CALL_RING_BEGIN] = play_ring_begin,
    [CALL_RING_RECEIVE] = play_ring_receive,
    [CALL_HALO_ROW] = play_halo_row,
    [CALL_LINEAR] = play_linear,
    [CALL_LINEAR_NORM] = play_linear_norm,
    [CALL_QKV_NORM_ROPE] = play_qkv_norm_rope,
    [CALL_MLP] = play_mlp,
    [CALL_SINGLE_PRODUCTS] = play_single_products,
    [CALL_LAYER_NORM] = play_layer_norm,
    [CALL_RMS_NORM] = play_rms_norm,
    [CALL_HEAD_NORM_ROPE] = play_head_norm_rope,
    [CALL_ATTENTION] = play_attention,
    [CALL_ATTENTION_PART] = play_attention_part,
    [CALL_ATTENTION_MERGE] = play_attention_merge,
    [CALL_CONV] = play_conv,
    [CALL_UPSAMPLE_CONV] = play_upsample_conv,
    [CALL_NORM_CONV] = play_norm_conv,
    [CALL_GROUP_NORM] = play_group_norm,
    [CALL_GROUP_STATS] = play_group_stats,
    [CALL_GROUP_APPLY] = play_group_apply,
    [CALL_UPSAMPLE] = play_upsample,
    [CALL_EMBED] = play_embed,
    [CALL_ACTIVATE] = play_activate,
    [CALL_ADD] = play_add,
    [CALL_EULER] = play_euler,
    [CALL_CAST] = play_cast,
    [CALL_COPY_ROWS] = play_copy_rows,
};

flux1_status player_create(mesh *m, const script_sources *from, player **out)
{
    player *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(m->err, sizeof *p, "a recording's activations");
    p->m = m;
    p->from = from;
    *out = p;
    return FLUX1_OK;
}

void player_destroy(player *p)
{
    if (!p)
        return;
    for (size_t i = p->block_room; i-- > 0;)
        ops_block_destroy(p->m->o, p->blocks[i]);
    free(p->acts);
    free(p->order);
    free(p->weights);
    free(p->blocks);
    free(p->marks);
    free(p);
}

/* A script that breaks an entry's contract is a broken file, not a mistake of this program's. */
static flux1_status told(const player *p, const script_line *l, flux1_status st)
{
    if (st == FLUX1_OK || st == FLUX1_ERR_CANCELLED || !l->number)
        return st;
    if (st == FLUX1_ERR_INTERNAL)
        p->m->err->status = FLUX1_ERR_FORMAT;
    return error_prefix(p->m->err, "line %d", l->number);
}

bool player_gave(const player *p) { return p->gave; }

size_t player_weights(const player *p) { return p->weight_room; }

bool player_recipe(const player *p, int64_t id, weight_recipe *out, weight_recipe *bias, bool *has_bias)
{
    const played_weight *w = (size_t)id < p->weight_room ? &p->weights[id] : NULL;
    if (!w || !w->made)
        return false;
    *out = w->w;
    *bias = w->bias;
    *has_bias = w->has_bias;
    return true;
}

/* Links carry one exchange at a time: while a ring turns, its own. */
static flux1_status make_call(player *p, const script_line *l)
{
    p->cell = l->first;
    p->call = l->call;
    if (p->turning && script_entries[l->call].together && l->call != CALL_RING_RECEIVE)
        return player_refuse(p, "an exchange before the ring has come round");
    return plays[l->call](p);
}

flux1_status player_run(player *p, const script *s)
{
    p->s = s;
    p->gave = false;
    for (size_t i = 0; i < s->lines; i++) {
        const script_line *l = &s->line[i];
        if (!script_line_is_of(s, l, p->m->rank))
            continue;
        TRY(told(p, l, make_call(p, l)));
    }
    return p->turning ? player_refuse(p, "a ring has begun, and has not come round") : FLUX1_OK;
}
