/* What a call promises beside its pictures: finished ones are handed out at once, a wish to stop is neither lost nor
 * carried over, what a context keeps open is found again and never mixed up. */
#include "support/golden.h"

#include "mesh/runner.h"
#include "pipeline/memory.h"
#include "pipeline/text_to_image.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

static bool same_pixels(const flux1_image *a, const flux1_image *b)
{
    return a->width == b->width && a->height == b->height && a->seed == b->seed &&
           memcmp(a->pixels, b->pixels, (size_t)(3 * a->width * a->height)) == 0;
}

/* ---- pictures handed out ---- */

/* What the image callback was given, beside what the progress said. */
typedef struct album {
    flux1_context *context;
    const flux1_image *whole; /* the pictures as they should be */
    pthread_t caller;
    int pictures, stop_at, cancel_at; /* −1: never */
    int denoised;                     /* the picture that was denoised last */
    int batch;
} album;

static int watch(void *user, const flux1_progress *p)
{
    album *a = user;
    if (p->stage == FLUX1_STAGE_DENOISE) {
        a->denoised = p->image;
        assert_true(p->image <= a->pictures); /* no later batch before these pictures are handed out */
    }
    return 0;
}

static int take(void *user, const flux1_image *image)
{
    album *a = user;
    assert_true(pthread_equal(pthread_self(), a->caller));
    assert_int_equal(image->size, sizeof *image);
    assert_int_equal(image->request, a->whole[a->pictures].request);
    assert_int_equal(image->index, a->whole[a->pictures].index);
    assert_true(same_pixels(image, &a->whole[a->pictures]));
    assert_int_equal(a->denoised, a->pictures / a->batch * a->batch); /* nothing behind it has begun */
    if (a->pictures == a->cancel_at)
        flux1_cancel(a->context);
    return a->pictures++ == a->stop_at;
}

static void every_picture_is_handed_out_before_the_next(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++)
        for (int batch = 1; batch <= 2; batch++) {
            golden g;
            golden_open("schnell", "car", &g);
            flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
            flux1_model *m = model_of(c, g.folder);
            flux1_generate_params first = g.params, second = g.params;
            const flux1_generate_params *both[] = {&first, &second};
            flux1_image *whole, *images;
            first.batch = second.batch = batch;
            first.count = 3;
            second.prompt = "a fox";
            second.count = 1;
            assert_int_equal(flux1_generate_many(c, m, both, 2, &whole), FLUX1_OK);
            first.image = take;
            first.progress = watch;
            for (int keep = 0; keep < 2; keep++) { /* an array of them too, or the callback alone */
                album a = {c, whole, pthread_self(), .stop_at = -1, .cancel_at = -1, .batch = batch};
                first.image_user = first.progress_user = &a;
                assert_int_equal(flux1_generate_many(c, m, both, 2, keep ? &images : NULL), FLUX1_OK);
                assert_int_equal(a.pictures, 4);
                for (int i = 0; keep && i < 4; i++)
                    assert_true(same_pixels(&images[i], &whole[i]));
                if (keep)
                    flux1_images_free(images, 4);
            }
            /* its answer ends the request, and so does a cancel behind the first: what is finished stays handed out */
            for (int at = 0; at < 4; at++)
                for (int by_answer = 0; by_answer < 2; by_answer++) {
                    album a = {c,
                               whole,
                               pthread_self(),
                               .stop_at = by_answer ? at : -1,
                               .cancel_at = by_answer ? -1 : at,
                               .batch = batch};
                    first.image_user = first.progress_user = &a;
                    images = whole;
                    flux1_status st = flux1_generate_many(c, m, both, 2, &images);
                    assert_int_equal(a.pictures, at + 1);
                    if (at == 3 && !by_answer) { /* nothing was left to stop */
                        assert_int_equal(st, FLUX1_OK);
                        flux1_images_free(images, 4);
                        continue;
                    }
                    assert_int_equal(st, FLUX1_ERR_CANCELLED);
                    assert_null(images);
                    assert_non_null(strstr(flux1_context_message(c), "cancelled"));
                    assert_int_equal(!!strstr(flux1_context_message(c), "image callback"), by_answer);
                }
            first.image = NULL;
            first.progress = NULL;
            assert_int_equal(flux1_generate(c, m, &first, NULL), FLUX1_ERR_ARGUMENT);
            assert_non_null(strstr(flux1_context_message(c), "images is NULL"));
            flux1_images_free(whole, 4);
            flux1_model_close(m);
            flux1_context_destroy(c);
            golden_close(&g);
        }
}

