/* A captured step: pictures are the same to the byte as without, whatever is in a step, and after a step that failed.
 */
#include "support/golden.h"

enum { SIZE = 64, STEPS = 4, PICTURES = 2, BYTES = 3 * SIZE * SIZE };

typedef struct request_kind {
    const char *folder, *name, *negative;
    int batch;
} request_kind;

static const request_kind KINDS[] = {
    {"schnell", "plain", NULL, 1}, {"schnell", "a batch", NULL, 2}, {"dev", "true CFG", "blurred", 2}};
static const char *const SHAPES[] = {"1x1", "1x2", "2x2"};
static const flux1_dtype TYPES[] = {FLUX1_DTYPE_F32, FLUX1_DTYPE_BF16, FLUX1_DTYPE_F32};

static flux1_context *context_with(const char *shape, flux1_dtype type, int eager)
{
    flux1_context_params p;
    flux1_context *c;
    flux1_context_params_defaults(&p);
    p.mesh = shape;
    p.threads = 2;
    p.dtype = type;
    p.eager = eager;
    if (flux1_context_create(&p, &c) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return c;
}

static flux1_generate_params request_of(const request_kind *k)
{
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.prompt = "a fox";
    p.width = p.height = SIZE;
    p.steps = STEPS;
    p.max_sequence_length = 16;
    p.seed = 7;
    p.count = PICTURES;
    p.batch = k->batch;
    p.negative_prompt = k->negative;
    p.true_cfg_scale = k->negative ? 2.5f : 1;
    return p;
}

static void pictures_of(flux1_context *c, const flux1_model *m, const request_kind *k, uint8_t out[PICTURES][BYTES])
{
    flux1_generate_params p = request_of(k);
    flux1_image *images;
    if (flux1_generate(c, m, &p, &images) != FLUX1_OK)
        fail_msg("%s: %s", k->name, flux1_context_message(c));
    for (int i = 0; i < PICTURES; i++)
        memcpy(out[i], images[i].pixels, BYTES);
    flux1_images_free(images, PICTURES);
}

/* Cancels at its tick number `at`. */
typedef struct ticks {
    int count, at, in_step;
} ticks;

static int count_ticks(void *user, const flux1_progress *p)
{
    ticks *t = user;
    if (p->stage != FLUX1_STAGE_DENOISE || p->steps == 0)
        return 0;
    t->in_step = p->step;
    return t->count++ == t->at;
}

static void cancel_at(flux1_context *c, const flux1_model *m, const request_kind *k, int at)
{
    ticks t = {.at = at};
    flux1_generate_params p = request_of(k);
    flux1_image *images;
    p.progress = count_ticks;
    p.progress_user = &t;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_ERR_CANCELLED);
    assert_int_equal(t.count, at + 1); /* nothing came after it */
}

/* How often progress is told while denoising: a replayed step tells of its middle too. */
static int ticks_of(flux1_context *c, const flux1_model *m, const request_kind *k)
{
    ticks t = {.at = -1};
    flux1_generate_params p = request_of(k);
    flux1_image *images;
    p.progress = count_ticks;
    p.progress_user = &t;
    assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_OK);
    flux1_images_free(images, PICTURES);
    return t.count;
}

static void a_captured_step_gives_the_same_picture(void **state)
{
    (void)state;
    static uint8_t plain[PICTURES][BYTES], captured[PICTURES][BYTES];
    for (size_t s = 0; s < sizeof SHAPES / sizeof SHAPES[0]; s++)
        for (size_t k = 0; k < sizeof KINDS / sizeof KINDS[0]; k++) {
            char folder[512];
            snprintf(folder, sizeof folder, "%s/pipelines/%s", TEST_DATA, KINDS[k].folder);
            flux1_context *c = context_with(SHAPES[s], TYPES[s], 1), *d = context_with(SHAPES[s], TYPES[s], 0);
            flux1_model *m = model_of(c, folder);
            pictures_of(c, m, &KINDS[k], plain);
            for (int run = 0; run < 3; run++) {
                pictures_of(d, m, &KINDS[k], captured);
                if (memcmp(plain, captured, sizeof plain) != 0)
                    fail_msg("%s on %s, run %d: another picture", KINDS[k].name, SHAPES[s], run);
                int all = ticks_of(d, m, &KINDS[k]);
                assert_int_equal(all, ticks_of(c, m, &KINDS[k]));
                cancel_at(d, m, &KINDS[k], run == 0 ? 1 : all / 2 + run); /* the first step; a replayed one */
            }
            flux1_model_close(m);
            flux1_context_destroy(c);
            flux1_context_destroy(d);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_captured_step_gives_the_same_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
