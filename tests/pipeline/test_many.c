/* Requests in one call of flux1_generate_many: each has its own cancel and its own previews; and how many pictures go
 * together. */
#include "support/golden.h"

enum { REQUESTS = 3, PICTURES = 4 };
static const int counts[REQUESTS] = {1, 2, 1};
static const int owner[PICTURES] = {0, 1, 1, 2};

typedef struct call {
    golden g;
    flux1_context *c;
    flux1_model *m;
    flux1_generate_params params[REQUESTS];
    const flux1_generate_params *each[REQUESTS];
    flux1_image *whole; /* as they should be */
    /* what the callbacks saw, and what they are to do */
    flux1_cancel_token *token[REQUESTS];
    flux1_stage stop_stage;
    int stop_step, stop; /* a bit for each request whose token is cancelled there */
    int stop_image;      /* at this picture alone; -1: at any */
    int handed[PICTURES], previews[PICTURES], denoised;
} call;

static int place_of(const flux1_image *image)
{
    int i = 0;
    while (owner[i] != image->request)
        i++;
    return i + image->index;
}

static int on_progress(void *user, const flux1_progress *now)
{
    call *k = user;
    if (now->preview)
        k->previews[place_of(now->preview)]++;
    if (now->stage == FLUX1_STAGE_DENOISE && now->image > k->denoised)
        k->denoised = now->image;
    for (int i = 0; i < REQUESTS; i++)
        if ((k->stop >> i & 1) && now->stage == k->stop_stage && now->step == k->stop_step &&
            (k->stop_image < 0 || now->image == k->stop_image))
            flux1_cancel_token_cancel(k->token[i]);
    return 0;
}

static int on_image(void *user, const flux1_image *image)
{
    call *k = user;
    const int i = place_of(image);
    const flux1_image *wanted = &k->whole[i];
    k->handed[i]++;
    assert_true(image->seed == wanted->seed);
    assert_memory_equal(image->pixels, wanted->pixels, (size_t)(3 * image->width * image->height));
    return 0;
}

static void call_open(call *k)
{
    memset(k, 0, sizeof *k);
    k->stop_image = -1;
    golden_open("schnell", "car", &k->g);
    k->c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    k->m = model_of(k->c, k->g.folder);
    for (int i = 0; i < REQUESTS; i++) {
        k->params[i] = k->g.params;
        k->params[i].seed += (uint64_t)(10 * i);
        k->params[i].count = counts[i];
        k->each[i] = &k->params[i];
        k->token[i] = flux1_cancel_token_create();
        assert_non_null(k->token[i]);
    }
}

/* All of them, without a cancel. */
static void make_whole(call *k, int batch)
{
    for (int i = 0; i < REQUESTS; i++)
        k->params[i].batch = batch;
    k->params[0].image = NULL;
    k->params[0].progress = NULL;
    assert_int_equal(flux1_generate_many(k->c, k->m, k->each, REQUESTS, &k->whole), FLUX1_OK);
}

static void call_close(call *k)
{
    for (int i = 0; i < REQUESTS; i++)
        flux1_cancel_token_destroy(k->token[i]);
    flux1_model_close(k->m);
    flux1_context_destroy(k->c);
    golden_close(&k->g);
}

static flux1_status run(call *k, flux1_image **images)
{
    memset(k->handed, 0, sizeof k->handed);
    memset(k->previews, 0, sizeof k->previews);
    k->denoised = -1;
    k->params[0].progress = on_progress;
    k->params[0].image = on_image;
    k->params[0].progress_user = k->params[0].image_user = k;
    const flux1_status st = flux1_generate_many(k->c, k->m, k->each, REQUESTS, images);
    for (int i = 0; i < REQUESTS; i++)
        flux1_cancel_token_reset(k->token[i]);
    return st;
}

static void the_others_of_a_cancelled_request_go_on(void **state)
{
    (void)state;
    call k;
    call_open(&k);
    for (int batch = 1; batch <= PICTURES; batch++) {
        make_whole(&k, batch);
        for (int i = 0; i < REQUESTS; i++)
            k.params[i].cancel = k.token[i];
        for (int stop = 1; stop < 1 << REQUESTS; stop++)
            for (int where = 0; where < 3; where++) {
                flux1_image *images = NULL;
                k.stop = stop;
                k.stop_stage = where == 0 ? FLUX1_STAGE_LOAD : FLUX1_STAGE_DENOISE;
                k.stop_step = where == 2;
                const bool all = stop == (1 << REQUESTS) - 1;
                assert_int_equal(run(&k, &images), all ? FLUX1_ERR_CANCELLED : FLUX1_OK);
                if (all) {
                    assert_null(images);
                    assert_string_equal(flux1_context_message(k.c), "cancelled");
                }
                for (int i = 0; i < PICTURES; i++) {
                    const bool wanted = !(stop >> owner[i] & 1);
                    assert_int_equal(k.handed[i], wanted);
                    if (images) {
                        assert_int_equal(images[i].pixels != NULL, wanted);
                        assert_int_equal(images[i].request, owner[i]);
                        assert_true(images[i].seed == k.whole[i].seed);
                    }
                }
                flux1_images_free(images, images ? PICTURES : 0);
                /* a batch that nobody wants is not begun */
                if (batch == 1 && where == 0)
                    assert_int_equal(k.denoised, all ? -1 : stop & 4 ? (stop & 2 ? 0 : 2) : 3);
            }
        k.stop = 0;
        for (int i = 0; i < REQUESTS; i++)
            k.params[i].cancel = NULL;
        flux1_images_free(k.whole, PICTURES);
    }
    call_close(&k);
}

