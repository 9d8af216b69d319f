/* The public interface's promises: struct sizes, staged calls, several pictures, refusals. (Progress and cancelling:
 * test_progress.c.) */
#include "support/golden.h"

#include <pthread.h>
#include <time.h>

/* ---- struct sizes ---- */

static void older_and_newer_structs_are_accepted(void **state)
{
    (void)state;
    golden g;
    struct {
        flux1_generate_params now;
        uint64_t later[4];
    } newer = {0};
    flux1_context_params cp;
    golden_open("single", "fox", &g);
    flux1_context_params_defaults(&cp);
    assert_int_equal(cp.size, sizeof cp);
    cp.size = offsetof(flux1_context_params, reserved);
    cp.dtype = FLUX1_DTYPE_F32;
    flux1_context *c = context_of(&cp);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *whole = generated(c, m, &g.params);
    g.params.size = offsetof(flux1_generate_params, reserved);
    memset(g.params.reserved, 0xAA, sizeof g.params.reserved); /* beyond the struct's size: not read */
    flux1_image *older = generated(c, m, &g.params);
    newer.now = g.params;
    newer.now.size = sizeof newer;
    flux1_image *later = generated(c, m, &newer.now);
    assert_same_picture(whole, older);
    assert_same_picture(whole, later);
    flux1_model_info info = {.size = offsetof(flux1_model_info, reserved)};
    memset(info.reserved, 0xAA, sizeof info.reserved);
    assert_int_equal(flux1_model_get_info(m, &info), FLUX1_OK);
    assert_int_equal(info.size, offsetof(flux1_model_info, reserved));
    assert_int_equal(info.size_multiple, 4);
    assert_true(info.reserved[0] == 0xAAAAAAAAAAAAAAAAu);
    flux1_images_free(whole, 1);
    flux1_images_free(older, 1);
    flux1_images_free(later, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

static void structs_that_were_not_set_up_are_refused(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    flux1_context *c;
    flux1_context_params cp = {0};
    flux1_model_info info = {0};
    assert_int_equal(flux1_context_create(&cp, &c), FLUX1_ERR_ARGUMENT);
    assert_non_null(c); /* so that the message can be read */
    assert_non_null(strstr(flux1_context_message(c), "flux1_context_params_defaults"));
    flux1_context_destroy(c);
    golden_open("single", "fox", &g);
    c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    g.params.size = offsetof(flux1_generate_params, reserved) - 1;
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "flux1_generate_params_defaults"));
    assert_int_equal(flux1_generate(c, m, NULL, &image), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_model_get_info(m, &info), FLUX1_ERR_ARGUMENT);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

static void contexts_refuse_what_they_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *device, *shape, *sp, *tp;
        int threads, type;
        flux1_status status;
        const char *named;
    } wrong[] = {
        {"gpu", NULL, NULL, NULL, 0, 0, FLUX1_ERR_UNSUPPORTED, "gpu"},
        {"cpu", "2", NULL, NULL, 0, 0, FLUX1_ERR_ARGUMENT, "mesh \"2\""},
        {"cpu", "0x1", NULL, NULL, 0, 0, FLUX1_ERR_ARGUMENT, "0x1"},
        {"cpu", "99999x9", NULL, NULL, 0, 0, FLUX1_ERR_LIMIT, "99999x9"},
        {"cpu", "2x2", "3@0", NULL, 0, 0, FLUX1_ERR_ARGUMENT, "sp \"3@0\""},
        {"cpu", "2x2", NULL, "2@2", 0, 0, FLUX1_ERR_ARGUMENT, "tp \"2@2\""},
        {"cpu", "2x2", "2@0", "2@0", 0, 0, FLUX1_ERR_ARGUMENT, "axis 0"},
        {"cpu", NULL, NULL, NULL, -1, 0, FLUX1_ERR_ARGUMENT, "threads -1"},
        {"cpu", NULL, NULL, NULL, 5000, 0, FLUX1_ERR_ARGUMENT, "threads 5000"},
        {"cpu", NULL, NULL, NULL, 0, 7, FLUX1_ERR_ARGUMENT, "dtype 7"},
        {"ref", NULL, NULL, NULL, 0, FLUX1_DTYPE_BF16, FLUX1_ERR_UNSUPPORTED, "f32"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        flux1_context_params p;
        flux1_context *c;
        flux1_context_params_defaults(&p);
        p.device = wrong[i].device;
        p.mesh = wrong[i].shape;
        p.sp = wrong[i].sp;
        p.tp = wrong[i].tp;
        p.threads = wrong[i].threads;
        p.dtype = (flux1_dtype)wrong[i].type;
        flux1_status st = flux1_context_create(&p, &c);
        if (st != wrong[i].status || !strstr(flux1_context_message(c), wrong[i].named))
            fail_msg("row %zu: %s, \"%s\"", i, flux1_status_name(st), flux1_context_message(c));
        flux1_context_destroy(c);
    }
    flux1_context_destroy(NULL);
    flux1_model_close(NULL);
}

