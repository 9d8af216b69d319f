#include "pipeline/stages.h"

#include <stdlib.h>
#include <string.h>

/* ---- ticks and plans ---- */

static flux1_status tick(void *user, mesh *m)
{
    ticker *t = user;
    if (m->rank != 0)
        return FLUX1_OK;
    if (!t->recording)
        return t->report ? t->report(t->user, t->next++, m->err) : FLUX1_OK;
    stage_plan *p = t->recording;
    if ((p->tick_count & (p->tick_count + 1)) == 0) { /* 0, 1, 3, 7, …: room for twice as many */
        double *more = realloc(p->ticks, 2 * (p->tick_count + 1) * sizeof *more);
        if (!more)
            return error_oom(m->err, 0, "the plan");
        p->ticks = more;
    }
    p->ticks[p->tick_count++] = ops_dry_count(m->o)->flops;
    return FLUX1_OK;
}

flux1_status stage_plan_make(const mesh_config *c, const mesh_device *d, mesh_body *body, void *job, ticker *t,
                             stage_plan *out, flux1_error *err)
{
    int ranks = mesh_ranks(c);
    flux1_status st = FLUX1_OK;
    *out = (stage_plan){.arena = calloc((size_t)ranks, sizeof *out->arena)};
    if (!out->arena)
        return error_oom(err, 0, "the plan");
    t->recording = out;
    for (int r = 0; st == FLUX1_OK && r < ranks; r++) {
        ops_count count;
        st = mesh_dry_run(c, d, r, body, job, &count, err);
        if (st != FLUX1_OK)
            break;
        if (r == 0)
            out->count = count;
        out->arena[r] = count.arena_peak;
        out->memory += count.arena_peak;
    }
    t->recording = NULL;
    t->next = 0;
    if (st != FLUX1_OK)
        stage_plan_free(out);
    return st;
}

void stage_plan_free(stage_plan *p)
{
    free(p->arena);
    free(p->ticks);
    *p = (stage_plan){0};
}

flux1_status stage_run(const mesh_config *c, const mesh_device *d, const stage_plan *p, mesh_body *body, void *job,
                       flux1_error *err)
{
    mesh_session *s = NULL;
    TRY(mesh_open(c, d, &s, err));
    flux1_status st = mesh_reserve(s, p->arena, err);
    if (st == FLUX1_OK)
        st = mesh_run(s, body, job, err);
    mesh_close(s);
    return st;
}

/* ---- bodies ---- */

/* The result goes to rank 0. */
static tensor *for_rank(mesh *m, tensor *t) { return m->rank == 0 && t->data ? t : NULL; }

flux1_status clip_body(void *arg, mesh *m)
{
    text_job *job = arg;
    clip *model = NULL;
    loader l = {.m = m, .s = job->model->store[COMPONENT_CLIP]};
    flux1_status st = clip_create(&l, &job->model->clip, &model);
    if (st == FLUX1_OK)
        st = clip_encode(model, m, job->clip_ids, job->clip_length, for_rank(m, &job->pooled), tick, &job->ticker);
    clip_destroy(model);
    return st;
}

flux1_status t5_body(void *arg, mesh *m)
{
    text_job *job = arg;
    t5 *model = NULL;
    loader l = {.m = m, .s = job->model->store[COMPONENT_T5]};
    flux1_status st = t5_create(&l, &job->model->t5, &model);
    if (st == FLUX1_OK)
        st = t5_encode(model, m, job->t5_ids, job->t5_length, for_rank(m, &job->embeds), tick, &job->ticker);
    t5_destroy(model);
    return st;
}

flux1_status dit_open_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    loader l = {.m = m, .s = job->model->store[COMPONENT_DIT]};
    TRY(dit_create(&l, &job->model->dit, &job->rank[m->rank]));
    return dit_begin(job->rank[m->rank], m, &job->request, tick, &job->ticker);
}

flux1_status dit_start_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return dit_start(job->rank[m->rank], m, job->noise);
}

flux1_status dit_step_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return dit_step(job->rank[m->rank], m, job->step, tick, &job->ticker);
}

flux1_status dit_step_end_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return dit_step_end(job->rank[m->rank], m, job->step, tick, &job->ticker);
}

