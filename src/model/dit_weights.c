#include "model/dit.h"

#include "model/dit_tables.h"
#include "model/dit_weights.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- weights ---- */

static const char *const IMAGE_NAMES[] = {"norm1.linear", "attn.to_q",     "attn.to_k",     "attn.to_v", "attn.norm_q",
                                          "attn.norm_k",  "attn.to_out.0", "ff.net.0.proj", "ff.net.2"};
static const char *const TEXT_NAMES[] = {"norm1_context.linear", "attn.add_q_proj",       "attn.add_k_proj",
                                         "attn.add_v_proj",      "attn.norm_added_q",     "attn.norm_added_k",
                                         "attn.to_add_out",      "ff_context.net.0.proj", "ff_context.net.2"};

static flux1_status load_stream(loader *l, const dit_weights *model, const char *base, const char *const *names,
                                joint_stream *s)
{
    char n[9][160];
    int64_t d = dit_hidden(&model->config), dim = model->config.head_dim;
    for (int i = 1; i < 9; i++)
        snprintf(n[i], sizeof n[i], "%s.%s", base, names[i]);
    TRY(load_qkv(l, n[1], n[2], n[3], model->config.heads, dim, d, true, &s->qkv));
    TRY(load_norm(l, n[4], dim, false, &s->norm_q));
    TRY(load_norm(l, n[5], dim, false, &s->norm_k));
    TRY(load_linear(l, n[6], d, d, true, LINEAR_ROW, dim, &s->out));
    TRY(load_linear(l, n[7], DIT_MLP_RATIO * d, d, true, LINEAR_COLUMN, 1, &s->up));
    return load_linear(l, n[8], d, DIT_MLP_RATIO * d, true, LINEAR_ROW, 1, &s->down);
}

static flux1_status load_joint(loader *l, const dit_weights *model, int64_t i, joint_block *b)
{
    snprintf(b->name, sizeof b->name, "transformer_blocks.%lld", (long long)i);
    TRY(load_block(l, &b->body, "%s", b->name));
    TRY(load_stream(l, model, b->name, IMAGE_NAMES, &b->part[PART_IMAGE]));
    return load_stream(l, model, b->name, TEXT_NAMES, &b->part[PART_TEXT]);
}

/* proj_out takes [attention | mlp]: this rank's columns are its heads' and its features'. */
static flux1_status load_single_out(loader *l, const dit_weights *model, const char *name, linear_weight *w)
{
    char full[176];
    int64_t d = dit_hidden(&model->config);
    weight_recipe whole, att, mlp, slice, bias;
    snprintf(full, sizeof full, "%s.weight", name);
    TRY(load_recipe(l, WEIGHT_LINEAR, full, 2, (int64_t[]){d, (1 + DIT_MLP_RATIO) * d}, &whole));
    att = recipe_cols(&whole, 0, d);
    mlp = recipe_cols(&whole, d, DIT_MLP_RATIO * d);
    att = mesh_row_slice(l->m, &att, model->config.head_dim);
    mlp = mesh_row_slice(l->m, &mlp, 1);
    TRY(recipe_beside(&att, &mlp, &slice, l->m->err));
    w->adapters = NULL;
    w->adapter_count = 0;
    TRY(load_place(l, name, d, (1 + DIT_MLP_RATIO) * d, d, model->config.head_dim, w));
    snprintf(full, sizeof full, "%s.bias", name);
    TRY(load_recipe(l, WEIGHT_VECTOR, full, 1, &d, &bias));
    return load_prepared(l, &slice, mesh_adds_bias(l->m) ? &bias : NULL, &w->w);
}

