/* The step loop allocates nothing: every allocation of the program goes through the linker's --wrap and is counted
 * between the steps. */
#include "support/golden.h"

#include <stdatomic.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static atomic_long allocations;

void *__wrap_malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_realloc(old, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_posix_memalign(out, alignment, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_aligned_alloc(alignment, size);
}

typedef struct counter {
    long at_first,
        at_last; /* allocations when the first block of the first step was done, and when the last step was */
    int steps;
} counter;

static int count_steps(void *user, const flux1_progress *p)
{
    counter *c = user;
    if (p->stage != FLUX1_STAGE_DENOISE || p->steps == 0)
        return 0;
    if (c->at_first < 0)
        c->at_first = atomic_load(&allocations);
    c->at_last = atomic_load(&allocations);
    c->steps = p->step;
    return 0;
}

typedef struct place {
    const char *device, *shape;
    int threads;
    flux1_dtype type;
} place;

static const place PLACES[] = {
    {"cpu", "1x1", 1, FLUX1_DTYPE_F32}, {"cpu", "1x1", 2, FLUX1_DTYPE_F32},  {"cpu", "1x1", 2, FLUX1_DTYPE_BF16},
    {"cpu", "2x2", 4, FLUX1_DTYPE_F32}, {"cpu", "2x2", 8, FLUX1_DTYPE_BF16}, {"cpu", "3x1", 3, FLUX1_DTYPE_BF16},
    {"ref", "1x1", 1, FLUX1_DTYPE_F32},
};
#define PLACE_COUNT (sizeof PLACES / sizeof PLACES[0])

static void a_request_allocates_nothing_between_its_steps(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"dev", "scripts"}, {"schnell", "car"}, {"dev", "scripts"}};
    for (size_t i = 0; i < PLACE_COUNT; i++)
        for (size_t k = 0; k < 3; k++) {
            const place *p = &PLACES[i];
            golden g;
            char trace[64];
            counter seen = {.at_first = -1};
            flux1_image *image;
            golden_open(cases[k][0], cases[k][1], &g);
            flux1_context *c = context_on(p->device, p->shape, p->threads, p->type);
            flux1_model *m = model_of(c, g.folder);
            snprintf(trace, sizeof trace, "/tmp/flux1_steploop_%d", (int)getpid());
            g.params.profile = k == 1 ? trace : NULL;
            g.params.preview_every = k == 2; /* by the linear estimate */
            g.params.progress = count_steps;
            g.params.progress_user = &seen;
            if (flux1_generate(c, m, &g.params, &image) != FLUX1_OK)
                fail_msg("%s", flux1_context_message(c));
            assert_true(seen.at_first > 0); /* the wrappers are in place */
            assert_int_equal(seen.steps, g.params.steps);
            if (seen.at_last != seen.at_first)
                fail_msg("%s %s, %d threads: %ld allocations in the step loop", p->device, p->shape, p->threads,
                         seen.at_last - seen.at_first);
            unlink(trace);
            flux1_images_free(image, 1);
            flux1_model_close(m);
            flux1_context_destroy(c);
            golden_close(&g);
        }
}

static void a_sampler_allocates_nothing_in_its_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < PLACE_COUNT; i++) {
        const place *p = &PLACES[i];
        golden g;
        flux1_text *text;
        flux1_sampler *s;
        int left;
        golden_open("mixed", "long", &g);
        flux1_context *c = context_on(p->device, p->shape, p->threads, p->type);
        flux1_model *m = model_of(c, g.folder);
        assert_int_equal(flux1_encode_text(c, m, &g.params, &text), FLUX1_OK);
        assert_int_equal(flux1_sampler_create(c, m, text, &g.params, &s), FLUX1_OK);
        long before = atomic_load(&allocations);
        do {
            const float *latents;
            int64_t tokens, channels;
            assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
            assert_int_equal(flux1_sampler_latents(s, &latents, &tokens, &channels), FLUX1_OK);
        } while (left);
        assert_int_equal(atomic_load(&allocations) - before, 0);
        flux1_sampler_free(s);
        flux1_text_free(text);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_allocates_nothing_between_its_steps),
        cmocka_unit_test(a_sampler_allocates_nothing_in_its_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
