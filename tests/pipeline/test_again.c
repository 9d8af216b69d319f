/* A sampler's step that was cancelled, or failed, at any of its operations has not happened: the latent is the one
 * before it, and made again it gives every bit that an undisturbed one gives. Operations are counted where each begins,
 * by the linker's --wrap; allocations fail by support/failing.h. */
#include "support/failing.h"
#include "support/golden.h"

#include <pthread.h>

/* ---- disturbing ---- */

typedef enum disturbance {
    CANCEL_BEFORE, /* the operation finds itself cancelled */
    CANCEL_AFTER,  /* … is cancelled while it computes */
    FAIL,          /* … fails on this rank alone */
    DISTURBANCES
} disturbance;

static atomic_long fuse = -1, begun; /* operations of all ranks */
static atomic_int how;
static flux1_context *disturbed;

flux1_status __real_ops_begin(const ops *o, const char *operation, const weight *w);
flux1_status __wrap_ops_begin(const ops *o, const char *operation, const weight *w);

flux1_status __wrap_ops_begin(const ops *o, const char *operation, const weight *w)
{
    atomic_fetch_add(&begun, 1);
    if (atomic_load(&fuse) < 0 || atomic_fetch_sub(&fuse, 1) != 0)
        return __real_ops_begin(o, operation, w);
    if (atomic_load(&how) == FAIL)
        return error_set(o->err, FLUX1_ERR_IO, "%s cannot go on", operation);
    if (atomic_load(&how) == CANCEL_BEFORE)
        flux1_cancel(disturbed);
    flux1_status st = __real_ops_begin(o, operation, w);
    if (atomic_load(&how) == CANCEL_AFTER)
        flux1_cancel(disturbed);
    return st;
}

/* From now on the operation behind the next `count` is disturbed, once; negative: none is. */
static void disturb(flux1_context *c, long count, disturbance by)
{
    disturbed = c;
    atomic_store(&how, by);
    atomic_store(&begun, 0);
    atomic_store(&fuse, count);
}

/* ---- samplers ---- */

typedef struct subject {
    golden g;
    flux1_context *c;
    flux1_model *m;
    flux1_text *text, *negative;
    size_t bytes;    /* of a latent */
    float *after[8]; /* [steps + 1]: the latents of an undisturbed run */
    flux1_image *picture;
} subject;

static flux1_sampler *sampler_of(subject *s)
{
    flux1_sampler *made;
    if (flux1_sampler_create(s->c, s->m, s->text, &s->g.params, &made) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s->c));
    return made;
}

static const float *latent_of(subject *s, flux1_sampler *k)
{
    const float *latent;
    int64_t tokens, channels;
    if (flux1_sampler_latents(k, &latent, &tokens, &channels) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s->c));
    s->bytes = (size_t)(tokens * channels) * sizeof *latent;
    return latent;
}

static void subject_open(subject *s, const char *device, const char *shape, const char *pipeline, const char *name)
{
    memset(s, 0, sizeof *s);
    golden_open(pipeline, name, &s->g);
    assert_true(s->g.params.steps < 8);
    s->c = context_on(device, shape, 1, FLUX1_DTYPE_F32);
    s->m = model_of(s->c, s->g.folder);
    assert_int_equal(flux1_encode_text(s->c, s->m, &s->g.params, &s->text), FLUX1_OK);
    if (s->g.params.negative_prompt) {
        flux1_generate_params other = s->g.params;
        other.prompt = s->g.params.negative_prompt;
        assert_int_equal(flux1_encode_text(s->c, s->m, &other, &s->negative), FLUX1_OK);
        s->g.params.negative_text = s->negative;
    }
    flux1_sampler *k = sampler_of(s);
    for (int i = 0; i <= s->g.params.steps; i++) {
        const float *latent = latent_of(s, k);
        assert_non_null(s->after[i] = malloc(s->bytes));
        memcpy(s->after[i], latent, s->bytes);
        assert_int_equal(flux1_sampler_step(k, NULL), i < s->g.params.steps ? FLUX1_OK : FLUX1_ERR_ARGUMENT);
    }
    flux1_sampler_free(k);
    assert_int_equal(flux1_generate(s->c, s->m, &s->g.params, &s->picture), FLUX1_OK);
}

static void subject_close(subject *s)
{
    flux1_images_free(s->picture, 1);
    for (int i = 0; i <= s->g.params.steps; i++)
        free(s->after[i]);
    flux1_text_free(s->text);
    flux1_text_free(s->negative);
    flux1_model_close(s->m);
    flux1_context_destroy(s->c);
    golden_close(&s->g);
}

