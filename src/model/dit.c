#include "model/dit.h"

#include "model/dit_tables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NORM_EPS 1e-6f
#define MLP_RATIO 4

/* One stream (prompt or image) of a joint block. */
typedef struct stream {
    linear_weight mod; /* hidden → 6 hidden: shift, scale, gate of attention, then of the MLP */
    linear_weight qkv, out, up, down;
    weight *norm_q, *norm_k;
    act table; /* mod of all steps, TABLE [steps, 6·hidden] */
} stream;

typedef struct joint_block {
    block *mods, *body;
    stream part[2]; /* by act_part */
    char name[48];
} joint_block;

typedef struct single_block {
    block *mods, *body;
    linear_weight mod; /* hidden → 3 hidden: shift, scale, gate */
    linear_weight qkv, up, out;
    weight *norm_q, *norm_k;
    act table;
    char name[48];
} single_block;

struct dit {
    dit_config config;
    int64_t heads; /* this rank's */
    block *embedders, *final_mods, *final;
    linear_weight image_in, text_in, time1, time2, guidance1, guidance2, pooled1, pooled2, final_mod, image_out;
    joint_block *joint;
    single_block *single;
    const char **names; /* by finite slot */
    /* the run */
    dit_request request;
    act latent, velocity, context, x, full, qkv, att, join, rope, dsigma, final_table;
    bool replayed[OPS_STEPS_AHEAD]; /* the last steps */
};

/* ---- weights ---- */

static const char *const IMAGE_NAMES[] = {"norm1.linear", "attn.to_q",     "attn.to_k",     "attn.to_v", "attn.norm_q",
                                          "attn.norm_k",  "attn.to_out.0", "ff.net.0.proj", "ff.net.2"};
static const char *const TEXT_NAMES[] = {"norm1_context.linear", "attn.add_q_proj",       "attn.add_k_proj",
                                         "attn.add_v_proj",      "attn.norm_added_q",     "attn.norm_added_k",
                                         "attn.to_add_out",      "ff_context.net.0.proj", "ff_context.net.2"};

static flux1_status load_stream(loader *l, const dit *model, const char *base, const char *const *names, stream *s)
{
    char n[9][160];
    int64_t d = dit_hidden(&model->config), dim = model->config.head_dim;
    for (int i = 1; i < 9; i++)
        snprintf(n[i], sizeof n[i], "%s.%s", base, names[i]);
    TRY(load_qkv(l, n[1], n[2], n[3], model->config.heads, dim, d, true, &s->qkv));
    TRY(load_norm(l, n[4], dim, false, &s->norm_q));
    TRY(load_norm(l, n[5], dim, false, &s->norm_k));
    TRY(load_linear(l, n[6], d, d, true, LINEAR_ROW, dim, &s->out));
    TRY(load_linear(l, n[7], MLP_RATIO * d, d, true, LINEAR_COLUMN, 1, &s->up));
    return load_linear(l, n[8], d, MLP_RATIO * d, true, LINEAR_ROW, 1, &s->down);
}

static flux1_status load_joint(loader *l, const dit *model, int64_t i, joint_block *b)
{
    snprintf(b->name, sizeof b->name, "transformer_blocks.%lld", (long long)i);
    TRY(load_block(l, "%s", b->name));
    b->body = l->block;
    TRY(load_stream(l, model, b->name, IMAGE_NAMES, &b->part[PART_IMAGE]));
    return load_stream(l, model, b->name, TEXT_NAMES, &b->part[PART_TEXT]);
}

