/* The transformer from top to bottom: what flows through it (a stream), and a step. */
#include "model/dit_condition.h"

#include "model/dit_tables.h"
#include "model/step_cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NORM_EPS 1e-6f

struct dit_stream {
    dit_layout layout;      /* its tables of ids are not kept */
    act latent, before;     /* before: the latent that the step began from */
    act velocity, negative; /* negative: of the second pass; left out where there is one */
    act x, full, qkv, att, join, rope;
    step_cache *cache[2]; /* of each pass; NULL: none */
    int64_t kept;         /* the step that began from `before`; −1: none */
};

/* ---- streams ---- */

/* Of the part's rows from `first` on; ids are of the whole part. */
static flux1_status upload_positions(const dit_config *c, ops *o, const char *name, const float *ids, int64_t first,
                                     act out)
{
    int64_t rows = act_rows(out);
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {rows, c->head_dim}};
    if (ops_counts_only(o))
        return ops_upload_input(o, name, first, &host, out);
    float *values = malloc((size_t)(rows * c->head_dim) * sizeof *values + 1);
    if (!values)
        return error_oom(o->err, (size_t)(rows * c->head_dim) * sizeof *values, "the RoPE table");
    rope_table(c, ids + first * DIT_ID_AXES, rows, values);
    host.data = values;
    flux1_status st = ops_upload_input(o, name, first, &host, out);
    free(values);
    return st;
}

static flux1_status upload_rope(const dit_stream *s, const dit_weights *w, mesh *m, const dit_layout *l)
{
    int64_t text = mesh_span(m, l->text_rows).begin, image = mesh_span(m, l->image_rows).begin;
    TRY(upload_positions(&w->config, m->o, "rope.text", l->text_ids, text, act_of(s->rope, PART_TEXT)));
    return upload_positions(&w->config, m->o, "rope.image", l->image_ids, image, act_of(s->rope, PART_IMAGE));
}

static flux1_status create_acts(dit_stream *s, const dit_weights *w, mesh *m)
{
    ops *o = m->o;
    const dit_config *c = &w->config;
    const dit_layout *l = &s->layout;
    int64_t d = dit_hidden(c), width = w->heads * c->head_dim, mlp = mesh_features(m, DIT_MLP_RATIO * d).count,
            batch = l->batch;
    int64_t my_text = mesh_rows(m, l->text_rows).count, my_image = mesh_rows(m, l->image_rows).count,
            text = mesh_span(m, l->text_rows).count, image = mesh_span(m, l->image_rows).count;
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(batch, 0, my_image, c->in_channels), &s->latent));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(batch, 0, my_image, c->in_channels), &s->before));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(batch, 0, my_image, c->out_channels), &s->velocity));
    if (l->passes > 1)
        TRY(ops_create(o, ACT_RESIDUAL, shape_rows(batch, 0, my_image, c->out_channels), &s->negative));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(batch, my_text, my_image, d), &s->x));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(batch, text, image, d), &s->full));
    TRY(ops_create(o, ACT_HEADS, shape_rows(batch, text, image, 3 * width), &s->qkv));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(batch, text, image, width + mlp), &s->join));
    TRY(ops_create(o, ACT_ROPE, shape_rows(1, text, image, c->head_dim), &s->rope));
    for (int i = 0; l->step_cache > 0 && i < l->passes; i++)
        TRY(step_cache_create(m, l->step_cache, batch, my_image, d, &s->cache[i]));
    return ops_create(o, ACT_LINEAR, shape_rows(batch, text, image, width), &s->att);
}

flux1_status dit_stream_create(const dit_weights *w, mesh *m, const dit_layout *l, dit_stream **out)
{
    dit_stream *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(m->err, sizeof *s, "a batch");
    s->layout = *l;
    s->layout.text_ids = s->layout.image_ids = NULL;
    s->kept = -1;
    flux1_status st = create_acts(s, w, m);
    if (st == FLUX1_OK)
        st = upload_rope(s, w, m, l);
    if (st != FLUX1_OK) {
        dit_stream_destroy(s);
        return st;
    }
    *out = s;
    return FLUX1_OK;
}

void dit_stream_destroy(dit_stream *s)
{
    for (int i = 0; s && i < 2; i++)
        step_cache_destroy(s->cache[i]);
    free(s);
}

size_t dit_stream_host_bytes(const dit_config *c, const dit_layout *l, int64_t image_rows)
{
    return l->step_cache > 0 ? (size_t)l->passes * step_cache_bytes(l->batch, image_rows, dit_hidden(c)) : 0;
}

int64_t dit_stream_reused(const dit_stream *s)
{
    int64_t sum = 0;
    for (int i = 0; i < 2; i++)
        sum += s->cache[i] ? s->cache[i]->reused : 0;
    return sum;
}

