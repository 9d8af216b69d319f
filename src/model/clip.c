#include "model/encoders.h"

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

typedef struct clip_run {
    act x, full, qkv, att;
    int64_t heads; /* this rank's */
} clip_run;

static flux1_status run_layer(clip *model, mesh *m, const clip_layer *b, const clip_run *r)
{
    const clip_config *c = &model->config;
    ops *o = m->o;
    int64_t width = r->qkv.cols / 3;
    attention_args a = {.heads = r->heads, .scale = (float)(1 / sqrt((double)(c->hidden / c->heads))), .causal = true};
    act q = act_columns(r->qkv, 0, width), k = act_columns(r->qkv, width, width),
        v = act_columns(r->qkv, 2 * width, width);
    TRY(held_begin(o, &b->block));
    TRY(mesh_enter(m, &(norm){.kind = NORM_LAYER, .w = b->norm1, .eps = (float)c->eps}, r->x, r->full));
    TRY(ops_linear(o, r->full, &b->qkv, &(epilogue){0}, r->qkv));
    TRY(ops_attention(o, q, k, v, &a, r->att));
    TRY(mesh_leave(m, r->att, &b->out, (act){0}, r->x, NULL));
    TRY(mesh_enter(m, &(norm){.kind = NORM_LAYER, .w = b->norm2, .eps = (float)c->eps}, r->x, r->full));
    TRY(mesh_mlp(m, r->full, &b->fc1, c->act, &b->fc2, (act){0}, r->x));
    return held_end(o, &b->block);
}

static flux1_status begin(clip *model, mesh *m, const int32_t *ids, int64_t length, clip_run *r)
{
    const clip_config *c = &model->config;
    ops *o = m->o;
    cut mine = mesh_rows(m, length), heads = mesh_heads(m, c->heads);
    int64_t width = heads.count * (c->hidden / c->heads);
    act tokens;
    r->heads = heads.count;
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, mine.count, 0, c->hidden), &r->x));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, length, 0, c->hidden), &r->full));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, length, 0, 3 * width), &r->qkv));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, length, 0, width), &r->att));
    TRY(ops_create(o, ACT_IDS, shape_rows(1, mine.count, 0, 1), &tokens));
    tensor host = {
        .type = DTYPE_I32, .dims = 2, .shape = {mine.count, 1}, .data = (void *)(uintptr_t)(ids + mine.begin)};
    TRY(ops_upload_input(o, "clip.ids", mine.begin, &host, tokens));
    TRY(held_begin(o, &model->embeddings));
    TRY(ops_embed(o, tokens, model->tokens, model->positions, mine.begin, r->x));
    TRY(ops_finite(o, r->x, 0));
    return held_end(o, &model->embeddings);
}

static flux1_status pool(clip *model, mesh *m, const clip_run *r, int64_t position, tensor *pooled)
{
    ops *o = m->o;
    act all, row, out;
    TRY(ops_create(o, ACT_RESIDUAL, r->full.buffer->shape, &all));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 1, 0, model->config.hidden), &row));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 1, 0, model->config.hidden), &out));
    TRY(mesh_gather(m, r->x, all));
    TRY(ops_copy_given(o, "clip.pooled_row", all, position, row));
    TRY(held_begin(o, &model->final));
    TRY(ops_layer_norm(o, row, model->norm, (act){0}, (act){0}, (float)model->config.eps, out));
    TRY(held_end(o, &model->final));
    TRY(finite_report(m, "text_encoder (CLIP)", model->names, ""));
    return pooled ? ops_download(o, out, pooled) : FLUX1_OK;
}

flux1_status clip_encode(clip *model, mesh *ranks, const int32_t *ids, int64_t length, tensor *pooled, model_tick *tick,
                         void *user)
{
    mesh flat = mesh_flat(ranks), *m = &flat;
    ops *o = m->o;
    clip_run r;
    size_t mark = ops_mark(o);
    TRY(begin(model, m, ids, length, &r));
    for (int64_t i = 0; i < model->config.layers; i++) {
        TRY(run_layer(model, m, &model->layer[i], &r));
        TRY(ops_finite(o, r.x, (int)i + 1));
        TRY(tick(user, m));
    }
    TRY(pool(model, m, &r, clip_pooled_row(&model->config, ids, length), pooled));
    ops_release(o, mark);
    return FLUX1_OK;
}
