/* The same in stages: encode a prompt, step by step, decode. */
#include "pipeline/text_to_image.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

struct flux1_sampler {
    flux1_context *context;
    const flux1_model *model;
    request request;
    denoiser denoiser;
    decoder decoder;
    bool denoiser_planned, decoder_planned;
    tensor latent;
    int64_t step;
};

flux1_status flux1_encode_text(flux1_context *c, const flux1_model *m, const flux1_generate_params *params,
                               flux1_text **out)
{
    request r;
    text_plan plan;
    progress p;
    flux1_text *text = NULL;
    context_begin(c);
    *out = NULL;
    TRY(request_make(c, m, params, &r));
    TRY(text_tokenize(m, r.prompt, strlen(r.prompt), r.length, &text, NULL, NULL, &c->error));
    flux1_status st = text_plan_make(c, m, text, &plan);
    if (st == FLUX1_OK) {
        st = check_memory(c, &r, "encode its prompt", plan.t5.memory);
        progress_begin(&p, c, &r, plan.clip.count.flops + plan.t5.count.flops);
        if (st == FLUX1_OK)
            st = text_encode(c, &plan, text, &p);
        text_plan_free(&plan);
    }
    if (st == FLUX1_OK)
        *out = text;
    else
        flux1_text_free(text);
    return st;
}

flux1_status flux1_sampler_create(flux1_context *c, const flux1_model *m, const flux1_text *text,
                                  const flux1_generate_params *params, flux1_sampler **out)
{
    flux1_status st;
    flux1_sampler *s = NULL;
    context_begin(c);
    *out = NULL;
    if (text->model != m)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "the text was encoded with another model");
    if (!(s = calloc(1, sizeof *s)))
        return error_oom(&c->error, sizeof *s, "the sampler");
    s->context = c;
    s->model = m;
    TRY_CLEANUP(request_make(c, m, params, &s->request));
    TRY_CLEANUP(denoiser_plan(c, m, &s->request, text, &s->denoiser));
    s->denoiser_planned = true;
    TRY_CLEANUP(check_memory(c, &s->request, "denoise", s->denoiser.plan.memory));
    TRY_CLEANUP(decoder_plan(c, m, &s->request, memory_beside(c, s->denoiser.plan.memory), &s->decoder));
    s->decoder_planned = true;
    TRY_CLEANUP(check_memory(c, &s->request, "denoise and decode", s->denoiser.plan.memory + s->decoder.plan.memory));
    TRY_CLEANUP(make_noise(m, &s->request, s->request.seed, &s->latent, &c->error));
    TRY_CLEANUP(denoiser_open(&s->denoiser, NULL));
    TRY_CLEANUP(denoiser_start(&s->denoiser, &s->latent));
    *out = s;
    return FLUX1_OK;
cleanup:
    flux1_sampler_free(s);
    return st;
}

flux1_status flux1_sampler_step(flux1_sampler *s, int *steps_left)
{
    context_begin(s->context);
    if (s->step == s->request.steps)
        return error_set(&s->context->error, FLUX1_ERR_ARGUMENT, "all %lld steps are done",
                         (long long)s->request.steps);
    TRY(denoiser_step(&s->denoiser, s->step));
    s->step++;
    if (steps_left)
        *steps_left = (int)(s->request.steps - s->step);
    return FLUX1_OK;
}

flux1_status flux1_sampler_latents(flux1_sampler *s, const float **latents, int64_t *tokens, int64_t *channels)
{
    context_begin(s->context);
    TRY(denoiser_latent(&s->denoiser, -1, &s->latent));
    *latents = s->latent.data;
    *tokens = s->denoiser.tokens;
    *channels = s->denoiser.channels;
    return FLUX1_OK;
}

flux1_status flux1_sampler_decode(flux1_sampler *s, flux1_image **image)
{
    context_begin(s->context);
    *image = NULL;
    TRY(denoiser_latent(&s->denoiser, -1, &s->latent));
    flux1_image *picture = calloc(1, sizeof *picture);
    if (!picture)
        return error_oom(&s->context->error, sizeof *picture, "the picture");
    picture->seed = s->request.seed;
    flux1_status st = decoder_run(&s->decoder, &s->latent, NULL, NULL, picture);
    if (st == FLUX1_OK)
        *image = picture;
    else
        flux1_images_free(picture, 1);
    return st;
}

void flux1_sampler_free(flux1_sampler *s)
{
    if (!s)
        return;
    if (s->denoiser_planned)
        denoiser_close(&s->denoiser);
    if (s->decoder_planned)
        decoder_close(&s->decoder);
    tensor_free(&s->latent);
    free(s);
}