/* proj_out takes [attention | mlp]: this rank's columns are its heads' and its features'. */
static flux1_status load_single_out(loader *l, const dit *model, const char *name, linear_weight *w)
{
    char full[176];
    int64_t d = dit_hidden(&model->config);
    weight_recipe whole, att, mlp, slice, bias;
    snprintf(full, sizeof full, "%s.weight", name);
    TRY(load_recipe(l, WEIGHT_LINEAR, full, 2, (int64_t[]){d, (1 + MLP_RATIO) * d}, &whole));
    att = recipe_cols(&whole, 0, d);
    mlp = recipe_cols(&whole, d, MLP_RATIO * d);
    att = mesh_row_slice(l->m, &att, model->config.head_dim);
    mlp = mesh_row_slice(l->m, &mlp, 1);
    TRY(recipe_beside(&att, &mlp, &slice, l->m->err));
    snprintf(full, sizeof full, "%s.bias", name);
    TRY(load_recipe(l, WEIGHT_VECTOR, full, 1, &d, &bias));
    return load_prepared(l, &slice, l->m->tp_rank == 0 ? &bias : NULL, &w->w);
}

static flux1_status load_single(loader *l, const dit *model, int64_t i, single_block *b)
{
    static const char *const names[] = {"attn.to_q",   "attn.to_k", "attn.to_v", "attn.norm_q",
                                        "attn.norm_k", "proj_mlp",  "proj_out"};
    char n[7][160];
    int64_t d = dit_hidden(&model->config), dim = model->config.head_dim;
    snprintf(b->name, sizeof b->name, "single_transformer_blocks.%lld", (long long)i);
    for (int k = 0; k < 7; k++)
        snprintf(n[k], sizeof n[k], "%s.%s", b->name, names[k]);
    TRY(load_block(l, "%s", b->name));
    b->body = l->block;
    TRY(load_qkv(l, n[0], n[1], n[2], model->config.heads, dim, d, true, &b->qkv));
    TRY(load_norm(l, n[3], dim, false, &b->norm_q));
    TRY(load_norm(l, n[4], dim, false, &b->norm_k));
    TRY(load_linear(l, n[5], MLP_RATIO * d, d, true, LINEAR_COLUMN, 1, &b->up));
    return load_single_out(l, model, n[6], &b->out);
}

/* Modulations are used once a picture, the blocks' bodies every step: each kind is created in its order of use, which
 * is the order that a backend reads ahead in. */
static flux1_status load_modulations(loader *l, dit *model)
{
    char name[160];
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    for (int64_t i = 0; i < c->layers; i++) {
        joint_block *b = &model->joint[i];
        TRY(load_block(l, "transformer_blocks.%lld.norm1", (long long)i));
        b->mods = l->block;
        for (int p = 0; p < 2; p++) {
            snprintf(name, sizeof name, "transformer_blocks.%lld.%s", (long long)i,
                     p == PART_TEXT ? TEXT_NAMES[0] : IMAGE_NAMES[0]);
            TRY(load_linear(l, name, 6 * d, d, true, LINEAR_COLUMN, 1, &b->part[p].mod));
        }
    }
    for (int64_t i = 0; i < c->single_layers; i++) {
        snprintf(name, sizeof name, "single_transformer_blocks.%lld.norm.linear", (long long)i);
        TRY(load_block(l, "%s", name));
        model->single[i].mods = l->block;
        TRY(load_linear(l, name, 3 * d, d, true, LINEAR_COLUMN, 1, &model->single[i].mod));
    }
    TRY(load_block(l, "norm_out.linear"));
    model->final_mods = l->block;
    return load_linear(l, "norm_out.linear", 2 * d, d, true, LINEAR_COLUMN, 1, &model->final_mod);
}

