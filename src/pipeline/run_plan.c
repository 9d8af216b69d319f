/* Before anything is computed: requests checked, prompts in tokens, batches chosen, every stage planned, memory
 * compared with what there is. */
#include "pipeline/run.h"
#include "pipeline/text_cache.h"
#include "pipeline/wish.h"

#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

/* Requests may differ in what a batch's rows may differ in, and in nothing else. */
static flux1_status check_alike(run *g, int i)
{
    const request *a = &g->r[0], *b = &g->r[i];
    const char *what = a->width != b->width || a->height != b->height  ? "size"
                       : a->steps != b->steps                          ? "steps"
                       : a->length != b->length                        ? "max_sequence_length"
                       : a->passes != b->passes                        ? "its use of true CFG"
                       : a->true_cfg_scale != b->true_cfg_scale        ? "true_cfg_scale"
                       : a->step_cache != b->step_cache                ? "step_cache"
                       : a->tiling != b->tiling                        ? "tiling"
                       : a->batch != b->batch                          ? "batch"
                       : !adapter_set_same(&a->adapters, &b->adapters) ? "adapters"
                                                                       : NULL;
    if (!what)
        return FLUX1_OK;
    return error_set(&g->c->error, FLUX1_ERR_ARGUMENT,
                     "request %d differs in %s from the first; only prompts, seeds, counts, guidance, rng, latents, "
                     "cancel and preview_every may differ",
                     i, what);
}

/* What a request does not say of itself is as the first one's. `progress` is always the first one's, and its previews
 * go there. */
static void follow_first(run *g, const flux1_generate_params *given, request *r)
{
    r->preview_every = g->r[0].progress ? given->preview_every : 0;
    if (!r->cancel)
        r->cancel = g->r[0].cancel;
    if (!r->preview_every)
        r->preview_every = g->r[0].preview_every;
    g->previews |= r->preview_every > 0;
}

static flux1_status place_pictures(run *g)
{
    for (int i = 0; i < g->n; i++)
        g->count += g->r[i].count;
    if (g->count > COUNT_LIMIT)
        return error_set(&g->c->error, FLUX1_ERR_LIMIT, "%lld pictures: at most %d", (long long)g->count, COUNT_LIMIT);
    if (!(g->place = calloc((size_t)g->count, sizeof *g->place)))
        return error_oom(&g->c->error, 0, "the pictures");
    picture_place *p = g->place;
    for (int i = 0; i < g->n; i++)
        for (int64_t k = 0; k < g->r[i].count; k++)
            *p++ = (picture_place){.request = i, .index = (int)k, .seed = g->r[i].seed + (uint64_t)k};
    return FLUX1_OK;
}

flux1_status run_take_requests(run *g, const flux1_generate_params *const *params)
{
    flux1_context *c = g->c;
    if (g->n < 1 || g->n > COUNT_LIMIT)
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "n is %d: it should be 1 to %d", g->n, COUNT_LIMIT);
    g->r = calloc((size_t)g->n, sizeof *g->r);
    g->texts = calloc((size_t)g->n, sizeof *g->texts);
    if (!g->r || !g->texts)
        return error_oom(&c->error, 0, "the requests");
    for (int i = 0; i < g->n; i++) {
        if (request_make(c, g->m, params[i], &g->r[i]) != FLUX1_OK)
            return g->n == 1 ? c->error.status : error_prefix(&c->error, "request %d", i);
        TRY(check_alike(g, i));
        follow_first(g, params[i], &g->r[i]);
    }
    request_warn_size(c, g->m, &g->r[0]);
    return place_pictures(g);
}

/* ---- prompts ---- */

/* One of this run that has the same ids; NULL if there is none. */
static const flux1_text *same_text(const run *g, const flux1_text *ids)
{
    for (int i = 0; i < g->n; i++)
        for (int w = 0; w < 2; w++) {
            const prompt_text *t = &g->texts[i].of[w];
            if (t->own && t->own != ids && t->text == t->own && text_same_ids(t->own, ids))
                return t->own;
        }
    return NULL;
}