/* ---- staged calls, several pictures ---- */

/* Encoded on another context, the prompt gives the same picture without being encoded again; a text that belongs to
 * something else is refused. */
static void a_text_encoded_before_is_taken(void **state)
{
    (void)state;
    golden g;
    flux1_text *text;
    flux1_image *refused;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_on("cpu", NULL, 2, FLUX1_DTYPE_F32),
                  *other = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder), *twin = model_of(c, g.folder);
    flux1_image *whole = generated(c, m, &g.params);
    assert_int_equal(flux1_encode_text(other, m, &g.params, &text), FLUX1_OK);
    flux1_generate_params given = g.params;
    given.text = text;
    for (int i = 0; i < 2; i++) { /* it may be used again */
        flux1_image *image = generated(c, m, &given);
        assert_same_picture(whole, image);
        flux1_images_free(image, 1);
    }
    given.prompt = "something else";
    assert_int_equal(flux1_generate(c, m, &given, &refused), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "another prompt"));
    given.prompt = g.params.prompt;
    given.max_sequence_length = 16;
    assert_int_equal(flux1_generate(c, m, &given, &refused), FLUX1_ERR_ARGUMENT);
    given.max_sequence_length = g.params.max_sequence_length;
    assert_int_equal(flux1_generate(c, twin, &given, &refused), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "another model"));
    flux1_images_free(whole, 1);
    flux1_text_free(text);
    flux1_model_close(twin);
    flux1_model_close(m);
    flux1_context_destroy(other);
    flux1_context_destroy(c);
    golden_close(&g);
}

static void staged_calls_equal_the_whole_request(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "1x2"};
    for (int i = 0; i < 2; i++) {
        golden g;
        flux1_text *text;
        flux1_sampler *s;
        flux1_image *image;
        store *dumped;
        flux1_error err = {0};
        const float *latents;
        int64_t tokens, channels;
        int left;
        char *path = scratch_path("staged.safetensors");
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[i], 2, FLUX1_DTYPE_AUTO),
                      *other = context_on("cpu", shapes[i], 1, FLUX1_DTYPE_AUTO);
        flux1_model *m = model_of(c, g.folder);
        g.params.dump = path;
        flux1_image *whole = generated(c, m, &g.params);
        assert_int_equal(store_open_file(path, &dumped, &err), FLUX1_OK);
        assert_int_equal(flux1_encode_text(other, m, &g.params, &text), FLUX1_OK);
        assert_int_equal(flux1_sampler_create(c, m, text, &g.params, &s), FLUX1_OK);
        for (int k = 0; k < g.params.steps; k++) {
            char name[32];
            snprintf(name, sizeof name, "latents.%d", k + 1);
            assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
            assert_int_equal(left, g.params.steps - k - 1);
            assert_int_equal(flux1_sampler_latents(s, &latents, &tokens, &channels), FLUX1_OK);
            const tensor *want = &store_find(dumped, name)->view;
            assert_int_equal(tokens * channels, tensor_elements(want));
            assert_memory_equal(latents, want->data, tensor_bytes(want));
        }
        assert_int_equal(flux1_sampler_step(s, &left), FLUX1_ERR_ARGUMENT);
        assert_non_null(strstr(flux1_context_message(c), "3 steps are done"));
        assert_int_equal(flux1_sampler_decode(s, &image), FLUX1_OK);
        assert_same_picture(whole, image);
        flux1_images_free(image, 1);
        flux1_images_free(whole, 1);
        flux1_sampler_free(s);
        flux1_text_free(text);
        store_close(dumped);
        unlink(path);
        flux1_model_close(m);
        flux1_context_destroy(c);
        flux1_context_destroy(other);
        golden_close(&g);
    }
}