/* The embedders and the exit work on a rank's own rows (or on one vector): their weights are whole everywhere. */
static flux1_status load_embedders(loader *l, dit *model)
{
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    TRY(load_block(l, "time_text_embed"));
    model->embedders = l->block;
    TRY(load_linear(l, "time_text_embed.timestep_embedder.linear_1", d, TIME_CHANNELS, true, LINEAR_WHOLE, 1,
                    &model->time1));
    TRY(load_linear(l, "time_text_embed.timestep_embedder.linear_2", d, d, true, LINEAR_WHOLE, 1, &model->time2));
    if (c->guidance) {
        TRY(load_linear(l, "time_text_embed.guidance_embedder.linear_1", d, TIME_CHANNELS, true, LINEAR_WHOLE, 1,
                        &model->guidance1));
        TRY(load_linear(l, "time_text_embed.guidance_embedder.linear_2", d, d, true, LINEAR_WHOLE, 1,
                        &model->guidance2));
    }
    TRY(load_linear(l, "time_text_embed.text_embedder.linear_1", d, c->pooled_dim, true, LINEAR_WHOLE, 1,
                    &model->pooled1));
    TRY(load_linear(l, "time_text_embed.text_embedder.linear_2", d, d, true, LINEAR_WHOLE, 1, &model->pooled2));
    return load_linear(l, "context_embedder", d, c->joint_dim, true, LINEAR_WHOLE, 1, &model->text_in);
}

static flux1_status load_ends(loader *l, dit *model)
{
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    TRY(load_block(l, "proj_out"));
    model->final = l->block;
    TRY(load_linear(l, "x_embedder", d, c->in_channels, true, LINEAR_WHOLE, 1, &model->image_in));
    return load_linear(l, "proj_out", c->out_channels, d, true, LINEAR_WHOLE, 1, &model->image_out);
}

flux1_status dit_create(loader *l, const dit_config *c, dit **out)
{
    dit *model = calloc(1, sizeof *model);
    if (!model)
        return error_oom(l->m->err, sizeof *model, "the transformer");
    *out = model;
    model->config = *c;
    model->heads = cut_of(c->heads, l->m->tp, l->m->tp_rank).count;
    model->joint = calloc((size_t)c->layers + 1, sizeof *model->joint);
    model->single = calloc((size_t)c->single_layers + 1, sizeof *model->single);
    model->names = calloc((size_t)(c->layers + c->single_layers) + 3, sizeof *model->names);
    if (!model->joint || !model->single || !model->names)
        return error_oom(l->m->err, 0, "the transformer's blocks");
    const char **name = model->names;
    *name++ = "the embedders";
    TRY(load_embedders(l, model));
    TRY(load_modulations(l, model));
    TRY(load_ends(l, model));
    l->coarse = true; /* the blocks' own products bear 8 bits; embedders, modulations and the exit, which every value
                         passes through, are too small to gain */
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(load_joint(l, model, i, &model->joint[i]));
        *name++ = model->joint[i].name;
    }
    for (int64_t i = 0; i < c->single_layers; i++) {
        TRY(load_single(l, model, i, &model->single[i]));
        *name++ = model->single[i].name;
    }
    l->coarse = false;
    *name = "proj_out";
    return FLUX1_OK;
}

void dit_destroy(dit *model)
{
    if (!model)
        return;
    free(model->joint);
    free(model->single);
    free(model->names);
    free(model);
}

/* ---- what does not change from step to step ---- */

/* out = linear2(silu(linear1(in))), TABLEs. */
static flux1_status embed_vector(ops *o, act in, const linear_weight *w1, const linear_weight *w2, act out)
{
    size_t mark = ops_mark(o);
    act hidden;
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, act_rows(in), w1->w->rows), &hidden));
    TRY(ops_linear(o, in, w1, &(epilogue){.f = ACTIVATION_SILU}, hidden));
    TRY(ops_linear(o, hidden, w2, &(epilogue){0}, out));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status upload_table(ops *o, float *values, int64_t rows, int64_t cols, act out)
{
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {rows, cols}, .data = values};
    return ops_upload(o, &host, out);
}

