/* The same in stages: encode a prompt, step by step, decode. */
#include "pipeline/text_cache.h"
#include "pipeline/text_to_image.h"
#include "pipeline/wish.h"

#include <stdlib.h>
#include <string.h>

struct flux1_sampler {
    flux1_context *context;
    request request; /* its texts are not read after flux1_sampler_create */
    denoiser denoiser;
    decoder decoder;
    tensor latent;
    int64_t step;
    memory_hold hold; /* of the context's, once it is open */
};

/* One prompt, planned and encoded. */
static flux1_status encode_prompt(flux1_context *c, const flux1_model *m, const request *r, const char *prompt,
                                  flux1_text **out)
{
    text_plan plan = {0};
    progress p;
    flux1_text *text = NULL;
    flux1_status st;
    bool found;
    TRY(text_tokenize(m, prompt, strlen(prompt), r->length, &text, NULL, NULL, &c->error));
    TRY_CLEANUP(text_cache_take(c, &r->adapters, text, &found));
    if (found)
        goto cleanup;
    context_uses(c, m);
    c->run_texts = text_bytes_of(m, r->length);
    TRY_CLEANUP(text_plan_make(c, m, &r->adapters, text, &plan));
    st = memory_check(c, memory_of(c, text_device(c), &plan.clip, NULL), 0, "encoding the prompt (CLIP)");
    if (st == FLUX1_OK)
        st = memory_check(c, memory_of(c, text_device(c), &plan.t5, NULL), HINT_TEXT, "encoding the prompt (T5)");
    TRY_CLEANUP(wish_advise(c, &(wish){.model = m, .request = r, .text = text, .batch = 1}, st));
    progress_begin(&p, c, r, 1, 1, plan.clip.flops + plan.t5.flops);
    TRY_CLEANUP(text_encode(c, m, &plan, text, &p));
    st = text_cache_keep(c, &r->adapters, text);
cleanup:
    text_plan_free(&plan);
    if (st == FLUX1_OK)
        *out = text;
    else
        flux1_text_free(text);
    return st;
}

flux1_status flux1_encode_text(flux1_context *c, const flux1_model *m, const flux1_generate_params *params,
                               flux1_text **out)
{
    request r;
    flux1_generate_params p;
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = NULL;
    TRY(context_needs(c, m, "model"));
    TRY(request_params(c, params, &p));
    request_only_text(&p);
    TRY(request_make(c, m, &p, &r));
    flux1_status st = token_enter(c, r.cancel);
    if (st == FLUX1_OK)
        st = encode_prompt(c, m, &r, r.prompt, out);
    token_leave(c);
    return st;
}

/* The caller's text is of this model and this prompt. */
static flux1_status check_text(flux1_context *c, const flux1_model *m, const request *r, const char *prompt,
                               const flux1_text *given, const char *name)
{
    flux1_text *ids = NULL;
    TRY(text_tokenize(m, prompt, strlen(prompt), r->length, &ids, NULL, NULL, &c->error));
    flux1_status st = text_check(c, m, given, ids, name);
    flux1_text_free(ids);
    return st;
}

static flux1_status plan_sampler(flux1_sampler *s, const flux1_model *m)
{
    flux1_context *c = s->context;
    context_uses(c, m);
    if (s->request.passes > 1 && !s->request.negative_text)
        c->run_texts = text_bytes_of(m, s->request.length); /* the negative prompt, encoded here */
    TRY(denoiser_plan(c, m, &s->request, 1, &s->denoiser));
    s->denoiser.beside = &s->decoder.plan;
    const stage_plan *denoise = &s->denoiser.plan;
    TRY(memory_check(c, memory_of(c, &c->device, denoise, NULL), HINT_SIZE, "denoising a picture of %lldx%lld",
                     (long long)s->request.width, (long long)s->request.height));
    TRY(decoder_plan(c, m, &s->request, memory_beside(c, &c->device, denoise), &s->decoder));
    decoder_tell(&s->decoder, s->request.tiling);
    return memory_check(c, memory_of_sampler(c, denoise, &s->decoder.plan),
                        HINT_SIZE | (s->request.tiling == FLUX1_TILING_NO ? HINT_TILING : 0),
                        "denoising and decoding a picture of %lldx%lld", (long long)s->request.width,
                        (long long)s->request.height);
}

static flux1_status start_sampler(flux1_sampler *s, const flux1_model *m, const batch_row *row)
{
    flux1_context *c = s->context;
    double opening;
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, s->denoiser.tokens, s->denoiser.channels}, &s->latent, &c->error));
    TRY(make_noise(m, &s->request, 0, s->request.seed, s->latent.data, &c->error));
    TRY(denoiser_open(&s->denoiser, row, NULL, NULL, &opening));
    s->hold = (memory_hold){.session = s->denoiser.session, .plan = &s->denoiser.plan, .beside = &s->decoder.plan};
    if (!c->cards)
        memory_hold_on(c, &s->hold, m);
    return denoiser_start(&s->denoiser, &s->latent);
}