/* Prompts that were encoded before are not encoded again. */
static flux1_status find_encoded(run *g, const request *r, prompt_text *t)
{
    bool found = false;
    const flux1_text *same = same_text(g, t->own);
    if (same) {
        t->text = same;
        return FLUX1_OK;
    }
    return text_cache_take(g->c, &r->adapters, t->own, &found);
}

static flux1_status take_prompt(run *g, const request *r, const char *prompt, const flux1_text *given, const char *name,
                                prompt_text *out)
{
    flux1_context *c = g->c;
    bool clip_cut = false, t5_cut = false;
    TRY(text_tokenize(g->m, prompt, strlen(prompt), r->length, &out->own, &clip_cut, &t5_cut, &c->error));
    out->text = out->own;
    if (t5_cut)
        context_log(c, FLUX1_LOG_WARNING, "the %s is longer than %d T5 tokens: the rest is not seen", name, r->length);
    if (clip_cut)
        context_log(c, FLUX1_LOG_INFO, "the %s is longer than CLIP's %d tokens: CLIP sees its beginning only%s", name,
                    g->m->clip_length, t5_cut ? "" : ", T5 sees it whole");
    if (!prompt[0] && strcmp(name, "prompt") == 0)
        context_log(c, FLUX1_LOG_INFO, "the prompt is empty");
    if (!given)
        return find_encoded(g, r, out);
    out->text = given;
    return text_check(c, g->m, given, out->own, strcmp(name, "prompt") == 0 ? "the text" : "the negative text");
}

/* Of the prompts that are to be encoded, the one that is longest for CLIP; NULL: there are none. */
static const flux1_text *longest_text(const run *g)
{
    const flux1_text *longest = NULL;
    int64_t most = -1;
    for (int i = 0; i < g->n; i++)
        for (int w = 0; w < 2; w++) {
            const prompt_text *t = &g->texts[i].of[w];
            const int64_t row =
                prompt_is_missing(t) ? clip_pooled_row(&g->m->clip, t->own->clip_ids, t->own->clip_length) : -1;
            if (row > most)
                longest = t->own, most = row;
        }
    return longest;
}

/* Whether the prompts are what takes much of it. */
static unsigned prompt_hint(const run *g, const memory_need *n)
{
    return g->n > 1 && n->texts > memory_total(*n) / 4 ? HINT_PROMPTS : 0;
}

/* Each prompt of this run is there until its end; one that equals another's is that one. */
static void count_texts(run *g)
{
    for (int i = 0; i < g->n; i++)
        for (int w = 0; w < 2; w++) {
            const prompt_text *t = &g->texts[i].of[w];
            g->c->run_texts += t->own && t->text == t->own ? text_bytes_of(g->m, g->r[0].length) : 0;
        }
}

static flux1_status plan_texts(run *g)
{
    flux1_context *c = g->c;
    for (int i = 0; i < g->n; i++) {
        const request *r = &g->r[i];
        TRY(take_prompt(g, r, r->prompt, r->text, "prompt", &g->texts[i].of[0]));
        if (r->passes > 1)
            TRY(take_prompt(g, r, r->negative_prompt, r->negative_text, "negative prompt", &g->texts[i].of[1]));
    }
    count_texts(g);
    const flux1_text *longest = longest_text(g);
    if (!longest)
        return FLUX1_OK;
    TRY(text_plan_make(c, g->m, &g->r[0].adapters, longest, &g->text_plan));
    const memory_need first = memory_of(c, text_device(c), &g->text_plan.clip, NULL),
                      second = memory_of(c, text_device(c), &g->text_plan.t5, NULL);
    TRY(memory_check(c, first, prompt_hint(g, &first), "encoding the prompt (CLIP)"));
    return memory_check(c, second, HINT_TEXT | prompt_hint(g, &second), "encoding the prompt (T5)");
}

/* ---- batches ---- */