/* It is not shown or handed out, and has no pixels; the dump does not say how it was made. What its request finished
 * before stays. */
static void a_picture_that_is_cancelled_while_it_is_decoded_is_left_out(void **state)
{
    (void)state;
    const char *dump = scratch_path("many.safetensors");
    call k;
    call_open(&k);
    make_whole(&k, PICTURES);
    k.params[0].dump = dump;
    k.params[0].preview_every = 1;
    k.params[0].preview_kind = FLUX1_PREVIEW_VAE;
    for (int i = 0; i < REQUESTS; i++)
        k.params[i].cancel = k.token[i];
    k.stop_stage = FLUX1_STAGE_DECODE;
    for (int at = 0; at < PICTURES; at++) {
        flux1_image *images = NULL;
        flux1_latents_file *dumped = NULL;
        k.stop = 1 << owner[at];
        k.stop_image = at;
        assert_int_equal(run(&k, &images), FLUX1_OK);
        assert_int_equal(flux1_latents_open(k.c, dump, 0, &dumped), FLUX1_OK);
        for (int i = 0; i < PICTURES; i++) {
            const bool cancelled = owner[i] == owner[at], made = !cancelled || i < at;
            assert_int_equal(k.handed[i], made);
            assert_int_equal(k.previews[i], k.g.params.steps - !made);
            assert_int_equal(images[i].pixels != NULL, made);
            assert_int_equal(images[i].request, owner[i]);
            assert_true(images[i].seed == k.whole[i].seed);
            assert_int_equal(flux1_latents_text(dumped, i, "flux1") != NULL, !cancelled);
        }
        flux1_latents_close(dumped);
        flux1_images_free(images, PICTURES);
    }
    unlink(dump);
    flux1_images_free(k.whole, PICTURES);
    call_close(&k);
}

/* The first one's token stops those that have none, and only those; one before the call stops it there. */
static void a_request_without_a_token_has_the_first_ones(void **state)
{
    (void)state;
    call k;
    call_open(&k);
    make_whole(&k, PICTURES);
    k.stop = 1;
    k.stop_stage = FLUX1_STAGE_DENOISE;
    k.stop_step = 1;
    k.params[0].cancel = k.token[0];
    assert_int_equal(run(&k, NULL), FLUX1_ERR_CANCELLED);
    k.params[2].cancel = k.token[2];
    assert_int_equal(run(&k, NULL), FLUX1_OK);
    for (int i = 0; i < PICTURES; i++)
        assert_int_equal(k.handed[i], owner[i] == 2);
    k.stop = 0;
    flux1_cancel_token_cancel(k.token[0]);
    flux1_cancel_token_cancel(k.token[2]);
    assert_int_equal(run(&k, NULL), FLUX1_ERR_CANCELLED);
    assert_int_equal(k.denoised, -1);
    assert_int_equal(run(&k, NULL), FLUX1_OK); /* they were reset, and nothing is left of it */
    flux1_images_free(k.whole, PICTURES);
    call_close(&k);
}

/* Of four steps: each second one and each first one; the second request's are its own. `progress` is the first one's
 * and is said only there. */
static void previews_are_each_requests_own(void **state)
{
    (void)state;
    static const flux1_preview_kind kinds[] = {FLUX1_PREVIEW_RGB, FLUX1_PREVIEW_VAE};
    static const int every[][REQUESTS] = {{0, 2, 0}, {2, 1, 0}, {0, 0, 1}, {0, 0, 0}};
    static const int wanted[][PICTURES] = {{0, 2, 2, 0}, {2, 4, 4, 2}, {0, 0, 0, 4}, {0, 0, 0, 0}};
    call k;
    call_open(&k);
    for (int i = 0; i < REQUESTS; i++) {
        k.params[i].steps = 4;
        k.params[i].progress = NULL;
    }
    for (int batch = 1; batch <= PICTURES; batch += 3) {
        make_whole(&k, batch);
        for (size_t row = 0; row < sizeof every / sizeof *every; row++)
            for (int kind = 0; kind < 2; kind++) {
                for (int i = 0; i < REQUESTS; i++)
                    k.params[i].preview_every = every[row][i];
                k.params[0].preview_kind = kinds[kind];
                assert_int_equal(run(&k, NULL), FLUX1_OK);
                for (int i = 0; i < PICTURES; i++)
                    if (k.previews[i] != wanted[row][i])
                        fail_msg("row %zu, kind %d, batch %d: picture %d has %d previews", row, kind, batch, i,
                                 k.previews[i]);
            }
        for (int i = 0; i < REQUESTS; i++)
            k.params[i].preview_every = 0;
        flux1_images_free(k.whole, PICTURES);
    }
    call_close(&k);
}

