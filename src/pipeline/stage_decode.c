/* The decoding stage: packed latent to 8-bit picture, whole, in bands or in tiles. */
#include "pipeline/text_to_image.h"

#include "base/units.h"
#include "image/pixels.h"
#include "pipeline/ttnn.h"

#include <stdlib.h>
#include <string.h>

/* ---- plans ---- */

/* The plan of a picture, or of a tile of one, of h × w latents. */
static flux1_status plan_part(decoder *d, int64_t h, int64_t w, stage_plan *out)
{
    flux1_context *c = d->context;
    d->job.h = h;
    d->job.w = w;
    return stage_plan_make(&c->mesh, &c->device, vae_decode_body, &d->job, &d->job.ticker, out, &c->error);
}

static const stage_plan *tile_plan_of(const decoder *d, int64_t h, int64_t w)
{
    for (int i = 0; i < d->tile_plans; i++)
        if (d->tile[i].h == h && d->tile[i].w == w)
            return &d->tile[i].plan;
    return NULL;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Work adds up; memory and weights are there for one tile at a time. */
static void count_tile(ops_count *all, const ops_count *one)
{
    all->flops += one->flops;
    all->linear_flops += one->linear_flops;
    all->attention_flops += one->attention_flops;
    all->conv_flops += one->conv_flops;
    all->exchanged += one->exchanged;
    all->operations += one->operations;
    all->own_bytes = larger(all->own_bytes, one->own_bytes);
    all->arena_peak = larger(all->arena_peak, one->arena_peak);
    all->weight_bytes = larger(all->weight_bytes, one->weight_bytes);
    all->held_bytes = larger(all->held_bytes, one->held_bytes);
    all->form_bytes = larger(all->form_bytes, one->form_bytes);
    all->packed_bytes = larger(all->packed_bytes, one->packed_bytes);
    all->block_bytes = larger(all->block_bytes, one->block_bytes);
    all->mapped_bytes = larger(all->mapped_bytes, one->mapped_bytes);
    all->step_bytes = larger(all->step_bytes, one->step_bytes);
}

/* One more tile: its work comes behind that of the others. */
static flux1_status append_tile(stage_plan *all, const stage_plan *one, flux1_error *err)
{
    const size_t needed = all->tick_count + one->tick_count + 1;
    if (needed > all->tick_room) { /* by halves: a plan may have a million tiles */
        double *ticks = realloc(all->ticks, (needed + needed / 2) * sizeof *ticks);
        if (!ticks)
            return error_oom(err, 0, "the plan");
        all->ticks = ticks;
        all->tick_room = needed + needed / 2;
    }
    for (size_t i = 0; i < one->tick_count; i++)
        all->ticks[all->tick_count++] = all->flops + one->ticks[i];
    all->flops += one->flops;
    all->memory = larger(all->memory, one->memory);
    count_tile(&all->count, &one->count);
    return FLUX1_OK;
}

static flux1_status plan_tile(decoder *d, int64_t h, int64_t w)
{
    if (!tile_plan_of(d, h, w)) {
        tile_plan *t = &d->tile[d->tile_plans];
        TRY(plan_part(d, h, w, &t->plan));
        t->h = h;
        t->w = w;
        d->tile_plans++;
    }
    return append_tile(&d->plan, tile_plan_of(d, h, w), &d->context->error);
}

static flux1_status plan_tiles(decoder *d)
{
    const tile_grid *g = &d->grid;
    for (int64_t i = 0; i < tile_rows(g); i++)
        for (int64_t j = 0; j < tile_columns(g); j++)
            TRY(plan_tile(d, tile_extent(g, g->h, i), tile_extent(g, g->w, j)));
    return FLUX1_OK;
}

/* The arena of a picture in tiles serves the largest of them; so with the rest of a rank's memory. */
static flux1_status largest_arena(decoder *d)
{
    int ranks = mesh_ranks(&d->context->mesh);
    TRY(stage_plan_create(ranks, &d->plan, &d->context->error));
    d->plan.memory = 0;
    for (int r = 0; r < ranks; r++) {
        for (int i = 0; i < d->tile_plans; i++) {
            const stage_plan *tile = &d->tile[i].plan;
            d->plan.arena[r] = larger(d->plan.arena[r], tile->arena[r]);
            d->plan.scratch[r] = larger(d->plan.scratch[r], tile->scratch[r]);
            d->plan.held[r] = larger(d->plan.held[r], tile->held[r]);
            d->plan.block[r] = larger(d->plan.block[r], tile->block[r]);
            d->plan.mapped[r] = larger(d->plan.mapped[r], tile->mapped[r]);
            d->plan.in_steps[r] = larger(d->plan.in_steps[r], tile->in_steps[r]);
        }
        d->plan.memory += d->plan.arena[r];
    }
    return FLUX1_OK;
}

/* ---- which way ---- */

/* Rows of a band: the fewer, the less memory; but four rows of the last level's input are computed twice for each. */
static const int64_t BANDS[] = {128, 64, 32, 16};
enum { BAND_COUNT = sizeof BANDS / sizeof *BANDS };

/* What decoder_run takes beside the session: rows of the latent, pixels in float32, and then the picture's bytes, but
 * while there are tiles these. */
static size_t picture_bytes(const decoder *d, size_t tiles)
{
    const tile_grid *g = &d->grid;
    const int64_t latents = g->h * g->w, pixels = latents * g->scale * g->scale;
    return (size_t)(latents * d->model->vae.latent_channels + 3 * pixels) * sizeof(float) +
           larger((size_t)(3 * pixels), tiles);
}

static flux1_status plan_whole(decoder *d, int64_t band)
{
    stage_plan_free(&d->plan);
    d->job.band = band;
    TRY(plan_part(d, d->grid.h, d->grid.w, &d->plan));
    d->plan.picture = picture_bytes(d, 0);
    return FLUX1_OK;
}

static uint64_t bytes_of(const decoder *d)
{
    const memory_need n = memory_of(d->context, &d->context->device, &d->plan, NULL);
    return memory_total(n) - n.opened - n.program - n.dump - n.texts - n.samplers; /* these are not the decoder's */
}

/* The highest bands that fit, or the lowest ones. */
static flux1_status plan_bands(decoder *d, size_t memory)
{
    const int64_t most = d->grid.h * d->grid.scale;
    for (int i = 0; i < BAND_COUNT; i++) {
        if (BANDS[i] >= most && i + 1 < BAND_COUNT)
            continue;
        TRY(plan_whole(d, BANDS[i]));
        if (bytes_of(d) <= memory)
            break;
    }
    return FLUX1_OK;
}

static void free_tiles(decoder *d)
{
    for (int i = 0; i < d->tile_plans; i++)
        stage_plan_free(&d->tile[i].plan);
    d->tile_plans = 0;
}

/* band: of a tile; 0: tiles are decoded whole. */
static flux1_status plan_tiles_of(decoder *d, int64_t band)
{
    stage_plan_free(&d->plan);
    free_tiles(d);
    d->job.band = band;
    TRY(plan_tiles(d));
    const size_t latent = (size_t)(tile_grid_cells(&d->grid) * d->model->vae.latent_channels) * sizeof(float);
    d->plan.picture = picture_bytes(d, tile_grid_bytes(&d->grid) + latent);
    return largest_arena(d);
}

static bool on_host(const decoder *d) { return d->context->device.device->info.memory == 0; }

/* Tiles as a whole if they fit; otherwise, as pictures, in the highest bands that fit, or the lowest ones. */
static flux1_status plan_in_tiles(decoder *d, size_t memory)
{
    const int64_t most = d->grid.side * d->grid.scale;
    TRY(plan_tiles_of(d, 0));
    for (int i = 0; on_host(d) && bytes_of(d) > memory && i < BAND_COUNT; i++)
        if (BANDS[i] < most)
            TRY(plan_tiles_of(d, BANDS[i]));
    return FLUX1_OK;
}

void decoder_tell(const decoder *d, flux1_tiling tiling)
{
    char bytes[BYTES_TEXT];
    format_bytes(bytes, sizeof bytes, (double)d->whole);
    if (tiling != FLUX1_TILING_BANDS && d->job.band && !d->tile_plans)
        context_log(d->context, FLUX1_LOG_INFO,
                    "memory: the picture is decoded in bands of %lld rows, since whole it would take %s",
                    (long long)d->job.band, bytes);
    else if (d->context->cards && d->tile_plans)
        context_log(d->context, FLUX1_LOG_WARNING, "device ttnn: a picture in tiles is decoded by the CPU");
    else if (tiling == FLUX1_TILING_AUTO && d->tile_plans)
        context_log(d->context, FLUX1_LOG_WARNING,
                    "the picture is decoded in %lld tiles, since whole it would take %s of memory; tones may differ "
                    "slightly between them",
                    (long long)(tile_rows(&d->grid) * tile_columns(&d->grid)), bytes);
    if (d->tile_plans && d->job.band)
        context_log(
            d->context, FLUX1_LOG_INFO,
            "memory: each tile is decoded in bands of %lld rows, since whole it would take more than is allowed",
            (long long)d->job.band);
}

static flux1_status plan_for_cards(decoder *d)
{
    TRY(plan_whole(d, 0));
    stage_plan_elsewhere(&d->plan, mesh_ranks(&d->context->mesh));
    return FLUX1_OK;
}

/* Whole if that fits; otherwise in bands where the device computes in the host's memory; otherwise in tiles, there in
 * bands again. */
static flux1_status choose_way(decoder *d, flux1_tiling tiling, size_t memory)
{
    const bool divides = tile_grid_divides(&d->grid);
    if (tiling == FLUX1_TILING_YES && divides)
        return plan_in_tiles(d, memory);
    if (d->context->cards)
        return plan_for_cards(d);
    if (tiling == FLUX1_TILING_BANDS)
        return plan_bands(d, memory);
    TRY(plan_whole(d, 0));
    d->whole = bytes_of(d);
    if (tiling == FLUX1_TILING_YES || d->whole <= memory)
        return FLUX1_OK;
    if (on_host(d))
        TRY(plan_bands(d, memory));
    if (on_host(d) && bytes_of(d) <= memory)
        return FLUX1_OK;
    if (tiling == FLUX1_TILING_NO || !divides)
        return FLUX1_OK;
    return plan_in_tiles(d, memory);
}

flux1_status decoder_plan(flux1_context *c, const flux1_model *m, const request *r, size_t memory, decoder *d)
{
    int64_t scale = vae_scale(&m->vae), h = r->height / scale, w = r->width / scale;
    *d = (decoder){
        .context = c, .model = m, .adapters = r->adapters, .grid = tile_grid_make(h, w, scale, m->vae.sample_size)};
    d->job.model = m;
    const flux1_status st = choose_way(d, r->tiling, memory);
    if (st != FLUX1_OK)
        decoder_close(d);
    return st;
}

void decoder_rest(decoder *d)
{
    session_give(d->context, d->session);
    d->session = NULL;
}

void decoder_close(decoder *d)
{
    if (!d->context)
        return;
    decoder_rest(d);
    stage_plan_free(&d->plan);
    free_tiles(d);
    *d = (decoder){0};
}

/* ---- before and behind the VAE ---- */

void decoder_unpack(const vae_config *c, const float *tokens, int64_t h, int64_t w, float *rows)
{
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const float *t = tokens + latent_cell(c->latent_channels, w, y, x);
            for (int64_t k = 0; k < c->latent_channels; k++)
                *rows++ = t[4 * k] / (float)c->scaling + (float)c->shift;
        }
}

