/* NULL, and handles that came to nothing, in every place of every function of flux1.h: FLUX1_ERR_ARGUMENT or nothing,
 * never a crash; where there is no context nothing is written. (flux1_tools.h: tests/tools.) */
#include "support/golden.h"

/* Refused, with a message. */
static void refused_at(flux1_context *c, flux1_status st, int line)
{
    if (st != FLUX1_ERR_ARGUMENT || (c && !flux1_context_message(c)[0]))
        fail_msg("line %d: %s \"%s\"", line, flux1_status_name(st), flux1_context_message(c));
}
#define REFUSED(c, call) refused_at(c, call, __LINE__)

/* Where a result would go: untouched, or emptied. */
static char mark;
#define MARK ((void *)&mark)
#define UNTOUCHED(p) assert_ptr_equal(p, MARK)
#define EMPTIED(p) assert_null(p), p = MARK

static void what_gives_back_or_stops_takes_null(void **state)
{
    (void)state;
    flux1_context_params_defaults(NULL);
    flux1_generate_params_defaults(NULL);
    flux1_context_destroy(NULL);
    flux1_cancel(NULL);
    flux1_cancel_token_cancel(NULL);
    flux1_cancel_token_reset(NULL);
    flux1_cancel_token_destroy(NULL);
    flux1_model_close(NULL);
    flux1_images_free(NULL, 5);
    flux1_text_free(NULL);
    flux1_sampler_free(NULL);
    assert_true(strlen(flux1_context_message(NULL)) > 0);
    for (int i = -1; i < 100; i++) {
        assert_non_null(flux1_status_name((flux1_status)i));
        assert_non_null(flux1_status_text((flux1_status)i));
    }
    assert_string_equal(flux1_version(), "0.1.0");
}

