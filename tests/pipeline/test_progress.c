/* Progress tells the truth and on the caller's thread; a request can be cancelled at every stage and from any thread; a
 * failing rank stops the others. */
#include "support/stage_runs.h"

#include "pipeline/text_cache.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- progress ---- */

typedef struct watcher {
    pthread_t caller;
    int calls, previews, per_stage[4];
    flux1_progress last;
    uint64_t preview_sum;
} watcher;

static int watch(void *user, const flux1_progress *p)
{
    static const char *const names[] = {"load", "text encoders", "denoise", "decode"};
    watcher *w = user;
    assert_true(pthread_equal(pthread_self(), w->caller));
    assert_int_equal(p->size, sizeof *p);
    assert_true(p->stage >= FLUX1_STAGE_LOAD && p->stage <= FLUX1_STAGE_DECODE);
    assert_string_equal(p->stage_name, names[p->stage]);
    assert_int_equal(p->images, 2);
    assert_true(p->stage_fraction >= 0 && p->stage_fraction <= 1);
    assert_true(p->fraction >= 0 && p->fraction <= 1);
    assert_true(p->image >= 0 && p->image < 2 && p->step >= 0 && p->step <= p->steps);
    assert_true(p->steps == 0 || p->stage == FLUX1_STAGE_DENOISE);
    if (w->calls == 0)
        assert_true(p->stage == FLUX1_STAGE_LOAD && p->fraction == 0 && p->seconds_left < 0);
    else {
        assert_true(p->fraction >= w->last.fraction);
        assert_true(p->seconds >= w->last.seconds);
        /* the next picture is denoised when the one before is decoded */
        assert_true(p->stage >= w->last.stage || (w->last.stage == FLUX1_STAGE_DECODE && p->image > w->last.image));
        if (p->stage == w->last.stage)
            assert_true(p->image > w->last.image || (p->image == w->last.image && p->step >= w->last.step));
    }
    if (p->preview) {
        assert_int_equal(p->stage, FLUX1_STAGE_DENOISE);
        assert_int_equal(p->preview->width, 80);
        assert_int_equal(p->preview->height, 48);
        for (int i = 0; i < 3 * 80 * 48; i++)
            w->preview_sum += p->preview->pixels[i];
        w->previews++;
    }
    w->last = *p;
    w->per_stage[p->stage]++;
    w->calls++;
    return 0;
}