/* Sinusoids of every step's σ (rows 0 to steps−1) and of the guidance (row `steps`). */
static flux1_status upload_sinusoids(ops *o, const dit_request *r, act time, act guidance)
{
    float *rows = malloc((size_t)(r->steps + 1) * TIME_CHANNELS * sizeof *rows);
    if (!rows)
        return error_oom(o->err, 0, "the time embedding");
    for (int64_t k = 0; k < r->steps; k++)
        time_embedding(r->sigmas[k] * 1000.0f, rows + k * TIME_CHANNELS);
    time_embedding(r->guidance * 1000.0f, rows + r->steps * TIME_CHANNELS);
    flux1_status st = upload_table(o, rows, r->steps, TIME_CHANNELS, time);
    if (st == FLUX1_OK)
        st = upload_table(o, rows + r->steps * TIME_CHANNELS, 1, TIME_CHANNELS, guidance);
    free(rows);
    return st;
}

/* silu(time(σ) + guidance(g) + pooled(CLIP)) of all steps: what every modulation is a linear map of. */
static flux1_status condition(dit *model, mesh *m, act vec)
{
    ops *o = m->o;
    const dit_request *r = &model->request;
    int64_t d = vec.cols;
    act time, guidance, pooled, part;
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, r->steps, TIME_CHANNELS), &time));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, 1, TIME_CHANNELS), &guidance));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, 1, model->config.pooled_dim), &pooled));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, 1, d), &part));
    TRY(upload_sinusoids(o, r, time, guidance));
    TRY(ops_upload(o, r->pooled, pooled));
    TRY(embed_vector(o, time, &model->time1, &model->time2, vec));
    if (model->config.guidance) {
        TRY(embed_vector(o, guidance, &model->guidance1, &model->guidance2, part));
        TRY(ops_add(o, vec, 1, (act){0}, part, vec));
    }
    TRY(embed_vector(o, pooled, &model->pooled1, &model->pooled2, part));
    TRY(ops_add(o, vec, 1, (act){0}, part, vec));
    return ops_activate(o, ACTIVATION_SILU, vec, vec);
}

static flux1_status modulation(mesh *m, block *b, act vec, const linear_weight *w, act table)
{
    TRY(ops_block_begin(m->o, b));
    TRY(mesh_table(m, vec, w, table));
    return ops_block_end(m->o, b);
}

static flux1_status create_tables(dit *model, ops *o)
{
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c), steps = model->request.steps;
    for (int64_t i = 0; i < c->layers; i++)
        for (int p = 0; p < 2; p++)
            TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, steps, 6 * d), &model->joint[i].part[p].table));
    for (int64_t i = 0; i < c->single_layers; i++)
        TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, steps, 3 * d), &model->single[i].table));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, steps, 2 * d), &model->final_table));
    return ops_create(o, ACT_TABLE, shape_rows(1, 0, steps, 1), &model->dsigma);
}

static flux1_status fill_modulations(dit *model, mesh *m, act vec)
{
    const dit_config *c = &model->config;
    for (int64_t i = 0; i < c->layers; i++) {
        joint_block *b = &model->joint[i];
        for (int p = 0; p < 2; p++)
            TRY(modulation(m, b->mods, vec, &b->part[p].mod, b->part[p].table));
    }
    for (int64_t i = 0; i < c->single_layers; i++)
        TRY(modulation(m, model->single[i].mods, vec, &model->single[i].mod, model->single[i].table));
    return modulation(m, model->final_mods, vec, &model->final_mod, model->final_table);
}

static flux1_status upload_rope(dit *model, mesh *m, cut span)
{
    ops *o = m->o;
    const dit_config *c = &model->config;
    int64_t text = model->request.text_rows, most = text > span.count ? text : span.count;
    if (ops_counts_only(o))
        return FLUX1_OK;
    float *rows = malloc((size_t)(most * c->head_dim) * sizeof *rows);
    if (!rows)
        return error_oom(m->err, (size_t)(most * c->head_dim) * sizeof *rows, "the RoPE table");
    rope_table(c, 0, 0, text, rows);
    flux1_status st = upload_table(o, rows, text, c->head_dim, act_of(model->rope, PART_TEXT));
    if (st == FLUX1_OK) {
        rope_table(c, model->request.grid_w, span.begin, span.count, rows);
        st = upload_table(o, rows, span.count, c->head_dim, act_of(model->rope, PART_IMAGE));
    }
    free(rows);
    return st;
}