static void a_text_of_another_model_is_refused(void **state)
{
    (void)state;
    flux1_generate_params p;
    flux1_text *text;
    flux1_sampler *s;
    flux1_generate_params_defaults(&p);
    p.prompt = "a fox";
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *a = pipeline_of(c, "single"), *b = pipeline_of(c, "patchwork");
    assert_int_equal(flux1_encode_text(c, a, &p, &text), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(c, b, text, &p, &s), FLUX1_ERR_ARGUMENT);
    assert_null(s);
    flux1_text_free(text);
    flux1_text_free(NULL);
    flux1_sampler_free(NULL);
    flux1_model_close(a);
    flux1_model_close(b);
    flux1_context_destroy(c);
}

static void image_i_of_a_request_is_that_of_seed_plus_i(void **state)
{
    (void)state;
    golden g;
    golden_open("schnell", "car", &g);
    flux1_context *c = context_on("cpu", "2x1", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    store *dumped;
    flux1_error err = {0};
    char *path = scratch_path("count.safetensors");
    g.params.count = 3;
    g.params.batch = 1;             /* in batches they may differ by a rounding: test_batch.c */
    g.params.seed = UINT64_MAX - 2; /* up to the last */
    g.params.dump = path;
    flux1_image *all = generated(c, m, &g.params);
    assert_int_equal(store_open_file(path, &dumped, &err), FLUX1_OK);
    assert_int_equal(store_find(dumped, "latents.4")->view.shape[0], 3);
    assert_int_equal(store_find(dumped, "decoded")->view.shape[0], 3);
    assert_int_equal(store_find(dumped, "sigmas")->view.dims, 1);
    g.params.count = 1;
    g.params.dump = NULL;
    for (uint64_t i = 0; i < 3; i++) {
        g.params.seed = UINT64_MAX - 2 + i;
        flux1_image *one = generated(c, m, &g.params);
        assert_int_equal(all[i].seed, g.params.seed);
        assert_same_picture(&all[i], one);
        flux1_images_free(one, 1);
    }
    store_close(dumped);
    unlink(path);
    flux1_images_free(all, 3);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

typedef struct worker {
    const flux1_model *model;
    golden *g;
    flux1_image *image;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    flux1_context_params p;
    flux1_context *c;
    flux1_context_params_defaults(&p);
    p.threads = 2;
    p.dtype = FLUX1_DTYPE_F32;
    if (flux1_context_create(&p, &c) == FLUX1_OK)
        flux1_generate(c, w->model, &w->g->params, &w->image);
    flux1_context_destroy(c);
    return NULL;
}

static void two_contexts_share_a_model_at_once(void **state)
{
    (void)state;
    golden g;
    golden_open("dev", "large", &g);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *alone = generated(c, m, &g.params);
    worker w[2] = {{.model = m, .g = &g}, {.model = m, .g = &g}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert_non_null(w[i].image);
        assert_same_picture(alone, w[i].image);
        flux1_images_free(w[i].image, 1);
    }
    flux1_images_free(alone, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* ---- refusals ---- */

typedef struct refusal {
    int width, height, steps, count, length, preview_every;
    float guidance;
    const char *prompt;
    flux1_status status;
    const char *named;
} refusal;

static void requests_are_refused_in_one_sentence(void **state)
{
    (void)state;
    static const refusal refusals[] = {
        {-8, 64, 1, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "width -8"},
        {64, -1, 1, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "height -1"},
        {64, 15, 1, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "at least 16 pixels high"},
        {3, 64, 1, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "at least 16 pixels wide"},
        {65552, 64, 1, 1, 0, 0, 1, "", FLUX1_ERR_LIMIT, "65536"},
        {64, INT32_MAX, 1, 1, 0, 0, 1, "", FLUX1_ERR_LIMIT, "height 2147483647"},
        {64, 64, 0, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "steps 0"},
        {64, 64, -2, 1, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "steps -2"},
        {64, 64, 10001, 1, 0, 0, 1, "", FLUX1_ERR_LIMIT, "10000"},
        {64, 64, 1, 0, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "count 0"},
        {64, 64, 1, -3, 0, 0, 1, "", FLUX1_ERR_ARGUMENT, "count -3"},
        {64, 64, 1, 10001, 0, 0, 1, "", FLUX1_ERR_LIMIT, "10000"},
        {64, 64, 1, 1, -1, 0, 1, "", FLUX1_ERR_ARGUMENT, "max_sequence_length -1"},
        {64, 64, 1, 1, 513, 0, 1, "", FLUX1_ERR_LIMIT, "512"},
        {64, 64, 1, 1, 0, -1, 1, "", FLUX1_ERR_ARGUMENT, "preview_every"},
        {64, 64, 1, 1, 0, 0, NAN, "", FLUX1_ERR_ARGUMENT, "guidance"},
        {64, 64, 1, 1, 0, 0, INFINITY, "", FLUX1_ERR_ARGUMENT, "guidance"},
        {64, 64, 1, 1, 0, 0, 1, "a red \xC3( car", FLUX1_ERR_ARGUMENT, "UTF-8"},
        {64, 64, 1, 1, 0, 0, 1, "cut short \xE2\x82", FLUX1_ERR_ARGUMENT, "UTF-8"},
    };
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "dev");
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const refusal *r = &refusals[i];
        flux1_generate_params p;
        flux1_image *image;
        flux1_generate_params_defaults(&p);
        p.prompt = r->prompt;
        p.width = r->width;
        p.height = r->height;
        p.steps = r->steps;
        p.count = r->count;
        p.max_sequence_length = r->length;
        p.preview_every = r->preview_every;
        p.guidance = r->guidance;
        flux1_status st = flux1_generate(c, m, &p, &image);
        const char *message = flux1_context_message(c);
        if (st != r->status || !strstr(message, r->named) || strchr(message, '\n') || image)
            fail_msg("row %zu: %s, \"%s\"", i, flux1_status_name(st), message);
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

typedef struct log_lines {
    int count;
    char last[512];
} log_lines;

static void keep_line(void *user, flux1_log_level level, const char *line)
{
    log_lines *l = user;
    (void)level;
    l->count++;
    snprintf(l->last, sizeof l->last, "%s", line);
    assert_null(strchr(line, '\n'));
}

static void what_is_rounded_or_ignored_is_logged(void **state)
{
    (void)state;
    log_lines lines = {0};
    flux1_context_params cp;
    flux1_generate_params p;
    flux1_context_params_defaults(&cp);
    cp.log = keep_line;
    cp.log_user = &lines;
    cp.dtype = FLUX1_DTYPE_F32;
    flux1_context *c = context_of(&cp);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params_defaults(&p);
    p.steps = 1;
    p.width = 33; /* 32 */
    p.height = 16;
    p.prompt = "a fox"; /* an empty one is told too */
    flux1_image *image = generated(c, m, &p);
    assert_int_equal(image->width, 32);
    assert_int_equal(lines.count, 1);
    assert_non_null(strstr(lines.last, "width 33"));
    assert_non_null(strstr(lines.last, "32"));
    flux1_images_free(image, 1);
    p.width = 16;
    p.guidance = 2;
    image = generated(c, m, &p);
    assert_int_equal(lines.count, 2);
    assert_non_null(strstr(lines.last, "guidance 2"));
    flux1_images_free(image, 1);
    p.guidance = -1;
    p.max_sequence_length = 3;
    p.prompt = "a red car and a small fox";
    image = generated(c, m, &p);
    assert_int_equal(lines.count, 3);
    assert_non_null(strstr(lines.last, "3 T5 tokens"));
    flux1_images_free(image, 1);
    p.width = p.height = 0;
    p.max_sequence_length = 0;
    image = generated(c, m, &p);
    flux1_model_info info = {.size = sizeof info};
    assert_int_equal(flux1_model_get_info(m, &info), FLUX1_OK);
    assert_int_equal(image->width, info.default_width);
    assert_int_equal(image->height, info.default_height);
    assert_int_equal(lines.count, 3);
    flux1_images_free(image, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void a_request_beyond_the_memory_is_refused_with_its_size(void **state)
{
    (void)state;
    flux1_context_params cp;
    flux1_generate_params p;
    flux1_image *image;
    flux1_sampler *s;
    flux1_text *text;
    flux1_context_params_defaults(&cp);
    cp.max_memory = 16 << 20;
    flux1_context *c = context_of(&cp);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params_defaults(&p);
    p.prompt = "a car";
    p.width = p.height = 1024;
    p.tiling = FLUX1_TILING_NO; /* in tiles it would fit */
    char sentence[1000];
    assert_int_equal(flux1_generate_check(c, m, &p), FLUX1_ERR_LIMIT);
    snprintf(sentence, sizeof sentence, "%s", flux1_context_message(c));
    assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_LIMIT);
    assert_string_equal(flux1_context_message(c), sentence); /* the check says the same, before */
    assert_non_null(strstr(flux1_context_message(c), "1024x1024"));
    assert_non_null(strstr(flux1_context_message(c), "iB of host memory"));
    const char *fitting = strstr(flux1_context_message(c), "would take less. ");
    assert_non_null(fitting);
    assert_int_equal(sscanf(fitting, "would take less. %dx%d would fit", &p.width, &p.height), 2);
    assert_true(p.width == p.height && p.width >= 128 && p.width < 1024);
    p.steps = 1;
    assert_int_equal(flux1_generate_check(c, m, &p), FLUX1_OK);
    assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_OK); /* and it does */
    flux1_images_free(image, 1);
    p.width = p.height = 1024;
    assert_int_equal(flux1_encode_text(c, m, &p, &text), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(c, m, text, &p, &s), FLUX1_ERR_LIMIT);
    assert_non_null(strstr(flux1_context_message(c), "iB of host memory"));
    p.width = p.height = 16;
    assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_OK); /* the context is none the worse */
    flux1_images_free(image, 1);
    flux1_text_free(text);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static int decode_goes_forward(void *user, const flux1_progress *p)
{
    double *last = user;
    if (p->stage == FLUX1_STAGE_DECODE) {
        assert_true(p->stage_fraction >= *last && p->stage_fraction <= 1 && p->fraction <= 1);
        *last = p->stage_fraction;
    }
    return 0;
}

/* Bytes that opening the model took, as a refusal tells them: several times as many under sanitizers. */
static uint64_t bytes_of_opening(const flux1_model *m)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"bytes", 1}, {"KiB", 1024}, {"MiB", 1 << 20}};
    flux1_context_params cp;
    flux1_generate_params p;
    char unit[8] = "";
    double number = 0, bytes = 0;
    flux1_context_params_defaults(&cp);
    cp.max_memory = 64 << 20;
    flux1_context *c = context_of(&cp);
    flux1_generate_params_defaults(&p);
    p.prompt = "a car";
    p.width = p.height = 65536;
    assert_int_equal(flux1_generate_check(c, m, &p), FLUX1_ERR_LIMIT);
    const char *told = strstr(flux1_context_message(c), "the opened model ");
    if (told)
        assert_int_equal(sscanf(told, "the opened model %lf %7[a-zA-Z]", &number, unit), 2);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(unit, units[i].unit))
            bytes = number * units[i].bytes;
    flux1_context_destroy(c);
    return (uint64_t)bytes;
}

