/* The names in a folder: their order, those that are left out, and a disk that fails (by the linker's --wrap). */
#include "base/listing.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int good = -1;     /* names that the disk gives before it fails; negative: it does not fail */
static size_t made_up;    /* names that it gives in place of those that there are */
static struct dirent one; /* of them */

struct dirent *__real_readdir(DIR *d);
struct dirent *__wrap_readdir(DIR *d);

struct dirent *__wrap_readdir(DIR *d)
{
    if (good == 0) {
        errno = EIO;
        return NULL;
    }
    good -= good > 0;
    if (made_up == 0)
        return __real_readdir(d);
    snprintf(one.d_name, sizeof one.d_name, "%zu", made_up--);
    return &one;
}

static char folder[] = "/tmp/flux1_listing_XXXXXX";
static const char *const files[] = {"b", ".hidden", "a.safetensors", "B", "a"};
enum { FILES = sizeof files / sizeof *files };

static const char *path_of(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    for (int i = 0; i < FILES; i++)
        if (mkdir(path_of(files[i]), 0700) != 0)
            return -1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++)
        rmdir(path_of(files[i]));
    return rmdir(folder);
}

static void names_are_sorted_by_bytes_without_hidden_ones(void **state)
{
    (void)state;
    static const char *const sorted[] = {"B", "a", "a.safetensors", "b"};
    listing l;
    assert_int_equal(listing_read(folder, &l, NULL), FLUX1_OK);
    assert_int_equal(l.count, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(l.name[i], sorted[i]);
    assert_false(l.cut);
    listing_free(&l);
}

static void assert_unreadable(const char *path)
{
    listing l;
    flux1_error err = {0};
    assert_int_equal(listing_read(path, &l, &err), FLUX1_ERR_IO);
    assert_true(l.count == 0 && !l.name && !l.cut);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "cannot list"));
}

static void a_folder_that_cannot_be_listed_to_its_end_is_none(void **state)
{
    (void)state;
    assert_unreadable(path_of("none"));
    for (good = 0; good < 6;) { /* readdir counts it down */
        const int before = good;
        assert_unreadable(folder);
        good = before + 1;
    }
    good = -1;
}

static void a_large_folder_is_cut(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        listing l;
        made_up = LISTING_MAX - FILES + 1 + (size_t)more; /* and four that there are */
        assert_int_equal(listing_read(folder, &l, NULL), FLUX1_OK);
        assert_int_equal(l.count, LISTING_MAX);
        assert_int_equal(l.cut, more);
        listing_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_are_sorted_by_bytes_without_hidden_ones),
                                       cmocka_unit_test(a_folder_that_cannot_be_listed_to_its_end_is_none),
                                       cmocka_unit_test(a_large_folder_is_cut)};
    return cmocka_run_group_tests(tests, begin, end);
}
