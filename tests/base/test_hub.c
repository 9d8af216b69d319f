/* Names of repositories and the cache's folder, as huggingface_hub 0.36 understands them: the rows were made with its
 * validate_repo_id and its constants. */
#include "base/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void a_name_is_taken_apart(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"a/b", "a/b", "main"},
        {"black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-schnell", "main"},
        {"a/b@refs/pr/1", "a/b", "refs/pr/1"},
        {"a/b@v1.0_x", "a/b", "v1.0_x"},
        {"a_/_b@" COMMIT, "a_/_b", COMMIT},
        {"a/" X32 X32 X32, "a/" X32 X32 X32, "main"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hub_name name;
        assert_int_equal(hub_name_parse(rows[i][0], &name, NULL), FLUX1_OK);
        assert_string_equal(name.repository, rows[i][1]);
        assert_string_equal(name.revision, rows[i][2]);
    }
}

static void other_names_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "a",
        "/",
        "a/",
        "/b",
        "a/b/c",
        ".a/b",
        "a/b.",
        "a--b/c",
        "a/b..c",
        "a/b.git",
        "-a/b",
        "a b/c",
        "a/b-",
        "../b",
        "a/..",
        "a/b@",
        "a/b@/x",
        "a/b@x/",
        "a/b@x//y",
        "a/b@../..",
        "a/b@x..y",
        "a/b@.x",
        "a/b@x@y",
        "a/b@x y",
        "a/b@x\ny",
        "a/b@x\\y",
        "a/b@x.lock",
        "a/b@-x",
        "a@b/c",
        "a/b@\xff",
        "~/models",
        "a/\xc3\xa9",
        X32 X32 X32 "x/b",
        "a/" X32 X32 X32 "x",
        "a/b@" X32 X32 X32 X32 X32 X32 X32,
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hub_name name;
        flux1_error err = {0};
        if (hub_name_parse(rows[i], &name, &err) != FLUX1_ERR_ARGUMENT)
            fail_msg("\"%s\" was accepted", rows[i]);
        assert_non_null(strstr(err.message, "is not a repository"));
    }
}

static void paths_stay_in_the_snapshot(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b/c.json", "...", "a..b/..c", "\xc3\xa9/x", "a b"};
    static const char *const bad[] = {"",     "/a",    "a/",   "a//b",  ".",     "..",      "../a",
                                      "a/..", "a/./b", "a\\b", "a\x01", "a\x7f", "a/\xff/b"};
    char segment[260], longer[1100];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(hub_path_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hub_path_valid(bad[i]))
            fail_msg("\"%s\" was accepted", bad[i]);
    memset(segment, 'x', sizeof segment);
    segment[255] = '\0';
    assert_true(hub_path_valid(segment));
    segment[255] = 'x';
    segment[256] = '\0';
    assert_false(hub_path_valid(segment));
    for (size_t i = 0; i < sizeof longer; i++)
        longer[i] = i % 2 ? '/' : 'x';
    longer[1025] = '\0';
    assert_false(hub_path_valid(longer));
    longer[1023] = '\0';
    assert_true(hub_path_valid(longer));
}

static const char *const variables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME",
                                        "HF_TOKEN_PATH"};

/* One environment: values in the order of `variables` (NULL: not set), and what is expected. */
typedef struct environment {
    const char *values[5];
    const char *root, *token;
} environment;

static void check_environment(const environment *row)
{
    char *text;
    for (int i = 0; i < 5; i++)
        row->values[i] ? setenv(variables[i], row->values[i], 1) : unsetenv(variables[i]);
    assert_int_equal(hub_cache_root(&text, NULL), FLUX1_OK);
    assert_string_equal(text, row->root);
    free(text);
    assert_int_equal(hub_token_path(&text, NULL), FLUX1_OK);
    assert_string_equal(text, row->token);
    free(text);
}

static void folders_come_from_the_environment(void **state)
{
    (void)state;
#define HOME "/home/u/.cache/huggingface"
    static const environment rows[] = {
        {{NULL}, HOME "/hub", HOME "/token"},
        {{NULL, NULL, "/a/b"}, "/a/b/hub", "/a/b/token"},
        {{NULL, NULL, NULL, "/x"}, "/x/huggingface/hub", "/x/huggingface/token"},
        {{NULL, NULL, "~/h", "/x"}, "/home/u/h/hub", "/home/u/h/token"},
        {{"/c", NULL, "/a"}, "/c", "/a/token"},
        {{NULL, "/old", "/a"}, "/old", "/a/token"},
        {{"$V/${V}z$Q/$", "/old"}, "/val//valz$Q/$", HOME "/token"},
        {{NULL, NULL, "${V}/x", NULL, "~/t"}, "/val/x/hub", "/home/u/t"},
        {{"~"}, "/home/u", HOME "/token"},
        {{"~nobody1/x${V"}, "~nobody1/x${V", HOME "/token"},
        {{"${}/$$V"}, "${}/$/val", HOME "/token"},
        {{"", "", "", "", ""}, HOME "/hub", HOME "/token"}, /* our rule: nothing is not set */
    };
#undef HOME
    setenv("HOME", "/home/u", 1);
    setenv("V", "/val", 1);
    unsetenv("Q");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_environment(&rows[i]);
}

static void write_text(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make(const char *root, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void remove_all(const char *root)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

static flux1_status find(const char *root, const char *text, char **out, flux1_error *err)
{
    hub_name name;
    assert_int_equal(hub_name_parse(text, &name, NULL), FLUX1_OK);
    error_clear(err);
    return hub_snapshot(root, &name, out, err);
}

static void a_snapshot_is_found_by_branch_and_by_commit(void **state)
{
    (void)state;
    char root[] = "/tmp/test_hub.XXXXXX", *folder;
    flux1_error err = {0};
    assert_non_null(mkdtemp(root));
    assert_int_equal(find(root, "o/n", &folder, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, "models--o--n does not exist"));
    make(root, "models--o--n");
    make(root, "models--o--n/refs");
    assert_int_equal(find(root, "o/n", &folder, &err), FLUX1_ERR_IO);
    write_text(root, "models--o--n/refs/main", COMMIT "\n");
    assert_int_equal(find(root, "o/n", &folder, &err), FLUX1_ERR_IO); /* a reference without its snapshot */
    assert_null(folder);
    make(root, "models--o--n/snapshots");
    make(root, "models--o--n/snapshots/" COMMIT);
    static const char *const names[] = {"o/n", "o/n@main", "o/n@" COMMIT};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(find(root, names[i], &folder, &err), FLUX1_OK);
        assert_memory_equal(folder, root, strlen(root));
        assert_string_equal(folder + strlen(root), "/models--o--n/snapshots/" COMMIT);
        free(folder);
    }
    assert_int_equal(find(root, "o/n@v2", &folder, &err), FLUX1_ERR_IO);
    write_text(root, "models--o--n/refs/main", "../../../../etc");
    assert_int_equal(find(root, "o/n", &folder, &err), FLUX1_ERR_FORMAT);
    remove_all(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_taken_apart),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(paths_stay_in_the_snapshot),
        cmocka_unit_test(folders_come_from_the_environment),
        cmocka_unit_test(a_snapshot_is_found_by_branch_and_by_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
