/* What does not change from step to step: the embedded prompts, and the modulation of every block at every step. */
#include "model/dit_condition.h"

#include "model/dit_tables.h"

#include <stdlib.h>
#include <string.h>

enum { PASSES = 2 }; /* at most */

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

/* values: NULL in a dry run. */
static flux1_status upload_table(ops *o, const char *name, float *values, act out)
{
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {act_rows(out), out.cols}, .data = values};
    return ops_upload_input(o, name, 0, &host, out);
}

/* Sinusoids of 1000·phase[i], a row each. */
static flux1_status upload_sinusoids(ops *o, const char *name, const float *phase, act out)
{
    int64_t rows = act_rows(out);
    if (ops_counts_only(o))
        return upload_table(o, name, NULL, out);
    float *values = malloc((size_t)rows * TIME_CHANNELS * sizeof *values);
    if (!values)
        return error_oom(o->err, 0, "the time embedding");
    for (int64_t i = 0; i < rows; i++)
        time_embedding(phase[i] * 1000.0f, values + i * TIME_CHANNELS);
    flux1_status st = upload_table(o, name, values, out);
    free(values);
    return st;
}

/* vec[k·batch + b] = silu(time(σ_k) + guidance(g_b) + pooled(CLIP of b)): what every modulation is a linear map of. */
static flux1_status condition_vectors(const dit_weights *w, mesh *m, const dit_prompts *p, act vec)
{
    ops *o = m->o;
    int64_t d = vec.cols, batch = p->batch;
    act phases, time, guided, pooled_in, pooled;
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, p->steps, TIME_CHANNELS), &phases));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, p->steps, d), &time));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, batch, w->config.pooled_dim), &pooled_in));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, batch, d), &pooled));
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, batch, d), &guided));
    TRY(upload_sinusoids(o, "time", p->sigmas, phases));
    TRY(embed_vector(o, phases, &w->time1, &w->time2, time));
    if (w->config.guidance) {
        act phase;
        TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, batch, TIME_CHANNELS), &phase));
        TRY(upload_sinusoids(o, "guidance", p->guidance, phase));
        TRY(embed_vector(o, phase, &w->guidance1, &w->guidance2, guided));
    }
    tensor flat = {.type = DTYPE_F32, .dims = 2, .shape = {batch, w->config.pooled_dim}, .data = p->pooled->data};
    TRY(ops_upload_input(o, p->negative ? "pooled.negative" : "pooled", 0, &flat, pooled_in));
    TRY(embed_vector(o, pooled_in, &w->pooled1, &w->pooled2, pooled));
    for (int64_t k = 0; k < p->steps; k++) {
        act rows = act_slice(vec, k * batch, batch), at = act_slice(time, k, 1);
        if (w->config.guidance) {
            TRY(ops_add(o, guided, 1, (act){0}, at, rows));
            TRY(ops_add(o, rows, 1, (act){0}, pooled, rows));
        } else
            TRY(ops_add(o, pooled, 1, (act){0}, at, rows));
    }
    return ops_activate(o, ACTIVATION_SILU, vec, (act){0}, vec);
}

/* A table of all passes together; each has its `rows` rows of it. */
static flux1_status create_table(ops *o, int64_t rows, int passes, int64_t cols, act *const of[])
{
    act all;
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, passes * rows, cols), &all));
    for (int i = 0; i < passes; i++)
        *of[i] = act_slice(all, i * rows, rows);
    return FLUX1_OK;
}

static flux1_status create_tables(dit_condition *const t[], int passes, const dit_config *c, ops *o, int64_t rows)
{
    int64_t d = dit_hidden(c), joint = 2 * c->layers, all = joint + c->single_layers;
    act *of[PASSES];
    for (int64_t i = 0; i <= all; i++) {
        for (int k = 0; k < passes; k++)
            of[k] = i < all ? &t[k]->tables[i] : &t[k]->final;
        TRY(create_table(o, rows, passes, (i < joint ? 6 : i < all ? 3 : 2) * d, of));
    }
    for (int k = 0; k < passes; k++)
        TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, rows, 1), &t[k]->dsigma));
    return FLUX1_OK;
}

/* One product for all steps, entries and passes, into the whole table that `of` is part of: what bounds it is reading
 * the weight. By rows of the weight over all ranks: sp would not cut it. */
static flux1_status modulation(mesh *m, const held_block *b, act vec, const linear_weight *w, act of)
{
    mesh flat = mesh_flat(m);
    TRY(held_begin(m->o, b));
    TRY(mesh_table(&flat, vec, w, act_whole(of.buffer)));
    return held_end(m->o, b);
}

/* t: of any pass. */
static flux1_status fill_modulations(const dit_condition *t, const dit_weights *w, mesh *m, act vec)
{
    for (int64_t i = 0; i < w->config.layers; i++)
        for (int p = 0; p < 2; p++)
            TRY(modulation(m, &w->joint[i].mods, vec, &w->joint[i].part[p].mod, t->joint[2 * i + p]));
    for (int64_t i = 0; i < w->config.single_layers; i++)
        TRY(modulation(m, &w->single[i].mods, vec, &w->single[i].mod, t->single[i]));
    return modulation(m, &w->final_mods, vec, &w->final_mod, t->final);
}

