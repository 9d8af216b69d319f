/* Addresses: to which servers a token may go, and how paths are written. The quoted texts are Python's
 * urllib.parse.quote's. */
#include "fetch/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void an_origin_is_scheme_host_and_port(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"https://huggingface.co", "https://huggingface.co/a/b?c"},
        {"https://HuggingFace.co/x", "HTTPS://huggingface.CO#y"},
        {"http://127.0.0.1:80", "http://127.0.0.1:80/"},
    };
    static const char *const other[][2] = {
        {"https://huggingface.co", "http://huggingface.co/"},
        {"https://huggingface.co", "https://huggingface.co:8443/"},
        {"https://huggingface.co", "https://huggingface.co.evil.org/"},
        {"https://huggingface.co", "https://huggingface.co@evil.org/"},
        {"https://huggingface.co", "https://evil.org/huggingface.co"},
        {"https://huggingface.co", "https://huggingface.co\\@evil.org/"},
        {"https://huggingface.co", "https://cdn-lfs.huggingface.co/"},
        {"https://huggingface.co", "//huggingface.co/"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(url_same_origin(same[i][0], same[i][1]));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (url_same_origin(other[i][0], other[i][1]))
            fail_msg("%s is taken to be %s", other[i][1], other[i][0]);
}

static void a_host_is_shown_without_what_is_secret(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"https://cdn.org/path?signature=secret", "cdn.org"},
        {"http://user:password@h:81/x", "h:81"},
        {"http://h?x@y", "h"},
        {"nothing", "?"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[256];
        assert_string_equal(url_host(rows[i][0], text, sizeof text), rows[i][1]);
    }
}

static void paths_are_quoted(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"vae/a b.json", "/", "vae/a%20b.json"},
        {"refs/pr/1", "", "refs%2Fpr%2F1"},
        {"a~_.-?#%&+", "/", "a~_.-%3F%23%25%26%2B"},
        {"\xc3\xa9", "/", "%C3%A9"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        builder b = {0};
        url_quote(&b, rows[i][0], rows[i][1]);
        assert_string_equal(b.text, rows[i][2]);
        builder_free(&b);
    }
}

static void relative_redirects_are_told_apart(void **state)
{
    (void)state;
    assert_true(url_is_relative("/x/y"));
    assert_true(url_is_relative("x?u=http://h"));
    assert_false(url_is_relative("//h/x"));
    assert_false(url_is_relative("https://h/x"));
    assert_false(url_is_relative("ftp:x"));
    assert_false(url_is_relative(""));
}

static void the_endpoint_is_an_address(void **state)
{
    (void)state;
    char *text;
    setenv("HF_ENDPOINT", "https://mirror.org/hf//", 1);
    assert_int_equal(url_endpoint(&text, NULL), FLUX1_OK);
    assert_string_equal(text, "https://mirror.org/hf");
    free(text);
    setenv("HF_ENDPOINT", "", 1);
    assert_int_equal(url_endpoint(&text, NULL), FLUX1_OK);
    assert_string_equal(text, "https://huggingface.co");
    free(text);
    static const char *const wrong[] = {"huggingface.co", "ftp://h", "https://h/?x", "https://h h", "file:///etc"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("HF_ENDPOINT", wrong[i], 1);
        assert_int_equal(url_endpoint(&text, NULL), FLUX1_ERR_ARGUMENT);
        assert_null(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_origin_is_scheme_host_and_port),
        cmocka_unit_test(a_host_is_shown_without_what_is_secret),
        cmocka_unit_test(paths_are_quoted),
        cmocka_unit_test(relative_redirects_are_told_apart),
        cmocka_unit_test(the_endpoint_is_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
