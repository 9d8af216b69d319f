/* Prompts that a context has encoded before are not encoded again, and the picture has the same bytes. */
#include "support/golden.h"

#include "pipeline/run.h"
#include "pipeline/text_cache.h"

#define PACKED TEST_DATA "/pipelines/packed"

typedef struct subject {
    golden g;
    flux1_context *c;
    flux1_model *m;
} subject;

static void subject_open(subject *s, uint64_t max_memory)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.dtype = FLUX1_DTYPE_F32;
    p.threads = 1;
    p.max_memory = max_memory;
    golden_open("lora", "comfy_text", &s->g);
    s->g.params.dump = NULL;
    s->c = context_of(&p);
    s->m = model_of(s->c, PACKED);
}

static void subject_close(subject *s)
{
    flux1_model_close(s->m);
    flux1_context_destroy(s->c);
    golden_close(&s->g);
}

static flux1_context_info info_of(subject *s)
{
    flux1_context_info i = {.size = sizeof i};
    assert_int_equal(flux1_context_get_info(s->c, &i), FLUX1_OK);
    return i;
}

static void assert_counts(subject *s, uint64_t encoded, uint64_t reused)
{
    const flux1_context_info i = info_of(s);
    assert_int_equal(i.texts_encoded, encoded);
    assert_int_equal(i.texts_reused, reused);
}

static flux1_image *picture(subject *s, const flux1_generate_params *p)
{
    flux1_image *image;
    if (flux1_generate(s->c, s->m, p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s->c));
    return image;
}

static bool same_pixels(const flux1_image *a, const flux1_image *b)
{
    return memcmp(a->pixels, b->pixels, (size_t)(3 * a->width * a->height)) == 0;
}

static void an_equal_prompt_is_not_encoded_again(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_generate_params p = s.g.params;
    assert_counts(&s, 0, 0);
    flux1_image *first = picture(&s, &p), *again = picture(&s, &p);
    assert_counts(&s, 1, 1);
    assert_true(same_pixels(first, again));
    p.prompt = "something else";
    flux1_image *other = picture(&s, &p);
    assert_counts(&s, 2, 1);
    assert_false(same_pixels(first, other));
    p.prompt = s.g.params.prompt;
    p.max_sequence_length = s.g.params.max_sequence_length + 3;
    flux1_images_free(picture(&s, &p), 1);
    assert_counts(&s, 3, 1);
    p.max_sequence_length = s.g.params.max_sequence_length;
    flux1_image *last = picture(&s, &p); /* the others did not displace it */
    assert_counts(&s, 3, 2);
    assert_true(same_pixels(first, last));
    flux1_text *text;
    assert_int_equal(flux1_encode_text(s.c, s.m, &p, &text), FLUX1_OK);
    assert_counts(&s, 3, 3);
    flux1_text_free(text);
    flux1_images_free(first, 1);
    flux1_images_free(again, 1);
    flux1_images_free(other, 1);
    flux1_images_free(last, 1);
    subject_close(&s);
}

/* Three requests, the second of another prompt, with one negative prompt. */
static void three_requests(const subject *s, const char *negative, flux1_generate_params p[3])
{
    for (int i = 0; i < 3; i++) {
        p[i] = s->g.params;
        p[i].negative_prompt = negative;
        p[i].true_cfg_scale = 2;
        p[i].count = 1;
    }
    p[1].prompt = "something else";
}

/* Two prompts between them, one of which is also the negative prompt. */
static void equal_prompts_of_one_call_are_encoded_once(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_generate_params p[3];
    three_requests(&s, "something else", p);
    flux1_image *images;
    const flux1_generate_params *const all[] = {&p[0], &p[1], &p[2]};
    if (flux1_generate_many(s.c, s.m, all, 3, &images) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s.c));
    assert_counts(&s, 2, 0);
    assert_true(same_pixels(&images[0], &images[2]));
    flux1_image *alone = picture(&s, &p[0]);
    assert_counts(&s, 2, 2);
    assert_true(same_pixels(alone, &images[0]));
    flux1_images_free(alone, 1);
    flux1_images_free(images, 3);
    subject_close(&s);
}

static flux1_adapter *adapter_of(subject *s, const char *name)
{
    char path[300];
    flux1_adapter *a;
    snprintf(path, sizeof path, TEST_DATA "/files/lora/golden/%s.safetensors", name);
    if (flux1_adapter_open(s->c, s->m, path, &a) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s->c));
    return a;
}

