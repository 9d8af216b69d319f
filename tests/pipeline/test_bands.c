/* Decoding in bands of rows gives what decoding whole gives, on every mesh and in less memory. */
#include "support/stage_runs.h"

#include <math.h>

/* Decodes a latent of h × w values that differ everywhere. */
static tensor decoded(flux1_context *c, const flux1_model *m, int64_t h, int64_t w, int64_t band)
{
    const int64_t scale = vae_scale(&m->vae), channels = m->vae.latent_channels;
    vae_job job = {.model = m, .h = h, .w = w, .band = band};
    stage_plan plan;
    job.in = new_tensor(3, (int64_t[]){1, h * w, channels});
    job.out = new_tensor(3, (int64_t[]){1, h * w * scale * scale, 3});
    for (int64_t i = 0; i < tensor_elements(&job.in); i++)
        ((float *)job.in.data)[i] = (float)sin((double)(i * i % 1009));
    for (int64_t i = 0; i < tensor_elements(&job.out); i++)
        ((float *)job.out.data)[i] = NAN;
    tensor in = job.in, out = job.out;
    job.in.data = job.out.data = NULL;
    if (stage_plan_make(&c->mesh, &c->device, vae_decode_body, &job, &job.ticker, &plan, &c->error) != FLUX1_OK)
        fail_msg("plan: %s", c->error.message);
    job.in = in;
    job.out = out;
    job.ticker = (ticker){0};
    if (session_take(c, &c->device, m, NULL, &job.session) != FLUX1_OK ||
        mesh_reserve(job.session->mesh, plan.arena, &c->error) != FLUX1_OK ||
        mesh_run(job.session->mesh, vae_decode_body, &job, &c->error) != FLUX1_OK)
        fail_msg("%lld x %lld, bands of %lld: %s", (long long)h, (long long)w, (long long)band, c->error.message);
    session_give(c, job.session);
    stage_plan_free(&plan);
    tensor_free(&job.in);
    return job.out;
}

typedef struct variant {
    const char *pipeline, *device, *mesh;
    int threads;
    int64_t h, w;
} variant;

static const int64_t BANDS[] = {1, 2, 3, 7, 16, 1000};

/* bound: relative L2 against the whole picture on one rank. */
static void expect_same(const variant *v, flux1_dtype arithmetic, double bound)
{
    flux1_context *one = context_on(v->device, "1x1", 1, arithmetic);
    flux1_model *m = pipeline_of(one, v->pipeline);
    tensor whole = decoded(one, m, v->h, v->w, 0);
    flux1_context *c = context_on(v->device, v->mesh, v->threads, arithmetic);
    for (size_t i = 0; i < sizeof BANDS / sizeof *BANDS; i++) {
        tensor bands = decoded(c, m, v->h, v->w, BANDS[i]);
        const double error = relative_l2(bands.data, whole.data, tensor_elements(&whole));
        if (!(error <= bound))
            fail_msg("%s on %s %s, %d threads, %lld x %lld, bands of %lld: %.3g", v->pipeline, v->device, v->mesh,
                     v->threads, (long long)v->h, (long long)v->w, (long long)BANDS[i], error);
        tensor_free(&bands);
    }
    tensor_free(&whole);
    flux1_context_destroy(c);
    flux1_model_close(m);
    flux1_context_destroy(one);
}