/* With a step cache those together decide together, so that a picture would depend on those beside it. */
int64_t request_batch(const flux1_context *c, const flux1_model *m, const request *r, int64_t pictures)
{
    if (c->cards || (!r->batch && r->step_cache > 0))
        return 1;
    const ops_sizing *sizing = c->device.kind->sizing;
    int64_t rows = r->length + request_grid_h(r, m) * request_grid_w(r, m), most = r->batch;
    if (!most)
        most = rows < sizing->alone_rows ? sizing->together_rows / rows : 1;
    if (!r->batch && sizing->together_most && most > sizing->together_most)
        most = sizing->together_most;
    return most < pictures ? most : pictures;
}

static unsigned denoise_hints(const run *g, const memory_need *n)
{
    const request *r = &g->r[0];
    const dit_config *d = &g->m->dit;
    /* the modulation tables are what grows with the steps; each rank has all of them */
    double tables = (double)(r->steps * g->batch * dit_hidden(d) * (12 * d->layers + 3 * d->single_layers)) * 4 *
                    mesh_ranks(&g->c->mesh);
    return HINT_SIZE | (g->batch > 1 ? HINT_BATCH : 0) | prompt_hint(g, n) |
           (tables > (double)g->denoiser.plan.memory / 4 ? HINT_STEPS : 0) |
           (r->length > request_grid_h(r, g->m) * request_grid_w(r, g->m) ? HINT_TEXT : 0);
}

/* Bytes of a plan's weights as its device will hold them beside `memory` bytes of activations. By size alone; what else
 * lies on the device shows when the weights come. */
static uint64_t weights_of(const flux1_context *c, const ops_count *count, uint64_t memory)
{
    const bool fit = count->held_bytes + memory + c->device.kind->sizing->spare <= c->max_device_memory;
    return fit || c->device.config.held != HELD_AUTO ? count->held_bytes : count->packed_bytes;
}

/* A device with memory of its own holds these weights beside these activations. */
static bool weights_stay(const flux1_context *c, const ops_count *count, uint64_t memory)
{
    return weights_of(c, count, memory) + memory + c->device.kind->sizing->spare <= c->max_device_memory;
}

static bool batch_fits(const denoiser *d, const request *r, const stage_plan *text)
{
    const flux1_context *c = d->context;
    const memory_need need = memory_of(c, &c->device, &d->plan, NULL);
    if (!memory_fits(c, need))
        return false;
    if (text->arena && !memory_fits(c, memory_of(c, text_device(c), text, NULL)))
        return false;
    return r->batch || !need.device || weights_stay(c, &d->plan.count, d->plan.memory);
}

flux1_status denoiser_plan_pictures(flux1_context *c, const flux1_model *m, const request *r, int64_t pictures,
                                    bool shrinks, const stage_plan *text, denoiser *out)
{
    const bool ours = !r->batch || shrinks;
    for (int64_t together = request_batch(c, m, r, pictures);; together = (together + 1) / 2) {
        if (shrinks)
            c->run_texts = (uint64_t)(together * r->passes) * text_bytes_of(m, r->length);
        TRY(denoiser_plan(c, m, r, together, out));
        if (!ours || together == 1 || batch_fits(out, r, text))
            return FLUX1_OK;
        denoiser_close(out);
    }
}

static flux1_status plan_denoiser(run *g)
{
    flux1_context *c = g->c;
    TRY(denoiser_plan_pictures(c, g->m, &g->r[0], g->count, g->shrinks, &g->text_plan.t5, &g->denoiser));
    g->batch = g->denoiser.batch;
    g->denoiser.previews = g->previews; /* some request's */
    char pictures[40] = "a picture";
    if (g->batch > 1)
        snprintf(pictures, sizeof pictures, "%lld pictures at a time", (long long)g->batch);
    const memory_need need = memory_of(c, &c->device, &g->denoiser.plan, NULL);
    TRY(memory_check(c, need, denoise_hints(g, &need), "denoising %s of %lldx%lld", pictures, (long long)g->r[0].width,
                     (long long)g->r[0].height));
    int64_t rest = g->count % g->batch;
    if (rest)
        TRY(denoiser_plan(c, g->m, &g->r[0], rest, &g->rest));
    g->rows = calloc((size_t)g->batch, sizeof *g->rows);
    return g->rows ? FLUX1_OK : error_oom(&c->error, 0, "a batch");
}