flux1_status dit_stream_start(const dit_weights *w, mesh *m, dit_stream *s, const tensor *noise)
{
    (void)w;
    s->kept = -1;
    for (int i = 0; i < 2; i++)
        if (s->cache[i])
            step_cache_start(s->cache[i]);
    return dit_upload_rows(m, "noise", noise, mesh_rows(m, s->layout.image_rows), s->latent);
}

flux1_status dit_stream_keep(dit_stream *s, mesh *m, int64_t step)
{
    if (s->kept == step)
        return ops_cast(m->o, s->before, s->latent);
    s->kept = -1;
    TRY(ops_cast(m->o, s->latent, s->before));
    s->kept = step;
    return FLUX1_OK;
}

/* ---- a step ---- */

/* One pass through the blocks. */
typedef struct pass {
    const dit_weights *w;
    const dit_condition *condition;
    const dit_stream *s;
    mesh *m;
    step_cache *cache; /* NULL: none */
    act velocity;      /* out */
    model_tick *tick;
    void *user;
} pass;

static act mod(act table, int index, int64_t d) { return act_columns(table, index * d, d); }

/* A norm whose shift and scale are these columns of a table (in widths of the model). */
static norm modulated(const pass *r, act table, int shift, int scale)
{
    int64_t d = dit_hidden(&r->w->config);
    return (norm){.kind = NORM_LAYER, .shift = mod(table, shift, d), .scale = mod(table, scale, d), .eps = NORM_EPS};
}

/* Of both parts, from columns of a joint block's tables: shift, scale, gate of attention, then of the MLP. */
static void joint_norms(const pass *r, int64_t i, int shift, norm n[2])
{
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        n[p] = modulated(r, r->condition->joint[2 * i + p], shift, shift + 1);
}

static void joint_gates(const pass *r, int64_t i, int column, act gate[2])
{
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        gate[p] = mod(r->condition->joint[2 * i + p], column, dit_hidden(&r->w->config));
}

/* Before block i, of joint and single blocks in a row, x is normalised into `full`: that is where the block before it
 * ends, or the stream begins. Behind the last block comes the final norm, of this rank's rows; its columns are scale,
 * then shift, in diffusers' order. */
static mesh_next entry_of(const pass *r, int64_t i)
{
    const dit_config *c = &r->w->config;
    mesh_next next = {.slot = (int)i, .full = r->s->full, .mine = i == c->layers + c->single_layers};
    const single_block *single = i < c->layers || next.mine ? NULL : &r->w->single[i - c->layers];
    if (i < c->layers)
        joint_norms(r, i, 0, next.n);
    else
        next.n[PART_TEXT] = next.n[PART_IMAGE] = next.mine ? modulated(r, r->condition->final, 1, 0)
                                                           : modulated(r, r->condition->single[i - c->layers], 0, 1);
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++)
        if (i < c->layers)
            next.readers[p][0] = &r->w->joint[i].part[p].qkv;
        else if (single)
            next.readers[p][0] = &single->qkv, next.readers[p][1] = &single->up;
    return next;
}

/* softmax(q·kᵀ/√dim)·v over prompt and image together; may be in 8 bits, as the blocks' products may. */
static attention_args attention_of(const pass *r)
{
    return (attention_args){
        .heads = r->w->heads, .scale = (float)(1 / sqrt((double)r->w->config.head_dim)), .int8 = true};
}

/* q, k and v of both parts, from their own weights. */
static flux1_status joint_products(const pass *r, const joint_block *b)
{
    const dit_stream *s = r->s;
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        const joint_stream *j = &b->part[p];
        qkv_weights w = {
            .qkv = j->qkv, .norm_q = j->norm_q, .norm_k = j->norm_k, .heads = r->w->heads, .eps = NORM_EPS};
        TRY(ops_branch(r->m->o, BRANCH_OF(p)));
        TRY(ops_qkv_norm_rope(r->m->o, act_of(s->full, p), &w, act_of(s->rope, p), act_of(s->qkv, p)));
    }
    return ops_branch(r->m->o, 0);
}