static void assert_latent(subject *s, flux1_sampler *k, int steps, const char *where)
{
    if (memcmp(latent_of(s, k), s->after[steps], s->bytes) != 0)
        fail_msg("%s: the latent is not the one after %d steps", where, steps);
}

/* A whole request on the same context, and a look at the picture if there is one. */
static void do_something_else(subject *s, flux1_sampler *k, int steps)
{
    flux1_image *image;
    assert_int_equal(flux1_sampler_decode(k, &image), FLUX1_OK);
    assert_int_equal(memcmp(image->pixels, s->picture->pixels, (size_t)(3 * image->width * image->height)) == 0,
                     steps == s->g.params.steps);
    flux1_images_free(image, 1);
    if (flux1_generate(s->c, s->m, &s->g.params, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s->c));
    assert_memory_equal(image->pixels, s->picture->pixels, (size_t)(3 * image->width * image->height));
    flux1_images_free(image, 1);
}

static void finish(subject *s, flux1_sampler *k, int steps, const char *where)
{
    for (; steps < s->g.params.steps; steps++)
        if (flux1_sampler_step(k, NULL) != FLUX1_OK)
            fail_msg("%s: %s", where, flux1_context_message(s->c));
    assert_latent(s, k, steps, where);
    flux1_sampler_free(k);
}

/* The operations of step `step`, all ranks together. */
static long operations_of(subject *s, int step)
{
    flux1_sampler *k = sampler_of(s);
    for (int i = 0; i < step; i++)
        assert_int_equal(flux1_sampler_step(k, NULL), FLUX1_OK);
    disturb(s->c, -1, FAIL);
    assert_int_equal(flux1_sampler_step(k, NULL), FLUX1_OK);
    long count = atomic_load(&begun);
    flux1_sampler_free(k);
    return count;
}

/* Step `step` disturbed at an operation, and at another one when it is made again. What is done between: nothing, the
 * latent looked at, a whole request. */
static void disturb_step(subject *s, int step, long point, long second, disturbance by, int between, const char *where)
{
    flux1_sampler *k = sampler_of(s);
    int done = 0, left = -1;
    for (; done < step; done++)
        assert_int_equal(flux1_sampler_step(k, NULL), FLUX1_OK);
    const long points[] = {point, second};
    for (int i = 0; i < 2 && done == step; i++) {
        disturb(s->c, points[i], by);
        flux1_status st = flux1_sampler_step(k, &left);
        if (st == FLUX1_OK && by != FAIL) { /* it came behind the last operation */
            done++;
            disturb(s->c, -1, by);
            break;
        }
        disturb(s->c, -1, by);
        if (st != (by == FAIL ? FLUX1_ERR_IO : FLUX1_ERR_CANCELLED))
            fail_msg("%s: %s \"%s\"", where, flux1_status_name(st), flux1_context_message(s->c));
        assert_int_equal(left, -1);
        if (between & 1)
            assert_latent(s, k, done, where);
        if (between == 3)
            do_something_else(s, k, done);
    }
    finish(s, k, done, where);
}

static void disturb_everywhere(subject *s, const char *shape, int points)
{
    for (int step = 0; step < 2; step++) {
        long all = operations_of(s, step);
        assert_true(all > 20);
        for (int by = 0; by < DISTURBANCES; by++)
            for (long i = 0; i <= points; i++) {
                char where[640];
                long at = i * (all - 1) / points; /* the first and the last too */
                snprintf(where, sizeof where, "%s on %s, step %d, disturbed (%d) at operation %ld of %ld", s->g.folder,
                         shape, step, by, at, all);
                disturb_step(s, step, at, (at + all / 3) % all, (disturbance)by, (int)(i + by) % 4, where);
            }
    }
}

static const char *const SHAPES[] = {"1x1", "2x1", "1x2", "2x2"};

/* Instrumented, fewer moments are tried: each takes ten times as long. */
#ifdef __SANITIZE_ADDRESS__
enum { POINTS_ALONE = 1, POINTS_ON_A_MESH = 2 };
#else
enum { POINTS_ALONE = 3, POINTS_ON_A_MESH = 7 };
#endif