static void tell_of_streaming(const run *g)
{
    flux1_context *c = g->c;
    const ops_device_info *info = &c->device.device->info;
    const stage_plan *d = &g->denoiser.plan;
    const uint64_t bytes = weights_of(c, &d->count, d->memory);
    char weights[32], packed[32], activations[32];
    if (!info->memory)
        return;
    format_bytes(weights, sizeof weights, (double)d->count.held_bytes);
    format_bytes(packed, sizeof packed, (double)bytes);
    format_bytes(activations, sizeof activations, (double)d->memory);
    if (!weights_stay(c, &d->count, d->memory))
        context_log(
            c, FLUX1_LOG_WARNING,
            "the transformer's weights (%s) and activations (%s) do not fit %s: weights are streamed to it in every "
            "step, which is slow%s",
            packed, activations, info->name,
            !c->device.config.fp8 && info->fp8 && bytes == d->count.held_bytes
                ? "; dtype fp8 takes about two thirds of them"
                : "");
    else if (bytes < d->count.held_bytes)
        context_log(c, FLUX1_LOG_INFO,
                    "the transformer's weights stay packed on %s (%s) and are decoded in every step: decoded (%s) they "
                    "do not fit beside activations (%s)",
                    info->name, packed, weights, activations);
}

/* ---- decoding, and both ---- */

static flux1_status plan_decoder(run *g)
{
    flux1_context *c = g->c;
    const request *r = &g->r[0];
    const stage_plan *denoise = &g->denoiser.plan;
    const bool shows = run_previews_by_vae(g);
    unsigned hints = HINT_SIZE | (r->tiling == FLUX1_TILING_NO ? HINT_TILING : 0);
    TRY(decoder_plan(c, g->m, r, memory_beside(c, &c->device, shows ? denoise : NULL), &g->decoder));
    memory_need decode = memory_of(c, &c->device, &g->decoder.plan, NULL);
    memory_need both = memory_of(c, &c->device, denoise, &g->decoder.plan);
    g->alternate = g->count <= g->batch || memory_fits(c, both);
    if (shows || (g->alternate && g->count > g->batch))
        g->denoiser.beside = g->rest.beside = &g->decoder.plan;
    return memory_check(c, shows ? both : decode, shows ? hints | HINT_PREVIEWS : hints, "%s a picture of %lldx%lld",
                        shows ? "denoising and previewing" : "decoding", (long long)r->width, (long long)r->height);
}

/* One arena for all stages, so that it need not move between them; where a device's memory is too small for that beside
 * the largest stage's weights, each stage has its own. On the host memory_reserve decides, stage by stage. */
static flux1_status plan_reserve(run *g)
{
    flux1_context *c = g->c;
    int ranks = mesh_ranks(&c->mesh);
    const stage_plan *all[] = {&g->denoiser.plan, &g->decoder.plan, c->has_text_device ? NULL : &g->text_plan.clip,
                               c->has_text_device ? NULL : &g->text_plan.t5};
    uint64_t memory = 0, weights = 0;
    if (!(g->reserve = calloc((size_t)ranks, sizeof *g->reserve)))
        return error_oom(&c->error, 0, "the plan");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int r = 0; all[i] && all[i]->arena && r < ranks; r++)
            g->reserve[r] = all[i]->arena[r] > g->reserve[r] ? all[i]->arena[r] : g->reserve[r];
    for (int r = 0; r < ranks; r++)
        memory += g->reserve[r];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] && weights_of(c, &all[i]->count, memory) > weights)
            weights = weights_of(c, &all[i]->count, memory);
    if (c->device.device->info.memory && weights + memory + c->device.kind->sizing->spare > c->max_device_memory) {
        free(g->reserve);
        g->reserve = NULL;
    }
    if (!c->has_text_device)
        g->text_plan.reserve = g->reserve;
    return FLUX1_OK;
}