flux1_status decoder_picture(int64_t height, int64_t width, const float *pixels, tensor *decoded, flux1_image *image,
                             flux1_error *err)
{
    const int64_t size = height * width;
    image->pixels = malloc((size_t)(3 * size));
    if (!image->pixels)
        return error_oom(err, (size_t)(3 * size), "the picture");
    image->size = sizeof *image;
    image->width = (int)width;
    image->height = (int)height;
    pixels_to_bytes(pixels, (size_t)(3 * size), image->pixels);
    for (int64_t i = 0; decoded && i < 3 * size; i++)
        ((float *)decoded->data)[(i % 3) * size + i / 3] = pixels[i];
    return FLUX1_OK;
}

/* ---- the VAE ---- */

typedef struct work {
    decoder *d;
    const float *latent; /* [h·w, channels] */
    tensor tile;         /* one tile's part of it */
} work;

static flux1_status run_part(decoder *d, int64_t h, int64_t w, float *latent, float *pixels)
{
    vae_job *job = &d->job;
    int64_t scale = d->grid.scale;
    job->session = d->session;
    job->h = h;
    job->w = w;
    job->in =
        (tensor){.type = DTYPE_F32, .dims = 3, .shape = {1, h * w, d->model->vae.latent_channels}, .data = latent};
    job->out = (tensor){.type = DTYPE_F32, .dims = 3, .shape = {1, h * w * scale * scale, 3}, .data = pixels};
    return task_run(d->context, d->session, TASK_VAE_DECODE, job);
}

