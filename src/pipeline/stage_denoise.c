/* The denoising stage: noise, sigmas, positions, and the steps of batches on a session. */
#include "pipeline/text_to_image.h"

#include "base/large.h"
#include "base/philox.h"
#include "base/rng.h"
#include "pipeline/latents.h"
#include "pipeline/ttnn.h"

#include <stdlib.h>
#include <string.h>

static void draw(const request *r, uint64_t seed, float *out, size_t count)
{
    rng generator;
    if (r->rng == FLUX1_RNG_CUDA) {
        philox_normal(seed, r->rng_threads, out, count);
        return;
    }
    rng_seed(&generator, seed);
    rng_normal(&generator, out, count);
}

flux1_status make_noise(const flux1_model *m, const request *r, int64_t index, uint64_t seed, float *out,
                        flux1_error *err)
{
    if (r->latents) {
        latents_packed(m, r->latents, index, out);
        return FLUX1_OK;
    }
    int64_t h = request_grid_h(r, m), w = request_grid_w(r, m);
    size_t count = (size_t)(h * w * m->dit.in_channels);
    float *planes = large_alloc(count * sizeof *planes);
    if (!planes)
        return error_oom(err, count * sizeof *planes, "the noise");
    draw(r, seed, planes, count);
    latents_pack(planes, m->vae.latent_channels, h, w, out);
    large_free(planes, count * sizeof *planes);
    return FLUX1_OK;
}

/* The prompt's tokens are all at (0, 0, 0), the image's at (0, row, column). */
static flux1_status make_positions(denoiser *d)
{
    const step_shape *s = &d->shape;
    size_t bytes = (size_t)(s->text_rows + d->tokens) * DIT_ID_AXES * sizeof(float);
    if (d->ids)
        return FLUX1_OK;
    if (!(d->ids = calloc(1, bytes)))
        return error_oom(&d->context->error, bytes, "the tokens' positions");
    float *id = d->ids + s->text_rows * DIT_ID_AXES;
    d->job.layout.text_ids = d->ids;
    d->job.layout.image_ids = id;
    for (int64_t i = 0; i < s->grid_h; i++)
        for (int64_t j = 0; j < s->grid_w; j++, id += DIT_ID_AXES) {
            id[1] = (float)i;
            id[2] = (float)j;
        }
    return FLUX1_OK;
}

static flux1_status allocate_tables(denoiser *d, const request *r)
{
    d->sigmas = malloc((size_t)(r->steps + 1) * sizeof *d->sigmas);
    d->guidance = malloc((size_t)d->batch * sizeof *d->guidance);
    d->rows = calloc((size_t)d->batch, sizeof *d->rows);
    d->job.rank = calloc((size_t)mesh_ranks(&d->context->mesh), sizeof *d->job.rank);
    return d->sigmas && d->guidance && d->rows && d->job.rank ? FLUX1_OK
                                                              : error_oom(&d->context->error, 0, "the denoiser");
}

static void describe_job(denoiser *d, const request *r)
{
    d->job.model = d->model;
    d->job.scale = r->true_cfg_scale;
    d->job.layout = (dit_layout){.batch = d->batch,
                                 .text_rows = r->length,
                                 .image_rows = d->tokens,
                                 .passes = r->passes,
                                 .step_cache = r->step_cache};
    for (int i = 0; i < 2; i++) {
        d->job.embeds[i] = (tensor){.type = DTYPE_F32, .dims = 3, .shape = {d->batch, r->length, d->model->t5.d_model}};
        d->job.pooled[i] = (tensor){.type = DTYPE_F32, .dims = 2, .shape = {d->batch, d->model->clip.hidden}};
        d->job.prompts[i] = (dit_prompts){.batch = d->batch,
                                          .text_rows = r->length,
                                          .steps = r->steps,
                                          .sigmas = d->sigmas,
                                          .guidance = d->guidance,
                                          .prompt_embeds = &d->job.embeds[i],
                                          .pooled = &d->job.pooled[i],
                                          .negative = i == 1};
    }
}