static flux1_status load_single(loader *l, const dit_weights *model, int64_t i, single_block *b)
{
    static const char *const names[] = {"attn.to_q",   "attn.to_k", "attn.to_v", "attn.norm_q",
                                        "attn.norm_k", "proj_mlp",  "proj_out"};
    char n[7][160];
    int64_t d = dit_hidden(&model->config), dim = model->config.head_dim;
    snprintf(b->name, sizeof b->name, "single_transformer_blocks.%lld", (long long)i);
    for (int k = 0; k < 7; k++)
        snprintf(n[k], sizeof n[k], "%s.%s", b->name, names[k]);
    TRY(load_block(l, &b->body, "%s", b->name));
    TRY(load_qkv(l, n[0], n[1], n[2], model->config.heads, dim, d, true, &b->qkv));
    TRY(load_norm(l, n[3], dim, false, &b->norm_q));
    TRY(load_norm(l, n[4], dim, false, &b->norm_k));
    TRY(load_linear(l, n[5], DIT_MLP_RATIO * d, d, true, LINEAR_COLUMN, 1, &b->up));
    return load_single_out(l, model, n[6], &b->out);
}

/* Modulations are used once a picture, the blocks' bodies every step: each kind is created in its order of use, which
 * is the order that a backend reads ahead in. All ranks share their rows (dit_condition.c). */
static flux1_status load_modulations(loader *some, dit_weights *model)
{
    char name[160];
    mesh flat = mesh_flat(some->m);
    loader all = *some, *l = &all;
    all.m = &flat;
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    for (int64_t i = 0; i < c->layers; i++) {
        joint_block *b = &model->joint[i];
        TRY(load_block(l, &b->mods, "transformer_blocks.%lld.norm1", (long long)i));
        for (int p = 0; p < 2; p++) {
            snprintf(name, sizeof name, "transformer_blocks.%lld.%s", (long long)i,
                     p == PART_TEXT ? TEXT_NAMES[0] : IMAGE_NAMES[0]);
            TRY(load_linear(l, name, 6 * d, d, true, LINEAR_COLUMN, 1, &b->part[p].mod));
        }
    }
    for (int64_t i = 0; i < c->single_layers; i++) {
        snprintf(name, sizeof name, "single_transformer_blocks.%lld.norm.linear", (long long)i);
        TRY(load_block(l, &model->single[i].mods, "%s", name));
        TRY(load_linear(l, name, 3 * d, d, true, LINEAR_COLUMN, 1, &model->single[i].mod));
    }
    TRY(load_block(l, &model->final_mods, "norm_out.linear"));
    return load_linear(l, "norm_out.linear", 2 * d, d, true, LINEAR_COLUMN, 1, &model->final_mod);
}

/* The embedders and the exit work on a rank's own rows (or on one vector): their weights are whole everywhere. */
static flux1_status load_embedders(loader *l, dit_weights *model)
{
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    TRY(load_block(l, &model->embedders, "time_text_embed"));
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

static flux1_status load_ends(loader *l, dit_weights *model)
{
    const dit_config *c = &model->config;
    int64_t d = dit_hidden(c);
    TRY(load_block(l, &model->final, "proj_out"));
    TRY(load_linear(l, "x_embedder", d, c->in_channels, true, LINEAR_WHOLE, 1, &model->image_in));
    return load_linear(l, "proj_out", c->out_channels, d, true, LINEAR_WHOLE, 1, &model->image_out);
}

flux1_status dit_weights_create(loader *l, const dit_config *c, dit_weights **out)
{
    dit_weights *model = calloc(1, sizeof *model);
    if (!model)
        return error_oom(l->m->err, sizeof *model, "the transformer");
    *out = model;
    model->config = *c;
    l->made = &model->blocks;
    model->heads = mesh_heads(l->m, c->heads).count;
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
    l->coarse = l->int8 = true; /* the blocks' own products may be in 8 bits; embedders, modulations and the exit, which
                         every value passes through, are too small to gain */
    for (int64_t i = 0; i < c->layers; i++) {
        TRY(load_joint(l, model, i, &model->joint[i]));
        *name++ = model->joint[i].name;
    }
    for (int64_t i = 0; i < c->single_layers; i++) {
        TRY(load_single(l, model, i, &model->single[i]));
        *name++ = model->single[i].name;
    }
    l->coarse = l->int8 = false;
    *name = "proj_out";
    return FLUX1_OK;
}

void dit_weights_destroy(dit_weights *model)
{
    if (!model)
        return;
    block_list_free(&model->blocks);
    free(model->joint);
    free(model->single);
    free(model->names);
    free(model);
}
