/* Whole requests: plan all stages, refuse what does not fit, then encode, denoise batch by batch, and decode. */
#include "pipeline/preview.h"
#include "pipeline/profiling.h"
#include "pipeline/run.h"
#include "pipeline/text_cache.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

/* ---- encoding ---- */

static double text_flops(const run *g) { return g->text_plan.clip.flops + g->text_plan.t5.flops; }

static flux1_status encode_all(run *g)
{
    for (int i = 0; i < g->n; i++)
        for (int w = 0; w < 2; w++) {
            prompt_text *t = &g->texts[i].of[w];
            if (!prompt_is_missing(t))
                continue;
            TRY(text_encode(g->c, g->m, &g->text_plan, t->own, &g->p));
            TRY(text_cache_keep(g->c, &g->r[i].adapters, t->own));
        }
    return FLUX1_OK;
}

static double texts_to_encode(const run *g)
{
    double count = 0;
    for (int i = 0; i < g->n; i++)
        for (int w = 0; w < 2; w++)
            count += prompt_is_missing(&g->texts[i].of[w]);
    return count;
}

/* ---- pictures and batches ---- */

static batch_row row_of(const run *g, int64_t picture)
{
    const picture_place *p = &g->place[picture];
    const request_texts *t = &g->texts[p->request];
    return (batch_row){.text = t->of[0].text, .negative = t->of[1].text, .guidance = g->r[p->request].guidance};
}

static bool same_row(batch_row a, batch_row b)
{
    return a.text == b.text && a.negative == b.negative && a.guidance == b.guidance;
}

/* Number of pictures in the batch that begins with picture `first`. */
static int64_t size_of_batch(const run *g, int64_t first)
{
    int64_t left = g->count - first;
    return left < g->batch ? left : g->batch;
}

static denoiser *denoiser_for(run *g, int64_t size) { return size == g->batch ? &g->denoiser : &g->rest; }

/* Whether a batch goes on with the conditions of the one before. */
static bool follows(const run *g, int64_t first)
{
    int64_t size = size_of_batch(g, first);
    if (first < g->batch || size != g->batch)
        return false;
    for (int64_t i = 0; i < size; i++)
        if (!same_row(row_of(g, first + i), row_of(g, first + i - g->batch)))
            return false;
    return true;
}

static double total_flops(const run *g)
{
    double sum = texts_to_encode(g) * text_flops(g) + (double)g->count * g->decoder.plan.flops;
    for (int64_t first = 0; first < g->count; first += g->batch) {
        const denoiser *d = size_of_batch(g, first) == g->batch ? &g->denoiser : &g->rest;
        sum += d->plan.flops - (follows(g, first) ? d->plan.opening : 0);
    }
    return sum;
}

/* ---- steps ---- */

/* The last step is shown too, but what the VAE makes of its latent is the picture itself (decode_one). */
static bool is_previewed(const run *g, int64_t picture, int64_t k)
{
    const int every = g->r[g->place[picture].request].preview_every;
    const bool now = every && (k + 1 < g->r[0].steps ? (k + 1) % every == 0 : !run_previews_by_vae(g));
    return now && run_wants(g, picture);
}

static bool is_any_previewed(const run *g, const batch *b, int64_t k)
{
    for (int64_t i = 0; g->previews && i < b->size; i++)
        if (is_previewed(g, b->first + i, k))
            return true;
    return false;
}

/* The pictures as expected after the step that `expected` was taken behind. */
static flux1_status show_previews(run *g, batch *b)
{
    flux1_status st = FLUX1_OK;
    for (int64_t i = 0; b->has_expected && st == FLUX1_OK && i < b->size; i++) {
        if (!is_previewed(g, b->first + i, b->expected_of))
            continue;
        flux1_image picture = run_blank_picture(g, b->first + i);
        st = run_make_preview(g, run_latent(&b->expected, i), &picture);
        if (st == FLUX1_OK)
            st = run_show_preview(g, b->first + i, &picture);
        if (!g->projection)
            free(picture.pixels);
    }
    b->has_expected = false;
    return st;
}

/* What the caller is told of a step that is done; what is read here of the latent is step k's only if no other is
 * submitted yet. */
static flux1_status after_step(run *g, batch *b, int64_t k)
{
    if (g->dump || k + 1 == g->r[0].steps)
        TRY(denoiser_latent(b->denoiser, -1, &b->latents));
    if (g->dump)
        TRY(run_dump_latents(g, b, k + 1));
    g->p.state.step = (int)k + 1;
    TRY(progress_report(&g->p, &g->c->error));
    if (!is_any_previewed(g, b, k))
        return FLUX1_OK;
    b->has_expected = true;
    b->expected_of = k;
    return denoiser_latent(b->denoiser, k, &b->expected);
}

/* A device that runs ahead has the next step before it is done with this one, unless the latent between them is wanted;
 * a preview is made beside the next step. */
