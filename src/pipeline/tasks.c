#include "pipeline/tasks.h"

#include "pipeline/request.h"
#include "pipeline/team.h"

#include <stddef.h>

/* Rows of a picture of SIZE_LIMIT × SIZE_LIMIT: more than any image has tokens. */
#define ROWS_LIMIT ((int64_t)SIZE_LIMIT * SIZE_LIMIT)

/* ---- jobs ---- */

static flux1_status describe_ids(parcel *p, const char *what, int most, int *length, const int32_t **ids,
                                 flux1_error *err)
{
    TRY(parcel_int(p, what, 1, most, length, err));
    return parcel_bulk(p, what, *length, sizeof **ids, (void **)ids, err);
}

static flux1_status describe_clip(parcel *p, void *job, flux1_error *err)
{
    text_job *j = job;
    TRY(describe_ids(p, "CLIP's ids", (int)j->model->clip.positions, &j->clip_length, &j->clip_ids, err));
    return parcel_int(p, "CLIP's rows", 0, j->clip_length, &j->clip_rows, err);
}

static flux1_status describe_t5(parcel *p, void *job, flux1_error *err)
{
    text_job *j = job;
    return describe_ids(p, "T5's ids", j->model->t5_length_max, &j->t5_length, &j->t5_ids, err);
}

/* What one pass is conditioned on. */
static flux1_status describe_prompts(parcel *p, dit_job *j, int i, flux1_error *err)
{
    const dit_layout *l = &j->layout;
    dit_prompts *r = &j->prompts[i];
    const int64_t embeds[] = {l->batch, l->text_rows, j->model->t5.d_model},
                  pooled[] = {l->batch, j->model->clip.hidden};
    TRY(parcel_i64(p, "the number of steps", 1, STEPS_LIMIT, &r->steps, err));
    TRY(parcel_bulk(p, "the sigmas", r->steps + 1, sizeof *r->sigmas, (void **)&r->sigmas, err));
    TRY(parcel_bulk(p, "the guidance", l->batch, sizeof *r->guidance, (void **)&r->guidance, err));
    TRY(parcel_tensor(p, "the prompts", 3, embeds, &j->embeds[i], err));
    TRY(parcel_tensor(p, "the pooled prompts", 2, pooled, &j->pooled[i], err));
    r->batch = l->batch;
    r->text_rows = l->text_rows;
    r->prompt_embeds = &j->embeds[i];
    r->pooled = &j->pooled[i];
    return FLUX1_OK;
}

static flux1_status describe_open(parcel *p, void *job, flux1_error *err)
{
    dit_job *j = job;
    dit_layout *l = &j->layout;
    TRY(parcel_i64(p, "the batch", 1, COUNT_LIMIT, &l->batch, err));
    TRY(parcel_i64(p, "the prompt's rows", 1, j->model->t5_length_max, &l->text_rows, err));
    TRY(parcel_i64(p, "the image's rows", 1, ROWS_LIMIT, &l->image_rows, err));
    TRY(parcel_int(p, "the passes", 1, 2, &l->passes, err));
    TRY(parcel_float(p, "the step cache's threshold", &l->step_cache, err));
    TRY(parcel_float(p, "the scale of true CFG", &j->scale, err));
    TRY(parcel_u64(p, "the recording's number", &j->recording, err));
    /* one table, the prompt's rows first */
    TRY(parcel_bulk(p, "the positions", (l->text_rows + l->image_rows) * DIT_ID_AXES, sizeof *l->text_ids,
                    (void **)&l->text_ids, err));
    l->image_ids = l->text_ids + l->text_rows * DIT_ID_AXES;
    for (int i = 0; i < l->passes; i++)
        TRY(describe_prompts(p, j, i, err));
    return FLUX1_OK;
}

static flux1_status describe_start(parcel *p, void *job, flux1_error *err)
{
    dit_job *j = job;
    const int64_t shape[] = {j->layout.batch, j->layout.image_rows, j->model->dit.in_channels};
    return parcel_tensor(p, "the noise", 3, shape, &j->noise, err);
}

static flux1_status describe_step(parcel *p, void *job, flux1_error *err)
{
    dit_job *j = job;
    TRY(parcel_bool(p, "a step's failure", &j->failed, err));
    return parcel_i64(p, "a step", 0, j->prompts[0].steps - 1, &j->step, err);
}

static flux1_status describe_latent(parcel *p, void *job, flux1_error *err)
{
    dit_job *j = job;
    TRY(describe_step(p, job, err));
    TRY(parcel_bool(p, "whether a preview is asked for", &j->expected, err));
    return parcel_float(p, "a preview's sigma", &j->sigma_next, err);
}

