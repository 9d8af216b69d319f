/* Arithmetic: the contract of each entry is checked by the dry run. */
#include "mesh/script_player.h"

typedef struct attended {
    act q, k, v;
    attention_args a;
} attended;

static flux1_status take_attention(player *p, attended *t)
{
    TRY(player_need_act(p, &t->q));
    TRY(player_need_act(p, &t->k));
    TRY(player_need_act(p, &t->v));
    t->a.heads = player_take(p);
    t->a.scale = player_real(p);
    t->a.causal = player_take(p) != 0;
    TRY(player_act(p, &t->a.bias));
    t->a.int8 = player_take(p) != 0;
    return FLUX1_OK;
}

flux1_status play_linear(player *p)
{
    act in, out;
    linear_weight w;
    epilogue e;
    TRY(player_need_act(p, &in));
    TRY(player_linear(p, &w));
    TRY(player_epilogue(p, &e));
    TRY(player_need_act(p, &out));
    return ops_linear(p->m->o, in, &w, &e, out);
}

flux1_status play_linear_norm(player *p)
{
    act in, out;
    linear_weight w;
    weight *norm_w;
    epilogue e;
    norm_behind n = {0};
    TRY(player_need_act(p, &in));
    TRY(player_linear(p, &w));
    TRY(player_epilogue(p, &e));
    TRY(player_need_act(p, &out));
    n.slot = (int)player_take(p);
    TRY(player_weight(p, &norm_w));
    n.w = norm_w;
    TRY(player_act(p, &n.shift));
    TRY(player_act(p, &n.scale));
    n.eps = player_real(p);
    TRY(player_need_act(p, &n.out));
    return ops_linear_norm(p->m->o, in, &w, &e, out, &n);
}

typedef struct qkv_operands {
    act in, rope, out;
    qkv_weights w;
} qkv_operands;

static flux1_status take_qkv(player *p, qkv_operands *t)
{
    weight *q, *k;
    TRY(player_need_act(p, &t->in));
    TRY(player_linear(p, &t->w.qkv));
    TRY(player_weight(p, &q));
    TRY(player_weight(p, &k));
    t->w.norm_q = q;
    t->w.norm_k = k;
    t->w.heads = player_take(p);
    t->w.eps = player_real(p);
    TRY(player_act(p, &t->rope));
    return player_need_act(p, &t->out);
}

flux1_status play_qkv_norm_rope(player *p)
{
    qkv_operands t;
    TRY(take_qkv(p, &t));
    return ops_qkv_norm_rope(p->m->o, t.in, &t.w, t.rope, t.out);
}

flux1_status play_single_products(player *p)
{
    qkv_operands t;
    linear_weight up;
    act hidden;
    TRY(take_qkv(p, &t));
    TRY(player_linear(p, &up));
    TRY(player_need_act(p, &hidden));
    return ops_single_products(p->m->o, t.in, &t.w, t.rope, t.out, &up, hidden);
}

flux1_status play_mlp(player *p)
{
    act in, out;
    linear_weight up, down;
    epilogue e;
    TRY(player_need_act(p, &in));
    TRY(player_linear(p, &up));
    const activation f = (activation)player_take(p);
    TRY(player_linear(p, &down));
    TRY(player_epilogue(p, &e));
    TRY(player_need_act(p, &out));
    return ops_mlp(p->m->o, in, &up, f, &down, &e, out);
}

flux1_status play_layer_norm(player *p)
{
    act in, shift, scale, out;
    weight *w;
    TRY(player_need_act(p, &in));
    TRY(player_weight(p, &w));
    TRY(player_act(p, &shift));
    TRY(player_act(p, &scale));
    const float eps = player_real(p);
    TRY(player_need_act(p, &out));
    return ops_layer_norm(p->m->o, in, w, shift, scale, eps, out);
}

flux1_status play_rms_norm(player *p)
{
    act in, out;
    weight *w;
    TRY(player_need_act(p, &in));
    TRY(player_need_weight(p, &w));
    const float eps = player_real(p);
    TRY(player_need_act(p, &out));
    return ops_rms_norm(p->m->o, in, w, eps, out);
}

flux1_status play_head_norm_rope(player *p)
{
    act x, rope;
    weight *w;
    TRY(player_need_act(p, &x));
    const int64_t heads = player_take(p);
    TRY(player_weight(p, &w));
    const float eps = player_real(p);
    TRY(player_act(p, &rope));
    return ops_head_norm_rope(p->m->o, x, heads, w, eps, rope);
}

flux1_status play_attention(player *p)
{
    attended t;
    act out;
    TRY(take_attention(p, &t));
    TRY(player_need_act(p, &out));
    return ops_attention(p->m->o, t.q, t.k, t.v, &t.a, out);
}

flux1_status play_attention_part(player *p)
{
    attended t;
    act out, lse;
    TRY(take_attention(p, &t));
    TRY(player_need_act(p, &out));
    TRY(player_need_act(p, &lse));
    return ops_attention_part(p->m->o, t.q, t.k, t.v, &t.a, out, lse);
}

