/* Every allocation of a tiny run fails once: each run ends in FLUX1_ERR_MEMORY, leaves no file behind and nothing
 * allocated (seen by the sanitizer). Runs of more allocations than POINTS are sampled evenly; FLUX1_ALLOC_POINTS sets
 * another number. */
#include "support/damage.h"
#include "support/failing.h"

#include <dirent.h>

#if defined(__SANITIZE_ADDRESS__)
#define POINTS 400
#else
#define POINTS 2000
#endif

/* ---- the runs ---- */

typedef struct subject {
    const char *shape;
    int threads;
    char folder[512];
    flux1_context *context; /* made anew for each point */
    flux1_model *model;     /* NULL: the run opens it */
    char output[64];        /* a folder for the dump and the picture */
} subject;

typedef flux1_status run(subject *s);

static flux1_status make_context(subject *s)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.mesh = s->shape;
    p.threads = s->threads;
    p.dtype = FLUX1_DTYPE_BF16;
    return flux1_context_create(&p, &s->context);
}

static flux1_status open_model(subject *s)
{
    flux1_model *m;
    TRY(make_context(s));
    TRY(flux1_model_open(s->context, s->folder, &m));
    flux1_model_close(m);
    return FLUX1_OK;
}

static int look(void *user, const flux1_progress *p)
{
    (void)user, (void)p;
    return 0;
}

static flux1_generate_params small_request(const char *dumped)
{
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.prompt = "two owls at night";
    p.width = p.height = 32;
    p.steps = 2;
    p.max_sequence_length = 16;
    p.preview_every = 1;
    p.progress = look;
    p.dump = dumped;
    return p;
}

/* Context, picture with a preview and a dump, PNG. */
static flux1_status make_picture(subject *s)
{
    char dumped[128], png[128];
    flux1_image *image;
    snprintf(dumped, sizeof dumped, "%s/dump.safetensors", s->output);
    snprintf(png, sizeof png, "%s/picture.png", s->output);
    flux1_generate_params p = small_request(dumped);
    TRY(make_context(s));
    TRY(flux1_generate(s->context, s->model, &p, &image));
    flux1_status st = flux1_image_write_png(s->context, image, s->model, &p, png);
    if (st != FLUX1_OK)
        unlink(dumped); /* written whole before the picture failed */
    flux1_images_free(image, 1);
    return st;
}

static flux1_status step_by_step(subject *s)
{
    flux1_generate_params p = small_request(NULL);
    p.width = 80; /* two tiles */
    p.tiling = FLUX1_TILING_YES;
    flux1_text *text = NULL;
    flux1_sampler *sampler = NULL;
    flux1_image *image = NULL;
    const float *latents;
    int64_t tokens, channels;
    int left = 1;
    flux1_status st;
    TRY(make_context(s));
    TRY_CLEANUP(flux1_encode_text(s->context, s->model, &p, &text));
    TRY_CLEANUP(flux1_sampler_create(s->context, s->model, text, &p, &sampler));
    while (left)
        TRY_CLEANUP(flux1_sampler_step(sampler, &left));
    TRY_CLEANUP(flux1_sampler_latents(sampler, &latents, &tokens, &channels));
    TRY_CLEANUP(flux1_sampler_decode(sampler, &image));
cleanup:
    flux1_images_free(image, 1);
    flux1_sampler_free(sampler);
    flux1_text_free(text);
    return st;
}

/* ---- failing at every point ---- */

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

