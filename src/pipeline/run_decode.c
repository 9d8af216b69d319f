/* The last stage of a run: pictures out of latents, and what becomes of latents that cannot be decoded. */
#include "pipeline/latents.h"
#include "pipeline/preview.h"
#include "pipeline/run.h"

#include <stdlib.h>

void flux1_images_free(flux1_image *images, int count)
{
    for (int i = 0; images && i < count; i++)
        free(images[i].pixels);
    free(images);
}

/* The token that stops the whole run; NULL: requests have their own, which progress_report and run_wants look at. */
static flux1_cancel_token *one_token(const run *g)
{
    for (int i = 1; i < g->n; i++)
        if (g->r[i].cancel != g->r[0].cancel)
            return NULL;
    return g->r[0].cancel;
}

flux1_status run_whole(run *g, run_body *body, flux1_image **images)
{
    flux1_context *c = g->c;
    if (!images && !g->r[0].image)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "images is NULL and params->image too: nobody would see a picture");
    flux1_status st = token_enter(c, one_token(g));
    if (st == FLUX1_OK)
        st = body(g, images != NULL);
    token_leave(c);
    if (st == FLUX1_OK && images)
        *images = g->images;
    else
        flux1_images_free(g->images, (int)g->count);
    return st;
}

static flux1_status hand_out(run *g, const flux1_image *image)
{
    const request *r = &g->r[0];
    if (!r->image || r->image(r->image_user, image) == 0)
        return FLUX1_OK;
    return error_set(&g->c->error, FLUX1_ERR_CANCELLED, "cancelled by the image callback");
}

void run_undecoded(run *g, const batch *b, int64_t from, flux1_status why)
{
    const request *r = &g->r[0];
    if (!r->undecoded || why == FLUX1_ERR_CANCELLED)
        return;
    for (int64_t i = from; i < b->size; i++) {
        if (!run_wants(g, b->first + i))
            continue;
        flux1_image picture = run_blank_picture(g, b->first + i);
        picture.width = (int)r->width;
        picture.height = (int)r->height;
        const flux1_latents latents = {.size = sizeof latents,
                                       .values = run_latent(&b->latents, i),
                                       .dims = 3,
                                       .shape = {1, b->latents.shape[1], b->latents.shape[2]},
                                       .width = picture.width,
                                       .height = picture.height};
        r->undecoded(r->image_user, &picture, &latents);
    }
}

flux1_status run_make_preview(run *g, const float *latent, flux1_image *picture)
{
    if (g->projection) {
        projection_draw(g->projection, latent, &g->canvas);
        picture->pixels = g->canvas.pixels;
        picture->width = (int)(g->canvas.w * g->canvas.scale);
        picture->height = (int)(g->canvas.h * g->canvas.scale);
        return FLUX1_OK;
    }
    return decoder_run(&g->decoder, latent, NULL, NULL, NULL, picture);
}

flux1_status run_show_preview(run *g, int64_t picture, const flux1_image *preview)
{
    const int image = g->p.state.image;
    g->p.state.image = (int)picture;
    g->p.state.preview = preview;
    flux1_status st = progress_report(&g->p, &g->c->error);
    g->p.state.preview = NULL;
    g->p.state.image = image;
    return st;
}

/* A picture that is done, to all who want it. decoded: before it became bytes; of a run with a dump. */
static flux1_status give_out(run *g, int64_t at, const flux1_image *picture, const tensor *decoded)
{
    if (g->dump)
        TRY(run_dump_decoded(g, at, decoded));
    if (run_previews_by_vae(g) && g->r[picture->request].preview_every)
        TRY(run_show_preview(g, at, picture));
    return hand_out(g, picture);
}

static flux1_status decode_one(run *g, const batch *b, int64_t i)
{
    const int64_t at = b->first + i;
    flux1_image picture = run_blank_picture(g, at);
    const bool apart = !b->denoiser || !b->denoiser->open;
    tensor decoded = {0};
    flux1_status st = FLUX1_OK;
    picture.steps_reused = (int)b->reused;
    picture.passes = b->denoiser ? (int)run_passes(g) : 0;
    g->p.state.image = (int)at;
    if (g->dump)
        st = tensor_create(DTYPE_F32, 3, (int64_t[]){3, g->r[0].height, g->r[0].width}, &decoded, &g->c->error);
    if (st == FLUX1_OK)
        st = decoder_run(&g->decoder, run_latent(&b->latents, i), apart ? g->reserve : NULL, &g->p,
                         g->dump ? &decoded : NULL, &picture);
    if (st == FLUX1_OK && !run_wants(g, at)) { /* cancelled meanwhile */
        free(picture.pixels);
        picture = run_blank_picture(g, at);
    }
    if (st == FLUX1_OK && picture.pixels)
        st = give_out(g, at, &picture, &decoded);
    if (st == FLUX1_OK && g->images) {
        g->images[at] = picture;
        picture.pixels = NULL;
    }
    free(picture.pixels);
    tensor_free(&decoded);
    return st;
}