/* Of the picture whose whole decoding takes 9 MB, in bands 4, a tile 1.2: what the tiles are is held to the oracle by
 * test_goldens. The context may take 6.25 MiB beside the opened model.
 */
static void a_picture_too_large_to_decode_whole_is_decoded_in_tiles(void **state)
{
    (void)state;
    log_lines lines = {0};
    flux1_context_params cp;
    flux1_generate_params p;
    double last = 0;
    flux1_context_params_defaults(&cp);
    cp.dtype = FLUX1_DTYPE_F32;
    cp.threads = 1;
    cp.log = keep_line;
    cp.log_user = &lines;
    flux1_context *opener = context_of(NULL);
    flux1_model *m = pipeline_of(opener, "schnell");
    cp.max_memory = (25 << 18) + bytes_of_opening(m);
    flux1_context *c = context_of(&cp);
    flux1_generate_params_defaults(&p);
    p.steps = 1;
    p.prompt = "a car";
    p.width = p.height = 256;
    p.progress = decode_goes_forward;
    p.progress_user = &last;
    flux1_image *tiled = generated(c, m, &p);
    assert_int_equal(lines.count, 1);
    assert_non_null(strstr(lines.last, "36 tiles"));
    assert_true(last > 0.99);
    p.progress = NULL;
    p.tiling = FLUX1_TILING_YES;
    flux1_image *asked = generated(c, m, &p);
    assert_int_equal(lines.count, 1);
    assert_same_picture(tiled, asked);
    p.tiling = FLUX1_TILING_NO;
    flux1_image *none;
    assert_int_equal(flux1_generate(c, m, &p, &none), FLUX1_ERR_LIMIT);
    p.tiling = (flux1_tiling)4;
    assert_int_equal(flux1_generate(c, m, &p, &none), FLUX1_ERR_ARGUMENT);
    flux1_context_destroy(c);
    cp.max_memory = 0;
    c = context_of(&cp);
    p.tiling = FLUX1_TILING_AUTO;
    flux1_image *whole = generated(c, m, &p);
    assert_int_equal(lines.count, 1);
    assert_memory_not_equal(whole->pixels, tiled->pixels, 3 * 256 * 256);
    flux1_images_free(tiled, 1);
    flux1_images_free(asked, 1);
    flux1_images_free(whole, 1);
    flux1_model_close(m);
    flux1_context_destroy(opener);
    flux1_context_destroy(c);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void the_largest_picture_is_refused_at_once(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2", "8x1"};
    static const char *const pipelines[] = {"schnell", "dev", "single"};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            flux1_generate_params p;
            flux1_image *image;
            double gib;
            flux1_context_params cp;
            flux1_context_params_defaults(&cp);
            cp.mesh = shapes[i];
            cp.max_memory = (uint64_t)4 << 30;
            flux1_context *c = context_of(&cp);
            flux1_model *m = pipeline_of(c, pipelines[k]);
            flux1_generate_params_defaults(&p);
            p.width = p.height = 65536;
            double began = now();
            assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_LIMIT);
            assert_true(now() - began < 5);
            const char *message = flux1_context_message(c), *takes = strstr(message, "takes ");
            char unit[4] = "";
            if (!takes || sscanf(takes, "takes %lf %3s", &gib, unit) != 2 ||
                !(strcmp(unit, "GiB") == 0 ? gib > 10 : strcmp(unit, "TiB") == 0 && gib < 1000))
                fail_msg("%s %s: \"%s\"", shapes[i], pipelines[k], message);
            printf("%s %s: %s\n", shapes[i], pipelines[k], message);
            flux1_model_close(m);
            flux1_context_destroy(c);
        }
}

