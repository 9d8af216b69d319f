/* Keys, and the names and pages that a browser may come from. */
#include "server/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *const two_keys[] = {"first", "a:second"};
static const server_settings open_server = {.host = "127.0.0.1", .allow_host = "my.proxy,Other"};
static const server_settings locked = {.host = "127.0.0.1", .keys = two_keys, .key_count = 2};

static bool key(const char *authorization)
{
    fault f = {0};
    const bool good = access_key(&locked, authorization, NULL, &f);
    assert_int_equal(f.kind, good ? FAULT_NONE : FAULT_KEY);
    return good;
}

static bool names(const server_settings *s, const char *host, const char *origin)
{
    fault f = {0};
    const bool good = access_names(s, host, origin, &f);
    assert_int_equal(f.kind, good ? FAULT_NONE : FAULT_FORBIDDEN);
    return good;
}

static void a_key_is_whole_and_one_of_the_servers(void **state)
{
    (void)state;
    fault f = {0};
    assert_true(access_key(&open_server, NULL, NULL, &f));
    assert_true(key("Bearer first"));
    assert_true(key("BEARER  a:second"));
    static const char *const wrong[] = {NULL,
                                        "",
                                        "Bearer",
                                        "Bearer ",
                                        "Bearer firs",
                                        "Bearer first ",
                                        "first",
                                        "Bearer First",
                                        "Bearer firstfirst",
                                        "Digest first"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(key(wrong[i]));
}

/* As AzureOpenAI of the package openai sends it. */
static void a_key_may_be_in_azures_header(void **state)
{
    (void)state;
    static const struct {
        const char *authorization, *api_key;
        bool good;
    } rows[] = {{NULL, "first", true},
                {NULL, "a:second", true},
                {NULL, "Bearer first", false},
                {NULL, "firs", false},
                {NULL, "", false},
                {"Bearer wrong", "first", true},
                {"Bearer first", "x", true},
                {"Bearer wrong", "wrong", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fault f = {0};
        assert_int_equal(access_key(&locked, rows[i].authorization, rows[i].api_key, &f), rows[i].good);
        assert_int_equal(f.kind, rows[i].good ? FAULT_NONE : FAULT_KEY);
    }
}

/* base64 by coreutils: printf 'me:first' | base64 */
static void a_key_may_be_the_password_of_basic(void **state)
{
    (void)state;
    assert_true(key("Basic bWU6Zmlyc3Q="));  /* me:first */
    assert_true(key("basic OmE6c2Vjb25k"));  /* :a:second */
    assert_false(key("Basic Zmlyc3Q6bWU=")); /* first:me */
    assert_false(key("Basic Zmlyc3Q="));     /* first */
    assert_false(key("Basic bWU6Zmlyc3Q*"));
}

static void a_host_is_an_address_or_an_allowed_name(void **state)
{
    (void)state;
    static const char *const right[] = {"127.0.0.1:8080", "192.168.1.7", "[::1]:80", "localhost:1",
                                        "LOCALHOST",      "my.proxy",    "other:443"};
    static const char *const wrong[] = {
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "my.proxy.evil", "my", "", "1.2.3",
        "[::1"};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        assert_true(names(&open_server, right[i], NULL));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(names(&open_server, wrong[i], NULL));
    assert_true(names(&locked, "evil.example", NULL)); /* the key decides */
    const server_settings any = {.host = "127.0.0.1", .allow_host = "*"};
    assert_true(names(&any, "whatever.example", NULL));
}

static void a_page_of_another_site_is_refused(void **state)
{
    (void)state;
    assert_true(names(&open_server, "127.0.0.1:8080", "http://127.0.0.1:8080"));
    assert_true(names(&open_server, "127.0.0.1:8080", "https://my.proxy"));
    assert_false(names(&open_server, "127.0.0.1:8080", "http://127.0.0.1:9090"));
    assert_false(names(&open_server, "127.0.0.1:8080", "http://evil.example"));
    assert_false(names(&open_server, "127.0.0.1:8080", "null"));
    assert_false(names(&locked, "127.0.0.1:8080", "http://evil.example"));
    const server_settings files = {.host = "127.0.0.1", .allow_host = "null"};
    assert_true(names(&files, "127.0.0.1:8080", "null"));
    assert_false(names(&files, "127.0.0.1:8080", "http://evil.example"));
}

/* "*" would let any page read what its visitor's server has, so that it takes a key, which such a page does not know.
 */
static void answers_are_shared_with_pages_that_are_allowed(void **state)
{
    (void)state;
    const server_settings any = {.host = "127.0.0.1", .allow_host = "*,my.proxy"};
    const server_settings any_with_key = {.allow_host = "*", .keys = two_keys, .key_count = 2};
    assert_true(access_shares(&open_server, "127.0.0.1:8080", "https://my.proxy"));
    assert_true(access_shares(&open_server, "127.0.0.1:8080", "http://OTHER:3000"));
    assert_false(access_shares(&open_server, "127.0.0.1:8080", NULL));
    assert_false(access_shares(&open_server, "my.proxy", "https://my.proxy")); /* it is not another host */
    assert_false(access_shares(&open_server, "127.0.0.1:8080", "http://evil.example"));
    assert_false(access_shares(&open_server, "127.0.0.1:8080", "null"));
    assert_false(access_shares(&open_server, NULL, "my.proxy"));
    assert_false(access_shares(&any, "127.0.0.1:8080", "http://evil.example"));
    assert_false(access_shares(&any, "127.0.0.1:8080", "null"));
    assert_true(access_shares(&any, "127.0.0.1:8080", "https://my.proxy"));
    assert_true(access_shares(&any_with_key, "127.0.0.1:8080", "http://evil.example"));
    assert_true(access_shares(&any_with_key, "127.0.0.1:8080", "null"));
    assert_false(access_shares(&locked, "127.0.0.1:8080", "http://evil.example"));
}

static bool site(const server_settings *s, const char *path, const char *from, const char *origin)
{
    fault f = {0};
    const bool good = access_site(s, path, from, origin, &f);
    assert_int_equal(f.kind, good ? FAULT_NONE : FAULT_FORBIDDEN);
    return good;
}

/* <img src="http://127.0.0.1:8080/api/info?model=NAME"> comes without an Origin. */
static void what_a_page_of_another_site_embeds_is_refused(void **state)
{
    (void)state;
    static const char *const closed[] = {"/api/info", "/api/jobs", "/v1/models", "/sdapi/v1/progress"};
    static const char *const open[] = {"/", "/health", "/openapi.json", "/api/files/ID-1.png"};
    const server_settings any = {.host = "127.0.0.1", .allow_host = "my.proxy,*"};
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
        assert_false(site(&open_server, closed[i], "cross-site", NULL));
        assert_true(site(&open_server, closed[i], "cross-site", "https://my.proxy")); /* access_names let it pass */
        assert_true(site(&open_server, closed[i], "same-origin", NULL));
        assert_true(site(&open_server, closed[i], "none", NULL)); /* typed by the person */
        assert_true(site(&open_server, closed[i], NULL, NULL));
        assert_true(site(&locked, closed[i], "cross-site", NULL)); /* the key decides */
        assert_true(site(&any, closed[i], "cross-site", NULL));
    }
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        assert_true(site(&open_server, open[i], "cross-site", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_whole_and_one_of_the_servers),
        cmocka_unit_test(a_key_may_be_in_azures_header),
        cmocka_unit_test(a_key_may_be_the_password_of_basic),
        cmocka_unit_test(a_host_is_an_address_or_an_allowed_name),
        cmocka_unit_test(a_page_of_another_site_is_refused),
        cmocka_unit_test(answers_are_shared_with_pages_that_are_allowed),
        cmocka_unit_test(what_a_page_of_another_site_embeds_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