/* comfy_text has layers of CLIP, xlabs of the transformer alone. */
static void an_encoding_belongs_to_the_adapters_of_the_encoders(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_adapter *text = adapter_of(&s, "comfy_text"), *dit = adapter_of(&s, "xlabs");
    const struct {
        flux1_adapter_use use[2];
        int count;
        uint64_t encoded, reused;
    } rows[] = {
        {{{NULL, 0}}, 0, 1, 0},           {{{text, 1}}, 1, 2, 0}, {{{text, 0.5f}}, 1, 3, 0}, {{{dit, 1}}, 1, 3, 1},
        {{{text, 1}, {dit, 2}}, 2, 3, 2}, {{{text, 0}}, 1, 3, 3}, {{{NULL, 0}}, 0, 3, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flux1_generate_params p = s.g.params;
        p.adapters = rows[i].use;
        p.adapter_count = rows[i].count;
        flux1_images_free(picture(&s, &p), 1);
        assert_counts(&s, rows[i].encoded, rows[i].reused);
    }
    flux1_adapter_close(text);
    flux1_adapter_close(dit);
    subject_close(&s);
}

/* Nor can they be in one call, and a step cache is of all of a batch. */
static void requests_of_one_call_have_the_same_adapters(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_adapter *dit = adapter_of(&s, "xlabs");
    const flux1_adapter_use half = {dit, 0.5f}, whole = {dit, 1};
    const struct {
        const flux1_adapter_use *a, *b;
        float step_cache;
        const char *differs;
    } rows[] = {{NULL, &half, 0, "in adapters"},
                {&half, &whole, 0, "in adapters"},
                {&half, NULL, 0, "in adapters"},
                {NULL, NULL, 0.1f, "in step_cache"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flux1_generate_params a = s.g.params, b = a;
        flux1_image *images;
        a.adapters = rows[i].a, a.adapter_count = rows[i].a != NULL;
        b.adapters = rows[i].b, b.adapter_count = rows[i].b != NULL;
        b.step_cache = rows[i].step_cache;
        assert_int_equal(flux1_generate_many(s.c, s.m, (const flux1_generate_params *[]){&a, &b}, 2, &images),
                         FLUX1_ERR_ARGUMENT);
        if (!strstr(flux1_context_message(s.c), rows[i].differs))
            fail_msg("row %zu: \"%s\"", i, flux1_context_message(s.c));
    }
    flux1_adapter_close(dit);
    subject_close(&s);
}

/* Another model of the same folder has its own. */
static void an_encoding_belongs_to_a_model(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_images_free(picture(&s, &s.g.params), 1);
    flux1_model *first = s.m;
    s.m = model_of(s.c, PACKED);
    flux1_images_free(picture(&s, &s.g.params), 1);
    assert_counts(&s, 2, 0);
    flux1_model_close(first);
    subject_close(&s);
}

/* The least recently used goes first; what the stages need is not taken from them. */
static void the_bytes_are_bounded(void **state)
{
    (void)state;
    subject s;
    flux1_text *text[3], *copy;
    bool found;
    subject_open(&s, 0);
    flux1_generate_params p = s.g.params;
    const char *const prompts[] = {"one", "two", "three"};
    for (int i = 0; i < 3; i++) {
        p.prompt = prompts[i];
        assert_int_equal(flux1_encode_text(s.c, s.m, &p, &text[i]), FLUX1_OK);
    }
    const uint64_t bytes = info_of(&s).text_bytes; /* of three */
    assert_int_equal(text_cache_limit(s.c, 0), FLUX1_OK);
    assert_int_equal(text_cache_limit(s.c, bytes * 5 / 6), FLUX1_OK);
    const struct {
        int prompt;
        bool there;
    } rows[] = {{0, false}, {1, false}, {0, true},
                {2, false}, {0, true},  {1, false}}; /* the third displaces the second */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_non_null(copy = text_like(text[rows[i].prompt]));
        assert_int_equal(text_cache_take(s.c, NULL, copy, &found), FLUX1_OK);
        flux1_text_free(copy);
        assert_int_equal(found, rows[i].there);
        if (!found)
            assert_int_equal(text_cache_keep(s.c, NULL, text[rows[i].prompt]), FLUX1_OK);
    }
    for (int i = 0; i < 3; i++)
        flux1_text_free(text[i]);
    assert_int_equal(text_cache_limit(s.c, 0), FLUX1_OK);
    assert_int_equal(info_of(&s).text_bytes, 0);
    subject_close(&s);
    subject_open(&s, 0);
    assert_int_equal(text_cache_limit(s.c, UINT64_MAX), FLUX1_OK);
    flux1_images_free(picture(&s, &s.g.params), 1);
    assert_true(info_of(&s).text_bytes > 0 && info_of(&s).text_bytes <= TEXT_CACHE_BYTES);
    /* the least memory that the stages do with leaves none for encodings */
    uint64_t too_little = 1 << 20, enough = (uint64_t)1 << 32;
    while (enough - too_little > 1) {
        flux1_image *image = NULL;
        s.c->max_memory = too_little + (enough - too_little) / 2;
        assert_int_equal(text_cache_limit(s.c, 0), FLUX1_OK);
        const flux1_status st = flux1_generate(s.c, s.m, &s.g.params, &image);
        assert_true(st == FLUX1_OK || st == FLUX1_ERR_LIMIT);
        *(st == FLUX1_OK ? &enough : &too_little) = s.c->max_memory;
        flux1_images_free(image, image ? 1 : 0);
    }
    s.c->max_memory = enough;
    assert_int_equal(text_cache_limit(s.c, 0), FLUX1_OK);
    flux1_images_free(picture(&s, &s.g.params), 1);
    assert_int_equal(info_of(&s).text_bytes, 0);
    subject_close(&s);
}

/* Two different prompts and one negative prompt; an equal one is not there twice. */
static void the_prompts_of_a_run_are_in_its_plan(void **state)
{
    (void)state;
    subject s;
    subject_open(&s, 0);
    flux1_generate_params p[3];
    three_requests(&s, "nothing of it", p);
    const flux1_generate_params *const all[] = {&p[0], &p[1], &p[2]};
    run g = {.c = s.c, .m = s.m, .n = 3};
    assert_int_equal(run_take_requests(&g, all), FLUX1_OK);
    assert_int_equal(run_plan(&g), FLUX1_OK);
    const uint64_t texts = memory_of(s.c, &s.c->device, &g.denoiser.plan, NULL).texts;
    run_free(&g);
    flux1_image *images;
    assert_int_equal(flux1_generate_many(s.c, s.m, all, 3, &images), FLUX1_OK);
    const flux1_context_info i = info_of(&s); /* the three that were made are kept, with a few bytes beside each */
    assert_int_equal(i.texts_encoded, 3);
    assert_in_range(i.text_bytes, texts, texts + texts / 8);
    flux1_images_free(images, 3);
    subject_close(&s);
}

/* One of them fits with room for ten more; of 200 the message says that they are too many. */
static void too_many_prompts_in_one_call_are_refused(void **state)
{
    (void)state;
    enum { PROMPTS = 200 };
    subject s;
    subject_open(&s, 0);
    static char words[PROMPTS][32];
    static flux1_generate_params p[PROMPTS];
    static const flux1_generate_params *all[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        snprintf(words[i], sizeof words[i], "prompt %d", i);
        p[i] = s.g.params;
        p[i].prompt = words[i];
        p[i].count = 1;
        p[i].batch = 1;
        p[i].max_sequence_length = 512;
        all[i] = &p[i];
    }
    run g = {.c = s.c, .m = s.m, .n = 1};
    assert_int_equal(run_take_requests(&g, all), FLUX1_OK);
    assert_int_equal(run_plan(&g), FLUX1_OK);
    uint64_t most = 0;
    const stage_plan *const plans[] = {&g.text_plan.clip, &g.text_plan.t5, &g.denoiser.plan, &g.decoder.plan};
    for (int i = 0; i < 4; i++) {
        const uint64_t total = memory_total(memory_of(s.c, &s.c->device, plans[i], NULL));
        most = total > most ? total : most;
    }
    s.c->max_memory = most + 10 * s.c->run_texts;
    run_free(&g);
    flux1_image *images;
    assert_int_equal(flux1_generate_many(s.c, s.m, all, PROMPTS, &images), FLUX1_ERR_LIMIT);
    if (!strstr(flux1_context_message(s.c), "encoded prompts ") ||
        !strstr(flux1_context_message(s.c), "fewer prompts in one call"))
        fail_msg("%s", flux1_context_message(s.c));
    assert_int_equal(info_of(&s).texts_encoded, 0);
    if (flux1_generate_many(s.c, s.m, all, 10, &images) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(s.c));
    flux1_images_free(images, 10);
    subject_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_equal_prompt_is_not_encoded_again),
        cmocka_unit_test(equal_prompts_of_one_call_are_encoded_once),
        cmocka_unit_test(an_encoding_belongs_to_the_adapters_of_the_encoders),
        cmocka_unit_test(requests_of_one_call_have_the_same_adapters),
        cmocka_unit_test(an_encoding_belongs_to_a_model),
        cmocka_unit_test(the_bytes_are_bounded),
        cmocka_unit_test(the_prompts_of_a_run_are_in_its_plan),
        cmocka_unit_test(too_many_prompts_in_one_call_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
