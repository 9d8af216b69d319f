/* Previews: the linear estimate against numpy's least squares on what diffusers decodes (tools/oracle), which pictures
 * a caller is shown, and where the estimate is kept. */
#include "support/stage_runs.h"
#include "pipeline/preview.h"

#include <dirent.h>
#include <math.h>

static char cache_root[] = "/tmp/flux1-test-XXXXXX";

static int use_own_cache(void **state)
{
    (void)state;
    return !mkdtemp(cache_root) || setenv("XDG_CACHE_HOME", cache_root, 1);
}

/* The entries of the folder; with `wipe`, removed. */
static int cache_entries(bool wipe)
{
    char folder[64], path[400];
    int count = 0;
    snprintf(folder, sizeof folder, "%s/flux1", cache_root);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, "preview-", 8) != 0)
            continue;
        count++;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (wipe)
            unlink(path);
    }
    if (d)
        closedir(d);
    return count;
}

static int remove_own_cache(void **state)
{
    (void)state;
    char folder[64];
    cache_entries(true);
    snprintf(folder, sizeof folder, "%s/flux1", cache_root);
    rmdir(folder);
    return rmdir(cache_root);
}

/* Two channels, colours 1 + 2a − b, a, −3 + b: exactly these come back. */
static void a_linear_colour_is_found_exactly(void **state)
{
    (void)state;
    static const float values[] = {0, 0, 1, 0, 0, 1, 2, 5, -1, 3};
    static const float want[3][3] = {{2, 1, 0}, {-1, 0, 1}, {1, 0, -3}};
    float colours[15];
    projection p = {.channels = 2};
    flux1_error err;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++)
            colours[3 * i + k] = values[2 * i] * want[0][k] + values[2 * i + 1] * want[1][k] + want[2][k];
    assert_int_equal(projection_solve(&p, values, colours, 5, &err), FLUX1_OK);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            assert_true(fabsf(p.weight[i][k] - want[i][k]) < 1e-5f);
}

/* One channel as red: cells 0 and 1, two pixels each. In the middle of a cell its colour is reached only by its
 * neighbours' share: at 1/4 and 3/4 of the way between, and constant outside. Bytes of (x/2 + 1/2)·255. */
static void colours_change_linearly_between_cells(void **state)
{
    (void)state;
    const float tokens[] = {0, 1, 0, 1}; /* a token of 2 × 2 cells */
    const uint8_t red[4] = {128, 159, 223, 255};
    projection p = {.channels = 1, .weight = {{1, 0, 0}, {0, -1, 1}}};
    projection_canvas c;
    assert_int_equal(projection_canvas_create(2, 2, 2, &c, NULL), FLUX1_OK);
    memset(c.pixels, 77, 4 * 4 * 3);
    projection_draw(&p, tokens, &c);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(c.pixels[3 * i], red[i % 4]);
        assert_int_equal(c.pixels[3 * i + 1], 0);
        assert_int_equal(c.pixels[3 * i + 2], 255);
    }
    projection_canvas_free(&c);
}

static request small_request(flux1_context *c, const flux1_model *m)
{
    request r;
    flux1_generate_params params;
    flux1_generate_params_defaults(&params);
    params.width = params.height = 32;
    assert_int_equal(request_make(c, m, &params, &r), FLUX1_OK);
    return r;
}

static void the_estimate_is_the_oracle_s(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "2x2"};
    store *g;
    flux1_error err = {0};
    assert_int_equal(store_open_file(TEST_DATA "/goldens/preview/schnell.safetensors", &g, &err), FLUX1_OK);
    const tensor *factors = golden_tensor(g, "weight"), *picture = golden_tensor(g, "picture");
    for (int s = 0; s < 2; s++) {
        const projection *p = NULL;
        projection_canvas on;
        cache_entries(true);
        flux1_context *c = context_on("cpu", shapes[s], 2, FLUX1_DTYPE_F32);
        flux1_model *m = pipeline_of(c, "schnell");
        request r = small_request(c, m);
        assert_int_equal(preview_projection(c, m, &r, &p), FLUX1_OK);
        assert_true(relative_l2(&p->weight[0][0], factors->data, 17 * 3) < 1e-5);
        assert_true(fabs(p->error - (double)*(const float *)golden_tensor(g, "error")->data) < 0.01);
        assert_int_equal(projection_canvas_create(4, 6, 8, &on, &err), FLUX1_OK);
        memset(on.pixels, 77, 32 * 48 * 3);
        projection_draw(p, golden_tensor(g, "latent")->data, &on);
        for (int i = 0; i < 32 * 48 * 3; i++)
            assert_true(fabsf((float)on.pixels[i] - ((const float *)picture->data)[i]) <= 1);
        projection_canvas_free(&on);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    store_close(g);
}