static flux1_status create_streams(dit *model, mesh *m, int64_t tokens)
{
    ops *o = m->o;
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c), text = model->request.text_rows, width = model->heads * c->head_dim,
            mlp = cut_of(MLP_RATIO * d, m->tp, m->tp_rank).count;
    int64_t my_text = mesh_rows(m, PART_TEXT, text).count, my_image = mesh_rows(m, PART_IMAGE, tokens).count,
            span = mesh_span(m, PART_IMAGE, tokens).count;
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, my_image, c->in_channels), &model->latent));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, my_image, c->out_channels), &model->velocity));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, my_text, 0, d), &model->context));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, my_text, my_image, d), &model->x));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, text, span, d), &model->full));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, text, span, 3 * width), &model->qkv));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, text, span, width + mlp), &model->join));
    TRY(ops_create(o, ACT_ROPE, shape_rows(1, text, span, c->head_dim), &model->rope));
    return ops_create(o, ACT_LINEAR, shape_rows(1, text, span, width), &model->att);
}

/* Rows [begin, begin + count) of a host tensor [1, rows, cols]. */
static tensor host_rows(const tensor *t, cut rows, int64_t cols)
{
    float *data = t->data ? (float *)t->data + rows.begin * cols : NULL; /* a dry run has shapes only */
    return (tensor){.type = t->type, .dims = 3, .shape = {1, rows.count, cols}, .data = data};
}

static flux1_status embed_prompt(dit *model, mesh *m)
{
    ops *o = m->o;
    cut mine = mesh_rows(m, PART_TEXT, model->request.text_rows);
    tensor rows = host_rows(model->request.prompt_embeds, mine, model->config.joint_dim);
    size_t mark = ops_mark(o);
    act prompt;
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, mine.count, 0, model->config.joint_dim), &prompt));
    TRY(ops_upload(o, &rows, prompt));
    TRY(ops_linear(o, prompt, &model->text_in, &(epilogue){0}, model->context));
    ops_release(o, mark);
    return ops_finite(o, model->context, 0);
}

static flux1_status upload_dsigma(dit *model, ops *o)
{
    const dit_request *r = &model->request;
    float *d = malloc((size_t)r->steps * sizeof *d);
    if (!d)
        return error_oom(o->err, 0, "the step sizes");
    for (int64_t k = 0; k < r->steps; k++)
        d[k] = r->sigmas[k + 1] - r->sigmas[k];
    flux1_status st = upload_table(o, d, r->steps, 1, model->dsigma);
    free(d);
    return st;
}

flux1_status dit_begin(dit *model, mesh *m, const dit_request *r, model_tick *tick, void *user)
{
    ops *o = m->o;
    int64_t tokens = r->grid_h * r->grid_w;
    model->request = *r;
    TRY(create_streams(model, m, tokens));
    TRY(create_tables(model, o));
    TRY(upload_dsigma(model, o));
    TRY(upload_rope(model, m, mesh_span(m, PART_IMAGE, tokens)));
    size_t mark = ops_mark(o);
    act vec;
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, r->steps, dit_hidden(&model->config)), &vec));
    TRY(ops_block_begin(o, model->embedders));
    TRY(embed_prompt(model, m));
    TRY(condition(model, m, vec));
    TRY(ops_finite(o, vec, 0));
    TRY(ops_block_end(o, model->embedders));
    TRY(fill_modulations(model, m, vec));
    ops_release(o, mark);
    TRY(finite_report(m, "transformer", model->names, ""));
    return tick(user, m);
}

flux1_status dit_start(dit *model, mesh *m, const tensor *noise)
{
    tensor mine = host_rows(noise, mesh_rows(m, PART_IMAGE, model->request.grid_h * model->request.grid_w),
                            model->config.in_channels);
    return ops_upload(m->o, &mine, model->latent);
}

