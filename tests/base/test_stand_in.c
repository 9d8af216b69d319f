/* What servers and tools leave in the place of a file is known by its beginning; the real files are not mistaken. */
#include "base/stand_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void stand_ins_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"},
        {"\xEF\xBB\xBF\r\n <!DOCTYPE html>", "web page"},
        {"<HTML><head>", "web page"},
        {"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "server's answer"},
        {"{\"error\":\"Repository not found\"}", "server's answer"},
        {"Entry not found", "server's answer"},
        {"Access to model black-forest-labs/FLUX.1-dev is restricted.", "server's answer"},
        {"Invalid username or password.", "server's answer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        flux1_error err = {0};
        const size_t n = strlen(cases[i].text);
        char *exact = malloc(n); /* no zero behind it */
        memcpy(exact, cases[i].text, n);
        assert_int_equal(stand_in_check("a/file", exact, n, &err), FLUX1_ERR_FORMAT);
        if (strncmp(err.message, "a/file: a ", 10) != 0 || !strstr(err.message, cases[i].name))
            fail_msg("%s: %s", cases[i].text, err.message);
        free(exact);
    }
}

static void files_are_not(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "{\"_class_name\": \"FluxPipeline\"}",
        "#version: 0.2\ni n\n",
        "\n\r\x08<unk>",
        "<|endoftext|>",
        "version",
        "GGUF\3\0\0",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(stand_in_check("a", texts[i], strlen(texts[i]), NULL), FLUX1_OK);
    assert_null(stand_in_named(NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stand_ins_are_named),
        cmocka_unit_test(files_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