static void tell_of_memory(const run *g)
{
    flux1_context *c = g->c;
    if (g->text_plan.t5.arena)
        memory_tell(c, text_device(c), "encoding", &g->text_plan.t5, NULL);
    memory_tell(c, &c->device, g->denoiser.beside ? "denoising beside decoding" : "denoising", &g->denoiser.plan,
                g->denoiser.beside);
    if (!g->denoiser.beside)
        memory_tell(c, &c->device, "decoding", &g->decoder.plan, NULL);
    decoder_tell(&g->decoder, g->r[0].tiling);
}

/* ---- what would fit ---- */

static wish wish_of(const run *g, const request *r)
{
    return (wish){.model = g->m,
                  .request = r,
                  .text = longest_text(g),
                  .batch = r->batch && !g->shrinks ? request_batch(g->c, g->m, r, g->count) : 1,
                  .together = run_previews_by_vae(g)};
}

/* A picture of the same shape, one at a time: the sides are halved until it fits, so that the plans together take
 * little more time than the first. r->width 0: there is none. */
static void find_size(run *g, request *r)
{
    flux1_context *c = g->c;
    const int64_t unit = folder_size_multiple(g->m);
    bool found = false;
    uint64_t most;
    int64_t part = g->batch > 1 ? 1 : 2;
    const memory_need need = memory_of(c, &c->device, &g->denoiser.plan, NULL);
    const double times = (double)memory_total(need) / (double)memory_limit(c, &need);
    while (times > (double)(2 * part * part) && part < SIZE_LIMIT) /* far from it */
        part *= 2;
    for (; !found; part *= 2) {
        wish w = wish_of(g, r);
        w.batch = 1;
        r->width = g->r[0].width / part / unit * unit;
        r->height = g->r[0].height / part / unit * unit;
        if (r->width < unit || r->height < unit || wish_fits(c, &w, &found, &most) != FLUX1_OK)
            break;
    }
    if (!found)
        r->width = 0;
}

/* Adds a smaller picture that fits, and options by which this one does. */
static flux1_status say_what_fits(run *g, flux1_status refused)
{
    flux1_context *c = g->c;
    const flux1_error refusal = c->error;
    request r = g->r[0];
    char size[64] = "";
    char words[WISH_TEXT];
    if (refused != FLUX1_ERR_LIMIT)
        return refused;
    const wish asked = wish_of(g, &g->r[0]);
    if (wish_options(c, &asked, words) != FLUX1_OK)
        words[0] = '\0';
    r.width = 0;
    if (g->denoiser.plan.arena) {
        r = g->r[0];
        find_size(g, &r);
    }
    c->error = refusal;
    if (r.width)
        snprintf(size, sizeof size, "%lldx%lld would fit%s", (long long)r.width, (long long)r.height,
                 r.width == g->r[0].width ? ", one at a time" : "");
    if (size[0] && words[0])
        return error_append(&c->error, ". %s; %lldx%lld with %s", size, (long long)g->r[0].width,
                            (long long)g->r[0].height, words);
    if (words[0])
        return error_append(&c->error, ". It would fit with %s", words);
    return size[0] ? error_append(&c->error, ". %s", size) : refused;
}

static flux1_status plan_pictures(run *g)
{
    TRY(plan_denoiser(g));
    tell_of_streaming(g);
    return plan_decoder(g);
}

flux1_status run_plan(run *g)
{
    context_uses(g->c, g->m);
    g->c->dump = g->r[0].dump ? run_dump_bytes(g) : 0;
    flux1_status st = plan_texts(g);
    if (st == FLUX1_OK)
        st = plan_pictures(g);
    if (st != FLUX1_OK)
        return say_what_fits(g, st);
    tell_of_memory(g);
    return plan_reserve(g);
}
