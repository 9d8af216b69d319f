/* Programs that are spoken to: lines, shared memory, and every way to end. */
#include "base/dialog.h"

#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static flux1_error err;

/* /bin/sh with this script, which finds its lines at 3, the memory at 4. */
static dialog *start(const char *script)
{
    dialog *d;
    char *const argv[] = {(char *)"/bin/sh", (char *)"/proc/self/fd/6", NULL};
    err = (flux1_error){0};
    assert_int_equal(dialog_start(argv, script, strlen(script), &d, &err), FLUX1_OK);
    return d;
}

static void heard(dialog *d, const char *expected)
{
    const char *line;
    assert_int_equal(dialog_hear(d, 20, &line, &err), FLUX1_OK);
    assert_string_equal(line, expected);
}

static void fails(dialog *d, flux1_status st, double seconds, const char *sentence)
{
    const char *line;
    assert_int_equal(dialog_hear(d, seconds, &line, &err), st);
    assert_string_equal(err.message, sentence);
    dialog_end(d, false);
}

static void lines_go_both_ways(void **state)
{
    (void)state;
    dialog *d = start("while read -r a <&3; do printf 'got %s\\nand\\n' \"$a\" >&3; done");
    assert_int_equal(dialog_say(d, 20, &err, "%d and %s", 7, "more"), FLUX1_OK);
    heard(d, "got 7 and more");
    heard(d, "and");
    assert_int_equal(dialog_say(d, 20, &err, "two\nlines"), FLUX1_ERR_INTERNAL);
    dialog_end(d, true);
}

/* What one side writes the other reads, also after it has grown; it cannot become smaller. */
static void memory_is_shared(void **state)
{
    unsigned char *bytes;
    (void)state;
    dialog *d = start("while read -r n <&3; do truncate -s 0 /proc/self/fd/4; "
                      "dd if=/proc/self/fd/4 bs=1 skip=$n count=3; echo >&2; "
                      "dd if=/proc/self/fd/4 bs=1 skip=$n count=3 2>/dev/null | tr a-z A-Z | "
                      "dd of=/proc/self/fd/4 bs=1 seek=$n conv=notrunc; echo done >&3; done");
    for (size_t at = 5; at < 40000000; at += 33333333) {
        assert_int_equal(dialog_memory(d, at + 3, (void **)&bytes, &err), FLUX1_OK);
        memcpy(bytes + at, "abc", 3);
        assert_int_equal(dialog_say(d, 20, &err, "%zu", at), FLUX1_OK);
        heard(d, "done");
        assert_memory_equal(bytes + at, "ABC", 3);
        dialog_memory_drop(d);
        assert_memory_equal(bytes + at, "\0\0\0", 3);
    }
    dialog_end(d, true);
}

static void ends_are_sentences(void **state)
{
    (void)state;
    fails(start("echo first; echo last words >&2; exit 3"), FLUX1_ERR_IO, 20,
          "ended with status 3 (it said: last words)");
    char words[512] = "ended with status 1 (it said: ";
    for (int i = 0; i < 199; i++)
        strcat(words, "é");
    strcat(words, ")");
    fails(start("printf '%0400d\\n' 0 | sed 's/0/é/g'; exit 1"), FLUX1_ERR_IO, 20, words); /* a long line's end */
    fails(start("kill -9 $$"), FLUX1_ERR_IO, 20, "was ended by signal 9");
    fails(start("sleep 100"), FLUX1_ERR_LIMIT, 0.1, "has said nothing for 0 s");
    fails(start("printf '\\377\\n' >&3; sleep 100"), FLUX1_ERR_FORMAT, 20, "said what is no text");
    fails(start("printf 'a\\0b\\n' >&3; sleep 100"), FLUX1_ERR_FORMAT, 20, "said what is no text");
    fails(start("printf 'a\\tb\\n' >&3; sleep 100"), FLUX1_ERR_FORMAT, 20, "said what is no text");
    fails(start("printf %05000d 1 >&3; sleep 100"), FLUX1_ERR_FORMAT, 20, "said a line of more than 4096 bytes");
    dialog *d = start("exec 3>&-; sleep 100"); /* deaf: it takes nothing, and is alive */
    fails(d, FLUX1_ERR_IO, 20, "closed its lines");
}

static void a_program_that_is_not_there(void **state)
{
    dialog *d;
    char *const argv[] = {(char *)"/nowhere/python", NULL};
    (void)state;
    assert_int_equal(dialog_start(argv, "", 0, &d, &err), FLUX1_ERR_IO);
    assert_string_equal(err.message, "/nowhere/python: cannot be started: No such file or directory");
    assert_null(d);
}

/* What the program has started ends with it, and what it takes is bounded. */
static void all_of_it_ends(void **state)
{
    const char *line;
    (void)state;
    dialog *d = start("sleep 1000 & echo $! >&3; wait");
    assert_int_equal(dialog_hear(d, 20, &line, &err), FLUX1_OK);
    const pid_t other = (pid_t)strtol(line, NULL, 10);
    assert_int_equal(kill(other, 0), 0);
    dialog_end(d, false);
    for (int i = 0; i < 200 && kill(other, 0) == 0; i++) /* until its new parent has seen it */
        usleep(20000);
    assert_int_equal(kill(other, 0), -1);
    d = start("sleep 1000");
    flux1_status st = FLUX1_OK;
    const double began = clock_seconds();
    while (st == FLUX1_OK)
        st = dialog_say(d, 0.2, &err, "%01000d", 1);
    assert_int_equal(st, FLUX1_ERR_IO);
    assert_true(clock_seconds() - began < 20);
    dialog_end(d, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_both_ways), cmocka_unit_test(memory_is_shared),
        cmocka_unit_test(ends_are_sentences), cmocka_unit_test(a_program_that_is_not_there),
        cmocka_unit_test(all_of_it_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