static void bands_give_the_whole_picture(void **state)
{
    (void)state;
    static const variant all[] = {{"dev", "ref", "1x1", 1, 3, 5},      {"dev", "cpu", "1x1", 1, 5, 3},
                                  {"schnell", "cpu", "1x1", 3, 7, 5},  {"wide", "cpu", "1x1", 2, 4, 3},
                                  {"dev", "ref", "1x2", 2, 5, 3},      {"dev", "cpu", "2x2", 4, 7, 3},
                                  {"schnell", "cpu", "1x3", 3, 4, 5}, /* the last rank has fewer rows */
                                  {"dev", "cpu", "2x4", 8, 5, 2},     /* and here the last three none */
                                  {"patchwork", "cpu", "1x2", 1, 3, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        expect_same(&all[i], FLUX1_DTYPE_F32, 2e-6);
}

/* A sum of another order may round a value to another of 256 magnitudes. */
static void bands_give_the_whole_picture_in_bf16(void **state)
{
    (void)state;
    expect_same(&(variant){"dev", "cpu", "1x1", 2, 5, 7}, FLUX1_DTYPE_BF16, 3e-3);
    expect_same(&(variant){"schnell", "cpu", "1x2", 2, 5, 3}, FLUX1_DTYPE_BF16, 3e-3);
}

/* Each value depends on its place alone. */
static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    tensor first = {0};
    for (int threads = 1; threads <= 4; threads++) {
        flux1_context *c = context_on("cpu", "1x1", threads, FLUX1_DTYPE_F32);
        flux1_model *m = pipeline_of(c, "dev");
        tensor now = decoded(c, m, 5, 6, 3);
        if (threads > 1)
            assert_memory_equal(now.data, first.data, tensor_bytes(&first));
        tensor_free(threads > 1 ? &now : &first);
        if (threads == 1)
            first = now;
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    tensor_free(&first);
}

/* diffusers' picture, in bands. */
static void bands_decode_the_goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIPELINE_COUNT; i++) {
        golden g;
        flux1_context *c = context_on("cpu", "1x1", 2, FLUX1_DTYPE_F32);
        golden_open(PIPELINES[i], "stages", &g);
        flux1_model *m = model_of(c, g.folder);
        const double error = decode_error(c, m, g.file, 5);
        if (!(error <= 1e-5))
            fail_msg("%s: %.3g", PIPELINES[i], error);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

static size_t planned(flux1_context *c, const flux1_model *m, const request *r, size_t memory, decoder *d)
{
    if (decoder_plan(c, m, r, memory, d) != FLUX1_OK)
        fail_msg("%s", c->error.message);
    const size_t bytes = (size_t)memory_total(memory_of(c, &c->device, &d->plan, NULL));
    decoder_close(d);
    return bytes;
}

/* Whole while it fits, then in ever lower bands, then in tiles; without tiles the lowest bands. */
static void a_plan_takes_what_fits(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "dev");
    decoder d;
    request r = {.width = 24 * m->vae.sample_size, .height = 32 * m->vae.sample_size, .tiling = FLUX1_TILING_AUTO};
    const size_t whole = planned(c, m, &r, SIZE_MAX, &d);
    r.tiling = FLUX1_TILING_BANDS;
    const size_t high = planned(c, m, &r, SIZE_MAX, &d), low = planned(c, m, &r, 0, &d);
    assert_true(low < high && high < whole && low < whole / 2);
    r.tiling = FLUX1_TILING_AUTO;
    assert_int_equal(planned(c, m, &r, whole, &d), whole);
    assert_int_equal(planned(c, m, &r, high, &d), high);
    assert_int_equal(planned(c, m, &r, low, &d), low);
    assert_true(planned(c, m, &r, low - 1, &d) < low); /* tiles */
    r.tiling = FLUX1_TILING_NO;
    assert_int_equal(planned(c, m, &r, low - 1, &d), low);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Tiles that do not fit are decoded in bands, each to the same values. */
static void tiles_may_be_in_bands(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "dev");
    decoder d;
    request r = {.width = 3 * m->vae.sample_size, .height = 4 * m->vae.sample_size, .tiling = FLUX1_TILING_YES};
    const int64_t pixels = r.width * r.height, values = 4 * pixels;
    const size_t tiles = planned(c, m, &r, SIZE_MAX, &d);
    assert_true(planned(c, m, &r, tiles, &d) == tiles && planned(c, m, &r, tiles - 1, &d) < tiles);
    tensor latent = new_tensor(1, &values), got[2];
    for (int64_t i = 0; i < values; i++)
        ((float *)latent.data)[i] = (float)sin((double)(i * i % 1009));
    for (int i = 0; i < 2; i++) {
        flux1_image image = {0};
        got[i] = new_tensor(3, (int64_t[]){3, r.height, r.width});
        for (int64_t k = 0; k < 3 * pixels; k++)
            ((float *)got[i].data)[k] = NAN;
        if (decoder_plan(c, m, &r, i ? tiles - 1 : tiles, &d) != FLUX1_OK ||
            decoder_run(&d, latent.data, NULL, NULL, &got[i], &image) != FLUX1_OK)
            fail_msg("%s", c->error.message);
        assert_true(d.tile_plans > 0 && (d.job.band > 0) == (i > 0));
        free(image.pixels);
        decoder_close(&d);
    }
    for (int64_t i = 0; i < 3 * pixels; i++) {
        const double a = ((float *)got[0].data)[i], b = ((float *)got[1].data)[i];
        if (!(fabs(a - b) < 1e-4))
            fail_msg("value %lld: %g in whole tiles, %g in bands", (long long)i, a, b);
    }
    tensor_free(&latent);
    tensor_free(&got[0]);
    tensor_free(&got[1]);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bands_give_the_whole_picture), cmocka_unit_test(bands_give_the_whole_picture_in_bf16),
        cmocka_unit_test(threads_do_not_change_a_bit),  cmocka_unit_test(bands_decode_the_goldens),
        cmocka_unit_test(a_plan_takes_what_fits),       cmocka_unit_test(tiles_may_be_in_bands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
