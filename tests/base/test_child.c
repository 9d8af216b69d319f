/* Programs that are asked: what they say, and when they do not end. */
#include "base/child.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static char out[64];
static flux1_error err;

static flux1_status shell(const char *script, int seconds)
{
    char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    memset(out, 'x', sizeof out);
    err = (flux1_error){0};
    return child_output(argv, seconds, out, sizeof out, &err);
}

static void output_is_what_it_wrote(void **state)
{
    (void)state;
    assert_int_equal(shell("printf 'a\\nb'; echo hidden >&2; cat", 20), FLUX1_OK);
    assert_string_equal(out, "a\nb");
    assert_int_equal(shell(":", 20), FLUX1_OK);
    assert_string_equal(out, "");
}

/* 100000 bytes do not fit; the program is not held up by that. */
static void what_does_not_fit_is_dropped(void **state)
{
    (void)state;
    assert_int_equal(shell("i=0; while [ $i -lt 1000 ]; do printf %0100d 7; i=$((i+1)); done", 20), FLUX1_OK);
    assert_int_equal(strlen(out), sizeof out - 1);
    assert_int_equal(strspn(out, "0"), sizeof out - 1);
}

static void a_program_that_fails_says_how(void **state)
{
    (void)state;
    assert_int_equal(shell("printf so; exit 3", 20), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/bin/sh: ended with status 3");
    assert_string_equal(out, "so");
    assert_int_equal(shell("kill -15 $$", 20), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/bin/sh: ended by signal 15");
    char *const none[] = {(char *)"/nowhere/program", NULL};
    assert_int_equal(child_output(none, 20, out, sizeof out, &err), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/nowhere/program: cannot be started: No such file or directory");
    assert_string_equal(out, "");
}

/* Silent, and one that has closed its output but does not end. */
static void a_program_that_does_not_end_is_killed(void **state)
{
    (void)state;
    const double before = clock_seconds();
    assert_int_equal(shell("exec sleep 60", 1), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/bin/sh: no answer within 1 s");
    assert_int_equal(shell("exec >&-; exec sleep 60", 1), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/bin/sh: no answer within 1 s");
    assert_true(clock_seconds() - before < 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_is_what_it_wrote),
        cmocka_unit_test(what_does_not_fit_is_dropped),
        cmocka_unit_test(a_program_that_fails_says_how),
        cmocka_unit_test(a_program_that_does_not_end_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