/* ---- a step ---- */

static act mod(const act *table, int index, int64_t d) { return act_columns(*table, index * d, d); }

static flux1_status joint_attention_in(dit *model, mesh *m, const joint_block *b, act_part p)
{
    int64_t d = dit_hidden(&model->config);
    const stream *s = &b->part[p];
    act full = act_of(model->full, p);
    norm n = {.kind = NORM_LAYER, .shift = mod(&s->table, 0, d), .scale = mod(&s->table, 1, d), .eps = NORM_EPS};
    qkv_weights w = {.qkv = s->qkv, .norm_q = s->norm_q, .norm_k = s->norm_k, .heads = model->heads, .eps = NORM_EPS};
    TRY(mesh_enter(m, &n, act_of(model->x, p), full));
    return ops_qkv_norm_rope(m->o, full, &w, act_of(model->rope, p), act_of(model->qkv, p));
}

static flux1_status joint_attention_out_and_mlp(dit *model, mesh *m, const joint_block *b, act_part p)
{
    int64_t d = dit_hidden(&model->config);
    const stream *s = &b->part[p];
    act x = act_of(model->x, p), full = act_of(model->full, p);
    norm n = {.kind = NORM_LAYER, .shift = mod(&s->table, 3, d), .scale = mod(&s->table, 4, d), .eps = NORM_EPS};
    TRY(mesh_leave(m, act_of(model->att, p), &s->out, mod(&s->table, 2, d), x));
    TRY(mesh_enter(m, &n, x, full));
    return mesh_mlp(m, full, &s->up, ACTIVATION_GELU_TANH, &s->down, mod(&s->table, 5, d), x);
}

/* softmax(q·kᵀ/√dim)·v over prompt and image together. */
static flux1_status attend(dit *model, mesh *m, act out)
{
    int64_t width = model->qkv.cols / 3;
    attention_args a = {.heads = model->heads, .scale = (float)(1 / sqrt((double)model->config.head_dim))};
    act q = act_columns(model->qkv, 0, width), k = act_columns(model->qkv, width, width),
        v = act_columns(model->qkv, 2 * width, width);
    return mesh_attention(m, q, k, v, &a, model->request.grid_h * model->request.grid_w, out);
}

static flux1_status run_joint(dit *model, mesh *m, const joint_block *b)
{
    TRY(ops_block_begin(m->o, b->body));
    TRY(joint_attention_in(model, m, b, PART_IMAGE));
    TRY(joint_attention_in(model, m, b, PART_TEXT));
    TRY(attend(model, m, model->att));
    TRY(joint_attention_out_and_mlp(model, m, b, PART_IMAGE));
    TRY(joint_attention_out_and_mlp(model, m, b, PART_TEXT));
    return ops_block_end(m->o, b->body);
}

static flux1_status run_single(dit *model, mesh *m, const single_block *b)
{
    ops *o = m->o;
    int64_t d = dit_hidden(&model->config), width = model->qkv.cols / 3;
    norm n = {.kind = NORM_LAYER, .shift = mod(&b->table, 0, d), .scale = mod(&b->table, 1, d), .eps = NORM_EPS};
    qkv_weights w = {.qkv = b->qkv, .norm_q = b->norm_q, .norm_k = b->norm_k, .heads = model->heads, .eps = NORM_EPS};
    act attention = act_columns(model->join, 0, width),
        hidden = act_columns(model->join, width, model->join.cols - width);
    TRY(ops_block_begin(o, b->body));
    TRY(mesh_enter(m, &n, model->x, model->full));
    TRY(ops_single_products(o, model->full, &w, model->rope, model->qkv, &b->up, hidden));
    TRY(attend(model, m, attention));
    TRY(mesh_leave(m, model->join, &b->out, mod(&b->table, 2, d), model->x));
    return ops_block_end(o, b->body);
}

