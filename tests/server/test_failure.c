/* What clients and the operator hear of what went wrong in the server. */
#include "server/failure.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char heard[8192];

static void hear(const char *sentence) { snprintf(heard, sizeof heard, "%s", sentence); }

static fault fault_for(flux1_status status, const char *sentence)
{
    server s = {.settings.tell = hear};
    fault f = {0};
    heard[0] = '\0';
    assert_false(failure_fault(&s, &f, status, "it cannot be kept", sentence));
    return f;
}

static void the_operator_hears_paths_and_clients_do_not(void **state)
{
    (void)state;
    static const struct {
        const char *sentence, *told;
    } rows[] = {
        {"/srv/a b/1.png: cannot write: the disk may be full", "it cannot be kept: cannot write: the disk may be full"},
        {"jobs/1.png: cannot write", "it cannot be kept: cannot write"}, /* a folder beside the server */
        {"/srv/a: b/1.png: cannot write", "it cannot be kept: a file could not be read or written"},
        {"a link to /srv/1, which is not there", "it cannot be kept: a file could not be read or written"},
        {"/srv/x: a link to /srv/1", "it cannot be kept: a file could not be read or written"},
        {"x: a link to /srv/1", "it cannot be kept: a file could not be read or written"},
        {"/srv/x", "it cannot be kept: a file could not be read or written"},
        {"", "a file could not be read or written"},
        {"no descriptor is left", "no descriptor is left"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const fault f = fault_for(FLUX1_ERR_IO, rows[i].sentence);
        assert_int_equal(f.kind, FAULT_SERVER);
        assert_string_equal(f.message, rows[i].told);
        assert_non_null(strstr(heard, rows[i].sentence));
        assert_non_null(strstr(heard, "it cannot be kept: "));
    }
}

static void what_the_request_is_to_blame_for_is_its_clients_alone(void **state)
{
    (void)state;
    static const flux1_status statuses[] = {FLUX1_ERR_ARGUMENT, FLUX1_ERR_LIMIT, FLUX1_ERR_UNSUPPORTED};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        const fault f = fault_for(statuses[i], "width 8: at least 16");
        assert_int_equal(f.kind, FAULT_INVALID);
        assert_string_equal(f.message, "width 8: at least 16");
        assert_string_equal(heard, "");
    }
}

static void a_disk_without_room_is_a_kind_of_its_own(void **state)
{
    (void)state;
    static const struct {
        flux1_status status;
        int number, http;
        const char *why;
    } rows[] = {{FLUX1_ERR_IO, ENOSPC, 507, "the server's disk is full, and its operator has to make room"},
                {FLUX1_ERR_IO, EDQUOT, 507, "the server's quota of its disk is used up"},
                {FLUX1_ERR_IO, EFBIG, 507, "the server may not write files of this size"},
                {FLUX1_ERR_IO, EIO, 500, "cannot write: no"},
                {FLUX1_ERR_IO, 0, 500, "cannot write: no"},
                {FLUX1_ERR_MEMORY, ENOSPC, 500, "cannot write: no"},
                {FLUX1_ERR_LIMIT, 0, 400, "cannot write: no"}};
    const server s = {.settings.tell = hear};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flux1_error err = {0};
        fault f = {0};
        error_set(&err, rows[i].status, "/srv/1.png: cannot write: no");
        err.number = rows[i].number;
        assert_false(failure_write(&s, &f, &err, "it cannot be kept"));
        assert_int_equal(fault_http(&f), rows[i].http);
        if (!strstr(f.message, rows[i].why))
            fail_msg("\"%s\" does not have \"%s\"", f.message, rows[i].why);
        assert_true(rows[i].http == 400 || strstr(heard, "/srv/1.png"));
    }
}

/* "code" is a text or null, as OpenAI's clients have it. */
static void a_fault_is_written_as_openais_clients_read_it(void **state)
{
    (void)state;
    static const struct {
        fault_kind kind;
        const char *param, *code; /* NULL: null */
    } rows[] = {{FAULT_INVALID, "size", "\"invalid_value\""},
                {FAULT_INVALID, NULL, "null"},
                {FAULT_KEY, NULL, "\"invalid_api_key\""},
                {FAULT_NOT_FOUND, "model", "\"model_not_found\""},
                {FAULT_NOT_FOUND, NULL, "null"},
                {FAULT_BUSY, NULL, "\"rate_limit_exceeded\""},
                {FAULT_SERVER, NULL, "null"},
                {FAULT_UNAVAILABLE, "model", "null"},
                {FAULT_STORAGE, NULL, "null"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_writer w = {.style = JSON_LINE};
        fault f = {0};
        char expected[64], *text = NULL;
        fault_set(&f, rows[i].kind, rows[i].param, "no");
        json_begin_object(&w, NULL);
        fault_put(&w, "error", &f);
        json_end_object(&w);
        assert_int_equal(json_take(&w, "the test", &text, NULL), FLUX1_OK);
        snprintf(expected, sizeof expected, "\"code\": %s}", rows[i].code);
        if (!strstr(text, expected))
            fail_msg("%s is not in %s", expected, text);
        free(text);
    }
}

static void nobody_need_listen(void **state)
{
    (void)state;
    server s = {0};
    fault f = {0};
    assert_false(failure_fault(&s, &f, FLUX1_ERR_NUMERIC, "it", "NaN"));
    assert_string_equal(f.message, "NaN");
}

static void a_name_that_is_cut_does_not_end_the_sentence(void **state)
{
    (void)state;
    char long_name[2 * FAULT_MESSAGE];
    fault f = {0};
    assert_false(fault_set(&f, FAULT_INVALID, NULL, "there is no \"%.4s\": take another", "a\xc3\xa9\xc3\xa9"));
    assert_string_equal(f.message, "there is no \"a\xc3\xa9\": take another");
    memset(long_name, '\xc3', sizeof long_name - 1);
    for (size_t i = 1; i < sizeof long_name; i += 2)
        long_name[i] = i + 1 < sizeof long_name ? '\xa9' : '\0';
    assert_false(fault_set(&f, FAULT_INVALID, long_name, "%s", long_name));
    assert_int_equal(strlen(f.message), FAULT_MESSAGE - 2); /* 1023 bytes were there, and half a character of them */
    assert_int_equal(strlen(f.param), FAULT_PARAM - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_operator_hears_paths_and_clients_do_not),
        cmocka_unit_test(what_the_request_is_to_blame_for_is_its_clients_alone),
        cmocka_unit_test(a_disk_without_room_is_a_kind_of_its_own),
        cmocka_unit_test(a_fault_is_written_as_openais_clients_read_it),
        cmocka_unit_test(nobody_need_listen),
        cmocka_unit_test(a_name_that_is_cut_does_not_end_the_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