static flux1_status run_joint(const pass *r, int64_t i)
{
    mesh *m = r->m;
    const joint_block *b = &r->w->joint[i];
    const joint_stream *text = &b->part[PART_TEXT], *image = &b->part[PART_IMAGE];
    const linear_weight *const out[] = {&text->out, &image->out}, *const up[] = {&text->up, &image->up},
                               *const down[] = {&text->down, &image->down};
    const dit_stream *s = r->s;
    const int64_t rows[] = {s->layout.text_rows, s->layout.image_rows}, width = s->qkv.cols / 3;
    attention_args a = attention_of(r);
    mesh_next mlp = {.slot = -1, .full = s->full, .readers = {{up[PART_TEXT]}, {up[PART_IMAGE]}}},
              next = entry_of(r, i + 1);
    act gate_attention[2], gate_mlp[2];
    joint_gates(r, i, 2, gate_attention);
    joint_norms(r, i, 3, mlp.n);
    joint_gates(r, i, 5, gate_mlp);
    TRY(held_begin(m->o, &b->body));
    TRY(joint_products(r, b));
    TRY(mesh_attention(m, act_columns(s->qkv, 0, width), act_columns(s->qkv, width, width),
                       act_columns(s->qkv, 2 * width, width), &a, rows, s->att));
    TRY(mesh_joint_leave(m, s->att, out, gate_attention, s->x, &mlp));
    TRY(mesh_joint_mlp(m, s->full, up, ACTIVATION_GELU_TANH, down, gate_mlp, s->x, &next));
    return held_end(m->o, &b->body);
}

/* Behind the last block only the image is read: there the prompt's rows give keys and values, and ask nothing. */
static flux1_status run_single(const pass *r, int64_t i)
{
    ops *o = r->m->o;
    const single_block *b = &r->w->single[i];
    const dit_stream *s = r->s;
    const int64_t rows[] = {s->layout.text_rows, s->layout.image_rows};
    int64_t width = s->qkv.cols / 3;
    act gate = mod(r->condition->single[i], 2, dit_hidden(&r->w->config));
    attention_args a = attention_of(r);
    mesh_next next = entry_of(r, r->w->config.layers + i + 1);
    qkv_weights w = {.qkv = b->qkv, .norm_q = b->norm_q, .norm_k = b->norm_k, .heads = r->w->heads, .eps = NORM_EPS};
    const act_part part = next.mine ? PART_IMAGE : PART_WHOLE;
    act join = act_of(s->join, part), attention = act_columns(join, 0, width),
        hidden = act_columns(join, width, join.cols - width);
    next.full = act_of(next.full, part);
    TRY(held_begin(o, &b->body));
    TRY(mesh_single_attention(r->m, s->full, &w, s->rope, s->qkv, &b->up, hidden, &a, rows, attention));
    TRY(mesh_leave(r->m, join, &b->out, gate, act_of(s->x, part), &next));
    return held_end(o, &b->body);
}

static flux1_status enter_stream(const pass *r)
{
    ops *o = r->m->o;
    mesh_next first = entry_of(r, 0);
    TRY(held_begin(o, &r->w->final));
    TRY(ops_linear(o, r->s->latent, &r->w->image_in, &(epilogue){0}, act_of(r->s->x, PART_IMAGE)));
    TRY(held_end(o, &r->w->final));
    TRY(ops_cast(o, r->condition->context, act_of(r->s->x, PART_TEXT)));
    return mesh_enter_next(r->m, r->s->x, &first);
}

/* velocity = proj_out(normed image); each rank its own rows. */
static flux1_status exit_stream(const pass *r, act velocity)
{
    ops *o = r->m->o;
    act normed = act_slice(act_of(r->s->full, PART_IMAGE), 0, act_rows(velocity));
    TRY(held_begin(o, &r->w->final));
    TRY(ops_linear(o, normed, &r->w->image_out, &(epilogue){0}, velocity));
    return held_end(o, &r->w->final);
}

static flux1_status run_blocks(const pass *r, int64_t first, int64_t end)
{
    const int64_t joint = r->w->config.layers;
    for (int64_t i = first; i < end; i++) {
        TRY(i < joint ? run_joint(r, i) : run_single(r, i - joint));
        TRY(r->tick(r->user, r->m));
    }
    return FLUX1_OK;
}

static int64_t blocks_of(const pass *r) { return r->w->config.layers + r->w->config.single_layers; }

/* velocity of what behind the last block lies in `full`. */
static flux1_status end_pass(const pass *r)
{
    TRY(exit_stream(r, r->velocity));
    return ops_finite(r->m->o, r->velocity, (int)blocks_of(r) + 1);
}

static flux1_status predict(const pass *r)
{
    TRY(enter_stream(r));
    TRY(run_blocks(r, 0, blocks_of(r)));
    return end_pass(r);
}

/* n + scale·(v − n), in diffusers' order of operations, and the Euler step. */
static flux1_status end_step(void *arg, mesh *m)
{
    const dit_step_args *a = arg;
    const dit_stream *s = a->stream;
    if (!a->negative)
        return ops_euler(m->o, s->latent, s->velocity, a->positive->dsigma);
    TRY(ops_add(m->o, s->velocity, -1, (act){0}, s->negative, s->velocity));
    TRY(ops_add(m->o, s->negative, a->scale, (act){0}, s->velocity, s->negative));
    return ops_euler(m->o, s->latent, s->negative, a->positive->dsigma);
}

