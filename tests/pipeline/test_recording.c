/* A recording is complete: made of a request, written, read and played on ops/ref it gives what the request itself
 * gives there, bit by bit, at every stage: for the committed pipelines, on meshes that divide and others. */
#include "support/golden.h"

#include "pipeline/opening.h"
#include "pipeline/recording_play.h"

typedef struct trial {
    golden g;
    flux1_context *c;
    flux1_model *m;
    mesh_config mesh;
} trial;

static void trial_open(trial *t, const char *pipeline, const char *name, const char *shape)
{
    golden_open(pipeline, name, &t->g);
    t->c = context_on("ref", shape, 1, FLUX1_DTYPE_F32);
    t->m = model_of(t->c, t->g.folder);
    t->mesh = t->c->mesh;
}

static void trial_close(trial *t)
{
    flux1_model_close(t->m);
    flux1_context_destroy(t->c);
    golden_close(&t->g);
}

static void record(trial *t, recording *out)
{
    request r;
    assert_int_equal(request_make(t->c, t->m, &t->g.params, &r), FLUX1_OK);
    if (recording_make(t->c, t->m, &r, &t->mesh, t->g.folder, out) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(t->c));
}

/* Written to a file and read again. */
static void through_file(trial *t, recording *r)
{
    const char *path = scratch_path("recording");
    recording again;
    if (recording_write(r, path, &t->c->error) != FLUX1_OK || recording_read(path, &again, &t->c->error) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(t->c));
    unlink(path);
    recording_free(r);
    *r = again;
}

static void same_bits(const store *dumped, const char *name, const tensor *got, const char *where)
{
    const store_tensor *want = store_find(dumped, name);
    assert_non_null(want);
    assert_int_equal(tensor_elements(&want->view), tensor_elements(got));
    if (memcmp(want->view.data, got->data, tensor_bytes(got)) != 0)
        fail_msg("%s: %s differs by %.2e", where, name, relative_l2(got->data, want->view.data, tensor_elements(got)));
}

/* pixels [height·width, 3] as the dump's [3, height, width]. */
static void same_picture(const store *dumped, const tensor *pixels, const char *where)
{
    const store_tensor *want = store_find(dumped, "decoded");
    assert_non_null(want);
    const int64_t n = pixels->shape[0];
    const float *a = want->view.data, *b = pixels->data;
    for (int64_t i = 0; i < 3 * n; i++)
        if (a[(i % 3) * n + i / 3] != b[i])
            fail_msg("%s: pixel %lld differs", where, (long long)(i / 3));
}

static void equals_the_request(trial *t, const recording *r, const char *where)
{
    const recording_request q = {t->g.params.prompt, t->g.params.seed, r->guidance_scale};
    recording_results got;
    flux1_image played = {0}, *direct;
    store *dumped;
    char latents[32];
    const char *path = scratch_path("recording.safetensors");
    if (recording_play(t->c, t->m, r, &q, &got, &played) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(t->c));
    t->g.params.dump = path;
    if (flux1_generate(t->c, t->m, &t->g.params, &direct) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(t->c));
    assert_int_equal(store_open_file(path, &dumped, &t->c->error), FLUX1_OK);
    snprintf(latents, sizeof latents, "latents.%lld", (long long)r->steps);
    same_bits(dumped, "pooled_prompt_embeds", &got.pooled, where);
    same_bits(dumped, "prompt_embeds", &got.embeds, where);
    same_bits(dumped, latents, &got.latent, where);
    same_picture(dumped, &got.pixels, where);
    assert_int_equal(direct->width, played.width);
    assert_int_equal(direct->height, played.height);
    assert_memory_equal(direct->pixels, played.pixels, 3 * (size_t)(direct->width * direct->height));
    store_close(dumped);
    unlink(path);
    free(played.pixels);
    flux1_images_free(direct, 1);
    recording_results_free(&got);
}

static void play(const char *pipeline, const char *name, const char *shape)
{
    trial t;
    recording r;
    char where[128];
    snprintf(where, sizeof where, "%s/%s on %s", pipeline, name, shape);
    trial_open(&t, pipeline, name, shape);
    record(&t, &r);
    through_file(&t, &r);
    equals_the_request(&t, &r, where);
    recording_free(&r);
    trial_close(&t);
}

static void every_pipeline_on_one_device(void **state)
{
    static const char *const cases[][2] = {{"schnell", "car"}, {"dev", "long"},  {"double", "night"},
                                           {"single", "fox"},  {"mixed", "car"}, {"patchwork", "owls"},
                                           {"wide", "tall"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        play(cases[i][0], cases[i][1], "1x1");
}

/* mixed has odd heads, the sizes leave ragged rows; 3x1 and 1x3 divide nothing. */
static void meshes(void **state)
{
    static const char *const shapes[] = {"2x1", "1x2", "2x2", "3x1", "1x3", "2x3"};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        play("mixed", "car", shapes[i]);
        play(i % 2 ? "dev" : "schnell", i % 2 ? "long" : "car", shapes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pipeline_on_one_device),
        cmocka_unit_test(meshes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
