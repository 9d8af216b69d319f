/* The first-block cache skips the steps that diffusers' skips, with the same latents, on every device and mesh; what it
 * leaves as it was, and what is refused. Goldens: tools/oracle/step_cache_goldens.py. */
#include "support/golden_runs.h"

static bool same_pixels(const flux1_image *a, const flux1_image *b)
{
    return memcmp(a->pixels, b->pixels, (size_t)(3 * a->width * a->height)) == 0;
}

/* Passes of the golden in which not all blocks ran. */
static int reused_in(const golden *g, int *passes)
{
    const store_tensor *t = store_find(g->file, "computed");
    assert_non_null(t);
    int reused = 0;
    *passes = (int)(t->view.shape[0] * t->view.shape[1]);
    for (int i = 0; i < *passes; i++)
        reused += ((const int64_t *)t->view.data)[i] == 0;
    assert_true(reused > 0 && reused < *passes);
    return reused;
}

static const char *const cases[][2] = {
    {"dev/step_cache", "some"},     {"dev/step_cache", "few"},     {"dev/step_cache", "cfg"},
    {"schnell/step_cache", "some"}, {"double/step_cache", "some"},
};
enum { CASES = sizeof cases / sizeof *cases };

static void check_cases(const char *device, const char *shape)
{
    flux1_context *c = context_on(device, shape, 2, FLUX1_DTYPE_F32);
    for (int i = 0; i < CASES; i++) {
        golden g;
        char where[100];
        int passes;
        golden_open(cases[i][0], cases[i][1], &g);
        flux1_model *m = model_of(c, g.folder);
        snprintf(where, sizeof where, "%s %s %s/%s", device, shape, cases[i][0], cases[i][1]);
        run_case(c, m, &g, where);
        g.params.dump = NULL;
        flux1_image *image = generated(c, m, &g.params);
        const int reused = reused_in(&g, &passes);
        if (image->steps_reused != reused || image->passes != passes)
            fail_msg("%s: %d of %d passes reused, the oracle %d of %d", where, image->steps_reused, image->passes,
                     reused, passes);
        flux1_images_free(image, 1);
        flux1_model_close(m);
        golden_close(&g);
    }
    flux1_context_destroy(c);
}

static void it_equals_the_oracle(void **state)
{
    (void)state;
    check_cases(TEST_DEVICE, "1x1");
    check_cases("ref", "1x1");
}

static void all_ranks_of_a_mesh_decide_alike(void **state)
{
    (void)state;
    check_cases("cpu", "1x2");
    check_cases("cpu", "2x1");
    check_cases("cpu", "3x2"); /* some ranks have no rows */
}

