#include "base/checked.h"
#include "model/encoders.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct clip_layer {
    held_block block;
    linear_weight qkv, out, fc1, fc2;
    weight *norm1, *norm2;
    char name[48];
} clip_layer;

struct clip {
    clip_config config;
    block_list blocks;
    held_block embeddings, final;
    weight *tokens, *positions, *norm;
    const char **names; /* by finite slot */
    clip_layer layer[];
};

static flux1_status load_layer(loader *l, const clip_config *c, int64_t i, clip_layer *out)
{
    char base[80], name[5][128];
    snprintf(out->name, sizeof out->name, "encoder.layers.%lld", (long long)i);
    snprintf(base, sizeof base, "text_model.%s", out->name);
    const char *projections[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    for (int p = 0; p < 4; p++)
        snprintf(name[p], sizeof name[p], "%s.self_attn.%s", base, projections[p]);
    TRY(load_block(l, &out->block, "%s", base));
    TRY(load_qkv(l, name[0], name[1], name[2], c->heads, c->hidden / c->heads, c->hidden, true, &out->qkv));
    TRY(load_linear(l, name[3], c->hidden, c->hidden, true, LINEAR_ROW, c->hidden / c->heads, &out->out));
    snprintf(name[0], sizeof name[0], "%s.layer_norm1", base);
    snprintf(name[1], sizeof name[1], "%s.layer_norm2", base);
    snprintf(name[2], sizeof name[2], "%s.mlp.fc1", base);
    snprintf(name[3], sizeof name[3], "%s.mlp.fc2", base);
    TRY(load_norm(l, name[0], c->hidden, true, &out->norm1));
    TRY(load_norm(l, name[1], c->hidden, true, &out->norm2));
    TRY(load_linear(l, name[2], c->mlp, c->hidden, true, LINEAR_COLUMN, 1, &out->fc1));
    return load_linear(l, name[3], c->hidden, c->mlp, true, LINEAR_ROW, 1, &out->fc2);
}

static flux1_status load(loader *l, clip *model)
{
    const clip_config *c = &model->config;
    l->made = &model->blocks;
    TRY(load_block(l, &model->embeddings, "text_model.embeddings"));
    TRY(load_table(l, "text_model.embeddings.token_embedding.weight", c->vocab, c->hidden, &model->tokens));
    TRY(load_table(l, "text_model.embeddings.position_embedding.weight", c->positions, c->hidden, &model->positions));
    model->names[0] = "the embeddings";
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(load_layer(l, c, i, &model->layer[i]));
        model->names[i + 1] = model->layer[i].name;
    }
    TRY(load_block(l, &model->final, "text_model.final_layer_norm"));
    return load_norm(l, "text_model.final_layer_norm", c->hidden, true, &model->norm);
}

flux1_status clip_create(loader *l, const clip_config *c, clip **out)
{
    mesh flat = mesh_flat(l->m), *whole = l->m;
    clip *model = calloc(1, sizeof *model + (size_t)c->layers * sizeof model->layer[0]);
    if (!model || !(model->names = calloc((size_t)c->layers + 1, sizeof *model->names))) {
        free(model);
        return error_oom(l->m->err, 0, "the CLIP text encoder");
    }
    model->config = *c;
    *out = model;
    l->m = &flat;
    flux1_status st = load(l, model);
    l->m = whole;
    return st;
}

void clip_destroy(clip *model)
{
    if (!model)
        return;
    block_list_free(&model->blocks);
    free(model->names);
    free(model);
}

int64_t clip_pooled_row(const clip_config *c, const int32_t *ids, int64_t length)
{
    int64_t at = 0;
    for (int64_t i = 0; i < length; i++)
        if (c->eos == 2 ? ids[i] > ids[at] : ids[i] == c->eos) {
            at = i;
            if (c->eos != 2)
                break;
        }
    return at;
}

