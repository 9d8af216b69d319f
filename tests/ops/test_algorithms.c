/* The file of chosen algorithms: what comes back, of which device, and of which version of the file. */
#include "ops/cuda/algorithms.h"

#include "weights/small_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define ENTRY "cublaslt-algorithms.txt"

static char folder[64];

static int begin(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/flux1_algorithms_XXXXXX");
    return !mkdtemp(folder) || setenv("XDG_CACHE_HOME", folder, 1);
}

static int end(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/flux1/" ENTRY, folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/flux1", folder);
    rmdir(path);
    return rmdir(folder);
}

static const cuda_product_shape shape = {.m = 5, .n = 6, .k = 7, .ld_in = 8, .ld_w = 9, .ld_out = 10, .align = 16};

/* What a new run of this device knows of the shape: the first word of an algorithm, 0 for nothing. */
static uint64_t known(const char *identity)
{
    cuda_device d = {0};
    snprintf(d.identity, sizeof d.identity, "%s", identity);
    const cublasLtMatmulAlgo_t *a = cuda_algorithm_find(&d, &shape);
    uint64_t word = a ? a->data[0] : 0;
    cuda_algorithms_free(&d);
    return word;
}

static void note(const char *identity, uint64_t word)
{
    cuda_device d = {0};
    cublasLtMatmulAlgo_t a = {.data = {word, 1, 2, 3}};
    snprintf(d.identity, sizeof d.identity, "%s", identity);
    cuda_algorithm_note(&d, &shape, &a);
    cuda_algorithms_save(&d);
    cuda_algorithms_free(&d);
}

static void algorithms_come_back_by_device(void **state)
{
    (void)state;
    assert_int_equal(known("one"), 0);
    note("one", 11);
    note("two", 12);
    assert_int_equal(known("one"), 11);
    assert_int_equal(known("two"), 12);
    note("one", 13); /* searched for again: the last counts, and the other device's stays */
    assert_int_equal(known("one"), 13);
    assert_int_equal(known("two"), 12);
    assert_int_equal(known("three"), 0);
}

/* The entry of the version before, which began with its first line, and of one to come. */
static void entries_of_other_versions_are_written_anew(void **state)
{
    (void)state;
    char *text;
    size_t size;
    note("one", 11);
    assert_true(small_cache_get(ENTRY, 1 << 20, &text, &size));
    const char *first = strchr(text, '\n') + 1;
    assert_int_equal(strncmp(first, "one|", 4), 0);
    for (int later = 0; later < 2; later++) {
        char *other = strdup(later ? text : first);
        assert_non_null(other);
        if (later)
            strchr(other, '\n')[-1]++;
        assert_int_equal(small_cache_put(ENTRY, other, strlen(other), NULL), FLUX1_OK);
        assert_int_equal(known("one"), 0);
        note("two", 12);
        assert_int_equal(known("two"), 12);
        assert_int_equal(known("one"), 0);
        free(other);
    }
    free(text);
}

static void damaged_lines_are_left_out(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "flux1 algorithms",
                                        "flux1 algorithms 2",
                                        "flux1 algorithms 2\n",
                                        "flux1 algorithms 2\none|5 6",
                                        "flux1 algorithms 2\none|5 6 7 8 9 10 0 0 0 0 16|zz\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(small_cache_put(ENTRY, wrong[i], strlen(wrong[i]), NULL), FLUX1_OK);
        assert_int_equal(known("one"), 0);
        note("one", 11);
        assert_int_equal(known("one"), 11);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(algorithms_come_back_by_device, begin, end),
        cmocka_unit_test_setup_teardown(entries_of_other_versions_are_written_anew, begin, end),
        cmocka_unit_test_setup_teardown(damaged_lines_are_left_out, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
