#include "pipeline/preview.h"

#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

/* What the estimate is fitted to: latents of normal noise, as those of pictures have mean 0 and deviation 1, that is
 * the same over BLOCK × BLOCK cells, as pictures are smooth. Measured against a fit to finished latents
 * (docs/decisions.md): an error of 25 instead of 24; noise that changes in each cell gives 38, one colour for all 56.
 */
enum { CELLS = 16, BLOCK = 4, BLOCKS = CELLS / BLOCK, FITTED = 4, CELL_COUNT = CELLS * CELLS };

/* One of these latents in the order of packed tokens. */
static void make_latent(uint64_t seed, int64_t channels, float *tokens)
{
    float noise[PROJECTION_CHANNELS * BLOCKS * BLOCKS];
    rng generator;
    rng_seed(&generator, seed);
    rng_normal(&generator, noise, (size_t)(channels * BLOCKS * BLOCKS));
    for (int64_t y = 0; y < CELLS; y++)
        for (int64_t x = 0; x < CELLS; x++)
            for (int64_t k = 0; k < channels; k++)
                tokens[latent_cell(channels, CELLS, y, x) + 4 * k] =
                    noise[(k * BLOCKS + y / BLOCK) * BLOCKS + x / BLOCK];
}

/* The cells' values, and the mean colours of their pixels: decoded [3, CELLS·scale, CELLS·scale]. */
static void take_samples(const float *tokens, const float *decoded, int64_t channels, int64_t scale, float *values,
                         float *colours)
{
    const int64_t side = CELLS * scale;
    for (int64_t y = 0; y < CELLS; y++)
        for (int64_t x = 0; x < CELLS; x++) {
            for (int64_t k = 0; k < channels; k++)
                *values++ = tokens[latent_cell(channels, CELLS, y, x) + 4 * k];
            for (int64_t i = 0; i < 3; i++) {
                double sum = 0;
                for (int64_t j = 0; j < scale * scale; j++)
                    sum += (double)decoded[(i * side + y * scale + j / scale) * side + x * scale + j % scale];
                *colours++ = (float)(sum / (double)(scale * scale));
            }
        }
}

/* Buffers of a fit. */
typedef struct samples {
    float *tokens, *values, *colours;
    tensor decoded;
} samples;

static flux1_status samples_create(int64_t channels, int64_t side, samples *s, flux1_error *err)
{
    const size_t cell = (size_t)CELL_COUNT * sizeof(float);
    s->tokens = malloc((size_t)channels * cell);
    s->values = malloc(FITTED * (size_t)channels * cell);
    s->colours = malloc(FITTED * 3 * cell);
    if (!s->tokens || !s->values || !s->colours)
        return error_oom(err, 0, "fitting the preview's colours");
    return tensor_create(DTYPE_F32, 3, (int64_t[]){3, side, side}, &s->decoded, err);
}

static void samples_free(samples *s)
{
    free(s->tokens);
    free(s->values);
    free(s->colours);
    tensor_free(&s->decoded);
}

/* The error, of the picture that the VAE has made of s->tokens. */
static flux1_status measure(projection *p, const samples *s, const flux1_image *picture, int64_t scale,
                            flux1_error *err)
{
    projection_canvas estimate;
    TRY(projection_canvas_create(CELLS, CELLS, scale, &estimate, err));
    projection_draw(p, s->tokens, &estimate);
    p->error = picture_distance(estimate.pixels, picture->pixels, 3 * (size_t)picture->width * (size_t)picture->height);
    projection_canvas_free(&estimate);
    return FLUX1_OK;
}

/* Decodes the latents of seeds 0 to FITTED: the last one tells the error. */
static flux1_status fit(decoder *d, projection *p)
{
    flux1_error *err = &d->context->error;
    const int64_t scale = d->grid.scale, channels = p->channels;
    flux1_status st;
    samples s = {0};
    TRY_CLEANUP(samples_create(channels, CELLS * scale, &s, err));
    for (int i = 0; i <= FITTED; i++) {
        flux1_image picture = {0};
        make_latent((uint64_t)i, channels, s.tokens);
        st = decoder_run(d, s.tokens, NULL, NULL, &s.decoded, &picture);
        if (st == FLUX1_OK && i < FITTED)
            take_samples(s.tokens, s.decoded.data, channels, scale, s.values + i * CELL_COUNT * channels,
                         s.colours + i * CELL_COUNT * 3);
        else if (st == FLUX1_OK) {
            st = projection_solve(p, s.values, s.colours, (size_t)FITTED * CELL_COUNT, err);
            if (st == FLUX1_OK)
                st = measure(p, &s, &picture, scale, err);
        }
        free(picture.pixels);
        if (st != FLUX1_OK)
            break;
    }
cleanup:
    samples_free(&s);
    return st;
}

/* With a decoder of its own, for pictures of CELLS × CELLS. p NULL: whether there is memory for it. */
static flux1_status plan_and_fit(flux1_context *c, const flux1_model *m, const request *r, projection *p)
{
    decoder d = {0};
    flux1_status st;
    request small = *r;
    small.width = small.height = CELLS * vae_scale(&m->vae);
    small.tiling = FLUX1_TILING_NO;
    TRY(decoder_plan(c, m, &small, memory_beside(c, &c->device, NULL), &d));
    TRY_CLEANUP(
        memory_check(c, memory_of(c, &c->device, &d.plan, NULL), HINT_PREVIEWS | HINT_OPTIONS, "fitting previews"));
    const double began = seconds_now();
    if (!p)
        goto cleanup;
    TRY_CLEANUP(fit(&d, p));
    context_log(c, FLUX1_LOG_DETAIL, "previews: their colours were fitted to the VAE in %.2f s", seconds_now() - began);
cleanup:
    decoder_close(&d);
    return st;
}

flux1_status preview_projection(flux1_context *c, const flux1_model *m, const request *r, const projection **out)
{
    const store *vae = m->store[COMPONENT_VAE];
    const double settings[] = {(double)m->vae.latent_channels, m->vae.scaling, m->vae.shift};
    projection p = {.channels = m->vae.latent_channels};
    if (p.channels > PROJECTION_CHANNELS)
        return error_set(&c->error, FLUX1_ERR_UNSUPPORTED,
                         "previews by a linear estimate are for latents of at most %d channels, this VAE's have %lld: "
                         "ask for previews by the VAE",
                         PROJECTION_CHANNELS, (long long)p.channels);
    const projection *known = projection_known(m->projection, vae, settings);
    if (!out)
        return known ? FLUX1_OK : plan_and_fit(c, m, r, NULL);
    *out = known;
    if (!known) {
        TRY(plan_and_fit(c, m, r, &p));
        *out = projection_note(m->projection, vae, settings, &p);
    }
    context_log(c, FLUX1_LOG_DETAIL,
                "previews: a linear estimate of the VAE's picture, off by %.1f of 255 on a latent made up for this "
                "(root mean square)",
                (*out)->error);
    return FLUX1_OK;
}