/* In the place of a picture that nobody wants any more. */
static flux1_status leave_out(run *g, int64_t picture)
{
    if (g->images)
        g->images[picture] = run_blank_picture(g, picture);
    progress_advance(&g->p, g->decoder.plan.flops);
    return progress_report(&g->p, &g->c->error);
}

flux1_status run_decode_batch(run *g, const batch *b)
{
    for (int64_t i = 0; i < b->size; i++) {
        const bool wanted = !b->dropped && run_wants(g, b->first + i);
        const flux1_status st = wanted ? decode_one(g, b, i) : leave_out(g, b->first + i);
        if (st != FLUX1_OK) {
            run_undecoded(g, b, i, st);
            return st;
        }
    }
    return FLUX1_OK;
}

void run_free(run *g)
{
    denoiser_close(&g->denoiser);
    denoiser_close(&g->rest);
    decoder_close(&g->decoder);
    text_plan_free(&g->text_plan);
    for (int i = 0; g->texts && i < g->n; i++)
        for (int w = 0; w < 2; w++)
            flux1_text_free(g->texts[i].of[w].own);
    projection_canvas_free(&g->canvas);
    dump_destroy(g->dump);
    free(g->texts);
    free(g->place);
    free(g->rows);
    free(g->reserve);
    free(g->r);
}

/* ---- latents from outside ---- */

/* A picture's proportions cannot be seen in packed latents. */
static flux1_status check_size_is_known(run *g, const flux1_latents *l, const flux1_generate_params *p)
{
    if (l->dims != 3 || l->shape[2] != g->m->dit.in_channels || l->width || p->width || p->height)
        return FLUX1_OK;
    return error_set(&g->c->error, FLUX1_ERR_ARGUMENT,
                     "packed latents of %lld tokens do not say how wide and high the picture is: give width and height",
                     (long long)l->shape[1]);
}

/* One after the other: whoever gives the latents has them all. */
static flux1_status decode_given(run *g)
{
    const request *r = &g->r[0];
    const int64_t tokens = request_grid_h(r, g->m) * request_grid_w(r, g->m);
    batch b = {.size = 1};
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, tokens, g->m->dit.in_channels}, &b.latents, &g->c->error));
    flux1_status st = FLUX1_OK;
    for (; st == FLUX1_OK && b.first < g->count; b.first++) {
        latents_packed(g->m, r->latents, b.first, run_latent(&b.latents, 0));
        st = run_decode_batch(g, &b);
    }
    tensor_free(&b.latents);
    return st;
}

static flux1_status decode_all(run *g, bool keep)
{
    flux1_context *c = g->c;
    const request *r = &g->r[0];
    context_uses(c, g->m);
    TRY(decoder_plan(c, g->m, r, memory_beside(c, &c->device, NULL), &g->decoder));
    decoder_tell(&g->decoder, r->tiling);
    TRY(memory_check(c, memory_of(c, &c->device, &g->decoder.plan, NULL),
                     HINT_SIZE | HINT_OPTIONS | (r->tiling == FLUX1_TILING_NO ? HINT_TILING : 0),
                     "decoding a picture of %lldx%lld", (long long)r->width, (long long)r->height));
    if (keep && !(g->images = calloc((size_t)g->count, sizeof *g->images)))
        return error_oom(&c->error, 0, "the pictures");
    progress_begin(&g->p, c, r, 1, g->count, (double)g->count * g->decoder.plan.flops);
    TRY(progress_report(&g->p, &c->error));
    TRY(decode_given(g));
    g->p.state.stage_fraction = g->p.state.fraction = 1;
    g->p.state.seconds_left = 0;
    return progress_report(&g->p, &c->error);
}

flux1_status flux1_decode(flux1_context *c, const flux1_model *model, const flux1_latents *latents,
                          const flux1_generate_params *params, flux1_image **images)
{
    run g = {.c = c, .m = model, .n = 1};
    flux1_generate_params p;
    flux1_status st;
    TRY(context_begin(c));
    if (images)
        *images = NULL;
    TRY(context_needs(c, model, "model"));
    TRY(context_needs(c, latents, "latents"));
    TRY(request_params(c, params, &p));
    request_only_decode(&p);
    p.latents = latents;
    TRY_CLEANUP(check_size_is_known(&g, latents, &p));
    TRY_CLEANUP(run_take_requests(&g, &(const flux1_generate_params *){&p}));
    st = run_whole(&g, decode_all, images);
cleanup:
    run_free(&g);
    return st;
}
