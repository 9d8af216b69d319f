/* Pictures computed together are what each would be alone: rows with prompts, seeds and guidance of their own, with and
 * without true CFG, equal the oracle's batches whatever the batch size, device and mesh. */
#include "support/golden_runs.h"

enum { ROWS = 3 };

typedef struct batch_golden {
    golden g; /* of its params only the ones that all rows share */
    char prompt[ROWS][4096], negative[ROWS][4096];
    flux1_generate_params params[ROWS];
    const flux1_generate_params *each[ROWS];
} batch_golden;

static void batch_open(const char *pipeline, const char *name, batch_golden *b)
{
    char path[512], key[32];
    flux1_error err = {0};
    golden *g = &b->g;
    memset(b, 0, sizeof *b);
    snprintf(path, sizeof path, "%s/goldens/%s/batch/%s.safetensors", TEST_DATA, pipeline, name);
    if (store_open_file(path, &g->file, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < ROWS; i++) {
        flux1_generate_params *p = &b->params[i];
        flux1_generate_params_defaults(p);
        snprintf(key, sizeof key, "prompt.%d", i);
        p->prompt = golden_text(g->file, key, b->prompt[i], sizeof b->prompt[i]);
        snprintf(key, sizeof key, "negative_prompt.%d", i);
        p->negative_prompt = golden_text(g->file, key, b->negative[i], sizeof b->negative[i]);
        p->width = (int)golden_number(g->file, "width");
        p->height = (int)golden_number(g->file, "height");
        p->steps = (int)golden_number(g->file, "steps");
        p->max_sequence_length = (int)golden_number(g->file, "max_sequence_length");
        p->guidance = ((const float *)store_find(g->file, "guidance")->view.data)[i];
        p->seed = (uint64_t)((const int64_t *)store_find(g->file, "seed")->view.data)[i];
        if (store_find(g->file, "true_cfg_scale"))
            p->true_cfg_scale = (float)golden_number(g->file, "true_cfg_scale");
        b->each[i] = p;
    }
}

static void batch_close(batch_golden *b) { golden_close(&b->g); }

/* All rows in one call, and what it dumped. */
static flux1_image *generate_rows(flux1_context *c, const flux1_model *m, batch_golden *b, int batch, store **dumped)
{
    flux1_image *images;
    flux1_error err = {0};
    char *path = scratch_path("batch.safetensors");
    for (int i = 0; i < ROWS; i++)
        b->params[i].batch = batch;
    b->params[0].dump = path;
    flux1_status st = flux1_generate_many(c, m, b->each, ROWS, &images);
    b->params[0].dump = NULL;
    if (st != FLUX1_OK)
        fail_msg("batch %d: %s", batch, flux1_context_message(c));
    assert_int_equal(store_open_file(path, dumped, &err), FLUX1_OK);
    unlink(path);
    return images;
}

static void run_rows(flux1_context *c, const flux1_model *m, batch_golden *b, int batch, const char *where)
{
    store *dumped;
    flux1_image *images = generate_rows(c, m, b, batch, &dumped);
    const uint8_t *bytes = store_find(b->g.file, "image")->view.data;
    assert_true(compare_dump(b->g.file, dumped, where) >= 8);
    for (int i = 0; i < ROWS; i++) {
        const flux1_image *picture = &images[i];
        assert_int_equal(picture->size, sizeof *picture);
        assert_int_equal(picture->width, b->params[i].width);
        assert_int_equal(picture->height, b->params[i].height);
        assert_int_equal(picture->request, i);
        assert_int_equal(picture->index, 0);
        assert_true(picture->seed == b->params[i].seed);
        compare_bytes(bytes + (size_t)i * (size_t)(3 * picture->width * picture->height), picture, where);
    }
    store_close(dumped);
    flux1_images_free(images, ROWS);
}

static const char *const CASES[][2] = {{"schnell", "rows"}, {"schnell", "cfg"}, {"dev", "rows"}, {"dev", "cfg"}};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

static void run_case_on(flux1_context *c, size_t i, int largest, int smallest, const char *where)
{
    batch_golden b;
    char what[128];
    batch_open(CASES[i][0], CASES[i][1], &b);
    flux1_model *m = pipeline_of(c, CASES[i][0]);
    for (int batch = largest; batch >= smallest; batch--) {
        snprintf(what, sizeof what, "%s/batch/%s on %s, batch %d", CASES[i][0], CASES[i][1], where, batch);
        run_rows(c, m, &b, batch, what);
    }
    flux1_model_close(m);
    batch_close(&b);
}

static void run_all(const char *device, const char *shape, int threads, int largest, int smallest)
{
    char where[32];
    snprintf(where, sizeof where, "%s %s", device, shape);
    flux1_context *c = context_on(device, shape, threads, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < CASE_COUNT; i++)
        run_case_on(c, i, largest, smallest, where);
    flux1_context_destroy(c);
    print_worst(device, shape);
}

#ifdef FLUX1_TESTS_CUDA_INSTALL_H

/* Of two: a batch, and a rest of one. */
static void batches_equal_the_oracle(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "1x1", 1, 2, 2);
}