static flux1_status create(flux1_sampler *s, const flux1_model *m, const flux1_text *text)
{
    flux1_context *c = s->context;
    const request *r = &s->request;
    flux1_text *negative = NULL;
    flux1_status st;
    TRY(check_text(c, m, r, r->prompt, text, "the text"));
    if (r->passes > 1 && r->negative_text)
        TRY(check_text(c, m, r, r->negative_prompt, r->negative_text, "the negative text"));
    st = plan_sampler(s, m);
    TRY(wish_advise(c, &(wish){.model = m, .request = r, .batch = 1, .together = true}, st));
    if (r->passes > 1 && !r->negative_text)
        TRY(encode_prompt(c, m, r, r->negative_prompt, &negative));
    batch_row row = {text, negative ? negative : r->passes > 1 ? r->negative_text : NULL, r->guidance};
    st = start_sampler(s, m, &row);
    flux1_text_free(negative);
    return st;
}

flux1_status flux1_sampler_create(flux1_context *c, const flux1_model *m, const flux1_text *text,
                                  const flux1_generate_params *params, flux1_sampler **out)
{
    flux1_generate_params p;
    TRY(context_begin(c));
    TRY(context_needs(c, out, "out"));
    *out = NULL;
    TRY(context_needs(c, m, "model"));
    TRY(context_needs(c, text, "text"));
    TRY(request_params(c, params, &p));
    request_only_sampler(&p);
    flux1_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(&c->error, sizeof *s, "the sampler");
    s->context = c;
    flux1_status st = request_make(c, m, &p, &s->request);
    if (st == FLUX1_OK)
        request_warn_size(c, m, &s->request);
    if (st == FLUX1_OK)
        st = token_enter(c, s->request.cancel);
    if (st == FLUX1_OK)
        st = create(s, m, text);
    token_leave(c);
    if (st == FLUX1_OK)
        *out = s;
    else
        flux1_sampler_free(s);
    return st;
}

/* Every call on a sampler begins here. */
static flux1_status begin(flux1_sampler *s)
{
    if (!s)
        return FLUX1_ERR_ARGUMENT;
    TRY(context_begin(s->context));
    flux1_status st = token_enter(s->context, s->request.cancel);
    if (st != FLUX1_OK)
        token_leave(s->context);
    return st;
}

flux1_status flux1_sampler_step(flux1_sampler *s, int *steps_left)
{
    TRY(begin(s));
    flux1_status st = memory_hold_again(s->context, &s->hold);
    if (st == FLUX1_OK && s->step == s->denoiser.shape.steps)
        st = error_set(&s->context->error, FLUX1_ERR_ARGUMENT, "all %lld steps are done", (long long)s->step);
    else if (st == FLUX1_OK)
        st = denoiser_step(&s->denoiser, s->step);
    memory_hold_rest(&s->hold);
    if (st == FLUX1_OK)
        s->step++;
    if (st == FLUX1_OK && steps_left)
        *steps_left = (int)(s->denoiser.shape.steps - s->step);
    token_leave(s->context);
    return st;
}

flux1_status flux1_sampler_latents(flux1_sampler *s, const float **latents, int64_t *tokens, int64_t *channels)
{
    TRY(begin(s));
    flux1_status st = context_needs(s->context, latents, "latents");
    if (st == FLUX1_OK)
        st = denoiser_latent(&s->denoiser, -1, &s->latent);
    token_leave(s->context);
    if (st != FLUX1_OK)
        return st;
    *latents = s->latent.data;
    if (tokens)
        *tokens = s->denoiser.tokens;
    if (channels)
        *channels = s->denoiser.channels;
    return FLUX1_OK;
}

static flux1_status decode(flux1_sampler *s, flux1_image **image)
{
    TRY(denoiser_latent(&s->denoiser, -1, &s->latent));
    flux1_image *picture = calloc(1, sizeof *picture);
    if (!picture)
        return error_oom(&s->context->error, sizeof *picture, "the picture");
    picture->seed = s->request.seed;
    context_sign(s->context, picture);
    flux1_status st = decoder_run(&s->decoder, s->latent.data, NULL, NULL, NULL, picture);
    decoder_rest(&s->decoder);
    if (st == FLUX1_OK)
        *image = picture;
    else
        flux1_images_free(picture, 1);
    return st;
}

flux1_status flux1_sampler_decode(flux1_sampler *s, flux1_image **image)
{
    if (s && image)
        *image = NULL;
    TRY(begin(s));
    flux1_status st = context_needs(s->context, image, "image");
    if (st == FLUX1_OK)
        st = decode(s, image);
    token_leave(s->context);
    return st;
}

void flux1_sampler_free(flux1_sampler *s)
{
    if (!s)
        return;
    memory_let_go(s->context, &s->hold);
    denoiser_close(&s->denoiser);
    decoder_close(&s->decoder);
    tensor_free(&s->latent);
    free(s);
}
