/* Files of adapters of every family and kind against the oracle's pictures (tools/oracle/lora_goldens.py): on every
 * backend, on meshes, over quantised weights, and when requests change them. */
#include "support/golden_runs.h"

#include "pipeline/session.h"
#include "weights/prepared_folder.h"

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"

static flux1_adapter *open_adapter(flux1_context *c, const flux1_model *m, const char *name)
{
    char path[300];
    flux1_adapter *a;
    snprintf(path, sizeof path, FILES "lora/golden/%s.safetensors", name);
    if (flux1_adapter_open(c, m, path, &a) != FLUX1_OK)
        fail_msg("%s: %s", name, flux1_context_message(c));
    return a;
}

static flux1_image *picture(flux1_context *c, const flux1_model *m, const golden *g, const flux1_adapter_use *uses,
                            int count)
{
    flux1_image *image;
    flux1_generate_params p = g->params;
    p.dump = NULL;
    p.adapters = uses;
    p.adapter_count = count;
    if (flux1_generate(c, m, &p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return image;
}

/* The file's picture is the golden's. Everything in the file applies. */
static void check(flux1_context *c, const flux1_model *m, const char *file, const char *name, const char *where)
{
    golden g;
    char text[100];
    flux1_adapter_info info = {.size = sizeof info};
    golden_open("lora", name, &g);
    flux1_adapter *a = open_adapter(c, m, file);
    assert_int_equal(flux1_adapter_get_info(a, &info), FLUX1_OK);
    assert_int_equal(info.applied, info.pairs);
    assert_true(info.pairs > 0);
    flux1_image *image = picture(c, m, &g, &(flux1_adapter_use){a, (float)golden_number(g.file, "strength")}, 1);
    snprintf(text, sizeof text, "%s %s", name, where);
    compare_image(&g, image, text);
    flux1_images_free(image, 1);
    flux1_adapter_close(a);
    golden_close(&g);
}

static const char *const families[] = {"kohya", "kohya_ends", "peft",         "peft_dora",  "ai_toolkit",
                                       "comfy", "comfy_text", "comfy_tables", "onetrainer", "xlabs",
                                       "fal",   "diffsynth",  "loha",         "lokr",       "dora",
                                       "oft",   "boft",       "full",         "mixed"};
enum { FAMILIES = sizeof families / sizeof *families, MERGED = 7 }; /* the last ones */

/* One after the other on one session: each is built again, and has nothing of the one before. */
static void run_all(const char *device, const char *shape, size_t first)
{
    flux1_context *c = context_on(device, shape, 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    char where[64];
    snprintf(where, sizeof where, "on %s %s", device, shape);
    for (size_t i = first; i < FAMILIES; i++)
        check(c, m, families[i], families[i], where);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void every_family_gives_the_oracle_s_picture(void **state)
{
    (void)state;
    run_all(TEST_DEVICE, "", 0);
    if (!strcmp(TEST_DEVICE, "cpu"))
        run_all("ref", "", 0);
}

static void meshes_cut_what_is_merged(void **state)
{
    (void)state;
    const bool slow = strcmp(TEST_DEVICE, "cpu") != 0; /* the emulated GPU: merged kinds alone */
    run_all(TEST_DEVICE, "1x2", slow ? FAMILIES - MERGED : 0);
    if (!slow)
        run_all("cpu", "2x2", 0);
}

static const flux1_model_parts quantised[] = {{.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "comfy/flux1-fp8.safetensors",
                                               .t5 = FILES "comfy/flux1-fp8.safetensors",
                                               .clip = FILES "comfy/flux1-fp8.safetensors",
                                               .vae = FILES "comfy/flux1-fp8.safetensors"},
                                              {.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "gguf/flux1.gguf",
                                               .t5 = FILES "gguf/t5.gguf",
                                               .clip = FILES "gguf/clip.gguf"},
                                              {.size = sizeof(flux1_model_parts),
                                               .model = PACKED,
                                               .transformer = FILES "bnb/transformer",
                                               .t5 = FILES "bnb/text_encoder_2"}};

static void quantised_weights_take_every_kind(void **state)
{
    (void)state;
    static const char *const names[] = {"comfy_mixed", "gguf_mixed", "bnb_mixed"};
    for (size_t i = 0; i < 3; i++)
        for (int ranks = 1; ranks <= 2; ranks++) {
            flux1_context *c = context_on(TEST_DEVICE, ranks == 2 ? "1x2" : "", 2, FLUX1_DTYPE_F32);
            flux1_model *m;
            if (flux1_model_open_parts(c, &quantised[i], &m) != FLUX1_OK)
                fail_msg("%s", flux1_context_message(c));
            check(c, m, "mixed", names[i], ranks == 2 ? "on a mesh" : "alone");
            flux1_model_close(m);
            flux1_context_destroy(c);
        }
}

static int farthest(const flux1_image *a, const flux1_image *b)
{
    int most = 0;
    for (int i = 0; i < a->width * a->height * 3; i++)
        most = abs(a->pixels[i] - b->pixels[i]) > most ? abs(a->pixels[i] - b->pixels[i]) : most;
    return most;
}

/* Strengths add up, 0 is nothing, and what a request merged is gone in the next one. */
static void strengths_change_between_requests(void **state)
{
    (void)state;
    static const char *const kinds[] = {"loha", "lokr", "dora", "oft", "boft", "full", "mixed"};
    golden g;
    golden_open("lora", "loha", &g);
    flux1_context *c = context_on(TEST_DEVICE, "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    flux1_image *plain = picture(c, m, &g, NULL, 0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        flux1_adapter *a = open_adapter(c, m, kinds[i]);
        flux1_image *whole = picture(c, m, &g, &(flux1_adapter_use){a, 0.5f}, 1);
        flux1_image *none = picture(c, m, &g, &(flux1_adapter_use){a, 0}, 1);
        flux1_image *halves = picture(c, m, &g, (flux1_adapter_use[]){{a, 0.75f}, {a, -0.25f}}, 2);
        flux1_image *again = picture(c, m, &g, &(flux1_adapter_use){a, 0.5f}, 1);
        flux1_image *less = picture(c, m, &g, &(flux1_adapter_use){a, 0.25f}, 1);
        flux1_adapter_close(a);
        flux1_image *after = picture(c, m, &g, NULL, 0);
        if (farthest(none, plain) || farthest(again, whole) || farthest(after, plain) || farthest(halves, whole) > 1 ||
            farthest(whole, plain) < 4 || farthest(less, whole) < 4)
            fail_msg("%s: at 0 %d, again %d, after %d, in two %d, seen %d, less %d", kinds[i], farthest(none, plain),
                     farthest(again, whole), farthest(after, plain), farthest(halves, whole), farthest(whole, plain),
                     farthest(less, whole));
        flux1_images_free(whole, 1), flux1_images_free(none, 1), flux1_images_free(halves, 1);
        flux1_images_free(again, 1), flux1_images_free(after, 1), flux1_images_free(less, 1);
    }
    flux1_images_free(plain, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* ---- other arithmetic, captured steps, the cache ---- */

static double mean_distance(const flux1_image *a, const flux1_image *b)
{
    double sum = 0;
    const int n = a->width * a->height * 3;
    for (int i = 0; i < n; i++)
        sum += abs(a->pixels[i] - b->pixels[i]);
    return sum / n;
}

static flux1_context *context_like(flux1_dtype arithmetic, int eager, const char *cache)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = TEST_DEVICE;
    p.threads = 2;
    p.dtype = arithmetic;
    p.eager = eager;
    p.cache = cache;
    return context_of(&p);
}

/* `mixed` in a context of its own, which it destroys. */
static flux1_image *mixed_in(flux1_context *c, const golden *g, float strength)
{
    flux1_model *m = model_of(c, PACKED);
    flux1_adapter *a = open_adapter(c, m, "mixed");
    flux1_image *image = picture(c, m, g, &(flux1_adapter_use){a, strength}, strength != 0);
    flux1_adapter_close(a);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return image;
}

/* Merged weights are rounded once, to bf16: no farther from float32 than two times what the plain picture is. */
static void bf16_rounds_merged_weights_once(void **state)
{
    (void)state;
    golden g;
    golden_open("lora", "mixed", &g);
    flux1_image *plain = mixed_in(context_like(FLUX1_DTYPE_F32, 0, ""), &g, 0),
                *plain16 = mixed_in(context_like(FLUX1_DTYPE_BF16, 0, ""), &g, 0),
                *merged = mixed_in(context_like(FLUX1_DTYPE_F32, 0, ""), &g, 0.75f),
                *merged16 = mixed_in(context_like(FLUX1_DTYPE_BF16, 0, ""), &g, 0.75f);
    const double error = mean_distance(plain, plain16), with = mean_distance(merged, merged16);
    if (with > 2 * error + 0.1 || mean_distance(plain, merged) < 10 * with)
        fail_msg("%g from float32's picture, without adapters %g", with, error);
    flux1_images_free(plain, 1), flux1_images_free(plain16, 1);
    flux1_images_free(merged, 1), flux1_images_free(merged16, 1);
    golden_close(&g);
}

static void captured_steps_are_of_one_set(void **state)
{
    (void)state;
    golden g;
    golden_open("lora", "mixed", &g);
    flux1_image *captured = mixed_in(context_like(FLUX1_DTYPE_F32, 0, ""), &g, 0.75f),
                *called = mixed_in(context_like(FLUX1_DTYPE_F32, 1, ""), &g, 0.75f);
    assert_int_equal(farthest(captured, called), 0);
    flux1_images_free(captured, 1), flux1_images_free(called, 1);
    golden_close(&g);
}

/* An entry's key holds the adapters and their strengths. */
static void the_cache_knows_what_is_merged(void **state)
{
    (void)state;
    golden g;
    char folder[] = "/tmp/flux1_lora_XXXXXX", cache[64], command[80];
    size_t count = 0, before;
    prepared_file *all;
    assert_non_null(mkdtemp(folder));
    snprintf(cache, sizeof cache, "%s/cache", folder);
    setenv("XDG_CACHE_HOME", folder, 1);
    golden_open("lora", "mixed", &g);
    flux1_image *none = mixed_in(context_like(FLUX1_DTYPE_F32, 0, ""), &g, 0.75f);
    for (int run = 0; run < 4; run++) {
        const bool same = run < 2; /* cold, warm, at another strength, warm */
        flux1_image *image = mixed_in(context_like(FLUX1_DTYPE_F32, 0, cache), &g, same ? 0.75f : 0.5f);
        assert_true((farthest(image, none) == 0) == same);
        flux1_images_free(image, 1);
        before = count;
        assert_int_equal(prepared_files(cache, &all, &count, NULL), FLUX1_OK);
        free(all);
        assert_true(run % 2 ? count == before : count > before);
    }
    flux1_images_free(none, 1);
    golden_close(&g);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* By way of a strength that is far too large. */
static void a_nan_is_told_to_be_perhaps_the_adapter_s(void **state)
{
    (void)state;
    golden g;
    flux1_image *image = NULL;
    golden_open("lora", "full", &g);
    flux1_context *c = context_on(TEST_DEVICE, "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    flux1_adapter *a = open_adapter(c, m, "comfy");
    flux1_generate_params p = g.params;
    p.dump = NULL;
    p.adapters = &(flux1_adapter_use){a, 3e38f};
    p.adapter_count = 1;
    assert_int_equal(flux1_generate(c, m, &p, &image), FLUX1_ERR_NUMERIC);
    assert_non_null(strstr(flux1_context_message(c), "or an adapter is damaged"));
    flux1_adapter_close(a);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* ---- what is prepared again ---- */

enum { BLOCKS = 32 };

/* The keys of the transformer's blocks on the first session that has it. */
static size_t keys_of(const flux1_context *c, uint64_t key[BLOCKS][2], const char *name[BLOCKS])
{
    for (session *s = c->sessions; s; s = s->next) {
        const block_list *made = s->made[BUILT_DIT][0];
        for (size_t i = 0; made && i < made->count; i++) {
            size_t bytes;
            assert_true(made->count <= BLOCKS);
            c->device.device->kind->block_key(made->o, made->block[i], key[i], &bytes);
            name[i] = made->block[i]->name;
        }
        if (made)
            return made->count;
    }
    return 0;
}

/* Blocks with equal keys are found as they were (test_kept.c). `lokr` has layers in three of the blocks. */
static void only_touched_blocks_are_prepared_again(void **state)
{
    (void)state;
    static const char *const touched[] = {"transformer_blocks.0", "single_transformer_blocks.0", "norm_out.linear"};
    uint64_t before[BLOCKS][2], after[BLOCKS][2];
    const char *name[BLOCKS];
    golden g;
    golden_open("lora", "lokr", &g);
    flux1_context *c = context_on(TEST_DEVICE, "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, PACKED);
    flux1_adapter *a = open_adapter(c, m, "lokr"), *pairs = open_adapter(c, m, "kohya");
    flux1_images_free(picture(c, m, &g, &(flux1_adapter_use){a, 0.5f}, 1), 1);
    const size_t count = keys_of(c, before, name);
    assert_true(count > 5);
    flux1_images_free(picture(c, m, &g, (flux1_adapter_use[]){{a, 0.5f}, {pairs, 1}}, 2), 1);
    assert_int_equal(keys_of(c, after, name), count);
    assert_memory_equal(before, after, count * sizeof *before);
    flux1_images_free(picture(c, m, &g, &(flux1_adapter_use){a, 0.25f}, 1), 1);
    assert_int_equal(keys_of(c, after, name), count);
    for (size_t i = 0; i < count; i++) {
        bool is_touched = false;
        for (size_t k = 0; k < sizeof touched / sizeof *touched; k++)
            is_touched = is_touched || !strcmp(name[i], touched[k]);
        if ((memcmp(before[i], after[i], sizeof *before) != 0) != is_touched)
            fail_msg("%s: %s", name[i], is_touched ? "kept" : "prepared again");
    }
    flux1_adapter_close(a), flux1_adapter_close(pairs);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_gives_the_oracle_s_picture),
                                       cmocka_unit_test(meshes_cut_what_is_merged),
                                       cmocka_unit_test(quantised_weights_take_every_kind),
                                       cmocka_unit_test(strengths_change_between_requests),
                                       cmocka_unit_test(bf16_rounds_merged_weights_once),
                                       cmocka_unit_test(captured_steps_are_of_one_set),
                                       cmocka_unit_test(the_cache_knows_what_is_merged),
                                       cmocka_unit_test(a_nan_is_told_to_be_perhaps_the_adapter_s),
                                       cmocka_unit_test(only_touched_blocks_are_prepared_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