/* ---- a pass with a step cache, in parts ---- */

enum { CACHED_FIRST, CACHED_REST, CACHED_REUSE, CACHED_PARTS, CACHED_END = 2 * CACHED_PARTS };
_Static_assert(CACHED_END < OPS_STEP_PARTS, "two passes and the end");

static flux1_status first_block(void *arg, mesh *m)
{
    const pass *r = arg;
    const act image = act_of(r->s->x, PART_IMAGE);
    TRY(enter_stream(r));
    TRY(step_cache_begin(r->cache, m, image));
    TRY(run_blocks(r, 0, 1));
    return step_cache_change(r->cache, m, image);
}

static flux1_status other_blocks(void *arg, mesh *m)
{
    const pass *r = arg;
    TRY(run_blocks(r, 1, blocks_of(r)));
    TRY(step_cache_keep(r->cache, m, act_of(r->s->x, PART_IMAGE)));
    return end_pass(r);
}

/* What they added when they last ran. Their ticks are given by whoever calls this. */
static flux1_status no_other_blocks(void *arg, mesh *m)
{
    const pass *r = arg;
    const act image = act_of(r->s->x, PART_IMAGE);
    mesh_next last = entry_of(r, blocks_of(r));
    last.full = act_of(last.full, PART_IMAGE);
    TRY(step_cache_apply(r->cache, m, image));
    TRY(mesh_enter_next(m, image, &last));
    return end_pass(r);
}

static flux1_status give_ticks(const pass *r, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        TRY(r->tick(r->user, r->m));
    return FLUX1_OK;
}

/* A dry run makes both ways, since the lists of both are kept; one of them is next to nothing. */
static flux1_status predict_cached(pass *r, int parts)
{
    mesh *m = r->m;
    bool reuse, silent;
    TRY(mesh_part(m, parts + CACHED_FIRST, first_block, r, &silent));
    TRY(give_ticks(r, silent));
    TRY(step_cache_decide(r->cache, m, &reuse));
    if (!reuse) {
        TRY(mesh_part(m, parts + CACHED_REST, other_blocks, r, &silent));
        TRY(give_ticks(r, silent ? blocks_of(r) - 1 : 0));
        step_cache_kept(r->cache, m);
    }
    if (!reuse && !ops_counts_only(m->o))
        return FLUX1_OK;
    TRY(mesh_part(m, parts + CACHED_REUSE, no_other_blocks, r, &silent));
    return reuse ? give_ticks(r, blocks_of(r) - 1) : FLUX1_OK;
}

flux1_status dit_step(const dit_step_args *a, mesh *m, model_tick *tick, void *user)
{
    const dit_stream *s = a->stream;
    dit_step_args end = *a;
    bool silent;
    for (int i = 0; i < (a->negative ? 2 : 1); i++) {
        pass r = {.w = a->weights,
                  .condition = i ? a->negative : a->positive,
                  .s = s,
                  .m = m,
                  .cache = s->cache[i],
                  .velocity = i ? s->negative : s->velocity,
                  .tick = tick,
                  .user = user};
        TRY(r.cache ? predict_cached(&r, i * CACHED_PARTS) : predict(&r));
    }
    return s->cache[0] ? mesh_part(m, CACHED_END, end_step, &end, &silent) : end_step(&end, m);
}

int64_t dit_ticks(const dit_config *c, int passes) { return passes * (c->layers + c->single_layers); }

flux1_status dit_told(const dit_weights *w, mesh *m, int slot, int64_t step)
{
    char where[48];
    snprintf(where, sizeof where, " at step %lld", (long long)step + 1);
    return finite_told(m, slot, "transformer", w->names, where);
}

flux1_status dit_latent(const dit_stream *s, mesh *m, const float *sigma_next, tensor *host)
{
    ops *o = m->o;
    int64_t tokens = s->layout.image_rows;
    if (!sigma_next)
        return mesh_collect(m, s->latent, tokens, host);
    size_t mark = ops_mark(o);
    act expected, velocity = s->layout.passes > 1 ? s->negative : s->velocity;
    TRY(ops_create(o, ACT_RESIDUAL, s->latent.buffer->shape, &expected));
    TRY(ops_add(o, s->latent, -*sigma_next, (act){0}, velocity, expected));
    TRY(mesh_collect(m, expected, tokens, host));
    ops_release(o, mark);
    return FLUX1_OK;
}