static void contexts_and_models(void **state)
{
    (void)state;
    flux1_context *c = NULL;
    flux1_model *m = MARK;
    flux1_context_info info = {.size = sizeof info};
    flux1_model_info model_info = {.size = sizeof model_info};
    const char *folder = TEST_DATA "/pipelines/single";
    assert_int_equal(flux1_context_create(NULL, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_context_create(NULL, &c), FLUX1_OK);
    assert_int_equal(flux1_context_get_info(NULL, &info), FLUX1_ERR_ARGUMENT);
    assert_null(info.device);
    REFUSED(c, flux1_context_get_info(c, NULL));
    info.size = 0;
    REFUSED(c, flux1_context_get_info(c, &info));
    assert_null(info.device);
    assert_int_equal(flux1_model_open(NULL, folder, &m), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(m);
    REFUSED(c, flux1_model_open(c, folder, NULL));
    REFUSED(c, flux1_model_open(c, NULL, &m));
    EMPTIED(m);
    REFUSED(c, flux1_model_open(c, "", &m));
    EMPTIED(m);
    flux1_model_parts parts = {.size = sizeof parts, .model = folder};
    assert_int_equal(flux1_model_open_parts(NULL, &parts, &m), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(m);
    REFUSED(c, flux1_model_open_parts(c, &parts, NULL));
    REFUSED(c, flux1_model_open_parts(c, NULL, &m));
    EMPTIED(m);
    parts.size = 0;
    REFUSED(c, flux1_model_open_parts(c, &parts, &m));
    EMPTIED(m);
    m = pipeline_of(c, "single");
    assert_int_equal(flux1_model_get_info(NULL, &model_info), FLUX1_ERR_ARGUMENT);
    assert_int_equal(model_info.default_steps, 0);
    assert_int_equal(flux1_model_get_info(m, NULL), FLUX1_ERR_ARGUMENT);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void requests(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "single");
    flux1_generate_params p;
    flux1_image *images = MARK;
    flux1_generate_params_defaults(&p);
    p.width = p.height = 16;
    p.steps = 1;
    const flux1_generate_params *one[] = {&p}, *none[] = {NULL}, *second[] = {&p, NULL};
    assert_int_equal(flux1_generate(NULL, m, &p, &images), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(images);
    REFUSED(c, flux1_generate(c, NULL, &p, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate(c, m, NULL, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate(c, m, &p, NULL));
    assert_int_equal(flux1_generate_many(NULL, m, one, 1, &images), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(images);
    REFUSED(c, flux1_generate_many(c, NULL, one, 1, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate_many(c, m, NULL, 1, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate_many(c, m, none, 1, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate_many(c, m, second, 2, &images));
    EMPTIED(images);
    REFUSED(c, flux1_generate_many(c, m, one, 1, NULL));
    assert_int_equal(flux1_generate_check(NULL, m, &p), FLUX1_ERR_ARGUMENT);
    REFUSED(c, flux1_generate_check(c, NULL, &p));
    REFUSED(c, flux1_generate_check(c, m, NULL));
    assert_int_equal(flux1_generate_check(c, m, &p), FLUX1_OK);
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_OK); /* no prompt: the empty one */
    flux1_images_free(images, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void pictures_to_files(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "single");
    flux1_generate_params p;
    uint8_t pixels[12] = {0};
    flux1_image image = {.size = sizeof image, .width = 2, .height = 2, .pixels = pixels}, empty = image;
    const char *path = scratch_path("arguments.png");
    flux1_generate_params_defaults(&p);
    empty.pixels = NULL;
    assert_int_equal(flux1_image_write_png(NULL, &image, m, &p, path), FLUX1_ERR_ARGUMENT);
    REFUSED(c, flux1_image_write_png(c, NULL, m, &p, path));
    REFUSED(c, flux1_image_write_png(c, &image, m, &p, NULL));
    REFUSED(c, flux1_image_write_png(c, &empty, m, &p, path));
    REFUSED(c, flux1_image_write_png(c, &empty, NULL, NULL, path));
    empty = (flux1_image){.size = sizeof empty, .pixels = pixels};
    REFUSED(c, flux1_image_write_png(c, &empty, NULL, NULL, path));
    empty = image;
    empty.size = 0;
    REFUSED(c, flux1_image_write_png(c, &empty, NULL, NULL, path));
    assert_non_null(strstr(flux1_context_message(c), "image->size is not set"));
    assert_false(is_there(path));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(flux1_image_write_png(c, &image, i & 1 ? m : NULL, i & 2 ? &p : NULL, path), FLUX1_OK);
        assert_int_equal(unlink(path), 0);
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void pictures_in_other_formats(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    uint8_t pixels[12] = {0}, *bytes = pixels;
    size_t count = 1;
    flux1_image image = {.size = sizeof image, .width = 2, .height = 2, .pixels = pixels},
                empty = {.size = sizeof empty, .pixels = pixels};
    flux1_write_params how, unset = {0};
    flux1_write_params_defaults(&how);
    flux1_write_params_defaults(NULL);
    REFUSED(c, flux1_image_encode(c, &image, NULL, NULL, &unset, &bytes, &count));
    assert_null(bytes);
    assert_int_equal(count, 0);
    REFUSED(c, flux1_image_encode(c, NULL, NULL, NULL, &how, &bytes, &count));
    REFUSED(c, flux1_image_encode(c, &image, NULL, NULL, &how, NULL, &count));
    REFUSED(c, flux1_image_encode(c, &image, NULL, NULL, &how, &bytes, NULL));
    REFUSED(c, flux1_image_write(c, &image, NULL, NULL, &how, NULL));
    how.quality = 101;
    REFUSED(c, flux1_image_encode(c, &image, NULL, NULL, &how, &bytes, &count));
    how.quality = 0;
    how.format = (flux1_format)4;
    REFUSED(c, flux1_image_encode(c, &image, NULL, NULL, &how, &bytes, &count));
    REFUSED(c, flux1_format_check(c, how.format, 0, 0));
    for (int format = FLUX1_FORMAT_AUTO; format <= FLUX1_FORMAT_WEBP; format++) {
        how.format = (flux1_format)format;
        if (flux1_format_check(c, how.format, 0, 0) == FLUX1_ERR_UNSUPPORTED)
            continue;
        REFUSED(c, flux1_image_encode(c, &empty, NULL, NULL, &how, &bytes, &count));
        assert_int_equal(flux1_image_encode(c, &image, NULL, NULL, &how, &bytes, &count), FLUX1_OK);
        assert_true(count > 12);
        flux1_bytes_free(bytes);
    }
    assert_int_equal(flux1_format_of("a.JPEG"), FLUX1_FORMAT_JPEG);
    assert_int_equal(flux1_format_of("webp"), FLUX1_FORMAT_AUTO);
    assert_int_equal(flux1_format_of(NULL), FLUX1_FORMAT_AUTO);
    assert_int_equal(flux1_format_of("/a.png/b"), FLUX1_FORMAT_AUTO);
    static const char *const unwritten[] = {"a.gif", "/b/a.b.TIFF", "a.Avif"}, *const others[] = {
                                                                                   "a.png",    "a",         "gif",
                                                                                   "/a.gif/b", "a.gif.png", "",
                                                                                   "a.xyz",    NULL};
    how.format = FLUX1_FORMAT_AUTO;
    for (size_t i = 0; i < sizeof unwritten / sizeof *unwritten; i++) {
        assert_int_equal(flux1_format_is_unwritten(unwritten[i]), 1);
        assert_int_equal(flux1_image_write(c, &image, NULL, NULL, &how, unwritten[i]), FLUX1_ERR_ARGUMENT);
        assert_non_null(strstr(flux1_context_message(c), ": pictures are written as PNG, JPEG or WebP"));
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(flux1_format_is_unwritten(others[i]), 0);
    flux1_context_destroy(c);
}

static void texts_and_samplers(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "single");
    flux1_generate_params p;
    flux1_text *text = MARK;
    flux1_sampler *s = MARK;
    flux1_image *image = MARK;
    const float *latents = MARK;
    int64_t tokens, channels;
    int left = -1;
    flux1_generate_params_defaults(&p);
    p.width = p.height = 16;
    p.steps = 2;
    assert_int_equal(flux1_encode_text(NULL, m, &p, &text), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(text);
    REFUSED(c, flux1_encode_text(c, NULL, &p, &text));
    EMPTIED(text);
    REFUSED(c, flux1_encode_text(c, m, NULL, &text));
    EMPTIED(text);
    REFUSED(c, flux1_encode_text(c, m, &p, NULL));
    assert_int_equal(flux1_encode_text(c, m, &p, &text), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(NULL, m, text, &p, &s), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(s);
    REFUSED(c, flux1_sampler_create(c, NULL, text, &p, &s));
    EMPTIED(s);
    REFUSED(c, flux1_sampler_create(c, m, NULL, &p, &s));
    EMPTIED(s);
    REFUSED(c, flux1_sampler_create(c, m, text, NULL, &s));
    EMPTIED(s);
    REFUSED(c, flux1_sampler_create(c, m, text, &p, NULL));
    assert_int_equal(flux1_sampler_create(c, m, text, &p, &s), FLUX1_OK);
    assert_int_equal(flux1_sampler_step(NULL, &left), FLUX1_ERR_ARGUMENT);
    assert_int_equal(left, -1);
    assert_int_equal(flux1_sampler_latents(NULL, &latents, &tokens, &channels), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(latents);
    assert_int_equal(flux1_sampler_decode(NULL, &image), FLUX1_ERR_ARGUMENT);
    UNTOUCHED(image);
    REFUSED(c, flux1_sampler_latents(s, NULL, &tokens, &channels));
    REFUSED(c, flux1_sampler_decode(s, NULL));
    assert_int_equal(flux1_sampler_step(s, NULL), FLUX1_OK);
    assert_int_equal(flux1_sampler_latents(s, &latents, NULL, NULL), FLUX1_OK);
    assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
    assert_int_equal(left, 0);
    flux1_sampler_free(s);
    flux1_text_free(text);
    flux1_latents_file *file = MARK;
    uint8_t *bytes = MARK;
    size_t count = 7;
    REFUSED(c, flux1_latents_open(c, NULL, 0, &file));
    EMPTIED(file);
    REFUSED(c, flux1_latents_open(c, "", 0, &file));
    EMPTIED(file);
    assert_string_equal(flux1_context_message(c), "the path of the latents is empty");
    flux1_adapter *none = MARK;
    REFUSED(c, flux1_adapter_open(c, m, "", &none));
    EMPTIED(none);
    assert_string_equal(flux1_context_message(c), "the path of the adapter is empty");
    REFUSED(c, flux1_image_encode(c, NULL, m, &p, NULL, &bytes, &count));
    EMPTIED(bytes);
    assert_int_equal(count, 0);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Kept so that its message can be read; whoever goes on with it is told. */
static void a_context_that_could_not_be_created_computes_nothing(void **state)
{
    (void)state;
    static const char *const encoders[] = {"no such device", NULL, NULL, NULL},
                             *const shapes[] = {NULL, "0x1", "2x2x2", NULL}, *const devices[] = {NULL, NULL, NULL, "?"};
    for (int i = 0; i < 4; i++) {
        flux1_context_params cp;
        flux1_generate_params p;
        flux1_context *c;
        flux1_context_info info = {.size = sizeof info};
        flux1_text *text = MARK;
        flux1_image *images = MARK;
        flux1_context_params_defaults(&cp);
        flux1_generate_params_defaults(&p);
        cp.encoder_device = encoders[i];
        cp.mesh = shapes[i];
        cp.device = devices[i];
        assert_int_not_equal(flux1_context_create(&cp, &c), FLUX1_OK);
        assert_non_null(c);
        REFUSED(c, flux1_context_get_info(c, &info));
        flux1_model *m = pipeline_of(c, "single"); /* a context is for messages there */
        REFUSED(c, flux1_generate(c, m, &p, &images));
        EMPTIED(images);
        assert_non_null(strstr(flux1_context_message(c), "could not be created"));
        REFUSED(c, flux1_encode_text(c, m, &p, &text));
        EMPTIED(text);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gives_back_or_stops_takes_null),
        cmocka_unit_test(contexts_and_models),
        cmocka_unit_test(requests),
        cmocka_unit_test(pictures_to_files),
        cmocka_unit_test(pictures_in_other_formats),
        cmocka_unit_test(texts_and_samplers),
        cmocka_unit_test(a_context_that_could_not_be_created_computes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