flux1_status dit_whole_step_body(void *arg, mesh *m)
{
    TRY(dit_step_body(arg, m));
    return dit_step_end_body(arg, m);
}

flux1_status dit_latent_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    return dit_latent(job->rank[m->rank], m, job->sigma_next, job->latent ? for_rank(m, job->latent) : NULL);
}

void dit_job_close(dit_job *job, int ranks)
{
    for (int r = 0; job->rank && r < ranks; r++)
        dit_destroy(job->rank[r]);
    free(job->rank);
    job->rank = NULL;
}

flux1_status dit_dry_body(void *arg, mesh *m)
{
    dit_job *job = arg;
    dit *model = NULL;
    loader l = {.m = m, .s = job->model->store[COMPONENT_DIT]};
    flux1_status st;
    float sigma = 0;
    tensor noise = {.type = DTYPE_F32,
                    .dims = 3,
                    .shape = {1, job->request.grid_h * job->request.grid_w, job->model->dit.in_channels}};
    TRY_CLEANUP(dit_create(&l, &job->model->dit, &model));
    TRY_CLEANUP(dit_begin(model, m, &job->request, tick, &job->ticker));
    TRY_CLEANUP(dit_start(model, m, &noise));
    for (int64_t k = 0; k < job->request.steps; k++) {
        TRY_CLEANUP(dit_step(model, m, k, tick, &job->ticker));
        TRY_CLEANUP(dit_step_end(model, m, k, tick, &job->ticker));
    }
    TRY_CLEANUP(dit_latent(model, m, &sigma, NULL));
cleanup:
    dit_destroy(model);
    return st;
}

flux1_status vae_decode_body(void *arg, mesh *m)
{
    vae_job *job = arg;
    vae_decoder *model = NULL;
    loader l = {.m = m, .s = job->model->store[COMPONENT_VAE]};
    flux1_status st = vae_decoder_create(&l, &job->model->vae, &model);
    if (st == FLUX1_OK)
        st = vae_decode(model, m, &job->in, job->h, job->w, for_rank(m, &job->out), tick, &job->ticker);
    vae_decoder_destroy(model);
    return st;
}

flux1_status vae_encode_body(void *arg, mesh *m)
{
    vae_job *job = arg;
    vae_encoder *model = NULL;
    loader l = {.m = m, .s = job->model->store[COMPONENT_VAE]};
    flux1_status st = vae_encoder_create(&l, &job->model->vae, &model);
    if (st == FLUX1_OK)
        st = vae_encode(model, m, &job->in, job->h, job->w, for_rank(m, &job->out), tick, &job->ticker);
    vae_encoder_destroy(model);
    return st;
}

static flux1_status claim_body(void *arg, mesh *m)
{
    struct flux1_model *f = arg;
    flux1_status st;
    clip *c = NULL;
    t5 *t = NULL;
    dit *d = NULL;
    vae_decoder *v = NULL;
    vae_encoder *e = NULL;
    TRY_CLEANUP(clip_create(&(loader){.m = m, .s = f->store[COMPONENT_CLIP], .claim = true}, &f->clip, &c));
    TRY_CLEANUP(t5_create(&(loader){.m = m, .s = f->store[COMPONENT_T5], .claim = true}, &f->t5, &t));
    TRY_CLEANUP(dit_create(&(loader){.m = m, .s = f->store[COMPONENT_DIT], .claim = true}, &f->dit, &d));
    TRY_CLEANUP(vae_decoder_create(&(loader){.m = m, .s = f->store[COMPONENT_VAE], .claim = true}, &f->vae, &v));
    TRY_CLEANUP(vae_encoder_create(&(loader){.m = m, .s = f->store[COMPONENT_VAE], .claim = true}, &f->vae, &e));
cleanup:
    clip_destroy(c);
    t5_destroy(t);
    dit_destroy(d);
    vae_decoder_destroy(v);
    vae_encoder_destroy(e);
    return st;
}

flux1_status stage_claim_all(struct flux1_model *m, flux1_error *err)
{
    mesh_config one = {.shape = {1, 1}, .sp = 1, .tp = 1, .tp_axis = 1};
    mesh_device shapes = {.kind = &ops_ref_device, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    ops_count count;
    return mesh_dry_run(&one, &shapes, 0, claim_body, m, &count, err);
}