flux1_status play_attention_merge(player *p)
{
    act out, lse, other, other_lse;
    const int64_t heads = player_take(p);
    TRY(player_need_act(p, &out));
    TRY(player_need_act(p, &lse));
    TRY(player_need_act(p, &other));
    TRY(player_need_act(p, &other_lse));
    return ops_attention_merge(p->m->o, heads, out, lse, other, other_lse);
}

typedef struct plane_operands {
    act in, top, bottom;
} plane_operands;

static flux1_status take_plane(player *p, plane_operands *t)
{
    TRY(player_need_act(p, &t->in));
    TRY(player_act(p, &t->top));
    return player_act(p, &t->bottom);
}

flux1_status play_conv(player *p)
{
    plane_operands t;
    act residual, out;
    weight *w;
    TRY(take_plane(p, &t));
    TRY(player_need_weight(p, &w));
    const int64_t stride = player_take(p);
    TRY(player_act(p, &residual));
    TRY(player_need_act(p, &out));
    return ops_conv(p->m->o, t.in, t.top, t.bottom, w, (int)stride, residual, out);
}

flux1_status play_upsample_conv(player *p)
{
    plane_operands t;
    act out;
    weight *w;
    TRY(take_plane(p, &t));
    TRY(player_need_weight(p, &w));
    TRY(player_need_act(p, &out));
    return ops_upsample_conv(p->m->o, t.in, t.top, t.bottom, w, out);
}

flux1_status play_norm_conv(player *p)
{
    plane_operands t;
    norm_before n = {0};
    act residual, out;
    weight *norm_w, *w;
    TRY(take_plane(p, &t));
    TRY(player_need_act(p, &n.stats));
    n.groups = player_take(p);
    TRY(player_need_weight(p, &norm_w));
    n.w = norm_w;
    n.eps = player_real(p);
    n.silu = player_take(p) != 0;
    TRY(player_need_weight(p, &w));
    TRY(player_act(p, &residual));
    TRY(player_need_act(p, &out));
    return ops_norm_conv(p->m->o, t.in, t.top, t.bottom, &n, w, residual, out);
}

flux1_status play_group_norm(player *p)
{
    act in, out;
    weight *w;
    TRY(player_need_act(p, &in));
    const int64_t groups = player_take(p);
    TRY(player_need_weight(p, &w));
    const float eps = player_real(p);
    const bool silu = player_take(p) != 0;
    TRY(player_need_act(p, &out));
    return ops_group_norm(p->m->o, in, groups, w, eps, silu, out);
}

flux1_status play_group_stats(player *p)
{
    act in, out;
    TRY(player_need_act(p, &in));
    const int64_t groups = player_take(p);
    TRY(player_need_act(p, &out));
    return ops_group_stats(p->m->o, in, groups, out);
}

flux1_status play_group_apply(player *p)
{
    act in, stats, out;
    weight *w;
    TRY(player_need_act(p, &in));
    TRY(player_need_act(p, &stats));
    const int64_t groups = player_take(p);
    TRY(player_need_weight(p, &w));
    const float eps = player_real(p);
    const bool silu = player_take(p) != 0;
    TRY(player_need_act(p, &out));
    return ops_group_apply(p->m->o, in, stats, groups, w, eps, silu, out);
}

flux1_status play_upsample(player *p)
{
    act in, out;
    TRY(player_need_act(p, &in));
    TRY(player_need_act(p, &out));
    return ops_upsample(p->m->o, in, out);
}

flux1_status play_embed(player *p)
{
    act ids, out;
    weight *table, *positions;
    TRY(player_need_act(p, &ids));
    TRY(player_need_weight(p, &table));
    TRY(player_weight(p, &positions));
    const int64_t first = player_take(p);
    TRY(player_need_act(p, &out));
    return ops_embed(p->m->o, ids, table, positions, first, out);
}

flux1_status play_activate(player *p)
{
    act in, mul, out;
    const activation f = (activation)player_take(p);
    TRY(player_need_act(p, &in));
    TRY(player_act(p, &mul));
    TRY(player_need_act(p, &out));
    return ops_activate(p->m->o, f, in, mul, out);
}

flux1_status play_add(player *p)
{
    act x, gate, y, out;
    TRY(player_need_act(p, &x));
    const float s = player_real(p);
    TRY(player_act(p, &gate));
    TRY(player_need_act(p, &y));
    TRY(player_need_act(p, &out));
    return ops_add(p->m->o, x, s, gate, y, out);
}

flux1_status play_euler(player *p)
{
    act x, v, dsigma;
    TRY(player_need_act(p, &x));
    TRY(player_need_act(p, &v));
    TRY(player_need_act(p, &dsigma));
    return ops_euler(p->m->o, x, v, dsigma);
}

flux1_status play_cast(player *p)
{
    act in, out;
    TRY(player_need_act(p, &in));
    TRY(player_need_act(p, &out));
    return ops_cast(p->m->o, in, out);
}

flux1_status play_copy_rows(player *p)
{
    act in, out;
    TRY(player_need_act(p, &in));
    int64_t first = player_take(p);
    const char *given = player_text(p);
    TRY(player_need_act(p, &out));
    if (given)
        TRY(p->from->row(p->from->user, given, &first, p->m->err));
    return ops_copy_rows(p->m->o, in, first, out);
}