/* ---- cancel tokens ---- */

/* Progress that waits at a stage until another thread has cancelled the token. */
typedef struct meeting {
    flux1_cancel_token *token;
    flux1_stage stage;
    bool met;
    sem_t arrived, cancelled;
} meeting;

static int meet(void *user, const flux1_progress *p)
{
    meeting *k = user;
    if (k->met || p->stage != k->stage || p->stage_fraction == 0)
        return 0;
    k->met = true;
    sem_post(&k->arrived);
    sem_wait(&k->cancelled);
    return 0;
}

static void *cancel_token(void *arg)
{
    meeting *k = arg;
    sem_wait(&k->arrived);
    flux1_cancel_token_cancel(k->token);
    sem_post(&k->cancelled);
    return NULL;
}

static void a_token_stops_a_request_in_every_stage(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++) {
        golden g;
        flux1_image *image;
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        flux1_image *before = generated(c, m, &g.params);
        flux1_generate_params free_one = g.params;
        g.params.cancel = flux1_cancel_token_create();
        assert_non_null(g.params.cancel);
        for (flux1_stage stage = FLUX1_STAGE_TEXT; stage <= FLUX1_STAGE_DECODE; stage++) {
            meeting k = {.token = g.params.cancel, .stage = stage};
            pthread_t thread;
            sem_init(&k.arrived, 0, 0);
            sem_init(&k.cancelled, 0, 0);
            assert_int_equal(pthread_create(&thread, NULL, cancel_token, &k), 0);
            g.params.progress = meet;
            g.params.progress_user = &k;
            g.params.prompt = "not encoded before";
            assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
            assert_null(image);
            g.params.prompt = free_one.prompt;
            pthread_join(thread, NULL);
            sem_destroy(&k.arrived);
            sem_destroy(&k.cancelled);
            /* it stays cancelled, and is not this context's other requests' */
            g.params.progress = NULL;
            assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
            image = generated(c, m, &free_one);
            assert_true(same_pixels(image, before));
            flux1_images_free(image, 1);
            flux1_cancel_token_reset(g.params.cancel);
            image = generated(c, m, &g.params);
            assert_true(same_pixels(image, before));
            flux1_images_free(image, 1);
        }
        flux1_cancel_token_destroy(g.params.cancel);
        flux1_images_free(before, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

static int never(void *user, const flux1_progress *p)
{
    (void)user;
    assert_true(p->stage == FLUX1_STAGE_LOAD && p->fraction == 0);
    return 0;
}

/* Before the call: it comes to nothing, in the whole request and in every staged call, until the token is reset. */
static void a_cancel_before_the_call_is_not_lost(void **state)
{
    (void)state;
    golden g;
    flux1_text *text;
    flux1_sampler *s;
    flux1_image *image;
    const float *latents;
    int64_t tokens, channels;
    int left = -1;
    golden_open("single", "fox", &g);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *whole = generated(c, m, &g.params);
    flux1_cancel_token *t = flux1_cancel_token_create();
    g.params.cancel = t;
    g.params.progress = never;
    for (int i = 0; i < 3; i++) {
        flux1_cancel_token_cancel(t);
        assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
        assert_string_equal(flux1_context_message(c), "cancelled");
        assert_int_equal(flux1_encode_text(c, m, &g.params, &text), FLUX1_ERR_CANCELLED);
        assert_null(text);
        flux1_cancel_token_reset(t);
    }
    g.params.progress = NULL;
    assert_int_equal(flux1_encode_text(c, m, &g.params, &text), FLUX1_OK);
    flux1_cancel_token_cancel(t);
    assert_int_equal(flux1_sampler_create(c, m, text, &g.params, &s), FLUX1_ERR_CANCELLED);
    assert_null(s);
    flux1_cancel_token_reset(t);
    assert_int_equal(flux1_sampler_create(c, m, text, &g.params, &s), FLUX1_OK);
    for (int k = 0; k < g.params.steps; k++) {
        flux1_cancel_token_cancel(t);
        assert_int_equal(flux1_sampler_step(s, &left), FLUX1_ERR_CANCELLED);
        assert_int_equal(flux1_sampler_latents(s, &latents, &tokens, &channels), FLUX1_ERR_CANCELLED);
        assert_int_equal(flux1_sampler_decode(s, &image), FLUX1_ERR_CANCELLED);
        flux1_cancel_token_reset(t);
        assert_int_equal(flux1_sampler_step(s, &left), FLUX1_OK);
        assert_int_equal(left, g.params.steps - k - 1);
    }
    assert_int_equal(flux1_sampler_decode(s, &image), FLUX1_OK);
    assert_true(same_pixels(image, whole));
    flux1_images_free(image, 1);
    flux1_images_free(whole, 1);
    flux1_sampler_free(s);
    flux1_text_free(text);
    flux1_cancel_token_destroy(t);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

typedef struct pest {
    flux1_cancel_token *token;
    atomic_bool stop;
} pest;

static void *cancel_without_end(void *arg)
{
    pest *p = arg;
    while (!atomic_load(&p->stop)) {
        flux1_cancel_token_cancel(p->token);
        sched_yield();
    }
    return NULL;
}

/* Calls with the token and without in turns while another thread cancels it all the time: each with it is cancelled,
 * none of the others. */
static void a_token_never_cancels_the_next_call(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "single");
    pest p = {.token = flux1_cancel_token_create()};
    flux1_generate_params with, without;
    pthread_t thread;
    flux1_generate_params_defaults(&without);
    without.prompt = "a fox";
    without.max_sequence_length = 8;
    with = without;
    with.cancel = p.token;
    flux1_cancel_token_cancel(p.token);
    assert_int_equal(pthread_create(&thread, NULL, cancel_without_end, &p), 0);
    for (int i = 0; i < 300; i++) {
        flux1_text *text;
        assert_int_equal(flux1_encode_text(c, m, &with, &text), FLUX1_ERR_CANCELLED);
        if (flux1_encode_text(c, m, &without, &text) != FLUX1_OK)
            fail_msg("call %d: %s", i, flux1_context_message(c));
        flux1_text_free(text);
    }
    atomic_store(&p.stop, true);
    pthread_join(thread, NULL);
    flux1_cancel_token_destroy(p.token);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- plans ---- */

static int stop_at_once(void *user, const flux1_progress *p)
{
    (void)user;
    assert_int_equal(p->stage, FLUX1_STAGE_LOAD);
    return 1;
}

/* One step is planned, not all: ten thousand on 64 ranks take no longer than one. */
static void a_plan_takes_no_time_and_can_be_cancelled(void **state)
{
    (void)state;
    const char *folder = SOURCE_MODELS "/mini-dev";
    flux1_context_params cp;
    flux1_image *image;
    flux1_generate_params p;
    flux1_context_params_defaults(&cp);
    cp.mesh = "8x8";
    cp.max_memory = (uint64_t)1 << 50;
    flux1_context *c = context_of(&cp);
    flux1_model *m = is_there(SOURCE_MODELS "/mini-dev/model_index.json") ? model_of(c, folder) : pipeline_of(c, "dev");
    flux1_generate_params_defaults(&p);
    p.prompt = "a fox";
    p.progress = stop_at_once;
    double seconds[2]; /* of this process's own work: others run beside */
    for (int i = 0; i < 2; i++) {
        p.steps = i ? 10000 : 1;
        clock_t began = clock();
        assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_CANCELLED);
        seconds[i] = (double)(clock() - began) / CLOCKS_PER_SEC;
        printf("a plan of %d steps on 8x8: %.3f s\n", p.steps, seconds[i]);
    }
    assert_true(seconds[1] < 100 * seconds[0]);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- what a context keeps open ---- */

static int sessions_of(const flux1_context *c)
{
    int n = 0;
    for (const session *s = c->sessions; s; s = s->next)
        n++;
    return n;
}

static int threads_of_process(void)
{
    int n = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Threads: %d", &n) == 1)
            break;
    fclose(f);
    return n;
}

static void a_second_request_opens_nothing_new(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++) {
        golden g;
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[s], 4, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        assert_int_equal(sessions_of(c), 0);
        flux1_image *first = generated(c, m, &g.params);
        assert_int_equal(sessions_of(c), 1);
        const session *opened = c->sessions;
        void *models[BUILTS];
        for (int k = 0; k < BUILTS; k++)
            models[k] = opened->rank[k][0];
        assert_non_null(models[BUILT_DIT]);
        int threads = threads_of_process();
        for (int i = 0; i < 2; i++) {
            flux1_image *again = generated(c, m, &g.params);
            assert_true(same_pixels(first, again));
            assert_int_equal(sessions_of(c), 1);
            assert_ptr_equal(c->sessions, opened);
            for (int k = 0; k < BUILTS; k++)
                assert_ptr_equal(opened->rank[k][0], models[k]);
            assert_int_equal(threads_of_process(), threads);
            flux1_images_free(again, 1);
        }
        flux1_images_free(first, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

static void models_in_turns_are_not_mixed_up(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"schnell", "car"}, {"dev", "scripts"}, {"schnell", "car"}};
    static const char *const shapes[] = {"1x1", "1x2"};
    for (int s = 0; s < 2; s++) {
        golden g[3];
        flux1_model *m[3]; /* the first and the last: one folder opened twice */
        flux1_image *whole[3];
        flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
        for (int i = 0; i < 3; i++) {
            golden_open(names[i][0], names[i][1], &g[i]);
            flux1_context *own = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
            m[i] = model_of(own, g[i].folder);
            whole[i] = generated(own, m[i], &g[i].params);
            flux1_context_destroy(own);
        }
        for (int i = 0; i < 9; i++) {
            flux1_image *image = generated(c, m[i % 3], &g[i % 3].params);
            assert_true(same_pixels(image, whole[i % 3]));
            assert_int_equal(sessions_of(c), 1);
            flux1_images_free(image, 1);
        }
        for (int i = 0; i < 3; i++) {
            flux1_images_free(whole[i], 1);
            flux1_model_close(m[i]);
            golden_close(&g[i]);
        }
        flux1_context_destroy(c);
    }
}

/* Closed behind the request, the next opened: most likely at the same address, with other weights of the same shapes.
 */
static void a_model_at_the_address_of_another_is_told_apart(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    static const char *const names[][2] = {{"schnell", "car"}, {"dev", "scripts"}, {"mixed", "car"}};
    flux1_image *first[3] = {0};
    const flux1_model *last = NULL;
    int same = 0;
    for (int i = 0; i < 9; i++) {
        golden g;
        golden_open(names[i % 3][0], names[i % 3][1], &g);
        flux1_model *m = model_of(c, g.folder);
        same += m == last;
        last = m;
        flux1_image *image = generated(c, m, &g.params);
        flux1_model_close(m);
        if (!first[i % 3])
            first[i % 3] = image;
        else {
            assert_true(same_pixels(image, first[i % 3]));
            flux1_images_free(image, 1);
        }
        golden_close(&g);
    }
    printf("%d of 8 models were opened at the address of the one before\n", same);
    for (int i = 0; i < 3; i++)
        flux1_images_free(first[i], 1);
    flux1_context_destroy(c);
}

/* Two samplers of one model, a third of another one, and whole requests between their steps. */
static void samplers_and_requests_interleave(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"schnell", "car"}, {"schnell", "empty"}, {"dev", "scripts"}};
    static const char *const shapes[] = {"1x1", "2x1"};
    for (int s = 0; s < 2; s++) {
        golden g[3];
        flux1_model *m[3];
        flux1_image *whole[3], *image;
        flux1_text *text[3];
        flux1_sampler *sampler[3];
        int left[3] = {1, 1, 1}, steps = 0;
        flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
        for (int i = 0; i < 3; i++) {
            golden_open(names[i][0], names[i][1], &g[i]);
            m[i] = i == 1 ? m[0] : model_of(c, g[i].folder);
            whole[i] = generated(c, m[i], &g[i].params);
            assert_int_equal(flux1_encode_text(c, m[i], &g[i].params, &text[i]), FLUX1_OK);
            assert_int_equal(flux1_sampler_create(c, m[i], text[i], &g[i].params, &sampler[i]), FLUX1_OK);
            flux1_text_free(text[i]); /* nothing of it is read any more */
        }
        while (left[0] || left[1] || left[2]) {
            for (int i = 0; i < 3; i++)
                if (left[i])
                    assert_int_equal(flux1_sampler_step(sampler[i], &left[i]), FLUX1_OK);
            image = generated(c, m[steps % 3], &g[steps % 3].params);
            assert_true(same_pixels(image, whole[steps % 3]));
            flux1_images_free(image, 1);
            steps++;
        }
        int sessions = sessions_of(c);
        assert_true(sessions >= 4 && sessions <= 5); /* one a sampler, and what a request takes */
        for (int i = 0; i < 3; i++) {
            assert_int_equal(flux1_sampler_decode(sampler[i], &image), FLUX1_OK);
            assert_true(same_pixels(image, whole[i]));
            flux1_images_free(image, 1);
            flux1_sampler_free(sampler[i]);
            image = generated(c, m[i], &g[i].params);
            assert_true(same_pixels(image, whole[i]));
            flux1_images_free(image, 1);
            flux1_images_free(whole[i], 1);
        }
        assert_int_equal(sessions_of(c), sessions);
        for (int i = 0; i < 3; i++) {
            if (i != 1)
                flux1_model_close(m[i]);
            golden_close(&g[i]);
        }
        flux1_context_destroy(c);
    }
}

static const mesh_session *watched;
static int budgets;        /* that `watched` was given */
static size_t last_budget; /* of any session's first rank */

static void note_budget(mesh_session *s, const size_t *bytes)
{
    budgets += s == watched;
    last_budget = bytes[0];
    mesh_ranks_runner.weights_budget(s, bytes);
}

static size_t bytes_of_samplers(const flux1_context *c) { return memory_of(c, &c->device, NULL, NULL).samplers; }

static flux1_sampler *sampler_of(flux1_context *c, const flux1_model *m, const flux1_generate_params *p)
{
    flux1_text *text;
    flux1_sampler *s;
    assert_int_equal(flux1_encode_text(c, m, p, &text), FLUX1_OK);
    if (flux1_sampler_create(c, m, text, p, &s) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    flux1_text_free(text);
    return s;
}

/* The least that a request is made with, to 16 KiB. */
static uint64_t least_memory(flux1_context *c, const flux1_model *m, const flux1_generate_params *p)
{
    uint64_t refused = 0, enough = (uint64_t)32 << 20;
    while (enough - refused > 16384) {
        flux1_image *image = NULL;
        c->max_memory = refused + (enough - refused) / 2;
        if (flux1_generate(c, m, p, &image) == FLUX1_OK)
            enough = c->max_memory;
        else
            refused = c->max_memory;
        flux1_images_free(image, 1);
    }
    return enough;
}

/* A prompt is in memory beside the encoders, and a negative one that was encoded before beside the sampler's stages. */
static void prompts_of_staged_calls_are_counted(void **state)
{
    (void)state;
    golden g;
    flux1_text *text;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_generate_params p = g.params;
    p.prompt = "a ship";
    assert_int_equal(flux1_encode_text(c, m, &p, &text), FLUX1_OK);
    const uint64_t bytes = text_bytes_of(m, text->embeds.shape[1]);
    assert_int_equal(c->run_texts, bytes);
    flux1_text_free(text);
    p.negative_prompt = "a ship";
    p.prompt = "a car";
    p.true_cfg_scale = 2;
    flux1_sampler *s = sampler_of(c, m, &p);
    assert_int_equal(c->run_texts, bytes);
    flux1_sampler_free(s);
    p.true_cfg_scale = 1;
    s = sampler_of(c, m, &p);
    assert_int_equal(c->run_texts, 0); /* the caller's text is not the context's */
    flux1_sampler_free(s);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* It counts from its creation until it is freed. Its weights leave where a request wants the room; when it goes on
 * alone they come back, and beside another one they leave again behind each step. */
static void an_open_sampler_lends_its_room(void **state)
{
    (void)state;
    static mesh_runner noting;
    golden g;
    flux1_image *image;
    int left;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_image *whole = generated(c, m, &g.params);
    const uint64_t ample = c->max_memory;
    assert_int_equal(bytes_of_samplers(c), 0);
    flux1_sampler *a = sampler_of(c, m, &g.params);
    memory_hold *of_a = c->holds;
    const size_t one = bytes_of_samplers(c);
    assert_true(one > 0 && of_a && of_a->plan->mapped[0] > of_a->plan->block[0]);
    flux1_images_free(generated(c, m, &g.params), 1);
    assert_false(of_a->lowered);
    const uint64_t least = least_memory(c, m, &g.params);
    c->max_memory = least;
    flux1_images_free(generated(c, m, &g.params), 1);
    assert_true(of_a->lowered);
    assert_int_equal(flux1_sampler_step(a, &left), FLUX1_OK);
    assert_false(of_a->lowered);
    c->max_memory = ample;
    flux1_sampler *b = sampler_of(c, m, &g.params);
    memory_hold *of_b = c->holds;
    assert_true(of_b != of_a && bytes_of_samplers(c) == 2 * one);
    of_a->lowered = true;
    noting = mesh_ranks_runner;
    noting.weights_budget = note_budget;
    watched = of_a->session->mesh;
    of_a->session->mesh->fn = &noting;
    assert_int_equal(flux1_sampler_step(a, &left), FLUX1_OK);
    assert_true(of_a->lowered && of_b->lowered && budgets == 1);
    while (left > 0)
        assert_int_equal(flux1_sampler_step(a, &left), FLUX1_OK);
    assert_int_equal(flux1_sampler_decode(a, &image), FLUX1_OK);
    assert_true(same_pixels(image, whole));
    flux1_images_free(image, 1);
    of_a->session->mesh->fn = &mesh_ranks_runner;
    const int sessions = sessions_of(c);
    flux1_images_free(generated(c, m, &g.params), 1);
    assert_int_equal(sessions_of(c), sessions); /* the decoder's was given back */
    flux1_sampler_free(a);
    assert_int_equal(bytes_of_samplers(c), one);
    flux1_sampler_free(b);
    assert_true(bytes_of_samplers(c) == 0 && !c->holds);
    flux1_images_free(whole, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* By one byte too little for all weights of its stages and its decoder's at once: then its own do not all stay. */
static void a_sampler_leaves_its_decoder_room(void **state)
{
    (void)state;
    static mesh_runner noting;
    golden g;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    flux1_sampler *s = sampler_of(c, m, &g.params);
    memory_hold *h = c->holds;
    c->holds = NULL;
    const memory_need both = memory_of(c, &c->device, h->plan, h->beside);
    c->holds = h;
    assert_true(both.all > both.mapped);
    flux1_sampler_free(s);
    noting = mesh_ranks_runner;
    noting.weights_budget = note_budget;
    for (session *of = c->sessions; of; of = of->next)
        of->mesh->fn = &noting;
    flux1_sampler_free(sampler_of(c, m, &g.params));
    assert_int_equal(last_budget, SIZE_MAX);
    c->max_memory = memory_total(both) - both.mapped + both.all - 1;
    flux1_sampler_free(sampler_of(c, m, &g.params));
    assert_true(last_budget < both.all);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_picture_is_handed_out_before_the_next),
        cmocka_unit_test(a_token_stops_a_request_in_every_stage),
        cmocka_unit_test(a_cancel_before_the_call_is_not_lost),
        cmocka_unit_test(a_token_never_cancels_the_next_call),
        cmocka_unit_test(a_plan_takes_no_time_and_can_be_cancelled),
        cmocka_unit_test(a_second_request_opens_nothing_new),
        cmocka_unit_test(models_in_turns_are_not_mixed_up),
        cmocka_unit_test(a_model_at_the_address_of_another_is_told_apart),
        cmocka_unit_test(samplers_and_requests_interleave),
        cmocka_unit_test(prompts_of_staged_calls_are_counted),
        cmocka_unit_test(an_open_sampler_lends_its_room),
        cmocka_unit_test(a_sampler_leaves_its_decoder_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