static flux1_status upload_dsigma(const dit_condition *t, const dit_prompts *p, ops *o)
{
    if (ops_counts_only(o))
        return upload_table(o, "dsigma", NULL, t->dsigma);
    float *d = malloc((size_t)(p->steps * p->batch) * sizeof *d);
    if (!d)
        return error_oom(o->err, 0, "the step sizes");
    for (int64_t i = 0; i < p->steps * p->batch; i++)
        d[i] = p->sigmas[i / p->batch + 1] - p->sigmas[i / p->batch];
    flux1_status st = upload_table(o, "dsigma", d, t->dsigma);
    free(d);
    return st;
}

flux1_status dit_upload_rows(mesh *m, const char *name, const tensor *host, cut rows, act out)
{
    int64_t batch = host->shape[0], all = host->shape[1], cols = host->shape[2];
    tensor mine = {.type = DTYPE_F32, .dims = 3, .shape = {batch, rows.count, cols}};
    if (!host->data || batch == 1) { /* a dry run has shapes only */
        mine.data = host->data ? (float *)host->data + rows.begin * cols : NULL;
        return ops_upload_input(m->o, name, rows.begin, &mine, out);
    }
    size_t bytes = (size_t)(rows.count * cols) * sizeof(float);
    float *dense = malloc((size_t)batch * bytes + 1);
    if (!dense)
        return error_oom(m->err, (size_t)batch * bytes, "a batch's rows");
    for (int64_t b = 0; b < batch; b++)
        memcpy(dense + b * rows.count * cols, (const float *)host->data + (b * all + rows.begin) * cols, bytes);
    mine.data = dense;
    flux1_status st = ops_upload_input(m->o, name, rows.begin, &mine, out);
    free(dense);
    return st;
}

static flux1_status embed_prompts(const dit_condition *t, const dit_weights *w, mesh *m, const dit_prompts *p)
{
    ops *o = m->o;
    cut mine = mesh_rows(m, p->text_rows);
    size_t mark = ops_mark(o);
    act prompt;
    TRY(ops_create(o, ACT_LINEAR, shape_rows(p->batch, mine.count, 0, w->config.joint_dim), &prompt));
    TRY(dit_upload_rows(m, p->negative ? "prompt_embeds.negative" : "prompt_embeds", p->prompt_embeds, mine, prompt));
    TRY(ops_linear(o, prompt, &w->text_in, &(epilogue){0}, t->context));
    ops_release(o, mark);
    return ops_finite(o, t->context, 0);
}

/* What each pass has of its own: its context, and its rows of vec. */
static flux1_status fill_pass(const dit_condition *t, const dit_weights *w, mesh *m, const dit_prompts *p, act vec)
{
    TRY(embed_prompts(t, w, m, p));
    TRY(condition_vectors(w, m, p, vec));
    return ops_finite(m->o, vec, 0);
}

static flux1_status fill(dit_condition *const t[], int passes, const dit_weights *w, mesh *m, const dit_prompts *p)
{
    ops *o = m->o;
    int64_t d = dit_hidden(&w->config), rows = p->steps * p->batch;
    act vec;
    for (int i = 0; i < passes; i++)
        TRY(ops_create(o, ACT_RESIDUAL, shape_rows(p->batch, mesh_rows(m, p->text_rows).count, 0, d), &t[i]->context));
    TRY(create_tables(t, passes, &w->config, o, rows));
    for (int i = 0; i < passes; i++)
        TRY(upload_dsigma(t[i], p, o));
    size_t mark = ops_mark(o);
    TRY(ops_create(o, ACT_TABLE, shape_rows(1, 0, passes * rows, d), &vec));
    TRY(held_begin(o, &w->embedders));
    for (int i = 0; i < passes; i++)
        TRY(fill_pass(t[i], w, m, &p[i], act_slice(vec, i * rows, rows)));
    TRY(held_end(o, &w->embedders));
    TRY(fill_modulations(t[0], w, m, vec));
    ops_release(o, mark);
    return finite_report(m, "transformer", w->names, "");
}

static dit_condition *allocate(const dit_config *c)
{
    dit_condition *t = calloc(1, sizeof *t + (size_t)(2 * c->layers + c->single_layers) * sizeof(act));
    if (t) {
        t->joint = t->tables;
        t->single = t->tables + 2 * c->layers;
    }
    return t;
}

flux1_status dit_condition_create(const dit_weights *w, mesh *m, const dit_prompts *p, int passes, model_tick *tick,
                                  void *user, dit_condition **out)
{
    dit_condition *t[PASSES] = {NULL};
    flux1_status st = FLUX1_OK;
    for (int i = 0; i < passes && st == FLUX1_OK; i++)
        if (!(t[i] = allocate(&w->config)))
            st = error_oom(m->err, sizeof **t, "a batch's conditions");
    if (st == FLUX1_OK)
        st = fill(t, passes, w, m, p);
    for (int i = 0; i < passes; i++)
        if (st == FLUX1_OK)
            out[i] = t[i];
        else
            dit_condition_destroy(t[i]);
    for (int i = 0; i < passes && st == FLUX1_OK; i++)
        st = tick(user, m);
    return st;
}

void dit_condition_destroy(dit_condition *t) { free(t); }