/* What the ranks' streams have beside their arenas. */
static void add_host_bytes(denoiser *d)
{
    for (int i = 0; i < mesh_ranks(&d->context->mesh); i++) {
        mesh m;
        mesh_set_rank(&m, &d->context->mesh, i);
        const size_t bytes =
            dit_stream_host_bytes(&d->model->dit, &d->job.layout, mesh_rows(&m, d->job.layout.image_rows).count);
        d->plan.scratch[i] += bytes;
        d->plan.count.own_bytes += bytes;
    }
}

flux1_status denoiser_plan(flux1_context *c, const flux1_model *m, const request *r, int64_t batch, denoiser *d)
{
    *d = (denoiser){.context = c, .model = m, .batch = batch, .channels = m->dit.in_channels};
    int64_t h = request_grid_h(r, m), w = request_grid_w(r, m);
    d->tokens = h * w;
    d->previews = r->preview_every > 0;
    if (c->cards)
        TRY(c->cards->call->check(c, r));
    d->adapters = r->adapters;
    d->shape = (step_shape){batch, r->length, h, w, r->steps, r->passes, r->true_cfg_scale, r->step_cache, 0};
    flux1_status st = allocate_tables(d, r);
    if (st == FLUX1_OK) {
        scheduler_sigmas(&m->scheduler, r->steps, d->tokens, d->sigmas);
        describe_job(d, r);
        d->job.adapters = &d->adapters;
        st = stage_plan_make(&c->mesh, &c->device, dit_dry_body, &d->job, &d->job.ticker, &d->plan, &c->error);
    }
    if (st == FLUX1_OK) {
        add_host_bytes(d);
        stage_plan_repeat(&d->plan, r->steps);
        if (c->cards)
            stage_plan_elsewhere(&d->plan, mesh_ranks(&c->mesh));
    } else
        denoiser_close(d);
    return st;
}

/* The rows' texts one behind the other; of one row they are taken where they are. */
static flux1_status gather_texts(denoiser *d, int which)
{
    const flux1_text *first = which ? d->rows[0].negative : d->rows[0].text;
    tensor *all[] = {&d->job.embeds[which], &d->job.pooled[which]}; /* of one row: the text's own data */
    for (int i = 0; i < 2; i++) {
        tensor *t = all[i];
        if (d->batch == 1) {
            t->data = i ? first->pooled.data : first->embeds.data;
            continue;
        }
        if (!t->data) {
            const tensor shape = *t;
            TRY(tensor_create(shape.type, shape.dims, shape.shape, t, &d->context->error));
        }
        size_t bytes = tensor_bytes(t) / (size_t)d->batch;
        for (int64_t b = 0; b < d->batch; b++) {
            const flux1_text *text = which ? d->rows[b].negative : d->rows[b].text;
            memcpy((char *)t->data + (size_t)b * bytes, i ? text->pooled.data : text->embeds.data, bytes);
        }
    }
    return FLUX1_OK;
}

static bool equal_rows(const denoiser *d, const batch_row *rows)
{
    for (int64_t b = 0; b < d->batch; b++)
        if (d->rows[b].text != rows[b].text || d->rows[b].negative != rows[b].negative ||
            d->rows[b].guidance != rows[b].guidance)
            return false;
    return true;
}

static flux1_status open_for(denoiser *d, const size_t *reserve)
{
    flux1_context *c = d->context;
    if (c->cards) /* their start does it all */
        return FLUX1_OK;
    TRY(make_positions(d));
    for (int64_t b = 0; b < d->batch; b++)
        d->guidance[b] = d->rows[b].guidance;
    for (int i = 0; i < d->job.layout.passes; i++)
        TRY(gather_texts(d, i));
    TRY(session_take(c, &c->device, d->model, &d->adapters, &d->session));
    d->job.session = d->session;
    d->shape.adapters = d->session->adapted;
    d->job.recording = session_recording(d->session, &d->shape);
    TRY(memory_reserve(c, d->session, &d->plan, d->beside, reserve));
    return task_run(c, d->session, TASK_DIT_OPEN, &d->job);
}