static flux1_status run_ahead(run *g, batch *b)
{
    int64_t waited = 0, steps = g->r[0].steps;
    for (int64_t k = 0; k < steps; k++) {
        TRY(denoiser_submit(b->denoiser, k));
        TRY(show_previews(g, b));
        bool alone = k + 1 == steps || is_any_previewed(g, b, k);
        for (; waited < (alone ? k + 1 : k); waited++) {
            TRY(denoiser_wait(b->denoiser, waited));
            TRY(after_step(g, b, waited));
        }
    }
    return show_previews(g, b); /* of the last step */
}

static flux1_status run_steps(run *g, batch *b)
{
    if (denoiser_runs_ahead(b->denoiser) && !g->dump)
        return run_ahead(g, b);
    for (int64_t k = 0; k < g->r[0].steps; k++) {
        TRY(denoiser_step(b->denoiser, k));
        TRY(after_step(g, b, k));
        TRY(show_previews(g, b));
    }
    return FLUX1_OK;
}

static flux1_status start_batch(run *g, batch *b)
{
    for (int64_t i = 0; i < b->size; i++) {
        g->rows[i] = row_of(g, b->first + i);
        const picture_place *p = &g->place[b->first + i];
        TRY(make_noise(g->m, &g->r[p->request], p->index, p->seed, run_latent(&b->latents, i), &g->c->error));
    }
    if (g->dump)
        TRY(run_dump_latents(g, b, 0));
    return denoiser_start(b->denoiser, &b->latents);
}

static void tell_of_reuse(run *g, const batch *b)
{
    if (g->r[0].step_cache > 0)
        context_log(g->c, FLUX1_LOG_INFO, "step cache: in %lld of %lld %s the blocks behind the first did not run",
                    (long long)b->reused, (long long)run_passes(g), g->r[0].passes > 1 ? "passes" : "steps");
}

static flux1_status denoise_batch(run *g, batch *b)
{
    double opening;
    const stage_plan *plan = &b->denoiser->plan;
    for (int64_t i = 0; i < b->size; i++)
        g->rows[i] = row_of(g, b->first + i);
    if (b->denoiser == &g->rest)
        denoiser_rest(&g->denoiser);
    TRY(denoiser_open(b->denoiser, g->rows, g->reserve, &g->p, &opening));
    progress_advance(&g->p, opening);
    TRY(start_batch(g, b));
    g->p.base = plan->opening;
    g->p.state.image = (int)b->first;
    g->p.state.steps = (int)g->r[0].steps;
    g->p.state.step = 0;
    TRY(run_steps(g, b));
    b->reused = denoiser_reused(b->denoiser);
    tell_of_reuse(g, b);
    progress_advance(&g->p, plan->flops - plan->opening);
    return FLUX1_OK;
}

/* ---- all batches ---- */

static flux1_status batch_create(run *g, int64_t first, batch *b)
{
    *b = (batch){.first = first, .size = size_of_batch(g, first)};
    b->denoiser = denoiser_for(g, b->size);
    int64_t shape[] = {b->size, g->denoiser.tokens, g->denoiser.channels};
    TRY(tensor_create(DTYPE_F32, 3, shape, &b->latents, &g->c->error));
    return g->previews ? tensor_create(DTYPE_F32, 3, shape, &b->expected, &g->c->error) : FLUX1_OK;
}

static void batch_free(batch *b)
{
    tensor_free(&b->latents);
    tensor_free(&b->expected);
}

static bool is_wanted(const run *g, const batch *b)
{
    for (int64_t i = 0; i < b->size; i++)
        if (run_wants(g, b->first + i))
            return true;
    return false;
}

/* The last batch may have been dropped, and then the denoiser of the others is still open. */
static void rest(run *g, const batch *last)
{
    denoiser_rest(&g->denoiser);
    if (last->denoiser == &g->rest)
        denoiser_rest(&g->rest);
}

/* Batch by batch, each decoded before the next; where the memory does not allow both at a time all are denoised first.
 */
static flux1_status run_batches(run *g)
{
    int64_t batches = (g->count + g->batch - 1) / g->batch, made = 0, decoded = 0, denoised;
    flux1_status st = FLUX1_OK;
    batch *all = calloc((size_t)batches, sizeof *all);
    if (!all)
        return error_oom(&g->c->error, 0, "the batches");
    for (; st == FLUX1_OK && made < batches; made++) {
        batch *b = &all[made];
        st = batch_create(g, made * g->batch, b);
        b->dropped = !is_wanted(g, b);
        if (st == FLUX1_OK && !b->dropped)
            st = denoise_batch(g, b);
        if (st == FLUX1_OK && made + 1 == batches)
            rest(g, b); /* their memory is the decoder's now */
        if (st == FLUX1_OK && g->alternate)
            st = run_decode_batch(g, b);
        if (g->alternate)
            batch_free(b);
    }
    denoised = st == FLUX1_OK ? made : made - 1; /* the last one made has failed */
    for (; st == FLUX1_OK && !g->alternate && decoded < denoised; decoded++)
        st = run_decode_batch(g, &all[decoded]);
    for (; st != FLUX1_OK && !g->alternate && decoded < denoised; decoded++)
        run_undecoded(g, &all[decoded], 0, st);
    for (int64_t i = 0; i < made; i++)
        batch_free(&all[i]);
    free(all);
    return st;
}

