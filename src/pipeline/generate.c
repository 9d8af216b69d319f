/* A whole request: plan all stages, refuse what does not fit, then run them, one after the other, each with its own
 * memory. */
#include "pipeline/text_to_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

flux1_status check_memory(flux1_context *c, const request *r, const char *stage, size_t bytes)
{
    if (bytes <= c->max_memory)
        return FLUX1_OK;
    return error_set(&c->error, FLUX1_ERR_LIMIT,
                     "a picture of %lldx%lld takes %.1f GiB of memory to %s, more than the %.1f GiB there are for it; "
                     "choose a smaller size",
                     (long long)r->width, (long long)r->height, (double)bytes / 0x1p30, stage,
                     (double)c->max_memory / 0x1p30);
}

size_t memory_beside(const flux1_context *c, size_t taken) { return c->max_memory > taken ? c->max_memory - taken : 0; }

typedef struct run {
    flux1_context *c;
    const flux1_model *m;
    request r;
    flux1_text *own;        /* made here */
    const flux1_text *text; /* own, or the caller's */
    text_plan text_plan;
    denoiser denoiser;
    decoder decoder;
    bool denoiser_planned, decoder_planned;
    progress p;
    dump *dump;
    tensor *latents; /* [count], each [1, tokens, channels] */
    tensor expected; /* a preview's latent, to be decoded */
    flux1_image *images;
} run;

/* The caller's text is of this model and these tokens. */
static flux1_status take_text(run *g)
{
    const flux1_text *given = g->r.text, *own = g->own;
    if (given->model != g->m)
        return error_set(&g->c->error, FLUX1_ERR_ARGUMENT, "the text was encoded with another model");
    if (given->clip_length != own->clip_length || given->t5_length != own->t5_length ||
        memcmp(given->clip_ids, own->clip_ids, (size_t)own->clip_length * sizeof *own->clip_ids) != 0 ||
        memcmp(given->t5_ids, own->t5_ids, (size_t)own->t5_length * sizeof *own->t5_ids) != 0)
        return error_set(&g->c->error, FLUX1_ERR_ARGUMENT,
                         "the text was encoded from another prompt, or with another max_sequence_length");
    g->text = given;
    return FLUX1_OK;
}

static flux1_status plan_text(run *g)
{
    flux1_context *c = g->c;
    bool clip_cut = false, t5_cut = false;
    TRY(text_tokenize(g->m, g->r.prompt, strlen(g->r.prompt), g->r.length, &g->own, &clip_cut, &t5_cut, &c->error));
    g->text = g->own;
    if (t5_cut)
        context_log(c, FLUX1_LOG_WARNING, "the prompt is longer than %d T5 tokens: the rest is not seen", g->r.length);
    else if (clip_cut)
        context_log(c, FLUX1_LOG_INFO,
                    "the prompt is longer than CLIP's %d tokens: T5 sees it whole, CLIP its beginning",
                    g->m->clip_length);
    if (g->r.text)
        return take_text(g);
    TRY(text_plan_make(c, g->m, g->own, &g->text_plan));
    return check_memory(c, &g->r, "encode its prompt", g->text_plan.t5.memory);
}

/* By size alone; what else lies on the device shows when the weights come. */
static void tell_of_streaming(const run *g)
{
    flux1_context *c = g->c;
    const ops_device_info *info = &c->device.device->info;
    const stage_plan *d = &g->denoiser.plan;
    size_t ranks = (size_t)mesh_ranks(&c->mesh), weights = d->count.held_bytes * (c->device.own ? 1 : ranks),
           activations = d->memory / (c->device.own ? ranks : 1);
    if (!info->memory || weights + activations + c->device.kind->sizing->spare <= info->memory)
        return;
    context_log(c, FLUX1_LOG_WARNING,
                "the transformer's weights (%.1f GiB) and activations (%.1f GiB) do not fit %s: weights are streamed "
                "to it in every step, which is slow%s",
                (double)weights / 0x1p30, (double)activations / 0x1p30, info->name,
                !c->device.config.fp8 && info->fp8 ? "; dtype fp8 takes about two thirds of them" : "");
}