/* On a CPU: as many as have 320 rows, of which a picture has its prompt's and one for each 16 × 16 pixels. */
static void a_caller_is_told_how_many_go_together(void **state)
{
    (void)state;
    static const struct {
        int width, height, length, count, given, wanted;
    } cases[] = {
        {64, 64, 64, 100, 0, 4},   {64, 64, 64, 3, 0, 3},  {64, 64, 64, 100, 1, 1}, {64, 64, 64, 100, 7, 7},
        {64, 64, 64, 5, 7, 5},     {64, 64, 64, 1, 0, 1},  {128, 128, 96, 9, 0, 2}, {256, 128, 96, 9, 0, 1},
        {256, 256, 64, 100, 0, 1}, {32, 16, 8, 40, 0, 32},
    };
    int batch = -1;
    flux1_generate_params p;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_model_info info = {.size = sizeof info};
    assert_int_equal(flux1_model_get_info(m, &info), FLUX1_OK);
    assert_int_equal(info.size_multiple, 16);
    flux1_generate_params_defaults(&p);
    p.prompt = "a car";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p.width = cases[i].width;
        p.height = cases[i].height;
        p.max_sequence_length = cases[i].length;
        p.count = cases[i].count;
        p.batch = cases[i].given;
        if (flux1_generate_batch(c, m, &p, &batch) != FLUX1_OK)
            fail_msg("row %zu: %s", i, flux1_context_message(c));
        if (batch != cases[i].wanted)
            fail_msg("row %zu: %d together", i, batch);
    }
    assert_int_equal(flux1_generate_batch(c, m, &p, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_generate_batch(c, m, NULL, &batch), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_generate_batch(c, NULL, &p, &batch), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_generate_batch(NULL, m, &p, &batch), FLUX1_ERR_ARGUMENT);
    p.steps = 0;
    assert_int_equal(flux1_generate_batch(c, m, &p, &batch), FLUX1_ERR_ARGUMENT);
    assert_int_equal(batch, 0);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* As memory gets less the batch gets smaller, and at last the request is refused as flux1_generate_check does; what is
 * told is what then runs. */
static void with_little_memory_fewer_go_together(void **state)
{
    (void)state;
    flux1_context_params cp;
    flux1_generate_params p;
    int before = 64, batch = 0, sizes = 0;
    flux1_context_params_defaults(&cp);
    cp.dtype = FLUX1_DTYPE_F32;
    cp.threads = 1;
    flux1_context *c = context_of(&cp);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params_defaults(&p);
    p.prompt = "a car";
    p.width = p.height = 64;
    p.steps = 1;
    p.batch = p.count = 64;
    flux1_context_destroy(c);
    for (uint64_t memory = 256 << 20; memory > 1 << 16; memory -= memory / 8) {
        cp.max_memory = memory;
        c = context_of(&cp);
        const flux1_status st = flux1_generate_batch(c, m, &p, &batch);
        if (st != FLUX1_OK) {
            assert_int_equal(st, FLUX1_ERR_LIMIT);
            assert_int_equal(batch, 0);
            flux1_generate_params one = p;
            one.batch = one.count = 1;
            assert_int_equal(flux1_generate_check(c, m, &one), FLUX1_ERR_LIMIT);
            flux1_context_destroy(c);
            break;
        }
        assert_in_range(batch, 1, before);
        flux1_generate_params so_many = p;
        so_many.batch = so_many.count = batch;
        assert_int_equal(flux1_generate_check(c, m, &so_many), FLUX1_OK);
        sizes += batch != before;
        before = batch;
        flux1_context_destroy(c);
    }
    assert_in_range(before, 1, 2); /* one step of memory further also its other stages may not fit */
    assert_true(sizes >= 3);
    flux1_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_others_of_a_cancelled_request_go_on),
        cmocka_unit_test(a_picture_that_is_cancelled_while_it_is_decoded_is_left_out),
        cmocka_unit_test(a_request_without_a_token_has_the_first_ones),
        cmocka_unit_test(previews_are_each_requests_own),
        cmocka_unit_test(a_caller_is_told_how_many_go_together),
        cmocka_unit_test(with_little_memory_fewer_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