static void on_a_mesh_that_shares_a_gpu(void **state)
{
    (void)state;
    flux1_context *c = context_on(TEST_DEVICE, "1x2", 1, FLUX1_DTYPE_F32);
    run_case_on(c, 3, 2, 2, "cuda 1x2");
    flux1_context_destroy(c);
}

static void on_a_mesh_of_gpus(void **state)
{
    (void)state;
    cuda_emulator_devices(4);
    flux1_context *c = context_on(TEST_DEVICE, "2x2", 1, FLUX1_DTYPE_F32);
    run_case_on(c, 1, 3, 3, "cuda 2x2");
    flux1_context_destroy(c);
    cuda_emulator_devices(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_equal_the_oracle),
        cmocka_unit_test(on_a_mesh_that_shares_a_gpu),
        cmocka_unit_test(on_a_mesh_of_gpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

/* Of three, of two (and a rest of one), of one. */
static void batches_of_any_size_equal_the_oracle(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"}, *const shapes[] = {"1x1", "1x2", "2x2"};
    for (int d = 0; d < 2; d++)
        for (int s = 0; s < 3; s++)
            run_all(devices[d], shapes[s], d && s == 0 ? 2 : 1, ROWS, 1);
}

/* The picture of the same seed, which rounding may have moved by a byte. */
static void assert_picture_of(const flux1_image *a, const flux1_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_true(a->seed == b->seed);
    compare_bytes(b->pixels, a, "in a batch");
}

/* Row i of every latent in `together` against the only one of `alone`. */
static void compare_rows(const store *together, const store *alone, int row)
{
    int compared = 0;
    for (size_t i = 0; i < store_count(alone); i++) {
        const store_tensor *a = store_at(alone, i), *t = store_find(together, a->name);
        if (strncmp(a->name, "latents.", 8) != 0)
            continue;
        int64_t n = tensor_elements(&a->view);
        double error = relative_l2((const float *)t->view.data + row * n, a->view.data, n);
        if (!(error <= 1e-6))
            fail_msg("row %d: %s is off by %.3g from the picture alone", row, a->name, error);
        compared++;
    }
    assert_true(compared >= 2);
}

static void a_picture_in_a_batch_is_the_one_alone(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++)
        for (size_t k = 0; k < CASE_COUNT; k++) {
            batch_golden b;
            store *together, *alone;
            flux1_error err = {0};
            char *path = scratch_path("alone.safetensors"), file[256];
            snprintf(file, sizeof file, "%s", path);
            batch_open(CASES[k][0], CASES[k][1], &b);
            flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
            flux1_model *m = pipeline_of(c, CASES[k][0]);
            flux1_image *images = generate_rows(c, m, &b, ROWS, &together);
            for (int i = 0; i < ROWS; i++) {
                flux1_generate_params p = b.params[i];
                p.dump = file;
                flux1_image *one = generated(c, m, &p);
                assert_int_equal(store_open_file(file, &alone, &err), FLUX1_OK);
                compare_rows(together, alone, i);
                compare_bytes(one->pixels, &images[i], "beside others");
                store_close(alone);
                unlink(file);
                flux1_images_free(one, 1);
            }
            store_close(together);
            flux1_images_free(images, ROWS);
            flux1_model_close(m);
            flux1_context_destroy(c);
            batch_close(&b);
        }
}

/* Five of one request two at a time; and more requests than one, each with pictures of its own, across batches. */
static void counts_are_cut_into_batches(void **state)
{
    (void)state;
    golden g;
    golden_open("schnell", "car", &g);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_generate_params five = g.params, two = g.params, one = g.params;
    flux1_image *singles[5], *images;
    for (int i = 0; i < 5; i++) {
        one.seed = g.params.seed + (uint64_t)i;
        singles[i] = generated(c, m, &one);
    }
    five.count = 5;
    five.batch = 2;
    images = generated(c, m, &five);
    for (int i = 0; i < 5; i++) {
        assert_picture_of(&images[i], singles[i]);
        assert_int_equal(images[i].request, 0);
        assert_int_equal(images[i].index, i);
    }
    flux1_images_free(images, 5);
    five.count = 3;
    two.count = 2;
    two.seed = g.params.seed + 3;
    two.batch = 2;
    assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *[]){&five, &two}, 2, &images), FLUX1_OK);
    for (int i = 0; i < 5; i++) {
        assert_picture_of(&images[i], singles[i]);
        assert_int_equal(images[i].request, i / 3);
        assert_int_equal(images[i].index, i % 3);
        assert_true(images[i].seed == g.params.seed + (uint64_t)i);
    }
    flux1_images_free(images, 5);
    two.batch = five.batch = 1000; /* more than there are */
    assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *[]){&five, &two}, 2, &images), FLUX1_OK);
    for (int i = 0; i < 5; i++) {
        assert_picture_of(&images[i], singles[i]);
        flux1_images_free(singles[i], 1);
    }
    flux1_images_free(images, 5);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* Memory for a batch and for the decoder, but not for both: all is denoised first, then decoded. */