int64_t clip_rows(const clip_config *c, const int32_t *ids, int64_t length)
{
    /* No fewer: a device may sum products of a few rows in another order, and then a prompt's vector would depend on
     * what it is encoded together with. */
    enum { ROWS_STEP = 8, FEWEST_ROWS = 24 };
    const int64_t needed = i64_ceil_div(clip_pooled_row(c, ids, length) + 1, ROWS_STEP) * ROWS_STEP;
    return i64_min(length, i64_max(needed, FEWEST_ROWS));
}

/* What layers work on. */
typedef struct clip_run {
    act x; /* this rank's rows */
    act full, att;
} clip_run;

/* qkv: NULL for none. */
static flux1_status create_run(clip *model, mesh *m, int64_t rows, clip_run *r, act *qkv)
{
    const clip_config *c = &model->config;
    const int64_t width = mesh_heads(m, c->heads).count * (c->hidden / c->heads);
    TRY(ops_create(m->o, ACT_RESIDUAL, shape_rows(1, mesh_rows(m, rows).count, 0, c->hidden), &r->x));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(1, rows, 0, c->hidden), &r->full));
    if (qkv)
        TRY(ops_create(m->o, ACT_HEADS, shape_rows(1, rows, 0, 3 * width), qkv));
    return ops_create(m->o, ACT_LINEAR, shape_rows(1, rows, 0, width), &r->att);
}

static flux1_status embed(clip *model, mesh *m, const int32_t *ids, int64_t rows, act x)
{
    ops *o = m->o;
    const cut mine = mesh_rows(m, rows);
    act tokens;
    TRY(ops_create(o, ACT_IDS, shape_rows(1, mine.count, 0, 1), &tokens));
    tensor host = {
        .type = DTYPE_I32, .dims = 2, .shape = {mine.count, 1}, .data = (void *)(uintptr_t)(ids + mine.begin)};
    TRY(ops_upload_input(o, "clip.ids", mine.begin, &host, tokens));
    TRY(held_begin(o, &model->embeddings));
    TRY(ops_embed(o, tokens, model->tokens, model->positions, mine.begin, x));
    TRY(ops_finite(o, x, 0));
    return held_end(o, &model->embeddings);
}

/* att = the layer's attention, of all rows, or of row `only` alone (below 0: all). */
static flux1_status attend(clip *model, mesh *m, const clip_layer *b, const clip_run *r, act qkv, int64_t only, act att)
{
    const clip_config *c = &model->config;
    const int64_t width = qkv.cols / 3;
    act q = act_columns(qkv, 0, width), k = act_columns(qkv, width, width), v = act_columns(qkv, 2 * width, width);
    attention_args a = {.heads = mesh_heads(m, c->heads).count,
                        .scale = (float)(1 / sqrt((double)(c->hidden / c->heads))),
                        .causal = only < 0};
    TRY(mesh_enter(m, &(norm){.kind = NORM_LAYER, .w = b->norm1, .eps = (float)c->eps}, r->x, r->full));
    TRY(ops_linear(m->o, r->full, &b->qkv, &(epilogue){0}, qkv));
    if (only >= 0) {
        q = act_slice(q, only, 1);
        k = act_slice(k, 0, only + 1);
        v = act_slice(v, 0, only + 1);
    }
    return ops_attention(m->o, q, k, v, &a, att);
}

/* The layer behind its attention. */
static flux1_status leave_layer(clip *model, mesh *m, const clip_layer *b, const clip_run *r)
{
    const clip_config *c = &model->config;
    TRY(mesh_leave(m, r->att, &b->out, (act){0}, r->x, NULL));
    TRY(mesh_enter(m, &(norm){.kind = NORM_LAYER, .w = b->norm2, .eps = (float)c->eps}, r->x, r->full));
    return mesh_mlp(m, r->full, &b->fc1, c->act, &b->fc2, (act){0}, r->x);
}

/* Each layer on all rows of r. */
static flux1_status run_layers(clip *model, mesh *m, int64_t layers, const clip_run *r, act qkv, model_tick *tick,
                               void *user)
{
    for (int64_t i = 0; i < layers; i++) {
        const clip_layer *b = &model->layer[i];
        TRY(held_begin(m->o, &b->block));
        TRY(attend(model, m, b, r, qkv, -1, r->att));
        TRY(leave_layer(model, m, b, r));
        TRY(held_end(m->o, &b->block));
        TRY(ops_finite(m->o, r->x, (int)i + 1));
        TRY(tick(user, m));
    }
    return FLUX1_OK;
}