/* A threshold that nothing is below, and none: the same bits. */
static void without_a_reuse_the_picture_is_that_without_a_cache(void **state)
{
    (void)state;
    golden g;
    golden_open("dev/step_cache", "cfg", &g);
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_generate_params p = g.params;
    p.step_cache = 0;
    flux1_image *plain = generated(c, m, &p);
    p.step_cache = 1e-9f;
    flux1_image *never = generated(c, m, &p);
    flux1_image *some = generated(c, m, &g.params);
    p.step_cache = 0;
    flux1_image *after = generated(c, m, &p);
    assert_true(plain->steps_reused == 0 && never->steps_reused == 0 && some->steps_reused > 0);
    assert_true(same_pixels(plain, never) && same_pixels(plain, after));
    assert_false(same_pixels(plain, some));
    flux1_images_free(plain, 1);
    flux1_images_free(never, 1);
    flux1_images_free(some, 1);
    flux1_images_free(after, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* Each part of a step is recorded by itself; the picture is that of calls made every time, also of a second request
 * (on a GPU all of its parts are replayed). */
static void recorded_parts_are_their_calls(void **state)
{
    (void)state;
    static const char *const names[] = {"some", "cfg"};
    for (int i = 0; i < 2; i++) {
        golden g;
        flux1_context *c[2];
        golden_open("dev/step_cache", names[i], &g);
        for (int eager = 0; eager < 2; eager++)
            c[eager] = context_of(&(flux1_context_params){.size = sizeof(flux1_context_params),
                                                          .device = TEST_DEVICE,
                                                          .threads = 2,
                                                          .dtype = FLUX1_DTYPE_F32,
                                                          .eager = eager});
        flux1_model *m = model_of(c[0], g.folder);
        flux1_image *called = generated(c[1], m, &g.params);
        for (int again = 0; again < 2; again++) {
            flux1_image *replayed = generated(c[0], m, &g.params);
            assert_true(replayed->steps_reused == called->steps_reused && same_pixels(replayed, called));
            flux1_images_free(replayed, 1);
        }
        flux1_images_free(called, 1);
        flux1_model_close(m);
        flux1_context_destroy(c[0]);
        flux1_context_destroy(c[1]);
        golden_close(&g);
    }
}

/* A batch is one decision: two equal pictures are as one, and where two differ no more is skipped than the one that
 * changes more allows. So where nobody asks for a batch there is none: each is the picture that it is alone. */
static void of_a_batch_the_largest_change_counts(void **state)
{
    (void)state;
    golden g;
    golden_open("dev/step_cache", "some", &g);
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_generate_params p = g.params, q = g.params;
    flux1_image *images, *alone = generated(c, m, &g.params);
    p.batch = q.batch = 2;
    assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *const[]){&p, &q}, 2, &images), FLUX1_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(images[i].steps_reused, alone->steps_reused);
        for (int k = 0; k < 3 * alone->width * alone->height; k++)
            assert_true(abs(images[i].pixels[k] - alone->pixels[k]) <= 1);
    }
    flux1_images_free(images, 2);
    q.prompt = "something else"; /* its entry never lets a step be short */
    q.guidance = 30;
    flux1_image *other = generated(c, m, &q);
    assert_true(other->steps_reused < alone->steps_reused);
    assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *const[]){&p, &q}, 2, &images), FLUX1_OK);
    assert_true(images[0].steps_reused <= other->steps_reused);
    assert_int_equal(images[0].steps_reused, images[1].steps_reused);
    flux1_images_free(images, 2);
    p.batch = q.batch = 0;
    assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *const[]){&p, &q}, 2, &images), FLUX1_OK);
    assert_int_equal(images[0].steps_reused, alone->steps_reused);
    assert_true(same_pixels(&images[0], alone) && same_pixels(&images[1], other));
    flux1_images_free(images, 2);
    flux1_images_free(other, 1);
    flux1_images_free(alone, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* The second picture of a call does not go on from what the first one left, whose last whole step may be any, and is
 * counted by itself: where every change is small enough, all steps but the first are short. */
static void each_picture_begins_with_a_whole_step(void **state)
{
    (void)state;
    golden g;
    golden_open("dev/step_cache", "some", &g);
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    for (int all = 0; all < 2; all++) {
        flux1_generate_params p = g.params, q;
        flux1_image *images, *alone[2];
        p.step_cache = all ? 1000 : 1;
        q = p;
        q.seed++;
        alone[0] = generated(c, m, &p);
        alone[1] = generated(c, m, &q);
        assert_int_equal(flux1_generate_many(c, m, (const flux1_generate_params *const[]){&p, &q}, 2, &images),
                         FLUX1_OK);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(alone[i]->steps_reused == p.steps - 1, all);
            assert_int_equal(images[i].steps_reused, alone[i]->steps_reused);
            assert_true(same_pixels(&images[i], alone[i]));
            flux1_images_free(alone[i], 1);
        }
        flux1_images_free(images, 2);
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

static void what_is_no_threshold_is_refused(void **state)
{
    (void)state;
    const float wrong[] = {NAN, INFINITY, -0.1f};
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "dev");
    for (int i = 0; i < 3; i++) {
        flux1_image *image;
        flux1_generate_params p;
        flux1_generate_params_defaults(&p);
        assert_true(p.step_cache == 0);
        p.step_cache = wrong[i];
        assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_ARGUMENT);
        assert_non_null(strstr(flux1_context_message(c), "step_cache "));
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_equals_the_oracle),
        cmocka_unit_test(all_ranks_of_a_mesh_decide_alike),
        cmocka_unit_test(without_a_reuse_the_picture_is_that_without_a_cache),
        cmocka_unit_test(recorded_parts_are_their_calls),
        cmocka_unit_test(of_a_batch_the_largest_change_counts),
        cmocka_unit_test(each_picture_begins_with_a_whole_step),
        cmocka_unit_test(what_is_no_threshold_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