static void progress_rises_from_0_to_1_through_the_stages(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++) {
        golden g;
        flux1_image *seen, *unseen;
        watcher w = {.caller = pthread_self()};
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[s], 2, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        g.params.width = 80;
        g.params.height = 48;
        g.params.count = 2;
        g.params.steps = 5;
        assert_int_equal(flux1_generate(c, m, &g.params, &unseen), FLUX1_OK);
        text_cache_free(c); /* the prompt is encoded again */
        g.params.progress = watch;
        g.params.progress_user = &w;
        g.params.preview_every = 2;
        assert_int_equal(flux1_generate(c, m, &g.params, &seen), FLUX1_OK);
        assert_true(w.last.fraction == 1 && w.last.stage_fraction == 1 && w.last.seconds_left == 0);
        assert_int_equal(w.last.stage, FLUX1_STAGE_DECODE);
        for (int i = 0; i < 4; i++)
            assert_true(w.per_stage[i] > 0);
        assert_true(w.per_stage[FLUX1_STAGE_TEXT] >= 6);            /* every layer of both encoders */
        assert_true(w.per_stage[FLUX1_STAGE_DENOISE] >= 2 * 5 * 4); /* every block of every step */
        assert_int_equal(w.previews, 2 * 3);                        /* after steps 2, 4 and 5 */
        assert_true(w.preview_sum > 0);
        for (int i = 0; i < 2; i++) /* looking changes nothing */
            assert_memory_equal(seen[i].pixels, unseen[i].pixels, 3 * 80 * 48);
        flux1_images_free(seen, 2);
        flux1_images_free(unseen, 2);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

/* ---- cancelling ---- */

/* When the request has come to `stage` (and image, for a later picture), cancels it: by the callback's own answer, or
 * by another thread's call while the callback waits, so that the next operation finds it. */
typedef struct canceller {
    flux1_context *context;
    flux1_stage stage;
    int step;
    bool by_answer, done;
    sem_t arrived, cancelled;
} canceller;

static int cancel_there(void *user, const flux1_progress *p)
{
    canceller *k = user;
    if (k->done || p->stage != k->stage || p->step < k->step)
        return 0;
    k->done = true;
    if (k->by_answer)
        return 1;
    sem_post(&k->arrived);
    sem_wait(&k->cancelled);
    return 0;
}

static void *cancel_from_outside(void *arg)
{
    canceller *k = arg;
    sem_wait(&k->arrived);
    flux1_cancel(k->context);
    sem_post(&k->cancelled);
    return NULL;
}

static int entries_of(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void cancel_once(flux1_context *c, const flux1_model *m, golden *g, flux1_stage stage, int step, bool by_answer)
{
    canceller k = {.context = c, .stage = stage, .step = step, .by_answer = by_answer};
    flux1_image *image = (flux1_image *)&k;
    pthread_t thread;
    char folder[] = "/tmp/flux1-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/dump.safetensors", folder);
    sem_init(&k.arrived, 0, 0);
    sem_init(&k.cancelled, 0, 0);
    if (!by_answer)
        assert_int_equal(pthread_create(&thread, NULL, cancel_from_outside, &k), 0);
    g->params.progress = cancel_there;
    g->params.progress_user = &k;
    g->params.dump = path;
    text_cache_free(c);
    flux1_status st = flux1_generate(c, m, &g->params, &image);
    if (!by_answer)
        pthread_join(thread, NULL);
    if (st != FLUX1_ERR_CANCELLED)
        fail_msg("stage %d, step %d: %s \"%s\"", stage, step, flux1_status_name(st), flux1_context_message(c));
    assert_null(image);
    assert_non_null(strstr(flux1_context_message(c), "cancelled"));
    assert_int_equal(entries_of(folder), 0); /* neither the dump nor its temporary file */
    rmdir(folder);
    sem_destroy(&k.arrived);
    sem_destroy(&k.cancelled);
}

static void a_request_is_cancelled_in_every_stage(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    static const struct {
        flux1_stage stage;
        int step;
    } points[] = {{FLUX1_STAGE_LOAD, 0},    {FLUX1_STAGE_TEXT, 0},    {FLUX1_STAGE_DENOISE, 0},
                  {FLUX1_STAGE_DENOISE, 1}, {FLUX1_STAGE_DENOISE, 2}, {FLUX1_STAGE_DECODE, 0}};
    for (int s = 0; s < 2; s++) {
        golden g;
        flux1_image *before, *after;
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[s], 2, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        assert_int_equal(flux1_generate(c, m, &g.params, &before), FLUX1_OK);
        for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
            for (int by_answer = 0; by_answer < 2; by_answer++)
                cancel_once(c, m, &g, points[i].stage, points[i].step, by_answer);
        g.params.progress = NULL;
        g.params.dump = NULL;
        flux1_cancel(c); /* no call is running: nothing happens */
        assert_int_equal(flux1_generate(c, m, &g.params, &after), FLUX1_OK);
        assert_string_equal(flux1_context_message(c), "");
        assert_memory_equal(before->pixels, after->pixels, (size_t)(3 * before->width * before->height));
        flux1_images_free(before, 1);
        flux1_images_free(after, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

static void *cancel_after_a_while(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    flux1_cancel(arg);
    return NULL;
}

/* Nothing but the flag: no callback, in the midst of arithmetic. */
static void a_long_request_stops_soon(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    for (int s = 0; s < 2; s++) {
        golden g;
        flux1_image *image;
        pthread_t thread;
        golden_open("dev", "large", &g);
        g.params.steps = 10000;
        flux1_context *c = context_on("cpu", shapes[s], 2, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        double began = now();
        assert_int_equal(pthread_create(&thread, NULL, cancel_after_a_while, c), 0);
        assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
        assert_true(now() - began < 20); /* all of it takes far longer */
        pthread_join(thread, NULL);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

/* A cancel between a sampler's calls does nothing; one within a step stops it, and a fresh sampler is whole again. */
static void the_sampler_goes_on_after_an_idle_cancel(void **state)
{
    (void)state;
    golden g;
    flux1_text *text;
    flux1_sampler *s;
    flux1_image *image, *whole;
    golden_open("single", "fox", &g);
    flux1_context *c = context_on("cpu", "1x2", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    assert_int_equal(flux1_generate(c, m, &g.params, &whole), FLUX1_OK);
    assert_int_equal(flux1_encode_text(c, m, &g.params, &text), FLUX1_OK);
    assert_int_equal(flux1_sampler_create(c, m, text, &g.params, &s), FLUX1_OK);
    for (int k = 0; k < g.params.steps; k++) {
        flux1_cancel(c);
        assert_int_equal(flux1_sampler_step(s, NULL), FLUX1_OK);
    }
    assert_int_equal(flux1_sampler_decode(s, &image), FLUX1_OK);
    assert_memory_equal(image->pixels, whole->pixels, (size_t)(3 * whole->width * whole->height));
    flux1_images_free(image, 1);
    flux1_images_free(whole, 1);
    flux1_sampler_free(s);
    flux1_text_free(text);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* ---- a rank fails ---- */

typedef struct failing {
    dit_job *job;
    int rank;
} failing;

static flux1_status step_but_one_fails(void *arg, mesh *m)
{
    failing *f = arg;
    if (m->rank == f->rank)
        return error_set(m->err, FLUX1_ERR_IO, "rank %d cannot go on", m->rank);
    return dit_whole_step_body(f->job, m);
}

/* The error is the failing rank's own, not its peers' that lost it. */
static void a_failing_rank_stops_the_others(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x2", "2x2", "3x1", "2x4"};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        flux1_context *c = context_on("cpu", shapes[s], 1, FLUX1_DTYPE_F32);
        flux1_model *m = pipeline_of(c, "dev");
        store *g;
        flux1_error err = {0};
        assert_int_equal(store_open_file(TEST_DATA "/goldens/dev/stages.safetensors", &g, &err), FLUX1_OK);
        const tensor *in = golden_tensor(g, "dit.input.latents"), *embeds = golden_tensor(g, "dit.input.prompt_embeds");
        for (int rank = 0; rank < mesh_ranks(&c->mesh); rank++) {
            float sigmas[] = {1, 0};
            char want[64];
            dit_inputs conditions = {.text_rows = embeds->shape[1],
                                     .grid_h = in->shape[1] / stages_grid_w(g, m),
                                     .grid_w = stages_grid_w(g, m),
                                     .steps = 1,
                                     .sigmas = sigmas,
                                     .prompt_embeds = embeds,
                                     .pooled = golden_tensor(g, "dit.input.pooled_prompt_embeds")};
            dit_run r;
            dit_run_open(c, m, &conditions, &r);
            dit_run_start(&r, in);
            failing f = {.job = &r.denoiser.job, .rank = rank};
            assert_int_equal(mesh_run(r.denoiser.session->mesh, step_but_one_fails, &f, &err), FLUX1_ERR_IO);
            snprintf(want, sizeof want, "rank %d cannot go on", rank);
            assert_string_equal(err.message, want);
            tensor latent = new_tensor(3, in->shape);
            dit_run_step(&r, 0, &latent); /* and the session goes on */
            tensor_free(&latent);
            dit_run_close(&r);
        }
        store_close(g);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_rises_from_0_to_1_through_the_stages),
        cmocka_unit_test(a_request_is_cancelled_in_every_stage),
        cmocka_unit_test(a_long_request_stops_soon),
        cmocka_unit_test(the_sampler_goes_on_after_an_idle_cancel),
        cmocka_unit_test(a_failing_rank_stops_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
