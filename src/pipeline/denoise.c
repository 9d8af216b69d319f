/* The denoising stage: noise, sigmas, and the steps on an open mesh. */
#include "pipeline/text_to_image.h"

#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

/* Packed token (i, j), feature c·4 + 2·y + x ↔ latent channel c at (2i + y, 2j + x). */
static void pack_latent(const float *planes, int64_t channels, int64_t grid_h, int64_t grid_w, float *tokens)
{
    int64_t width = 2 * grid_w, size = 4 * grid_h * grid_w;
    for (int64_t i = 0; i < grid_h; i++)
        for (int64_t j = 0; j < grid_w; j++)
            for (int64_t c = 0; c < channels; c++)
                for (int64_t k = 0; k < 4; k++)
                    *tokens++ = planes[c * size + (2 * i + k / 2) * width + 2 * j + k % 2];
}

flux1_status make_noise(const flux1_model *m, const request *r, uint64_t seed, tensor *out, flux1_error *err)
{
    int64_t h = request_grid_h(r, m), w = request_grid_w(r, m);
    size_t count = (size_t)(h * w * m->dit.in_channels);
    float *planes = malloc(count * sizeof *planes);
    if (!planes)
        return error_oom(err, count * sizeof *planes, "the noise");
    flux1_status st = tensor_create(DTYPE_F32, 3, (int64_t[]){1, h * w, m->dit.in_channels}, out, err);
    if (st == FLUX1_OK) {
        rng generator;
        rng_seed(&generator, seed);
        rng_normal(&generator, planes, count);
        pack_latent(planes, m->vae.latent_channels, h, w, out->data);
    }
    free(planes);
    return st;
}

flux1_status denoiser_plan(flux1_context *c, const flux1_model *m, const request *r, const flux1_text *text,
                           denoiser *d)
{
    *d = (denoiser){.context = c, .model = m, .channels = m->dit.in_channels};
    d->tokens = request_grid_h(r, m) * request_grid_w(r, m);
    d->sigmas = malloc((size_t)(r->steps + 1) * sizeof *d->sigmas);
    d->job.rank = calloc((size_t)mesh_ranks(&c->mesh), sizeof *d->job.rank);
    if (!d->sigmas || !d->job.rank) {
        denoiser_close(d);
        return error_oom(&c->error, 0, "the denoiser");
    }
    scheduler_sigmas(&m->scheduler, r->steps, d->tokens, d->sigmas);
    d->job.model = m;
    d->job.request = (dit_request){.text_rows = text->t5_length,
                                   .grid_h = request_grid_h(r, m),
                                   .grid_w = request_grid_w(r, m),
                                   .steps = r->steps,
                                   .sigmas = d->sigmas,
                                   .guidance = r->guidance,
                                   .prompt_embeds = &text->embeds,
                                   .pooled = &text->pooled};
    flux1_status st = stage_plan_make(&c->mesh, &c->device, dit_dry_body, &d->job, &d->job.ticker, &d->plan, &c->error);
    if (st != FLUX1_OK)
        denoiser_close(d);
    return st;
}

flux1_status denoiser_open(denoiser *d, progress *p)
{
    flux1_context *c = d->context;
    if (p)
        progress_stage(p, FLUX1_STAGE_DENOISE, &d->plan, &d->job.ticker);
    TRY(mesh_open(&c->mesh, &c->device, &d->session, &c->error));
    TRY(mesh_reserve(d->session, d->plan.arena, &c->error));
    return mesh_run(d->session, dit_open_body, &d->job, &c->error);
}

flux1_status denoiser_start(denoiser *d, const tensor *noise)
{
    d->job.noise = noise;
    return mesh_run(d->session, dit_start_body, &d->job, &d->context->error);
}

static flux1_status run_at(denoiser *d, int64_t k, mesh_body *body)
{
    d->job.step = k;
    return mesh_run(d->session, body, &d->job, &d->context->error);
}

flux1_status denoiser_step(denoiser *d, int64_t k) { return run_at(d, k, dit_whole_step_body); }

flux1_status denoiser_submit(denoiser *d, int64_t k) { return run_at(d, k, dit_step_body); }

flux1_status denoiser_wait(denoiser *d, int64_t k) { return run_at(d, k, dit_step_end_body); }

/* On one GPU. Elsewhere a step is done when it is submitted, or its ranks exchange what they have found at its end,
 * which would wait for the step behind it too. */
bool denoiser_runs_ahead(const denoiser *d)
{
    return d->context->device.device->info.runs_ahead && mesh_ranks(&d->context->mesh) == 1;
}

flux1_status denoiser_latent(denoiser *d, int64_t expected_of, tensor *latent)
{
    d->job.sigma_next = expected_of < 0 ? NULL : &d->sigmas[expected_of + 1];
    d->job.latent = latent;
    return mesh_run(d->session, dit_latent_body, &d->job, &d->context->error);
}

void denoiser_close(denoiser *d)
{
    mesh_close(d->session);
    dit_job_close(&d->job, mesh_ranks(&d->context->mesh));
    stage_plan_free(&d->plan);
    free(d->sigmas);
    d->session = NULL;
    d->sigmas = NULL;
}
