#include "support/golden_runs.h"

#include <dirent.h>

/* Bounds of relative L2 in float32 arithmetic; ids and sigmas are equal to the bit. */
typedef struct bound {
    const char *prefix;
    double limit;
} bound;

static const bound BOUNDS[] = {{"noise", 1e-7},         {"pooled_prompt_embeds", 1e-5},
                               {"prompt_embeds", 1e-5}, {"negative_pooled_prompt_embeds", 1e-5},
                               {"latents.", 3e-5},      {"negative_prompt_embeds", 1e-5},
                               {"decoded", 3e-5}};

static double worst[sizeof BOUNDS / sizeof BOUNDS[0]];

static void compare_tensor(const store_tensor *want, const store_tensor *got, const char *where)
{
    int64_t n = tensor_elements(&want->view);
    assert_int_equal(n, tensor_elements(&got->view));
    bool exact = strcmp(want->name, "sigmas") == 0 || want->view.type == DTYPE_I32;
    if (exact) {
        if (memcmp(want->view.data, got->view.data, tensor_bytes(&want->view)) != 0)
            fail_msg("%s: %s differs", where, want->name);
        return;
    }
    int64_t rows = want->view.shape[0];
    for (size_t b = 0; b < sizeof BOUNDS / sizeof BOUNDS[0]; b++)
        for (int64_t i = 0; i < rows && strncmp(want->name, BOUNDS[b].prefix, strlen(BOUNDS[b].prefix)) == 0; i++) {
            double error = relative_l2((const float *)got->view.data + i * n / rows,
                                       (const float *)want->view.data + i * n / rows, n / rows);
            worst[b] = fmax(worst[b], error);
            if (!(error <= BOUNDS[b].limit))
                fail_msg("%s: %s, row %lld, is off by %.3g (relative L2), the bound is %.3g", where, want->name,
                         (long long)i, error, BOUNDS[b].limit);
        }
}

static bool is_of_a_negative_prompt(const char *name)
{
    return strncmp(name, "negative", 8) == 0 && strncmp(name, "negative_prompt.", 16) != 0 &&
           strcmp(name, "negative_prompt") != 0;
}

int compare_dump(const store *want, const store *dumped, const char *where)
{
    int compared = 0;
    for (size_t i = 0; i < store_count(want); i++) {
        const store_tensor *t = store_at(want, i), *got = store_find(dumped, t->name);
        if (!got && is_of_a_negative_prompt(t->name))
            fail_msg("%s: the dump has no %s", where, t->name);
        if (!got)
            continue;
        compare_tensor(t, got, where);
        compared++;
    }
    return compared;
}

void compare_bytes(const uint8_t *want, const flux1_image *image, const char *where)
{
    for (int64_t i = 0; i < 3 * (int64_t)image->width * image->height; i++)
        if (abs(want[i] - image->pixels[i]) > 1)
            fail_msg("%s: byte %lld of the picture is %d, the oracle's %d", where, (long long)i, image->pixels[i],
                     want[i]);
}

void compare_image(const golden *g, const flux1_image *image, const char *where)
{
    const store_tensor *want = store_find(g->file, "image");
    assert_non_null(want);
    assert_int_equal(want->view.shape[0], image->height);
    assert_int_equal(want->view.shape[1], image->width);
    compare_bytes(want->view.data, image, where);
}

void run_case_to(flux1_context *c, const flux1_model *m, golden *g, const char *where, const char *path)
{
    flux1_image *image;
    flux1_error err = {0};
    store *dumped;
    g->params.dump = path;
    if (flux1_generate(c, m, &g->params, &image) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(c));
    assert_int_equal(store_open_file(path, &dumped, &err), FLUX1_OK);
    assert_true(compare_dump(g->file, dumped, where) >= 4);
    compare_image(g, image, where);
    store_close(dumped);
    flux1_images_free(image, 1);
}

void run_case(flux1_context *c, const flux1_model *m, golden *g, const char *where)
{
    const char *path = scratch_path("goldens.safetensors");
    run_case_to(c, m, g, where, path);
    unlink(path);
}

void run_pipeline(flux1_context *c, const char *pipeline)
{
    char folder[512], where[512];
    flux1_model *m = NULL;
    snprintf(folder, sizeof folder, "%s/goldens/%s", test_data(), pipeline);
    DIR *d = opendir(folder);
    assert_non_null(d);
    int cases = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".safetensors") != 0 || strcmp(e->d_name, "stages.safetensors") == 0)
            continue;
        *dot = '\0';
        golden g;
        golden_open(pipeline, e->d_name, &g);
        if (!m && flux1_model_open(c, g.folder, &m) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        snprintf(where, sizeof where, "%s/%s", pipeline, e->d_name);
        run_case(c, m, &g, where);
        golden_close(&g);
        cases++;
    }
    closedir(d);
    flux1_model_close(m);
    assert_true(cases > 0);
}

void print_worst(const char *device, const char *shape)
{
    for (size_t b = 0; b < sizeof BOUNDS / sizeof BOUNDS[0]; b++)
        printf("%s %s: %-29s worst %.2e, bound %.0e\n", device, shape ? shape : "1x1", BOUNDS[b].prefix, worst[b],
               BOUNDS[b].limit);
}
