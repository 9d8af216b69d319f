/* Latents in and out: noise that is given in place of the seed's, latents that are decoded later, and what is left of
 * pictures that could not be decoded. */
#include "support/damage.h"
#include "support/golden.h"
#include "support/safetensors_build.h"

#include "base/file.h"
#include "base/philox.h"
#include "weights/container.h"

enum { SIDE_W = 48, SIDE_H = 32, TOKENS = SIDE_W * SIDE_H / 256, CHANNELS = 64, CELLS = TOKENS * CHANNELS };

static flux1_generate_params small_request(void)
{
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.prompt = "a red fox";
    p.width = SIDE_W;
    p.height = SIDE_H;
    p.steps = 2;
    p.seed = 7;
    return p;
}

/* The latents of a request after so many steps, packed. */
static void latents_after(flux1_context *c, const flux1_model *m, const flux1_generate_params *p, int steps, float *out)
{
    flux1_text *text;
    flux1_sampler *s;
    const float *latents;
    int64_t tokens, channels;
    assert_int_equal(flux1_encode_text(c, m, p, &text), FLUX1_OK);
    if (flux1_sampler_create(c, m, text, p, &s) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    for (int i = 0; i < steps; i++)
        assert_int_equal(flux1_sampler_step(s, NULL), FLUX1_OK);
    assert_int_equal(flux1_sampler_latents(s, &latents, &tokens, &channels), FLUX1_OK);
    assert_int_equal(tokens, TOKENS);
    assert_int_equal(channels, CHANNELS);
    memcpy(out, latents, CELLS * sizeof *out);
    flux1_sampler_free(s);
    flux1_text_free(text);
}

static flux1_latents packed(const float *values)
{
    return (flux1_latents){.size = sizeof(flux1_latents), .values = values, .dims = 3, .shape = {1, TOKENS, CHANNELS}};
}

/* [16, H/8, W/8]: token (i, j) has channel c at (2i + y, 2j + x) in feature 4c + 2y + x. */
static void unpack(const float *tokens, float *planes)
{
    for (int t = 0; t < TOKENS; t++)
        for (int f = 0; f < CHANNELS; f++) {
            const int y = 2 * (t / (SIDE_W / 16)) + f / 2 % 2, x = 2 * (t % (SIDE_W / 16)) + f % 2;
            planes[(f / 4 * (SIDE_H / 8) + y) * (SIDE_W / 8) + x] = tokens[t * CHANNELS + f];
        }
}

static void assert_same_pixels(const flux1_image *a, const flux1_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, (size_t)(3 * a->width * a->height));
}

