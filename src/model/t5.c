#include "model/encoders.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct t5_layer {
    held_block block;
    linear_weight qkv, o, wi, wo; /* wi: wi_0, which is activated, and wi_1, which gates it */
    weight *norm1, *norm2;
    char name[48];
} t5_layer;

struct t5 {
    t5_config config;
    block_list blocks;
    held_block embeddings, final;
    weight *tokens, *norm;
    weight_recipe bias; /* [buckets, heads] of block 0, shared by all blocks */
    const char **names;
    t5_layer layer[];
};

static flux1_status load_layer(loader *l, const t5_config *c, int64_t i, t5_layer *out)
{
    char base[80], name[5][128];
    int64_t inner = c->heads * c->d_kv;
    snprintf(out->name, sizeof out->name, "encoder.block.%lld", (long long)i);
    snprintf(base, sizeof base, "%s.layer.", out->name);
    const char *projections[] = {"q", "k", "v", "o"};
    for (int p = 0; p < 4; p++)
        snprintf(name[p], sizeof name[p], "%s0.SelfAttention.%s", base, projections[p]);
    TRY(load_block(l, &out->block, "%s", out->name));
    TRY(load_qkv(l, name[0], name[1], name[2], c->heads, c->d_kv, c->d_model, false, &out->qkv));
    TRY(load_linear(l, name[3], c->d_model, inner, false, LINEAR_ROW, c->d_kv, &out->o));
    const char *parts[] = {"0.layer_norm", "1.layer_norm", "1.DenseReluDense.wi_0", "1.DenseReluDense.wi_1",
                           "1.DenseReluDense.wo"};
    for (int p = 0; p < 5; p++)
        snprintf(name[p], sizeof name[p], "%s%s", base, parts[p]);
    TRY(load_norm(l, name[0], c->d_model, false, &out->norm1));
    TRY(load_norm(l, name[1], c->d_model, false, &out->norm2));
    TRY(load_pair(l, name[2], name[3], c->d_ff, c->d_model, &out->wi));
    return load_linear(l, name[4], c->d_model, c->d_ff, false, LINEAR_ROW, 1, &out->wo);
}

/* The tied embedding goes by either name. */
static const char *embedding_name(const store *s)
{
    const char *tied = "encoder.embed_tokens.weight";
    return !store_find(s, "shared.weight") && store_find(s, tied) ? tied : "shared.weight";
}

static flux1_status load(loader *l, t5 *model)
{
    const t5_config *c = &model->config;
    l->made = &model->blocks;
    TRY(load_block(l, &model->embeddings, "shared"));
    TRY(load_table(l, embedding_name(l->s), c->vocab, c->d_model, &model->tokens));
    TRY(load_recipe(l, WEIGHT_TABLE, T5_BIAS_TENSOR, 2, (int64_t[]){c->buckets, c->heads}, &model->bias));
    model->names[0] = "the embeddings";
    l->int8 = true;
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(load_layer(l, c, i, &model->layer[i]));
        model->names[i + 1] = model->layer[i].name;
    }
    l->int8 = false;
    model->names[c->layers + 1] = "encoder.final_layer_norm";
    TRY(load_block(l, &model->final, "encoder.final_layer_norm"));
    return load_norm(l, "encoder.final_layer_norm", c->d_model, false, &model->norm);
}

flux1_status t5_create(loader *l, const t5_config *c, t5 **out)
{
    mesh flat = mesh_flat(l->m), *whole = l->m;
    t5 *model = calloc(1, sizeof *model + (size_t)c->layers * sizeof model->layer[0]);
    if (!model || !(model->names = calloc((size_t)c->layers + 2, sizeof *model->names))) {
        free(model);
        return error_oom(l->m->err, 0, "the T5 text encoder");
    }
    model->config = *c;
    *out = model;
    l->m = &flat;
    flux1_status st = load(l, model);
    l->m = whole;
    return st;
}

void t5_destroy(t5 *model)
{
    if (!model)
        return;
    block_list_free(&model->blocks);
    free(model->names);
    free(model);
}

/* The bucket of key − query (transformers: T5Attention._relative_position_bucket, bidirectional; its logarithms are
 * float32). */
static int64_t relative_bucket(const t5_config *c, int64_t relative)
{
    int64_t half = c->buckets / 2, exact = half / 2, distance = relative < 0 ? -relative : relative, bucket = distance;
    if (distance >= exact) {
        float scaled = logf((float)distance / (float)exact) / (float)log((double)c->max_distance / (double)exact) *
                       (float)(half - exact);
        bucket = exact + (int64_t)scaled;
        bucket = bucket < half - 1 ? bucket : half - 1;
    }
    return bucket + (relative > 0 ? half : 0);
}

flux1_status t5_bias_values(const t5_config *c, const weight_recipe *bias, cut heads, int64_t length, float *values,
                            flux1_error *err)
{
    const int64_t width = 2 * length - 1;
    flux1_status st = FLUX1_OK;
    float *row = calloc((size_t)c->heads + 1, sizeof *row);
    if (!row)
        return error_oom(err, (size_t)c->heads * sizeof *row, "T5's relative bias");
    for (int64_t i = 0; st == FLUX1_OK && i < width; i++) {
        st = recipe_decode(bias, relative_bucket(c, i - (length - 1)), 0, c->heads, row, err);
        for (int64_t h = 0; st == FLUX1_OK && h < heads.count; h++)
            values[h * width + i] = row[heads.begin + h];
    }
    free(row);
    return st;
}