/* ---- all of it ---- */

static bool has_estimates(const run *g) { return g->previews && !run_previews_by_vae(g); }

static flux1_status prepare_previews(run *g)
{
    const request *r = &g->r[0];
    const int64_t scale = vae_scale(&g->m->vae);
    TRY(preview_projection(g->c, g->m, r, &g->projection));
    return projection_canvas_create(r->height / scale, r->width / scale, scale, &g->canvas, &g->c->error);
}

/* The files that come at the end, before the work that goes into them. */
static flux1_status check_files(const run *g)
{
    const char *const files[] = {g->r[0].dump, g->r[0].profile};
    if (files[0] && files[1] && file_same_place(files[0], files[1]))
        return error_set(&g->c->error, FLUX1_ERR_ARGUMENT, "dump and profile both name %s: give each a file of its own",
                         files[0]);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i])
            TRY(file_check_writable(files[i], &g->c->error));
    return FLUX1_OK;
}

static flux1_status run_all(run *g, bool keep)
{
    flux1_error *err = &g->c->error;
    TRY(run_plan(g));
    TRY(check_files(g));
    if (has_estimates(g))
        TRY(prepare_previews(g));
    if (g->r[0].profile)
        TRY(profiling_begin(g->c));
    if (keep && !(g->images = calloc((size_t)g->count, sizeof *g->images)))
        return error_oom(err, 0, "the pictures");
    if (g->r[0].dump)
        TRY(dump_create(g->count, &g->dump, err));
    progress_begin(&g->p, g->c, g->r, g->n, g->count, total_flops(g));
    TRY(progress_report(&g->p, err));
    TRY(encode_all(g));
    if (g->dump)
        TRY(run_dump_texts(g));
    TRY(run_batches(g));
    g->p.state.stage_fraction = g->p.state.fraction = 1;
    g->p.state.seconds_left = 0;
    TRY(progress_report(&g->p, err));
    if (g->dump)
        TRY(run_dump_facts(g));
    if (g->dump)
        TRY(dump_write(g->dump, g->r[0].dump, err));
    return g->r[0].profile ? profiling_write(g->c, g->r[0].profile) : FLUX1_OK;
}

flux1_status flux1_generate_many(flux1_context *c, const flux1_model *model, const flux1_generate_params *const *params,
                                 int n, flux1_image **images)
{
    run g = {.c = c, .m = model, .n = n};
    flux1_status st;
    TRY(context_begin(c));
    if (images)
        *images = NULL;
    TRY(context_needs(c, model, "model"));
    TRY(context_needs(c, params, "params"));
    TRY_CLEANUP(run_take_requests(&g, params));
    st = run_whole(&g, run_all, images);
cleanup:
    run_free(&g);
    profiling_end(c);
    return st;
}

/* together NULL: the request as it is; otherwise one of as many pictures as are computed together. */
static flux1_status check(flux1_context *c, const flux1_model *model, const flux1_generate_params *params,
                          int *together)
{
    run g = {.c = c, .m = model, .n = 1, .shrinks = together != NULL};
    TRY(context_begin(c));
    TRY(context_needs(c, model, "model"));
    TRY(context_needs(c, params, "params"));
    flux1_status st = run_take_requests(&g, &params);
    if (st == FLUX1_OK && together)
        g.count = request_batch(c, model, &g.r[0], g.count);
    if (st == FLUX1_OK)
        st = run_plan(&g);
    if (st == FLUX1_OK && has_estimates(&g))
        st = preview_projection(c, model, &g.r[0], NULL);
    if (st == FLUX1_OK && together)
        *together = (int)g.batch;
    run_free(&g);
    return st;
}

flux1_status flux1_generate_check(flux1_context *c, const flux1_model *model, const flux1_generate_params *params)
{
    return check(c, model, params, NULL);
}

flux1_status flux1_generate_batch(flux1_context *c, const flux1_model *model, const flux1_generate_params *params,
                                  int *together)
{
    TRY(context_begin(c));
    TRY(context_needs(c, together, "batch"));
    *together = 0;
    return check(c, model, params, together);
}

flux1_status flux1_generate(flux1_context *context, const flux1_model *model, const flux1_generate_params *params,
                            flux1_image **images)
{
    return flux1_generate_many(context, model, &params, 1, images);
}
