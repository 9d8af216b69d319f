/* Every allocation fails once (ours through the linker's --wrap, jansson's through its hook): opening and tokenizing
 * end in a status, nothing leaks (seen by the sanitizer), and the same call without the fault works. */
#include "support/token_golden.h"
#include "text/clip_open.h"
#include "text/t5_open.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

static long fuse = -1; /* allocations until one fails; negative: never */
static long asked;

static int fails(void)
{
    asked++;
    return fuse >= 0 && fuse-- == 0;
}
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }

static const char prompt[] = "A caf\xc3\xa9, two  owls</s> at night<|endoftext|> \xe7\x8c\xab e\xcc\x81\xcc\xa3";

static flux1_status run_clip(const char *folder, flux1_error *err)
{
    clip_tokenizer *t;
    int32_t ids[32];
    flux1_status st = clip_tokenizer_open(folder, &t, err);
    assert_true((st == FLUX1_OK) == (t != NULL));
    if (t)
        st = clip_tokenize(t, prompt, sizeof prompt - 1, 32, ids, NULL, NULL, err);
    clip_tokenizer_close(t);
    return st;
}

static flux1_status run_t5(const char *folder, flux1_error *err)
{
    t5_tokenizer *t;
    int32_t ids[32];
    flux1_status st = t5_tokenizer_open(folder, &t, err);
    assert_true((st == FLUX1_OK) == (t != NULL));
    if (t)
        st = t5_tokenize(t, prompt, sizeof prompt - 1, 32, ids, NULL, NULL, err);
    t5_tokenizer_close(t);
    return st;
}

/* jansson makes thousands of allocations of one kind: beyond 1000 points they are sampled evenly. */
static void fail_each(flux1_status (*run)(const char *, flux1_error *), const char *folder)
{
    flux1_error err = {0};
    fuse = -1;
    asked = 0;
    if (run(folder, &err))
        fail_msg("%s", err.message);
    long points = asked, step = points / 1000 + 1;
    assert_true(points > 20);
    for (long i = 0; i < points; i += step) {
        error_clear(&err);
        fuse = i;
        flux1_status st = run(folder, &err);
        fuse = -1;
        if (st != FLUX1_ERR_MEMORY || !err.message[0])
            fail_msg("%s, allocation %ld: status %d: %s", folder, i, st, err.message);
    }
    print_message("%s: %ld allocations, each %ld. failed\n", folder, points, step);
}

static void clip_survives_each_failed_allocation(void **state)
{
    (void)state;
    fail_each(run_clip, TEST_DATA "/tokenizers/clip");
    fail_each(run_clip, TEST_DATA "/tokenizers/clip_json");
}

static void t5_survives_each_failed_allocation(void **state)
{
    (void)state;
    fail_each(run_t5, TEST_DATA "/tokenizers/t5");
    fail_each(run_t5, TEST_DATA "/tokenizers/t5_json");
}

int main(void)
{
    json_set_alloc_funcs(__wrap_malloc, free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clip_survives_each_failed_allocation),
        cmocka_unit_test(t5_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests_name("text: allocation failure", tests, NULL, NULL);
}