/* velocity = proj_out(norm(image) · (1 + scale) + shift); each rank its own rows. norm_out's halves are scale, then
 * shift, in diffusers' order. */
static flux1_status exit_stream(dit *model, mesh *m)
{
    ops *o = m->o;
    int64_t d = dit_hidden(&model->config);
    act image = act_of(model->x, PART_IMAGE), normed;
    size_t mark = ops_mark(o);
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, act_rows(image), d), &normed));
    TRY(ops_layer_norm(o, image, NULL, mod(&model->final_table, 1, d), mod(&model->final_table, 0, d), NORM_EPS,
                       normed));
    TRY(ops_block_begin(o, model->final));
    TRY(ops_linear(o, normed, &model->image_out, &(epilogue){0}, model->velocity));
    TRY(ops_block_end(o, model->final));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status enter_stream(dit *model, mesh *m)
{
    ops *o = m->o;
    TRY(ops_block_begin(o, model->final));
    TRY(ops_linear(o, model->latent, &model->image_in, &(epilogue){0}, act_of(model->x, PART_IMAGE)));
    TRY(ops_block_end(o, model->final));
    TRY(ops_cast(o, model->context, act_of(model->x, PART_TEXT)));
    return ops_finite(o, model->x, 0);
}

/* The calls of a step: the same every time, whatever the step. */
static flux1_status run_step(dit *model, mesh *m, model_tick *tick, void *user)
{
    ops *o = m->o;
    const dit_config *c = &model->config;
    int slot = 1;
    TRY(enter_stream(model, m));
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(run_joint(model, m, &model->joint[i]));
        TRY(ops_finite(o, model->x, slot++));
        TRY(tick(user, m));
    }
    for (int64_t i = 0; i < c->single_layers; i++) {
        TRY(run_single(model, m, &model->single[i]));
        TRY(ops_finite(o, model->x, slot++));
        TRY(tick(user, m));
    }
    TRY(exit_stream(model, m));
    TRY(ops_finite(o, model->velocity, slot));
    return ops_euler(o, model->latent, model->velocity, model->dsigma);
}

flux1_status dit_step(dit *model, mesh *m, int64_t k, model_tick *tick, void *user)
{
    ops *o = m->o;
    bool *replayed = &model->replayed[k % OPS_STEPS_AHEAD];
    TRY(ops_step_set(o, k));
    TRY(ops_step_replay(o, 1, replayed));
    if (!*replayed) {
        TRY(run_step(model, m, tick, user));
        TRY(ops_step_record(o));
    }
    return ops_step_end(o, k);
}

flux1_status dit_step_end(dit *model, mesh *m, int64_t k, model_tick *tick, void *user)
{
    char where[48];
    int slot;
    snprintf(where, sizeof where, " at step %lld", (long long)k + 1);
    TRY(ops_step_wait(m->o, k, &slot));
    TRY(finite_told(m, slot, "transformer", model->names, where));
    for (int64_t i = 0; model->replayed[k % OPS_STEPS_AHEAD] && i < model->config.layers + model->config.single_layers;
         i++)
        TRY(tick(user, m)); /* all at once: a replayed step has no middle */
    return FLUX1_OK;
}

flux1_status dit_latent(dit *model, mesh *m, const float *sigma_next, tensor *host)
{
    ops *o = m->o;
    int64_t tokens = model->request.grid_h * model->request.grid_w;
    if (!sigma_next)
        return mesh_collect(m, model->latent, tokens, host);
    size_t mark = ops_mark(o);
    act expected;
    TRY(ops_create(o, ACT_RESIDUAL, model->latent.buffer->shape, &expected));
    TRY(ops_add(o, model->latent, -*sigma_next, (act){0}, model->velocity, expected));
    TRY(mesh_collect(m, expected, tokens, host));
    ops_release(o, mark);
    return FLUX1_OK;
}