/* Ids, and the plan of every stage, before anything is computed. */
static flux1_status plan(run *g)
{
    flux1_context *c = g->c;
    TRY(plan_text(g));
    TRY(denoiser_plan(c, g->m, &g->r, g->text, &g->denoiser));
    g->denoiser_planned = true;
    size_t denoise = g->denoiser.plan.memory;
    TRY(check_memory(c, &g->r, "denoise", denoise));
    tell_of_streaming(g);
    TRY(decoder_plan(c, g->m, &g->r, memory_beside(c, g->r.preview_every ? denoise : 0), &g->decoder));
    g->decoder_planned = true;
    size_t decode = g->decoder.plan.memory;
    return g->r.preview_every ? check_memory(c, &g->r, "denoise with previews", denoise + decode)
                              : check_memory(c, &g->r, "decode", decode);
}

static double total_flops(const run *g)
{
    const stage_plan *d = &g->denoiser.plan;
    double opening = d->tick_count ? d->ticks[0] : 0, pictures = (double)g->r.count;
    return g->text_plan.clip.count.flops + g->text_plan.t5.count.flops + opening +
           pictures * (d->count.flops - opening + g->decoder.plan.count.flops);
}

static flux1_status dump_text(run *g)
{
    flux1_error *err = &g->c->error;
    for (int64_t i = 0; i < g->r.count; i++) {
        TRY(dump_add(g->dump, "clip.input_ids", DTYPE_I32, 1, (int64_t[]){g->text->clip_length}, i, g->text->clip_ids,
                     err));
        TRY(dump_add(g->dump, "t5.input_ids", DTYPE_I32, 1, (int64_t[]){g->text->t5_length}, i, g->text->t5_ids, err));
        TRY(dump_add(g->dump, "pooled_prompt_embeds", DTYPE_F32, 1, g->text->pooled.shape + 1, i, g->text->pooled.data,
                     err));
        TRY(dump_add(g->dump, "prompt_embeds", DTYPE_F32, 2, g->text->embeds.shape + 1, i, g->text->embeds.data, err));
    }
    return dump_add(g->dump, "sigmas", DTYPE_F32, 1, (int64_t[]){g->r.steps + 1}, -1, g->denoiser.sigmas, err);
}

static bool is_previewed(const run *g, int64_t k)
{
    return g->r.preview_every && (k + 1) % g->r.preview_every == 0 && k + 1 < g->r.steps;
}

/* The picture as expected after step k, which has been waited for and has no step behind it yet. */
static flux1_status take_preview(run *g, int64_t image, int64_t k)
{
    TRY(tensor_create(DTYPE_F32, 3, g->latents[image].shape, &g->expected, &g->c->error));
    return denoiser_latent(&g->denoiser, k, &g->expected);
}

static flux1_status show_preview(run *g, int64_t image)
{
    flux1_image picture = {.seed = g->r.seed + (uint64_t)image};
    if (!g->expected.data)
        return FLUX1_OK;
    flux1_status st = decoder_run(&g->decoder, &g->expected, NULL, NULL, &picture);
    tensor_free(&g->expected);
    if (st == FLUX1_OK) {
        g->p.state.preview = &picture;
        st = progress_report(&g->p, &g->c->error);
        g->p.state.preview = NULL;
    }
    free(picture.pixels);
    return st;
}

/* What the caller is told of a step that is done; what is read here of the latent is step k's only if no other is
 * submitted yet. */
static flux1_status after_step(run *g, int64_t image, int64_t k)
{
    tensor *latent = &g->latents[image];
    bool last = k + 1 == g->r.steps;
    if (g->dump || last)
        TRY(denoiser_latent(&g->denoiser, -1, latent));
    if (g->dump) {
        char name[32];
        snprintf(name, sizeof name, "latents.%lld", (long long)k + 1);
        TRY(dump_add(g->dump, name, DTYPE_F32, 2, latent->shape + 1, image, latent->data, &g->c->error));
    }
    g->p.state.step = (int)k + 1;
    TRY(progress_report(&g->p, &g->c->error));
    return is_previewed(g, k) ? take_preview(g, image, k) : FLUX1_OK;
}

/* A GPU has the next step before it is done with this one, unless the latent between them is wanted; a preview is
 * decoded beside the next step. */
static flux1_status run_steps(run *g, int64_t image)
{
    bool ahead = denoiser_runs_ahead(&g->denoiser) && !g->dump;
    int64_t waited = 0;
    for (int64_t k = 0; k < g->r.steps; k++) {
        TRY(denoiser_submit(&g->denoiser, k));
        TRY(show_preview(g, image));
        bool alone = !ahead || k + 1 == g->r.steps || is_previewed(g, k);
        for (; waited < (alone ? k + 1 : k); waited++) {
            TRY(denoiser_wait(&g->denoiser, waited));
            TRY(after_step(g, image, waited));
        }
        if (!ahead)
            TRY(show_preview(g, image));
    }
    return FLUX1_OK;
}

