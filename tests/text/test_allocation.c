/* Every allocation fails once: opening and tokenizing end in a status, nothing leaks (seen by the sanitizer), and the
 * same call without the fault works. */
#include "support/failing.h"
#include "support/token_golden.h"
#include "text/builtin.h"
#include "text/clip_open.h"
#include "text/t5_open.h"

static const char prompt[] = "A caf\xc3\xa9, two  owls</s> at night<|endoftext|> \xe7\x8c\xab e\xcc\x81\xcc\xa3";

static flux1_status run_clip(void *folder, flux1_error *err)
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

static flux1_status run_t5(void *folder, flux1_error *err)
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

static void fail_each(flux1_status (*run)(void *, flux1_error *), const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s", folder);
    assert_true(failing_each(run, path, 1000) > 20);
}

/* Opening a vocabulary of true size once for each allocation would take long: unpacking alone. */
static flux1_status run_unpacking(void *t5, flux1_error *err)
{
    tokenizer_files files;
    flux1_status st = t5 ? builtin_t5_files(&files, err) : builtin_clip_files(&files, err);
    tokenizer_files_free(&files);
    return st;
}

static void unpacking_survives_each_failed_allocation(void **state)
{
    (void)state;
    char t5[] = "t5";
    assert_true(failing_each(run_unpacking, NULL, 1000) > 7); /* seven names, the text, what zlib wants */
    assert_true(failing_each(run_unpacking, t5, 1000) > 7);
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
    fail_each(run_t5, TEST_DATA "/tokenizers/t5_later");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpacking_survives_each_failed_allocation),
        cmocka_unit_test(clip_survives_each_failed_allocation),
        cmocka_unit_test(t5_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests_name("text: allocation failure", tests, NULL, NULL);
}