/* The sizes are of the tensor that is sent. */
static flux1_status describe_plane(parcel *p, vae_job *j, int64_t channels, flux1_error *err)
{
    TRY(parcel_i64(p, "a picture's height", 1, SIZE_LIMIT, &j->h, err));
    TRY(parcel_i64(p, "a picture's width", 1, SIZE_LIMIT, &j->w, err));
    const int64_t shape[] = {1, j->h * j->w, channels};
    return parcel_tensor(p, "a picture", 3, shape, &j->in, err);
}

static flux1_status describe_decode(parcel *p, void *job, flux1_error *err)
{
    vae_job *j = job;
    TRY(parcel_i64(p, "the rows of a band", 0, SIZE_LIMIT, &j->band, err));
    return describe_plane(p, j, j->model->vae.latent_channels, err);
}

static flux1_status describe_encode(parcel *p, void *job, flux1_error *err)
{
    vae_job *j = job;
    return describe_plane(p, j, j->model->vae.in_channels, err);
}

/* ---- tasks ---- */

typedef struct task_row {
    mesh_body *body;
    flux1_status (*describe)(parcel *p, void *job, flux1_error *err);
    size_t job; /* where in task_jobs */
} task_row;

static const task_row ROWS[TASKS] = {
#define ROW(name, body, describe, job) {body, describe, offsetof(task_jobs, job)},
    TASK_MAP(ROW)
#undef ROW
};

mesh_body *task_body(task t) { return ROWS[t].body; }

/* ---- files that change meanwhile ---- */

typedef struct checked_call {
    const session *session;
    task t;
    void *job;
} checked_call;

static flux1_status check_adapters(const adapter_set *set, flux1_error *err)
{
    for (int i = 0; i < set->count; i++)
        TRY(store_check_files(set->adapter[i]->file->store, err));
    return FLUX1_OK;
}

static flux1_status check_files(const checked_call *call, flux1_error *err)
{
    if (ROWS[call->t].job == offsetof(task_jobs, vae))
        return folder_check_files(((const vae_job *)call->job)->model, COMPONENT_VAE, err);
    TRY(check_adapters(&call->session->adapters, err));
    if (ROWS[call->t].job == offsetof(task_jobs, dit))
        return folder_check_files(((const dit_job *)call->job)->model, COMPONENT_DIT, err);
    return folder_check_files(((const text_job *)call->job)->model, call->t == TASK_T5 ? COMPONENT_T5 : COMPONENT_CLIP,
                              err);
}

static flux1_status check_prepared(const session *s, int rank, flux1_error *err)
{
    for (int k = 0; k < BUILTS; k++)
        TRY(adopted_intact(&s->adopted[k][rank], err));
    return FLUX1_OK;
}

/* Of a file that was cut meanwhile the rank has read zeros: that is why, whatever came of them. */
static flux1_status checked_body(void *arg, mesh *m)
{
    const checked_call *call = arg;
    const flux1_status st = ROWS[call->t].body(call->job, m);
    if (st == FLUX1_ERR_CANCELLED || st == FLUX1_ERR_COMM)
        return st;
    TRY(check_files(call, m->err));
    TRY(check_prepared(call->session, (int)m->rank, m->err));
    return st;
}

flux1_status task_run_here(const session *s, task t, void *job, flux1_error *err)
{
    checked_call call = {s, t, job};
    return mesh_run(s->mesh, checked_body, &call, err);
}

static flux1_status describe_task(parcel *p, task *t, flux1_error *err)
{
    int number = (int)*t;
    TRY(parcel_int(p, "a task", 0, TASKS - 1, &number, err));
    *t = (task)number;
    return FLUX1_OK;
}

static flux1_status order_run(flux1_context *c, session *s, task t, void *job)
{
    parcel *p = c->order;
    order kind = ORDER_RUN;
    parcel_begin(p);
    TRY(team_describe(p, &kind, &s->number, &c->error));
    TRY(describe_task(p, &t, &c->error));
    TRY(ROWS[t].describe(p, job, &c->error));
    return team_send(c, p);
}

flux1_status task_run(flux1_context *c, session *s, task t, void *job)
{
    if (s->device->processes && team_leads(c))
        TRY(order_run(c, s, t, job));
    return task_run_here(s, t, job, &c->error);
}

flux1_status task_receive(parcel *p, const flux1_model *m, task_jobs *jobs, task *t, void **job, flux1_error *err)
{
    TRY(describe_task(p, t, err));
    jobs->text.model = jobs->dit.model = jobs->vae.model = m;
    *job = (char *)jobs + ROWS[*t].job;
    TRY(ROWS[*t].describe(p, *job, err));
    return parcel_end(p, err);
}