/* The last layer, for one row: the others of r are keys and values and nothing else. one: of one row. */
static flux1_status run_last(clip *model, mesh *m, int64_t row, const clip_run *r, act qkv, const clip_run *one)
{
    const int64_t last = model->config.layers - 1;
    const clip_layer *b = &model->layer[last];
    ops *o = m->o;
    const size_t mark = ops_mark(o);
    act all;
    TRY(ops_create(o, ACT_RESIDUAL, r->full.buffer->shape, &all));
    TRY(mesh_gather(m, r->x, all));
    TRY(ops_copy_rows(o, all, row, one->x));
    ops_release(o, mark);
    TRY(held_begin(o, &b->block));
    TRY(attend(model, m, b, r, qkv, row, one->att));
    TRY(leave_layer(model, m, b, one));
    TRY(held_end(o, &b->block));
    return ops_finite(o, one->x, (int)last + 1);
}

/* *out = the final norm of row `row` of x, which has all rows. */
static flux1_status pool_of_all(clip *model, mesh *m, act x, int64_t rows, int64_t row, act *out)
{
    ops *o = m->o;
    act all, only;
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, rows, 0, model->config.hidden), &all));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 1, 0, model->config.hidden), &only));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 1, 0, model->config.hidden), out));
    TRY(mesh_gather(m, x, all));
    TRY(ops_copy_given(o, "clip.pooled_row", all, row, only));
    TRY(held_begin(o, &model->final));
    TRY(ops_layer_norm(o, only, model->norm, (act){0}, (act){0}, (float)model->config.eps, *out));
    return held_end(o, &model->final);
}

/* The same where x is that row alone. */
static flux1_status pool_of_one(clip *model, mesh *m, act x, act *out)
{
    TRY(ops_create(m->o, ACT_RESIDUAL, shape_rows(1, 1, 0, model->config.hidden), out));
    TRY(held_begin(m->o, &model->final));
    TRY(mesh_enter(m, &(norm){.kind = NORM_LAYER, .w = model->norm, .eps = (float)model->config.eps}, x, *out));
    return held_end(m->o, &model->final);
}

static flux1_status encode_rows(clip *model, mesh *m, const clip_input *in, int64_t row, act *out, model_tick *tick,
                                void *user)
{
    const int64_t rows = in->rows ? in->rows : in->length, layers = model->config.layers;
    clip_run r, one;
    act qkv;
    TRY(create_run(model, m, rows, &r, &qkv));
    TRY(embed(model, m, in->ids, rows, r.x));
    TRY(run_layers(model, m, in->rows ? layers - 1 : layers, &r, qkv, tick, user));
    if (!in->rows)
        return pool_of_all(model, m, r.x, rows, row, out);
    TRY(create_run(model, m, 1, &one, NULL));
    TRY(run_last(model, m, row, &r, qkv, &one));
    TRY(tick(user, m));
    return pool_of_one(model, m, one.x, out);
}

flux1_status clip_encode(clip *model, mesh *ranks, const clip_input *in, tensor *pooled, model_tick *tick, void *user)
{
    mesh flat = mesh_flat(ranks), *m = &flat;
    const int64_t row = clip_pooled_row(&model->config, in->ids, in->length);
    const size_t mark = ops_mark(m->o);
    act out;
    if (in->rows && (row >= in->rows || in->rows > in->length))
        return error_set(m->err, FLUX1_ERR_INTERNAL,
                         "CLIP was to compute %" PRId64 " of %" PRId64 " rows, and to pool row %" PRId64, in->rows,
                         in->length, row);
    TRY(encode_rows(model, m, in, row, &out, tick, user));
    TRY(finite_report(m, "text_encoder (CLIP)", model->names, ""));
    if (pooled)
        TRY(ops_download(m->o, out, pooled));
    ops_release(m->o, mark);
    return FLUX1_OK;
}
