/* Kept files: whole or absent, never in the way. */
#include "weights/small_cache.h"

#include "base/file.h"
#include "support/failing.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

static bool die_before_rename;

int __wrap_rename(const char *from, const char *to)
{
    if (die_before_rename)
        raise(SIGKILL);
    return __real_rename(from, to);
}

static char root[64], folder[80];

static const char *in_folder(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/flux1_cache_XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(folder, sizeof folder, "%s/flux1", root);
    unsetenv("HOME");
    return setenv("XDG_CACHE_HOME", root, 1);
}

static int end(void **state)
{
    (void)state;
    char command[120];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static int files_there(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void put(const char *name, const void *bytes, size_t size)
{
    flux1_error err = {0};
    if (small_cache_put(name, bytes, size, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
}

static void expect(const char *name, const void *bytes, size_t size)
{
    char *got;
    size_t got_size;
    assert_true(small_cache_get(name, 1 << 20, &got, &got_size));
    assert_int_equal(got_size, size);
    assert_memory_equal(got, bytes, size);
    assert_int_equal(got[size], 0);
    free(got);
}

static void expect_absent(const char *name, size_t limit)
{
    char *bytes = (char *)"x";
    size_t size = 1;
    assert_false(small_cache_get(name, limit, &bytes, &size));
    assert_true(!bytes && size == 0);
}

static void entries_come_back_and_are_replaced(void **state)
{
    (void)state;
    static const char binary[] = "a\0b\xff\n";
    struct stat info;
    expect_absent("matmul-1.2_a", 100);
    assert_false(file_exists(folder)); /* reading makes nothing */
    put("matmul-1.2_a", binary, sizeof binary);
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    expect("matmul-1.2_a", binary, sizeof binary);
    put("matmul-1.2_a", "new", 3);
    expect("matmul-1.2_a", "new", 3);
    put("empty", "", 0);
    expect("empty", "", 0);
    assert_int_equal(files_there(), 2);
    expect_absent("another", 100);
}

/* 3 bytes fit a limit of 3, not of 2. */
static void the_limit_holds(void **state)
{
    (void)state;
    char *bytes;
    size_t size;
    put("e", "abc", 3);
    expect_absent("e", 2);
    assert_true(small_cache_get("e", 3, &bytes, &size));
    free(bytes);
}

static void damaged_entries_are_absent(void **state)
{
    (void)state;
    char whole[200];
    put("e", "some bytes", 10);
    FILE *f = fopen(in_folder("e"), "rb");
    assert_non_null(f);
    size_t size = fread(whole, 1, sizeof whole, f);
    fclose(f);
    for (size_t at = 0; at < size; at++) { /* each bit of each byte, and each cut */
        for (int bit = 0; bit <= 8; bit++) {
            whole[at] ^= bit < 8 ? (char)(1 << bit) : 0;
            f = fopen(in_folder("e"), "wb");
            assert_non_null(f);
            fwrite(whole, 1, bit < 8 ? size : at, f);
            fclose(f);
            expect_absent("e", 1000);
            whole[at] ^= bit < 8 ? (char)(1 << bit) : 0;
        }
    }
    unlink(in_folder("e"));
    assert_int_equal(mkdir(in_folder("e"), 0700), 0);
    expect_absent("e", 1000);
    rmdir(in_folder("e"));
    assert_int_equal(mkfifo(in_folder("e"), 0600), 0); /* does not hang */
    expect_absent("e", 1000);
}

static void expect_no_folder(const char *words)
{
    flux1_error err = {0};
    assert_int_equal(small_cache_put("e", "x", 1, &err), FLUX1_ERR_IO);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    expect_absent("e", 100);
}

static void without_a_folder_nothing_is_kept(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/file", root);
    fclose(fopen(path, "wb"));
    setenv("XDG_CACHE_HOME", path, 1);
    expect_no_folder("exists and is not a folder");
    setenv("XDG_CACHE_HOME", "/proc/flux1-cannot-be", 1); /* nor by root */
    expect_no_folder("no folder can be made there");
    setenv("XDG_CACHE_HOME", "relative", 1); /* to be ignored, says its specification */
    expect_no_folder("neither XDG_CACHE_HOME nor HOME");
    unsetenv("XDG_CACHE_HOME");
    expect_no_folder("neither XDG_CACHE_HOME nor HOME");
    setenv("HOME", root, 1);
    put("e", "home", 4);
    expect("e", "home", 4);
    snprintf(path, sizeof path, "%s/.cache/flux1/e", root);
    assert_true(file_exists(path));
}

static void names_stay_inside_the_folder(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ".", "..", "../e", "a/b", "/e", ".hidden", "a b", "e.tmp", "\xC3\xA9", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(small_cache_put(bad[i], "x", 1, NULL), FLUX1_ERR_ARGUMENT);
        expect_absent(bad[i], 100);
    }
    assert_int_equal(files_there(), 0);
}

/* A writer that dies with everything written but the rename: what was there is still what is there. */
static void a_killed_writer_leaves_nothing_visible(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            die_before_rename = true;
            small_cache_put("e", "of the dead", 11, NULL);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (round == 0)
            expect_absent("e", 100);
        else
            expect("e", "of the living", 13);
        put("e", "of the living", 13);
    }
}

/* Two processes write without end, a third reads: always one of the two texts, whole. */
static void writers_at_once_do_not_mix(void **state)
{
    (void)state;
    enum { SIZE = 100000, ROUNDS = 200 };
    char *texts[2], *bytes;
    pid_t child[2];
    size_t size;
    for (int i = 0; i < 2; i++) {
        assert_non_null(texts[i] = malloc(SIZE));
        memset(texts[i], 'a' + i, SIZE);
    }
    put("e", texts[0], SIZE);
    for (int i = 0; i < 2; i++)
        if ((child[i] = fork()) == 0) {
            int bad = 0;
            for (int n = 0; n < ROUNDS; n++)
                bad += small_cache_put("e", texts[i], SIZE, NULL) != FLUX1_OK;
            _exit(bad != 0);
        }
    for (int n = 0; n < ROUNDS; n++) {
        assert_true(small_cache_get("e", SIZE, &bytes, &size));
        assert_true(size == SIZE && (memcmp(bytes, texts[0], SIZE) == 0 || memcmp(bytes, texts[1], SIZE) == 0));
        free(bytes);
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        free(texts[i]);
    }
    assert_int_equal(files_there(), 1);
}

static flux1_status put_one(void *unused, flux1_error *err)
{
    (void)unused;
    return small_cache_put("e", "x", 1, err);
}

/* A read that lacks memory finds nothing; all else is a status. */
static void each_failed_allocation_is_told(void **state)
{
    (void)state;
    char *bytes;
    size_t size;
    assert_true(failing_each(put_one, NULL, 100) >= 4);
    failing_after(-1);
    assert_true(small_cache_get("e", 100, &bytes, &size));
    free(bytes);
    long points = failing_asked();
    for (long i = 0; i < points; i++) {
        failing_after(i);
        assert_false(small_cache_get("e", 100, &bytes, &size));
        assert_null(bytes);
    }
    failing_after(-1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(entries_come_back_and_are_replaced), TEST(the_limit_holds),
        TEST(damaged_entries_are_absent),         TEST(without_a_folder_nothing_is_kept),
        TEST(names_stay_inside_the_folder),       TEST(a_killed_writer_leaves_nothing_visible),
        TEST(writers_at_once_do_not_mix),         TEST(each_failed_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
