/* Every allocation fails once: each call ends in FLUX1_ERR_MEMORY, and nothing leaks (seen by the sanitizer). */
#include "support/failing.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define POINTS 1000

/* Objects, lists, texts with escapes and numbers of every kind, enough for several blocks of memory. */
static char *large_json(void)
{
    json_writer w = {.style = JSON_LINE};
    char *text = NULL, key[32];
    json_begin_object(&w, NULL);
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "member \"%d\"", i);
        json_begin_array(&w, key);
        json_put_string(&w, NULL, "tab\tand a line\n");
        json_put_unsigned(&w, NULL, UINT64_MAX);
        json_put_real(&w, NULL, 0.1 * i);
        json_end_array(&w);
    }
    json_end_object(&w);
    assert_int_equal(json_take(&w, "a text", &text, NULL), FLUX1_OK);
    return text;
}

static flux1_status parse(void *text, flux1_error *err)
{
    json_value *root = NULL;
    flux1_status st = json_parse(text, strlen(text), "a.json", &root, err);
    assert_true((st == FLUX1_OK) == (root != NULL));
    json_free(root);
    return st;
}

static flux1_status copy(void *root, flux1_error *err)
{
    json_writer w = {.style = JSON_INDENTED};
    char *text = NULL;
    json_put_value(&w, NULL, root);
    flux1_status st = json_take(&w, "a text", &text, err);
    assert_true((st == FLUX1_OK) == (text != NULL));
    free(text);
    return st;
}

static void json_survives_each_failed_allocation(void **state)
{
    (void)state;
    char *text = large_json();
    json_value *root = NULL;
    assert_int_equal(json_parse(text, strlen(text), "a.json", &root, NULL), FLUX1_OK);
    assert_true(failing_each(parse, text, POINTS) >= 5);
    assert_true(failing_each(copy, root, POINTS) >= 5);
    json_free(root);
    free(text);
}

static flux1_status write_file(void *path, flux1_error *err)
{
    file_writer w;
    flux1_status st = file_begin(path, &w, err);
    file_abandon(&w);
    return st;
}

static flux1_status start_pool(void *unused, flux1_error *err)
{
    (void)unused;
    pool *p;
    flux1_status st = pool_create(3, &p, err);
    pool_destroy(p);
    return st;
}

static void files_and_pools_survive_each_failed_allocation(void **state)
{
    (void)state;
    char path[] = "/tmp/flux1_test_allocation";
    assert_true(failing_each(write_file, path, POINTS) >= 2);
    assert_true(failing_each(start_pool, NULL, POINTS) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_survives_each_failed_allocation),
        cmocka_unit_test(files_and_pools_survive_each_failed_allocation),
    };
    return cmocka_run_group_tests_name("base: allocation failure", tests, NULL, NULL);
}
