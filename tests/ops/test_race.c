/* Candidates whose times are given: who wins, how often each is run, in which order. */
#include "ops/cuda/race.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* A run takes ms[i] (negative: it fails), its first `cold` times as long. */
typedef struct course {
    double ms[RACE_MOST], cold;
    int fails_at, calls, runs[RACE_MOST];
    char order[256];
} course;

static double run(void *user, int which, int runs)
{
    course *c = user;
    double ms = c->ms[which] * runs * (c->runs[which] ? 1 : c->cold);
    if (runs > 1 || c->runs[which] > 1)
        c->order[strlen(c->order)] = (char)('a' + which);
    c->runs[which] += runs;
    return ++c->calls == c->fails_at ? -1 : ms;
}

static int race(course *c, int count) { return race_winner(count, run, c); }

static void the_fastest_wins_by_more_than_a_hundredth(void **state)
{
    (void)state;
    assert_int_equal(race(&(course){.ms = {0.3, 0.302, 0.25}, .cold = 1}, 3), 2);
    assert_int_equal(race(&(course){.ms = {0.3, 0.2971}, .cold = 1}, 2), 0); /* by 0.98 % */
    assert_int_equal(race(&(course){.ms = {0.3, 0.2968}, .cold = 1}, 2), 1); /* by 1.08 % */
    assert_int_equal(race(&(course){.ms = {0.3}, .cold = 1}, 1), 0);
    assert_int_equal(race(&(course){.cold = 1}, 0), -1);
}

static void what_does_not_run_does_not_win(void **state)
{
    (void)state;
    assert_int_equal(race(&(course){.ms = {-1, 0.5, 0.499}, .cold = 1}, 3), 1); /* the first that runs is the first */
    assert_int_equal(race(&(course){.ms = {-1, -1}, .cold = 1}, 2), -1);
    for (int at = 3; at <= 6; at++) /* the first fails later, in one of its passes: the other pass counts, or none */
        assert_in_range(race(&(course){.ms = {0.4, 0.5}, .cold = 1, .fails_at = at}, 2), 0, 1);
    assert_int_equal(race(&(course){.ms = {0.4, 0.5}, .cold = 1, .fails_at = 2}, 2), 1);
}

static void a_cold_first_run_counts_for_nothing(void **state)
{
    (void)state;
    assert_int_equal(race(&(course){.ms = {0.5, 0.4}, .cold = 1000}, 2), 1);
}

static void passes_take_turns_and_last_two_milliseconds(void **state)
{
    (void)state;
    course c = {.ms = {0.4, 0.45, 0.9, 0.003}, .cold = 2};
    assert_int_equal(race(&c, 4), 3);
    assert_string_equal(c.order, "adad"); /* the others are far behind */
    assert_int_equal(c.runs[3], 2 + 2 * 334);
    c = (course){.ms = {0.4, 0.45, 0.9, 2.5}, .cold = 2};
    assert_int_equal(race(&c, 4), 0);
    assert_string_equal(c.order, "abab");
    assert_int_equal(c.runs[0], 2 + 2 * 3);
    assert_int_equal(c.runs[1], 2 + 2 * 3);
    c = (course){.ms = {0, 0}, .cold = 1}; /* a clock that tells nothing does not run for ever */
    assert_int_equal(race(&c, 2), 0);
    assert_in_range(c.runs[0], 4, 2100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_wins_by_more_than_a_hundredth),
        cmocka_unit_test(what_does_not_run_does_not_win),
        cmocka_unit_test(a_cold_first_run_counts_for_nothing),
        cmocka_unit_test(passes_take_turns_and_last_two_milliseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