/* This rank's heads × (2·length − 1) relative positions, from the most negative. */
static flux1_status upload_bias(t5 *model, mesh *m, cut heads, int64_t length, act table)
{
    const int64_t width = 2 * length - 1;
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {heads.count, width}};
    if (ops_counts_only(m->o))
        return ops_upload_input(m->o, "t5.bias", heads.begin, &host, table);
    float *values = calloc((size_t)(heads.count * width) + 1, sizeof *values);
    if (!values)
        return error_oom(m->err, (size_t)(heads.count * width) * sizeof *values, "T5's relative bias");
    flux1_status st = t5_bias_values(&model->config, &model->bias, heads, length, values, m->err);
    host.data = values;
    if (st == FLUX1_OK)
        st = ops_upload_input(m->o, "t5.bias", heads.begin, &host, table);
    free(values);
    return st;
}

typedef struct t5_run {
    act x, full, qkv, att, hidden, bias; /* hidden: both halves of wi's output */
    int64_t heads;
} t5_run;

static flux1_status begin(t5 *model, mesh *m, const int32_t *ids, int64_t length, t5_run *r)
{
    const t5_config *c = &model->config;
    ops *o = m->o;
    cut mine = mesh_rows(m, length), heads = mesh_heads(m, c->heads), ff = mesh_features(m, c->d_ff);
    act tokens;
    r->heads = heads.count;
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, mine.count, 0, c->d_model), &r->x));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, length, 0, c->d_model), &r->full));
    TRY(ops_create(o, ACT_HEADS, shape_rows(1, length, 0, 3 * heads.count * c->d_kv), &r->qkv));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, length, 0, heads.count * c->d_kv), &r->att));
    TRY(ops_create(o, ACT_LINEAR, shape_rows(1, length, 0, 2 * ff.count), &r->hidden));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, heads.count, 2 * length - 1), &r->bias));
    TRY(ops_create(o, ACT_IDS, shape_rows(1, mine.count, 0, 1), &tokens));
    TRY(upload_bias(model, m, heads, length, r->bias));
    tensor host = {
        .type = DTYPE_I32, .dims = 2, .shape = {mine.count, 1}, .data = (void *)(uintptr_t)(ids + mine.begin)};
    TRY(ops_upload_input(o, "t5.ids", mine.begin, &host, tokens));
    TRY(held_begin(o, &model->embeddings));
    TRY(ops_embed(o, tokens, model->tokens, NULL, 0, r->x));
    TRY(ops_finite(o, r->x, 0));
    return held_end(o, &model->embeddings);
}

static flux1_status run_layer(t5 *model, mesh *m, const t5_layer *b, const t5_run *r)
{
    ops *o = m->o;
    int64_t width = r->qkv.cols / 3, ff = r->hidden.cols / 2;
    attention_args a = {.heads = r->heads, .scale = 1, .bias = r->bias}; /* T5 does not scale its logits */
    act q = act_columns(r->qkv, 0, width), k = act_columns(r->qkv, width, width),
        v = act_columns(r->qkv, 2 * width, width), hidden = act_columns(r->hidden, 0, ff),
        gate = act_columns(r->hidden, ff, ff);
    TRY(held_begin(o, &b->block));
    TRY(mesh_enter(m, &(norm){.kind = NORM_RMS, .w = b->norm1, .eps = (float)model->config.eps}, r->x, r->full));
    TRY(ops_linear(o, r->full, &b->qkv, &(epilogue){0}, r->qkv));
    TRY(ops_attention(o, q, k, v, &a, r->att));
    TRY(mesh_leave(m, r->att, &b->o, (act){0}, r->x, NULL));
    TRY(mesh_enter(m, &(norm){.kind = NORM_RMS, .w = b->norm2, .eps = (float)model->config.eps}, r->x, r->full));
    TRY(ops_linear(o, r->full, &b->wi, &(epilogue){0}, r->hidden));
    TRY(ops_activate(o, ACTIVATION_GELU_TANH, hidden, gate, hidden));
    TRY(mesh_leave(m, hidden, &b->wo, (act){0}, r->x, NULL));
    return held_end(o, &b->block);
}

flux1_status t5_encode(t5 *model, mesh *ranks, const int32_t *ids, int64_t length, tensor *embeds, model_tick *tick,
                       void *user)
{
    mesh flat = mesh_flat(ranks), *m = &flat;
    const t5_config *c = &model->config;
    ops *o = m->o;
    t5_run r;
    act last, all;
    size_t mark = ops_mark(o);
    TRY(begin(model, m, ids, length, &r));
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(run_layer(model, m, &model->layer[i], &r));
        TRY(ops_finite(o, r.x, (int)i + 1));
        TRY(tick(user, m));
    }
    TRY(ops_create(o, ACT_RESIDUAL, r.x.buffer->shape, &last));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, length, 0, c->d_model), &all));
    TRY(held_begin(o, &model->final));
    TRY(ops_rms_norm(o, r.x, model->norm, (float)c->eps, last));
    TRY(held_end(o, &model->final));
    TRY(ops_finite(o, last, (int)c->layers + 1));
    TRY(mesh_gather(m, last, all));
    TRY(finite_report(m, "text_encoder_2 (T5)", model->names, ""));
    if (embeds)
        TRY(ops_download(o, all, embeds));
    ops_release(o, mark);
    return FLUX1_OK;
}