static void where_memory_is_short_all_is_denoised_first(void **state)
{
    (void)state;
    golden g;
    flux1_context_params cp;
    golden_open("schnell", "car", &g);
    flux1_context_params_defaults(&cp);
    cp.dtype = FLUX1_DTYPE_F32;
    cp.threads = 1;
    flux1_context *c = context_of(&cp);
    flux1_model *m = model_of(c, g.folder);
    g.params.count = 3;
    g.params.batch = 2;
    flux1_image *whole = generated(c, m, &g.params);
    flux1_context_destroy(c);
    bool fitted = false, refused = false;
    for (uint64_t memory = 16 << 20; memory > 1 << 16 && !refused; memory -= memory / 8) {
        flux1_image *images;
        cp.max_memory = memory;
        c = context_of(&cp);
        flux1_status st = flux1_generate(c, m, &g.params, &images);
        refused = st == FLUX1_ERR_LIMIT;
        if (!refused) {
            assert_int_equal(st, FLUX1_OK);
            for (int i = 0; i < 3; i++)
                assert_same_picture(&images[i], &whole[i]);
            flux1_images_free(images, 3);
            fitted = true;
        }
        flux1_context_destroy(c);
    }
    assert_true(fitted && refused);
    flux1_images_free(whole, 3);
    flux1_model_close(m);
    golden_close(&g);
}

static void requests_that_may_not_share_a_batch_are_refused(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "dev");
    static const char *const named[] = {"in size",     "in size",           "in steps",  "in max_sequence_length",
                                        "of true CFG", "in true_cfg_scale", "in tiling", "in batch"};
    for (int i = 0; i < (int)(sizeof named / sizeof *named); i++) {
        flux1_generate_params a, b;
        flux1_image *images = (flux1_image *)&a;
        flux1_generate_params_defaults(&a);
        a.width = a.height = 32;
        a.steps = 1;
        a.negative_prompt = "";
        a.true_cfg_scale = 2;
        b = a;
        switch (i) {
        case 0: b.width = 64; break;
        case 1: b.height = 48; break;
        case 2: b.steps = 2; break;
        case 3: b.max_sequence_length = 16; break;
        case 4: b.negative_prompt = NULL; break;
        case 5: b.true_cfg_scale = 3; break;
        case 6: b.tiling = FLUX1_TILING_YES; break;
        case 7: b.batch = 1; break;
        }
        const flux1_generate_params *both[] = {&a, &a, &b};
        assert_int_equal(flux1_generate_many(c, m, both, 3, &images), FLUX1_ERR_ARGUMENT);
        assert_null(images);
        if (!strstr(flux1_context_message(c), "request 2") || !strstr(flux1_context_message(c), named[i]))
            fail_msg("row %d: \"%s\"", i, flux1_context_message(c));
    }
    flux1_generate_params a, b;
    flux1_generate_params_defaults(&a);
    b = a;
    b.preview_kind = (flux1_preview_kind)7;
    const flux1_generate_params *both[] = {&a, &b, &a};
    assert_int_equal(flux1_generate_many(c, m, both, 3, NULL), FLUX1_ERR_ARGUMENT);
    assert_string_equal(flux1_context_message(c), "request 1: preview_kind 7: it should be one of flux1_preview_kind");
    assert_int_equal(flux1_generate_many(c, m, both + 1, 1, NULL), FLUX1_ERR_ARGUMENT);
    assert_string_equal(flux1_context_message(c), "preview_kind 7: it should be one of flux1_preview_kind");
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void a_wrong_number_of_requests_is_refused(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p;
    flux1_image *images;
    flux1_generate_params_defaults(&p);
    const flux1_generate_params *both[] = {&p, NULL};
    static const int wrong[] = {0, -1, 10001};
    for (int i = 0; i < 3; i++)
        assert_int_equal(flux1_generate_many(c, m, both, wrong[i], &images), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_generate_many(c, m, both, 2, &images), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_generate_many(c, m, NULL, 1, &images), FLUX1_ERR_ARGUMENT);
    p.batch = -1;
    assert_int_equal(flux1_generate_many(c, m, both, 1, &images), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "batch -1"));
    p.batch = 0;
    p.count = 10000;
    both[1] = &p;
    assert_int_equal(flux1_generate_many(c, m, both, 2, &images), FLUX1_ERR_LIMIT);
    assert_non_null(strstr(flux1_context_message(c), "20000 pictures"));
    assert_null(images);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_of_any_size_equal_the_oracle),
        cmocka_unit_test(a_picture_in_a_batch_is_the_one_alone),
        cmocka_unit_test(counts_are_cut_into_batches),
        cmocka_unit_test(where_memory_is_short_all_is_denoised_first),
        cmocka_unit_test(requests_that_may_not_share_a_batch_are_refused),
        cmocka_unit_test(a_wrong_number_of_requests_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