static flux1_status denoise_one(run *g, int64_t image)
{
    tensor *latent = &g->latents[image];
    const stage_plan *plan = &g->denoiser.plan;
    double opening = plan->ticks[0];
    TRY(make_noise(g->m, &g->r, g->r.seed + (uint64_t)image, latent, &g->c->error));
    TRY(dump_add(g->dump, "noise", DTYPE_F32, 2, latent->shape + 1, image, latent->data, &g->c->error));
    TRY(denoiser_start(&g->denoiser, latent));
    g->denoiser.job.ticker.next = 1; /* the first tick is the opening's */
    g->p.base = opening;
    g->p.state.image = (int)image;
    g->p.state.steps = (int)g->r.steps;
    g->p.state.step = 0;
    TRY(run_steps(g, image));
    progress_advance(&g->p, plan->count.flops - opening);
    return FLUX1_OK;
}

static flux1_status denoise(run *g)
{
    TRY(denoiser_open(&g->denoiser, &g->p));
    progress_advance(&g->p, g->denoiser.plan.ticks[0]);
    for (int64_t i = 0; i < g->r.count; i++)
        TRY(denoise_one(g, i));
    mesh_close(g->denoiser.session); /* its memory goes before the decoder's comes */
    g->denoiser.session = NULL;
    return FLUX1_OK;
}

static flux1_status decode_one(run *g, int64_t i)
{
    tensor decoded = {0};
    flux1_status st;
    if (g->dump)
        TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){3, g->r.height, g->r.width}, &decoded, &g->c->error));
    g->p.state.image = (int)i;
    TRY_CLEANUP(decoder_run(&g->decoder, &g->latents[i], &g->p, g->dump ? &decoded : NULL, &g->images[i]));
    g->images[i].seed = g->r.seed + (uint64_t)i;
    if (g->dump)
        st = dump_add(g->dump, "decoded", DTYPE_F32, 3, decoded.shape, i, decoded.data, &g->c->error);
cleanup:
    tensor_free(&decoded);
    return st;
}

static flux1_status run_all(run *g)
{
    flux1_error *err = &g->c->error;
    TRY(plan(g));
    g->latents = calloc((size_t)g->r.count, sizeof *g->latents);
    g->images = calloc((size_t)g->r.count, sizeof *g->images);
    if (!g->latents || !g->images)
        return error_oom(err, 0, "the pictures");
    if (g->r.dump)
        TRY(dump_create(g->r.count, &g->dump, err));
    progress_begin(&g->p, g->c, &g->r, total_flops(g));
    TRY(progress_report(&g->p, err));
    if (!g->r.text)
        TRY(text_encode(g->c, &g->text_plan, g->own, &g->p));
    if (g->dump)
        TRY(dump_text(g));
    TRY(denoise(g));
    for (int64_t i = 0; i < g->r.count; i++)
        TRY(decode_one(g, i));
    g->p.state.stage_fraction = g->p.state.fraction = 1;
    g->p.state.seconds_left = 0;
    TRY(progress_report(&g->p, err));
    return g->dump ? dump_write(g->dump, g->r.dump, err) : FLUX1_OK;
}

flux1_status flux1_generate(flux1_context *context, const flux1_model *model, const flux1_generate_params *params,
                            flux1_image **images)
{
    run g = {.c = context, .m = model};
    context_begin(context);
    *images = NULL;
    TRY(request_make(context, model, params, &g.r));
    flux1_status st = run_all(&g);
    text_plan_free(&g.text_plan);
    if (g.denoiser_planned)
        denoiser_close(&g.denoiser);
    if (g.decoder_planned)
        decoder_close(&g.decoder);
    flux1_text_free(g.own);
    tensor_free(&g.expected);
    dump_destroy(g.dump);
    for (int64_t i = 0; g.latents && i < g.r.count; i++)
        tensor_free(&g.latents[i]);
    free(g.latents);
    if (st == FLUX1_OK)
        *images = g.images;
    else
        flux1_images_free(g.images, (int)g.r.count);
    return st;
}

void flux1_images_free(flux1_image *images, int count)
{
    for (int i = 0; images && i < count; i++)
        free(images[i].pixels);
    free(images);
}