static void empty(const char *folder)
{
    char path[128];
    snprintf(path, sizeof path, "%s/dump.safetensors", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/picture.png", folder);
    unlink(path);
}

/* One run with the allocation `point` failing; false when it has fewer. */
static bool fail_at(run *body, subject *s, long point, const char *what)
{
    s->context = NULL;
    failing_after(point);
    flux1_status st = body(s);
    bool failed = failing_failed();
    failing_after(-1);
    if (failed && st != FLUX1_ERR_MEMORY)
        fail_msg("%s, allocation %ld: %s, \"%s\"", what, point, flux1_status_name(st),
                 flux1_context_message(s->context));
    if (failed && s->context && flux1_context_message(s->context)[0] == '\0')
        fail_msg("%s, allocation %ld: no message", what, point);
    if (!failed && st != FLUX1_OK)
        fail_msg("%s: %s", what, flux1_context_message(s->context));
    flux1_context_destroy(s->context);
    if (s->output[0] && failed && entries_of(s->output) != 0)
        fail_msg("%s, allocation %ld: a file was left", what, point);
    if (s->output[0])
        empty(s->output);
    return failed;
}

static long count_allocations(run *body, subject *s)
{
    s->context = NULL;
    failing_after(-1);
    flux1_status st = body(s);
    long asked = failing_asked();
    assert_int_equal(st, FLUX1_OK);
    flux1_context_destroy(s->context);
    if (s->output[0])
        empty(s->output);
    return asked;
}

static void fail_everywhere(run *body, subject *s, long share, const char *what)
{
    const char *wish = getenv("FLUX1_ALLOC_POINTS");
    long points = (wish ? atol(wish) : POINTS) / share, all = count_allocations(body, s), tried = 0;
    for (long i = 0; i < (all < points ? all : points); i++, tried++)
        if (!fail_at(body, s, all <= points ? i : i * all / points, what))
            break;
    assert_true(tried > 0);
    printf("%s: %ld allocations, %ld of them failed\n", what, all, tried);
}

static void find_pipeline(subject *s, const char *name)
{
    snprintf(s->folder, sizeof s->folder, "%s/pipelines/%s", TEST_DATA, name);
}

static void opening_a_model_survives(void **state)
{
    (void)state;
    static const char *const pipelines[] = {"schnell",
                                            "dev"}; /* tokenizer.json and one file; spiece.model and shards */
    for (int i = 0; i < 2; i++) {
        subject s = {.shape = NULL, .threads = 1};
        find_pipeline(&s, pipelines[i]);
        fail_everywhere(open_model, &s, 4, pipelines[i]);
    }
}

/* Parts from FLUX1_PATH and the cache, one of them beside the file; an adapter by its name. */
static flux1_status open_from_places(subject *s)
{
    flux1_model *m;
    flux1_adapter *a = NULL;
    TRY(make_context(s));
    TRY(flux1_model_open(s->context, s->folder, &m));
    flux1_status st = flux1_adapter_open(s->context, m, "kohya", &a);
    if (st == FLUX1_ERR_MODEL || st == FLUX1_ERR_UNSUPPORTED) /* it is of another model */
        st = FLUX1_OK;
    flux1_adapter_close(a);
    flux1_model_close(m);
    return st;
}

static void finding_parts_survives(void **state)
{
    (void)state;
    subject s = {.shape = NULL, .threads = 1};
    snprintf(s.folder, sizeof s.folder, "%s/files/gguf/flux1.gguf", TEST_DATA);
    setenv("HF_HUB_CACHE", TEST_DATA, 1);
    setenv("FLUX1_PATH", TEST_DATA "/files:" TEST_DATA "/files/lora:" TEST_DATA "/pipelines/packed", 1);
    fail_everywhere(open_from_places, &s, 4, "parts from several places");
    unsetenv("FLUX1_PATH");
}

static void refusing_a_damaged_model_survives(void **state)
{
    (void)state;
    copy k = copy_of("schnell");
    subject s = {.shape = NULL, .threads = 1};
    copy_set(&k, "transformer/config.json", "num_layers", "2");
    copy_set(&k, "text_encoder/config.json", "num_hidden_layers", "1");
    snprintf(s.folder, sizeof s.folder, "%s", k.path);
    long points = getenv("FLUX1_ALLOC_POINTS") ? atol(getenv("FLUX1_ALLOC_POINTS")) : POINTS, tried = 0;
    for (long i = 0; i < points / 20; i++) { /* the last ones: where faults are put together */
        s.context = NULL;
        failing_after(i * 17);
        flux1_status st = open_model(&s);
        assert_int_equal(st, failing_failed() ? FLUX1_ERR_MEMORY : FLUX1_ERR_MODEL);
        failing_after(-1);
        flux1_context_destroy(s.context);
        tried++;
    }
    assert_true(tried > 0);
    copy_free(&k);
}

static void run_with_model(run *body, const char *shape, int threads, long share, bool files, const char *what)
{
    subject s = {.shape = shape, .threads = threads};
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    find_pipeline(&s, "schnell");
    s.model = model_of(c, s.folder);
    if (files) {
        snprintf(s.output, sizeof s.output, "/tmp/flux1-test-XXXXXX");
        assert_non_null(mkdtemp(s.output));
    }
    fail_everywhere(body, &s, share, what);
    if (files)
        rmdir(s.output);
    flux1_model_close(s.model);
    flux1_context_destroy(c);
}

static void a_request_with_dump_and_picture_survives(void **state)
{
    (void)state;
    run_with_model(make_picture, "1x1", 1, 1, true, "a request");
}

static void a_request_on_a_mesh_survives(void **state)
{
    (void)state;
    run_with_model(make_picture, "1x2", 2, 4, true, "a request on 1x2");
    run_with_model(make_picture, "2x1", 2, 4, true, "a request on 2x1");
}

static void staged_calls_survive(void **state)
{
    (void)state;
    run_with_model(step_by_step, "1x1", 2, 2, false, "staged calls");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_a_model_survives),          cmocka_unit_test(finding_parts_survives),
        cmocka_unit_test(refusing_a_damaged_model_survives), cmocka_unit_test(a_request_with_dump_and_picture_survives),
        cmocka_unit_test(a_request_on_a_mesh_survives),      cmocka_unit_test(staged_calls_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