static int count_calls(void *user, const flux1_progress *p)
{
    (void)p;
    ++*(int *)user;
    return 0;
}

/* Of a folder that is not there: told before any work. */
static void files_of_the_end_are_checked_at_the_beginning(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    int calls = 0;
    golden_open("single", "fox", &g);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    g.params.progress = count_calls;
    g.params.progress_user = &calls;
    g.params.dump = "/tmp/no-such-folder/dump.safetensors";
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_IO);
    assert_null(image);
    assert_non_null(strstr(flux1_context_message(c), "/tmp/no-such-folder/dump.safetensors"));
    g.params.dump = NULL;
    g.params.profile = "/tmp/no-such-folder/trace.json";
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_IO);
    assert_non_null(strstr(flux1_context_message(c), "/tmp/no-such-folder/trace.json"));
    assert_int_equal(calls, 0);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(older_and_newer_structs_are_accepted),
        cmocka_unit_test(structs_that_were_not_set_up_are_refused),
        cmocka_unit_test(contexts_refuse_what_they_cannot_be),
        cmocka_unit_test(a_text_encoded_before_is_taken),
        cmocka_unit_test(staged_calls_equal_the_whole_request),
        cmocka_unit_test(a_text_of_another_model_is_refused),
        cmocka_unit_test(image_i_of_a_request_is_that_of_seed_plus_i),
        cmocka_unit_test(two_contexts_share_a_model_at_once),
        cmocka_unit_test(requests_are_refused_in_one_sentence),
        cmocka_unit_test(what_is_rounded_or_ignored_is_logged),
        cmocka_unit_test(a_request_beyond_the_memory_is_refused_with_its_size),
        cmocka_unit_test(a_picture_too_large_to_decode_whole_is_decoded_in_tiles),
        cmocka_unit_test(the_largest_picture_is_refused_at_once),
        cmocka_unit_test(files_of_the_end_are_checked_at_the_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