flux1_status denoiser_open(denoiser *d, const batch_row *rows, const size_t *reserve, progress *p, double *opening)
{
    bool again = d->open && equal_rows(d, rows);
    if (p)
        progress_stage(p, FLUX1_STAGE_DENOISE, &d->plan, &d->job.ticker);
    if (p && d->context->cards) /* they do not tick, so nothing else says when the encoders had ended */
        TRY(progress_report(p, &d->context->error));
    d->job.ticker.next = again ? d->plan.opening_ticks : 0;
    *opening = again ? 0 : d->plan.opening;
    if (again)
        return FLUX1_OK;
    denoiser_rest(d);
    memcpy(d->rows, rows, (size_t)d->batch * sizeof *rows);
    flux1_status st = open_for(d, reserve);
    d->open = st == FLUX1_OK;
    if (st != FLUX1_OK)
        denoiser_rest(d);
    return st;
}

flux1_status denoiser_start(denoiser *d, const tensor *noise)
{
    if (d->context->cards)
        return d->context->cards->call->start(d, noise);
    d->job.noise = *noise;
    d->job.failed = false;
    return task_run(d->context, d->session, TASK_DIT_START, &d->job);
}

static flux1_status run_at(denoiser *d, int64_t k, task what)
{
    d->job.step = k;
    flux1_status st = task_run(d->context, d->session, what, &d->job);
    d->job.failed = st != FLUX1_OK;
    return st;
}

flux1_status denoiser_step(denoiser *d, int64_t k)
{
    if (d->context->cards)
        return d->context->cards->call->step(d, k);
    size_t ticks = d->job.ticker.next;
    flux1_status st = run_at(d, k, TASK_DIT_WHOLE_STEP);
    if (st != FLUX1_OK)
        d->job.ticker.next = ticks;
    return st;
}

flux1_status denoiser_submit(denoiser *d, int64_t k) { return run_at(d, k, TASK_DIT_STEP); }

flux1_status denoiser_wait(denoiser *d, int64_t k)
{
    d->job.step = k;
    return task_run(d->context, d->session, TASK_DIT_STEP_END, &d->job);
}

/* On one device of its own. Elsewhere a step is done when it is submitted, or its ranks exchange what they have found
 * at its end, which would wait for the step behind it too. */
bool denoiser_runs_ahead(const denoiser *d)
{
    return d->context->device.device->info.runs_ahead && mesh_ranks(&d->context->mesh) == 1;
}

flux1_status denoiser_latent(denoiser *d, int64_t expected_of, tensor *latent)
{
    if (d->context->cards)
        return d->context->cards->call->latent(d, expected_of, latent);
    d->job.expected = expected_of >= 0;
    d->job.sigma_next = d->job.expected ? d->sigmas[expected_of + 1] : 0;
    d->job.latent = latent;
    return task_run(d->context, d->session, TASK_DIT_LATENT, &d->job);
}

int64_t denoiser_reused(const denoiser *d)
{
    const dit_stream *s = d->open ? d->job.rank[0].stream : NULL;
    return s ? dit_stream_reused(s) : 0;
}

void denoiser_rest(denoiser *d)
{
    if (d->context->cards)
        d->context->cards->call->rest(d);
    dit_job_close(&d->job, mesh_ranks(&d->context->mesh));
    session_give(d->context, d->session);
    d->session = NULL;
    d->open = false;
}

void denoiser_close(denoiser *d)
{
    if (!d->context)
        return;
    denoiser_rest(d);
    stage_plan_free(&d->plan);
    for (int i = 0; i < 2 && d->batch > 1; i++) {
        tensor_free(&d->job.embeds[i]);
        tensor_free(&d->job.pooled[i]);
    }
    free(d->job.rank);
    free(d->rows);
    free(d->guidance);
    free(d->ids);
    free(d->sigmas);
    *d = (denoiser){0};
}