static void a_step_disturbed_anywhere_can_be_made_again(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"dev", "scripts"}, {"schnell/cfg", "empty"}};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4; k += i ? 3 : 1) { /* two passes: on 1x1 and 2x2 */
            subject s;
            subject_open(&s, "cpu", SHAPES[k], cases[i][0], cases[i][1]);
            disturb_everywhere(&s, SHAPES[k], k ? POINTS_ON_A_MESH : POINTS_ALONE);
            subject_close(&s);
        }
    subject s;
    for (int k = 0; k < 4; k += 3) { /* what the step cache holds is of the steps that were made */
        subject_open(&s, "cpu", SHAPES[k], "dev/step_cache", "cfg");
        disturb_everywhere(&s, SHAPES[k], 3);
        subject_close(&s);
    }
    subject_open(&s, "ref", "1x2", "mixed/cfg", "empty");
    disturb_everywhere(&s, "1x2", 2);
    subject_close(&s);
}

/* The last operations of all ranks, one by one: where some ranks are done with the step and others are not. */
static void nor_does_a_step_half_done_by_some_ranks_count(void **state)
{
    (void)state;
    for (int k = 1; k < 4; k++) {
        subject s;
        subject_open(&s, "cpu", SHAPES[k], "dev", "scripts");
        long all = operations_of(&s, 1);
        for (long at = all - 8; at < all; at++)
            for (int by = 0; by < DISTURBANCES; by++)
                disturb_step(&s, 1, at, at, (disturbance)by, 1, "at the end of a step");
        subject_close(&s);
    }
}

/* A rank that computes slowly: cancelled from another thread at any time. */
typedef struct late {
    flux1_context *context;
    long microseconds;
} late;

static void *cancel_later(void *arg)
{
    const late *l = arg;
    usleep((useconds_t)l->microseconds);
    flux1_cancel(l->context);
    return NULL;
}

static void a_step_cancelled_by_another_thread_can_be_made_again(void **state)
{
    (void)state;
    int cancelled = 0;
    for (int k = 0; k < 4; k += 3) {
        subject s;
        subject_open(&s, "cpu", SHAPES[k], "dev", "large");
        for (long i = 0; i < 6; i++) {
            flux1_sampler *sampler = sampler_of(&s);
            late l = {s.c, 600 * i};
            pthread_t thread;
            assert_int_equal(flux1_sampler_step(sampler, NULL), FLUX1_OK);
            assert_int_equal(pthread_create(&thread, NULL, cancel_later, &l), 0);
            flux1_status st = flux1_sampler_step(sampler, NULL);
            pthread_join(thread, NULL);
            assert_true(st == FLUX1_OK || st == FLUX1_ERR_CANCELLED);
            cancelled += st != FLUX1_OK;
            finish(&s, sampler, st == FLUX1_OK ? 2 : 1, "cancelled by another thread");
        }
        subject_close(&s);
    }
    printf("%d of 12 steps were cancelled\n", cancelled);
}

/* After a failure the ranks are joined anew, which takes memory: where there is none the step fails before any rank has
 * begun it. */
static void a_step_that_finds_no_memory_can_be_made_again(void **state)
{
    (void)state;
    for (int k = 1; k < 4; k++) {
        subject s;
        int failures = 0;
        subject_open(&s, "cpu", SHAPES[k], "dev", "scripts");
        for (int looked = 0; looked < 2; looked++)
            for (long point = 0; point < 8; point++) {
                const float *latent;
                int64_t tokens, channels;
                flux1_sampler *sampler = sampler_of(&s);
                assert_int_equal(flux1_sampler_step(sampler, NULL), FLUX1_OK);
                disturb(s.c, 0, FAIL);
                assert_int_equal(flux1_sampler_latents(sampler, &latent, &tokens, &channels), FLUX1_ERR_IO);
                failing_after(point);
                flux1_status st = flux1_sampler_step(sampler, NULL);
                bool failed = failing_failed();
                failing_after(-1);
                assert_int_equal(st, failed ? FLUX1_ERR_MEMORY : FLUX1_OK);
                if (looked)
                    assert_latent(&s, sampler, failed ? 1 : 2, "without memory");
                finish(&s, sampler, failed ? 1 : 2, "without memory");
                failures += failed;
            }
        assert_true(failures > 0);
        subject_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_disturbed_anywhere_can_be_made_again),
        cmocka_unit_test(nor_does_a_step_half_done_by_some_ranks_count),
        cmocka_unit_test(a_step_cancelled_by_another_thread_can_be_made_again),
        cmocka_unit_test(a_step_that_finds_no_memory_can_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