static void given_noise_is_as_good_as_the_seeds(void **state)
{
    (void)state;
    float noise[CELLS], planes[CELLS], after[CELLS], expected[CELLS];
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request(), q = small_request();
    latents_after(c, m, &p, 0, noise);
    latents_after(c, m, &p, 2, expected);
    unpack(noise, planes);
    flux1_latents given[] = {
        packed(noise),
        {.size = sizeof given[0], .values = planes, .dims = 4, .shape = {1, CHANNELS / 4, SIDE_H / 8, SIDE_W / 8}}};
    flux1_image *picture = generated(c, m, &p);
    q.seed = 99;
    for (int i = 0; i < 2; i++) {
        q.latents = &given[i];
        q.width = i ? 0 : SIDE_W; /* planes say their size, packed ones the other side */
        q.height = 0;
        flux1_image *other = generated(c, m, &q);
        assert_same_pixels(picture, other);
        latents_after(c, m, &q, 2, after);
        assert_memory_equal(after, expected, sizeof after);
        flux1_images_free(other, 1);
    }
    flux1_images_free(picture, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void a_gpus_noise_is_philoxs(void **state)
{
    (void)state;
    float noise[CELLS], planes[CELLS], drawn[CELLS];
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    p.rng = FLUX1_RNG_CUDA;
    p.rng_threads = 256;
    latents_after(c, m, &p, 0, noise);
    unpack(noise, planes);
    philox_normal(7, 256, drawn, CELLS);
    assert_memory_equal(planes, drawn, sizeof drawn);
    p.rng_threads = 255;
    flux1_image *images;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "rng_threads 255"));
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void latents_are_decoded_as_their_picture(void **state)
{
    (void)state;
    float done[CELLS], raw[CELLS];
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    flux1_image *expected = generated(c, m, &p), *decoded;
    latents_after(c, m, &p, 2, done);
    flux1_latents l = packed(done);
    assert_int_equal(flux1_decode(c, m, &l, &p, &decoded), FLUX1_OK);
    assert_same_pixels(expected, decoded);
    assert_int_equal(decoded->seed, p.seed);
    flux1_images_free(decoded, 1);
    /* as ComfyUI keeps them: what the VAE takes; a byte may round to the other side */
    for (int i = 0; i < CELLS; i++)
        raw[i] = done[i] / 0.3611f + 0.1159f;
    l.values = raw;
    l.unscaled = 1;
    assert_int_equal(flux1_decode(c, m, &l, &p, &decoded), FLUX1_OK);
    for (int i = 0; i < 3 * SIDE_W * SIDE_H; i++)
        assert_true(abs(expected->pixels[i] - decoded->pixels[i]) <= 1);
    flux1_images_free(decoded, 1);
    flux1_images_free(expected, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* A file as ComfyUI's SaveLatent writes it; its older ones have no mark. */
static void write_comfyuis(const char *path, const float *planes, bool mark)
{
    size_t size;
    char header[256];
    flux1_error err = {0};
    snprintf(header, sizeof header,
             "{%s\"latent_tensor\":{\"dtype\":\"F32\",\"shape\":[1,16,%d,%d],\"data_offsets\":[0,%zu]}}",
             mark ? "\"latent_format_version_0\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}," : "",
             SIDE_H / 8, SIDE_W / 8, CELLS * sizeof *planes);
    unsigned char *bytes = safetensors_build(header, planes, CELLS * sizeof *planes, &size);
    assert_int_equal(file_write(path, bytes, size, &err), FLUX1_OK);
    free(bytes);
}

/* What the VAE takes, where the mark is there; a byte may round to the other side. */
static void comfyuis_latents_are_decoded(void **state)
{
    (void)state;
    float done[CELLS], planes[CELLS];
    char path[64];
    flux1_latents_file *file;
    flux1_generate_params p = small_request(), none;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_image *expected = generated(c, m, &p), *decoded;
    snprintf(path, sizeof path, "%s", scratch_path("comfyui"));
    latents_after(c, m, &p, 2, done);
    unpack(done, planes);
    for (int i = 0; i < CELLS; i++)
        planes[i] = planes[i] / 0.3611f + 0.1159f;
    write_comfyuis(path, planes, true);
    if (flux1_latents_open(c, path, 0, &file) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    flux1_generate_params_defaults(&none);
    assert_int_equal(flux1_decode(c, m, flux1_latents_of(file), &none, &decoded), FLUX1_OK);
    assert_true(decoded->width == SIDE_W && decoded->height == SIDE_H);
    for (int i = 0; i < 3 * SIDE_W * SIDE_H; i++)
        assert_true(abs(expected->pixels[i] - decoded->pixels[i]) <= 1);
    flux1_images_free(decoded, 1);
    flux1_latents_close(file);
    write_comfyuis(path, planes, false);
    assert_int_equal(flux1_latents_open(c, path, 1, &file), FLUX1_OK);
    assert_int_equal(flux1_latents_of(file)->unscaled, 0);
    assert_memory_equal(flux1_latents_of(file)->values, planes, sizeof planes);
    flux1_latents_close(file);
    unlink(path);
    flux1_images_free(expected, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void other_shapes_and_values_are_refused(void **state)
{
    (void)state;
    static float values[2 * CELLS];
    static const struct {
        int dims;
        int64_t shape[4];
        const char *sentence;
    } cases[] = {
        {3, {1, TOKENS + 1, CHANNELS}, "7 tokens: a picture of 48x32 has 6"},
        {3, {2, TOKENS, CHANNELS}, "latents of 2 pictures, but count is 1"},
        {3, {0, TOKENS, CHANNELS}, "[0, 6, 64]"},
        {3, {1, -1, CHANNELS}, "[1, -1, 64]"},
        {3, {1, INT64_MAX, CHANNELS}, "this model's are"},
        {3, {1, TOKENS, CHANNELS + 1}, "[1, 6, 65]"},
        {4, {1, 16, SIDE_W / 8, SIDE_H / 8}, "of a picture of 32x48, but 48x32"},
        {4, {1, 16, 3, 6}, "[1, 16, 3, 6]"},
        {4, {1, 4, SIDE_H / 8, SIDE_W / 8}, "[1, 4, 4, 6]"},
        {2, {TOKENS, CHANNELS}, "dims 2"},
        {9, {1, 1, 1, 1}, "dims 9"},
    };
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    flux1_image *images;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        flux1_latents l = {.size = sizeof l, .values = values, .dims = cases[i].dims};
        memcpy(l.shape, cases[i].shape, sizeof l.shape);
        p.latents = &l;
        assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_ERR_ARGUMENT);
        if (!strstr(flux1_context_message(c), cases[i].sentence))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].sentence, flux1_context_message(c));
        assert_int_equal(flux1_decode(c, m, &l, &p, &images), FLUX1_ERR_ARGUMENT);
    }
    flux1_latents l = packed(values);
    values[CELLS - 1] = NAN;
    assert_int_equal(flux1_decode(c, m, &l, &p, &images), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "NaN"));
    values[CELLS - 1] = 0;
    p.width = p.height = 0;
    assert_int_equal(flux1_decode(c, m, &l, &p, &images), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "how wide and high"));
    l.size = 0;
    assert_int_equal(flux1_decode(c, m, &l, &p, &images), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_decode(c, m, NULL, &p, &images), FLUX1_ERR_ARGUMENT);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- pictures that cannot be decoded ---- */

typedef struct rescue {
    flux1_context *writer;
    const flux1_model *model;
    const flux1_generate_params *params;
    char path[2][64];
    int kept, shown;
} rescue;

static int on_image(void *user, const flux1_image *image)
{
    (void)image;
    ((rescue *)user)->shown++;
    return 0;
}

static void on_undecoded(void *user, const flux1_image *image, const flux1_latents *latents)
{
    rescue *r = user;
    assert_true(r->kept < 2 && image->index == r->kept && image->seed == 7 + (uint64_t)r->kept);
    assert_null(image->pixels);
    snprintf(r->path[r->kept], sizeof r->path[0], "%s", scratch_path(r->kept ? "second" : "first"));
    if (flux1_latents_write(r->writer, latents, image, r->model, r->params, r->path[r->kept]) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(r->writer));
    r->kept++;
}

static void check_kept(flux1_context *c, const flux1_model *m, const char *path, const char *folder, uint64_t seed,
                       const flux1_image *expected)
{
    flux1_latents_file *file;
    flux1_generate_params p;
    flux1_image *decoded;
    char wanted[64];
    flux1_generate_params_defaults(&p);
    if (flux1_latents_open(c, path, 0, &file) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_string_equal(flux1_latents_text(file, 0, "model"), folder);
    snprintf(wanted, sizeof wanted, "\"seed\": %llu", (unsigned long long)seed);
    assert_non_null(strstr(flux1_latents_text(file, 0, "flux1"), wanted));
    assert_null(strstr(flux1_latents_text(file, 0, "flux1"), "\"latents\""));
    assert_non_null(strstr(flux1_latents_text(file, 0, "parameters"), "Size: 48x32"));
    assert_null(flux1_latents_text(file, 1, "flux1"));
    assert_int_equal(flux1_decode(c, m, flux1_latents_of(file), &p, &decoded), FLUX1_OK); /* the size is the file's */
    assert_same_pixels(decoded, expected);
    flux1_images_free(decoded, 1);
    flux1_latents_close(file);
    unlink(path);
}

static void a_decode_that_fails_leaves_the_latents(void **state)
{
    (void)state;
    copy k = copy_of("schnell");
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32), *writer = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    flux1_model *good = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    p.count = p.batch = 2;
    flux1_image *expected = generated(c, good, &p);
    copy_poison(&k, "vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.weight", 0, true);
    flux1_model *m = model_of(c, k.path);
    rescue r = {.writer = writer, .model = m, .params = &p};
    p.image = on_image;
    p.image_user = &r;
    p.undecoded = on_undecoded;
    assert_int_equal(flux1_generate(c, m, &p, NULL), FLUX1_ERR_NUMERIC);
    assert_int_equal(r.kept, 2); /* both were denoised */
    assert_int_equal(r.shown, 0);
    for (int i = 0; i < 2; i++)
        check_kept(c, good, r.path[i], k.path, 7 + (uint64_t)i, &expected[i]);
    flux1_images_free(expected, 2);
    flux1_model_close(m);
    flux1_model_close(good);
    flux1_context_destroy(c);
    flux1_context_destroy(writer);
    copy_free(&k);
}

static int cancel_at_decode(void *user, const flux1_progress *now)
{
    (void)user;
    return now->stage == FLUX1_STAGE_DECODE;
}

static void count_undecoded(void *user, const flux1_image *image, const flux1_latents *latents)
{
    (void)image, (void)latents;
    ++*(int *)user;
}

static void a_cancelled_decode_leaves_nothing(void **state)
{
    (void)state;
    int kept = 0;
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    flux1_image *images;
    p.progress = cancel_at_decode;
    p.undecoded = count_undecoded;
    p.image_user = &kept;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_ERR_CANCELLED);
    assert_int_equal(kept, 0);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- dumps ---- */

static void a_dump_has_noise_latents_and_how_they_were_made(void **state)
{
    (void)state;
    float noise[CELLS], done[CELLS];
    char path[64];
    flux1_latents_file *file;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p = small_request();
    snprintf(path, sizeof path, "%s", scratch_path("dump"));
    latents_after(c, m, &p, 0, noise);
    latents_after(c, m, &p, 2, done);
    p.dump = path;
    p.steps = 2;
    p.count = 2;
    p.batch = 1;
    flux1_images_free(generated(c, m, &p), 2);
    for (int initial = 0; initial < 2; initial++) {
        assert_int_equal(flux1_latents_open(c, path, initial, &file), FLUX1_OK);
        const flux1_latents *l = flux1_latents_of(file);
        assert_true(l->dims == 3 && l->shape[0] == 2 && l->shape[1] == TOKENS && l->width == SIDE_W);
        assert_memory_equal(l->values, initial ? noise : done, CELLS * sizeof(float));
        assert_non_null(strstr(flux1_latents_text(file, 0, "flux1"), "\"seed\": 7"));
        assert_non_null(strstr(flux1_latents_text(file, 1, "flux1"), "\"seed\": 8"));
        flux1_latents_close(file);
    }
    unlink(path);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_noise_is_as_good_as_the_seeds),
        cmocka_unit_test(a_gpus_noise_is_philoxs),
        cmocka_unit_test(latents_are_decoded_as_their_picture),
        cmocka_unit_test(comfyuis_latents_are_decoded),
        cmocka_unit_test(other_shapes_and_values_are_refused),
        cmocka_unit_test(a_decode_that_fails_leaves_the_latents),
        cmocka_unit_test(a_cancelled_decode_leaves_nothing),
        cmocka_unit_test(a_dump_has_noise_latents_and_how_they_were_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