/* With the model, and by the VAE's files for the next one; a damaged entry is made again. */
static void the_estimate_is_kept(void **state)
{
    (void)state;
    const projection *first = NULL, *again = NULL, *other = NULL;
    cache_entries(true);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell"), *n = pipeline_of(c, "schnell");
    request r = small_request(c, m);
    assert_int_equal(preview_projection(c, m, &r, &first), FLUX1_OK);
    assert_int_equal(cache_entries(false), 1);
    const double kept = first->error;
    assert_int_equal(preview_projection(c, m, &r, &again), FLUX1_OK);
    assert_ptr_equal(again, first);
    /* another model of these files finds what was noted, whatever it says */
    projection altered = *first;
    const double settings[] = {(double)m->vae.latent_channels, m->vae.scaling, m->vae.shift};
    altered.error = kept + 1;
    projection_note(m->projection, m->store[COMPONENT_VAE], settings, &altered);
    assert_true(first->error == kept);
    assert_int_equal(preview_projection(c, n, &r, &other), FLUX1_OK);
    assert_true(other->error == kept + 1);
    flux1_model_close(n);
    altered.weight[3][1] = NAN; /* no estimate: not taken */
    projection_note(m->projection, m->store[COMPONENT_VAE], settings, &altered);
    n = pipeline_of(c, "schnell");
    assert_int_equal(preview_projection(c, n, &r, &other), FLUX1_OK);
    assert_true(fabs(other->error - kept) < 1e-6);
    flux1_model_close(n);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* A latent of 65 channels has none; that is said, with the other kind. */
static void too_many_channels_are_named(void **state)
{
    (void)state;
    const projection *p = NULL;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    request r = small_request(c, m);
    m->vae.latent_channels = 65;
    assert_int_equal(preview_projection(c, m, &r, &p), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(flux1_context_message(c), "at most 64 channels"));
    m->vae.latent_channels = 16;
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- which are shown ---- */

typedef struct shown {
    int count, step[16], image[16];
    flux1_stage stage[16];
    uint8_t last[2][3 * 48 * 32]; /* of each picture */
} shown;

static int keep_preview(void *user, const flux1_progress *p)
{
    shown *s = user;
    if (!p->preview)
        return 0;
    assert_true(s->count < 16 && p->image < 2);
    assert_true(p->preview->width == 48 && p->preview->height == 32);
    s->step[s->count] = p->step;
    s->image[s->count] = p->image;
    s->stage[s->count++] = p->stage;
    memcpy(s->last[p->image], p->preview->pixels, sizeof s->last[0]);
    return 0;
}

/* Two pictures in one batch, five steps, previews every two: after 2, 4 and 5 of each. What the VAE makes of the last
 * latent is the picture itself; an estimate is nearer to its own picture than to the other. */
static void every_so_many_steps_and_the_last_are_shown(void **state)
{
    (void)state;
    static const int steps[] = {2, 2, 4, 4, 5, 5};
    flux1_context *c = context_on("cpu", NULL, 2, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    for (int kind = FLUX1_PREVIEW_RGB; kind <= FLUX1_PREVIEW_VAE; kind++) {
        shown s = {0};
        flux1_image *images;
        flux1_generate_params p;
        flux1_generate_params_defaults(&p);
        p.prompt = "a red fox";
        p.width = 48;
        p.height = 32;
        p.steps = 5;
        p.count = p.batch = 2;
        p.preview_every = 2;
        p.preview_kind = (flux1_preview_kind)kind;
        p.progress = keep_preview;
        p.progress_user = &s;
        assert_int_equal(flux1_generate(c, m, &p, &images), FLUX1_OK);
        assert_int_equal(s.count, 6);
        for (int i = 0; i < 6; i++) {
            const bool decoded = kind == FLUX1_PREVIEW_VAE && i >= 4;
            assert_int_equal(s.image[i], i % 2);
            assert_int_equal(s.stage[i], decoded ? FLUX1_STAGE_DECODE : FLUX1_STAGE_DENOISE);
            assert_int_equal(s.step[i], decoded ? 0 : steps[i]);
        }
        for (int i = 0; i < 2; i++) {
            const double distance = picture_distance(s.last[i], images[i].pixels, sizeof s.last[i]);
            if (kind == FLUX1_PREVIEW_VAE)
                assert_true(distance == 0);
            else
                assert_true(distance > 0 &&
                            distance < picture_distance(s.last[i], images[1 - i].pixels, sizeof s.last[i]));
        }
        flux1_images_free(images, 2);
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_linear_colour_is_found_exactly),
        cmocka_unit_test(colours_change_linearly_between_cells),
        cmocka_unit_test(the_estimate_is_the_oracle_s),
        cmocka_unit_test(the_estimate_is_kept),
        cmocka_unit_test(too_many_channels_are_named),
        cmocka_unit_test(every_so_many_steps_and_the_last_are_shown),
    };
    return cmocka_run_group_tests(tests, use_own_cache, remove_own_cache);
}
