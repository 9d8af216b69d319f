/* The decoding stage: packed latent to 8-bit picture. */
#include "pipeline/text_to_image.h"

#include <math.h>
#include <stdlib.h>

flux1_status decoder_plan(flux1_context *c, const flux1_model *m, const request *r, decoder *d)
{
    int64_t scale = vae_scale(&m->vae);
    *d = (decoder){.context = c, .model = m};
    d->job = (vae_job){.model = m, .h = r->height / scale, .w = r->width / scale};
    return stage_plan_make(&c->mesh, &c->device, vae_decode_body, &d->job, &d->job.ticker, &d->plan, &c->error);
}

void decoder_close(decoder *d) { stage_plan_free(&d->plan); }

/* [1, h·w, channels] rows of x/scaling + shift, from packed tokens (see pack_latent in denoise.c). */
static void unpack_latent(const vae_config *c, const float *tokens, int64_t h, int64_t w, float *rows)
{
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const float *t = tokens + ((y / 2) * (w / 2) + x / 2) * 4 * c->latent_channels + 2 * (y % 2) + x % 2;
            for (int64_t k = 0; k < c->latent_channels; k++)
                *rows++ = t[4 * k] / (float)c->scaling + (float)c->shift;
        }
}

/* diffusers' postprocess: x/2 + 1/2, clamped, times 255, half to even. */
static uint8_t to_byte(float x)
{
    float v = x / 2 + 0.5f;
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    return (uint8_t)rintf(v * 255.0f);
}

static flux1_status make_picture(const vae_job *job, int64_t scale, tensor *decoded, flux1_image *image, flux1_error *err)
{
    int64_t height = job->h * scale, width = job->w * scale, size = height * width;
    const float *pixels = job->out.data;
    image->pixels = malloc((size_t)(3 * size));
    if (!image->pixels)
        return error_oom(err, (size_t)(3 * size), "the picture");
    image->width = (int)width;
    image->height = (int)height;
    for (int64_t i = 0; i < 3 * size; i++)
        image->pixels[i] = to_byte(pixels[i]);
    for (int64_t i = 0; decoded && i < 3 * size; i++)
        ((float *)decoded->data)[(i % 3) * size + i / 3] = pixels[i];
    return FLUX1_OK;
}

flux1_status decoder_run(decoder *d, const tensor *latent, progress *p, tensor *decoded, flux1_image *image)
{
    flux1_context *c = d->context;
    vae_job *job = &d->job;
    const vae_config *v = &d->model->vae;
    int64_t scale = vae_scale(v);
    flux1_status st;
    job->ticker = (ticker){0};
    if (p)
        progress_stage(p, FLUX1_STAGE_DECODE, &d->plan, &job->ticker);
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, job->h * job->w, v->latent_channels}, &job->in, &c->error));
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, job->h * job->w * scale * scale, 3}, &job->out, &c->error));
    unpack_latent(v, latent->data, job->h, job->w, job->in.data);
    TRY_CLEANUP(stage_run(&c->mesh, &c->device, &d->plan, vae_decode_body, job, &c->error));
    TRY_CLEANUP(make_picture(job, scale, decoded, image, &c->error));
    if (p)
        progress_advance(p, d->plan.count.flops);
cleanup:
    tensor_free(&job->in);
    tensor_free(&job->out);
    job->in = job->out = (tensor){0};
    return st;
}