static flux1_status run_tile(void *user, int64_t y, int64_t x, int64_t height, int64_t width, float *pixels)
{
    work *k = user;
    decoder *d = k->d;
    int64_t channels = d->model->vae.latent_channels;
    float *rows = k->tile.data;
    for (int64_t i = 0; i < height; i++)
        memcpy(rows + i * width * channels, k->latent + ((y + i) * d->grid.w + x) * channels,
               (size_t)(width * channels) * sizeof *rows);
    return run_part(d, height, width, rows, pixels);
}

static flux1_status take_session(decoder *d, const size_t *reserve)
{
    flux1_context *c = d->context;
    if (d->session)
        return FLUX1_OK;
    TRY(session_take(c, &c->device, d->model, &d->adapters, &d->session));
    flux1_status st = memory_reserve(c, d->session, &d->plan, NULL, reserve);
    if (st != FLUX1_OK)
        decoder_rest(d);
    return st;
}

static flux1_status run_vae(decoder *d, tensor *latent, const size_t *reserve, tensor *pixels)
{
    const tile_grid *g = &d->grid;
    flux1_error *err = &d->context->error;
    if (d->context->cards && d->tile_plans == 0)
        return d->context->cards->call->decode(d, latent->data, pixels->data);
    TRY(take_session(d, reserve));
    if (d->tile_plans == 0)
        return run_part(d, g->h, g->w, latent->data, pixels->data);
    work k = {.d = d, .latent = latent->data};
    TRY(tensor_create(DTYPE_F32, 3, (int64_t[]){1, tile_grid_cells(g), d->model->vae.latent_channels}, &k.tile, err));
    flux1_status st = tiles_decode(g, run_tile, &k, pixels->data, err);
    tensor_free(&k.tile);
    return st;
}

flux1_status decoder_run(decoder *d, const float *latent, const size_t *reserve, progress *p, tensor *decoded,
                         flux1_image *image)
{
    flux1_error *err = &d->context->error;
    const vae_config *v = &d->model->vae;
    const tile_grid *g = &d->grid;
    tensor rows = {0}, pixels = {0};
    flux1_status st;
    d->job.ticker = (ticker){0};
    if (p)
        progress_stage(p, FLUX1_STAGE_DECODE, &d->plan, &d->job.ticker);
    if (p && d->context->cards) /* they do not tick */
        TRY(progress_report(p, err));
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, g->h * g->w, v->latent_channels}, &rows, err));
    TRY_CLEANUP(tensor_create(DTYPE_F32, 3, (int64_t[]){1, g->h * g->w * g->scale * g->scale, 3}, &pixels, err));
    decoder_unpack(v, latent, g->h, g->w, rows.data);
    TRY_CLEANUP(run_vae(d, &rows, reserve, &pixels));
    TRY_CLEANUP(decoder_picture(g->h * g->scale, g->w * g->scale, pixels.data, decoded, image, err));
    if (p)
        progress_advance(p, d->plan.flops);
cleanup:
    tensor_free(&rows);
    tensor_free(&pixels);
    return st;
}
