/* The same bits whatever the number of threads and however often, and every instruction set within the goldens' bounds.
 */
#include "support/golden.h"

typedef struct result {
    flux1_image *image;
    store *dump;
} result;

static result run(flux1_context *c, const flux1_model *m, golden *g)
{
    result r;
    flux1_error err = {0};
    char *path = scratch_path("threads.safetensors");
    g->params.dump = path;
    if (flux1_generate(c, m, &g->params, &r.image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(store_open_file(path, &r.dump, &err), FLUX1_OK);
    unlink(path);
    return r;
}

static void result_free(result *r)
{
    flux1_images_free(r->image, 1);
    store_close(r->dump);
}

static void assert_same(const result *a, const result *b, const char *where)
{
    assert_int_equal(store_count(a->dump), store_count(b->dump));
    for (size_t i = 0; i < store_count(a->dump); i++) {
        const store_tensor *x = store_at(a->dump, i), *y = store_find(b->dump, x->name);
        assert_non_null(y);
        assert_int_equal(tensor_bytes(&x->view), tensor_bytes(&y->view));
        if (memcmp(x->view.data, y->view.data, tensor_bytes(&x->view)) != 0)
            fail_msg("%s: %s differs", where, x->name);
    }
    assert_int_equal(a->image->width, b->image->width);
    assert_int_equal(a->image->height, b->image->height);
    assert_memory_equal(a->image->pixels, b->image->pixels, (size_t)(3 * a->image->width * a->image->height));
}

typedef struct place {
    const char *pipeline, *name;
} place;

/* Large enough that the work is handed out in pieces; heads of odd number and size. */
static const place PLACES[] = {{"dev", "large"}, {"schnell", "long"}, {"double", "night"}, {"mixed", "car"}};

static void same_bits_on_any_number_of_threads(void **state)
{
    (void)state;
    static const flux1_dtype types[] = {FLUX1_DTYPE_F32, FLUX1_DTYPE_BF16};
    for (size_t p = 0; p < sizeof PLACES / sizeof PLACES[0]; p++)
        for (size_t t = 0; t < 2; t++) {
            golden g;
            golden_open(PLACES[p].pipeline, PLACES[p].name, &g);
            flux1_context *one = context_on("cpu", NULL, 1, types[t]);
            flux1_model *m = model_of(one, g.folder);
            result first = run(one, m, &g), again = run(one, m, &g);
            assert_same(&first, &again, "the second run");
            result_free(&again);
            for (int threads = 2; threads <= 3; threads++) {
                char where[128];
                snprintf(where, sizeof where, "%s/%s, %s, %d threads", PLACES[p].pipeline, PLACES[p].name,
                         t ? "bf16" : "f32", threads);
                flux1_context *c = context_on("cpu", NULL, threads, types[t]);
                again = run(c, m, &g);
                assert_same(&first, &again, where);
                result_free(&again);
                flux1_context_destroy(c);
            }
            result_free(&first);
            flux1_model_close(m);
            flux1_context_destroy(one);
            golden_close(&g);
        }
}

static void a_mesh_repeats_its_bits(void **state)
{
    (void)state;
    golden g;
    golden_open("dev", "scripts", &g);
    flux1_context *c = context_on("cpu", "2x2", 4, FLUX1_DTYPE_BF16);
    flux1_model *m = model_of(c, g.folder);
    result first = run(c, m, &g);
    for (int i = 0; i < 3; i++) {
        result again = run(c, m, &g);
        assert_same(&first, &again, "a repeated run on 2x2");
        result_free(&again);
    }
    result_free(&first);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* Relative L2 of everything that the golden holds, in float32. */
static void assert_near_golden(const golden *g, const result *r, const char *where)
{
    int compared = 0;
    for (size_t i = 0; i < store_count(r->dump); i++) {
        const store_tensor *got = store_at(r->dump, i), *want = store_find(g->file, got->name);
        if (!want || want->view.type != DTYPE_F32)
            continue;
        double error = relative_l2(got->view.data, want->view.data, tensor_elements(&want->view));
        if (!(error <= 3e-5))
            fail_msg("%s: %s is off by %.3g", where, got->name, error);
        compared++;
    }
    assert_true(compared >= 4);
}

static void every_instruction_set_is_within_the_goldens_bounds(void **state)
{
    (void)state;
    static const place places[] = {{"dev", "large"},    {"schnell", "car"}, {"mixed", "car"},     {"single", "fox"},
                                   {"double", "night"}, {"wide", "long"},   {"patchwork", "owls"}};
    for (size_t i = 0; i < ISA_COUNT; i++) {
        if (!isa_choose(ISA_NAMES[i])) {
            printf("%s: not on this machine\n", ISA_NAMES[i]);
            continue;
        }
        for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
            golden g;
            char where[128];
            golden_open(places[p].pipeline, places[p].name, &g);
            snprintf(where, sizeof where, "%s: %s/%s", ISA_NAMES[i], places[p].pipeline, places[p].name);
            flux1_context *c = context_on("cpu", NULL, 2, FLUX1_DTYPE_F32);
            flux1_model *m = model_of(c, g.folder);
            result r = run(c, m, &g);
            assert_near_golden(&g, &r, where);
            result_free(&r);
            flux1_model_close(m);
            flux1_context_destroy(c);
            golden_close(&g);
        }
    }
    isa_choose(NULL);
}

static void an_unknown_instruction_set_is_refused(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    golden_open("single", "fox", &g);
    assert_int_equal(setenv("FLUX1_CPU_ISA", "sse9", 1), 0);
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(flux1_context_message(c), "sse9"));
    assert_null(image);
    isa_choose(NULL);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* Sums of the ranks are added in the ranks' order, whoever comes first. */
static void same_bits_on_a_mesh_whenever_it_runs(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x3", "3x1", "2x4"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        golden g;
        golden_open("mixed", "car", &g);
        flux1_context *c = context_on("cpu", shapes[i], 1, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        result first = run(c, m, &g);
        for (int again = 0; again < 2; again++) {
            result other = run(c, m, &g);
            assert_same(&first, &other, shapes[i]);
            result_free(&other);
        }
        result_free(&first);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_on_a_mesh_whenever_it_runs),
        cmocka_unit_test(same_bits_on_any_number_of_threads),
        cmocka_unit_test(a_mesh_repeats_its_bits),
        cmocka_unit_test(every_instruction_set_is_within_the_goldens_bounds),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
