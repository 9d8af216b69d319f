/* Which waiting jobs run together: by hand, on lists of jobs that nobody computes. */
#include "server/together.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <string.h>

enum { JOBS = 12 };

/* A queue of kinds, a letter each ("aab"): 'A' is of kind a with two pictures. A kind has its number of steps. */
static job *line(const char *kinds, int together, job all[JOBS])
{
    const size_t n = strlen(kinds);
    memset(all, 0, JOBS * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        const bool two = kinds[i] < 'a';
        all[i].request.steps = kinds[i] + (two ? 'a' - 'A' : 0);
        all[i].request.count = two ? 2 : 1;
        all[i].request.width = all[i].request.height = 64;
        all[i].request.true_cfg_scale = 1;
        all[i].together = together;
        all[i].next = i + 1 < n ? &all[i + 1] : NULL;
    }
    return all;
}

static void assert_places(const job *all, job *const *taken, int count, const char *places)
{
    assert_int_equal(count, strlen(places));
    for (int i = 0; i < count; i++) {
        assert_int_equal(taken[i] - all, places[i] - '0');
        assert_null(taken[i]->next);
    }
}

static void assert_left(const job *all, const job *left, const char *places)
{
    for (; *places; places++, left = left->next) {
        assert_non_null(left);
        assert_int_equal(left - all, *places - '0');
    }
    assert_null(left);
}

static void those_of_one_kind_are_taken_in_order(void **state)
{
    (void)state;
    static const struct {
        const char *kinds;
        int together, most;
        const char *taken, *left;
    } cases[] = {
        {"a", 8, 9, "0", ""},       {"aaa", 8, 9, "012", ""},     {"aaa", 1, 9, "0", "12"}, {"aaa", 2, 9, "01", "2"},
        {"aaa", 8, 2, "01", "2"},   {"abacb", 8, 9, "02", "134"}, {"abb", 8, 9, "0", "12"}, {"aAaa", 3, 9, "01", "23"},
        {"aaAa", 3, 9, "013", "2"}, {"Aaaaa", 4, 9, "012", "34"}, {"AAa", 3, 9, "02", "1"}, {"A", 1, 9, "0", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        job all[JOBS], *taken[TOGETHER_MAX], *list = line(cases[i].kinds, cases[i].together, all);
        const int count = together_take(&list, cases[i].most, taken);
        assert_places(all, taken, count, cases[i].taken);
        assert_left(all, list, cases[i].left);
    }
}

/* b is passed by the second a, and by no later one; c, which nobody has passed, may be. */
static void nobody_is_passed_twice(void **state)
{
    (void)state;
    job all[JOBS], *taken[TOGETHER_MAX], *list = line("abacadab", 2, all);
    assert_places(all, taken, together_take(&list, 9, taken), "02");
    assert_true(all[1].overtaken && !all[3].overtaken && !all[4].overtaken);
    assert_places(all, taken, together_take(&list, 9, taken), "17"); /* b with the other b, past c, a, d and a */
    assert_true(all[3].overtaken && all[4].overtaken && all[5].overtaken && all[6].overtaken);
    assert_places(all, taken, together_take(&list, 9, taken), "3");
    assert_places(all, taken, together_take(&list, 9, taken), "4"); /* d lies between, and was passed before */
    assert_places(all, taken, together_take(&list, 9, taken), "5");
    assert_places(all, taken, together_take(&list, 9, taken), "6");
    assert_null(list);
}

static void workers_share(void **state)
{
    (void)state;
    job all[JOBS];
    static const int shares[] = {7, 4, 3, 2, 2, 2, 1};
    for (int workers = 1; workers <= 7; workers++)
        assert_int_equal(together_share(line("abaabaaaa", 8, all), workers), shares[workers - 1]);
    assert_int_equal(together_share(line("aaa", 1, all), 1), 1);
}

/* Each difference alone keeps two jobs apart. */
static void kinds_differ_by_what_a_batch_shares(void **state)
{
    (void)state;
    char negative[] = "a dog", other[] = "";
    job pair[JOBS];
    for (int i = 0; i < 13; i++) {
        line("aa", 8, pair);
        job *a = &pair[0], *b = &pair[1];
        switch (i) {
        case 0: b->request.width = 48; break;
        case 1: b->request.height = 48; break;
        case 2: b->request.steps++; break;
        case 3: b->request.max_sequence_length = 16; break;
        case 4: b->model = (served_model *)(void *)b; break;
        case 5: b->request.true_cfg_scale = 2; break;
        case 6:
            a->request.true_cfg_scale = b->request.true_cfg_scale = 2;
            b->request.negative_prompt = negative;
            break;
        case 7: a->request.step_cache = b->request.step_cache = 0.1f; break;
        case 8: b->request.step_cache = 0.1f; break;
        case 9: b->request.loras = 1; break;
        case 10:
            a->request.loras = b->request.loras = 1;
            b->adapters[0].scale = 2;
            break;
        case 11:
            a->request.loras = b->request.loras = 1;
            b->adapters[0].adapter = (flux1_adapter *)(void *)b;
            break;
        case 12: b->together = 4; break;
        }
        if (together_fits(a, b) || together_fits(b, a))
            fail_msg("difference %d", i);
    }
    line("aa", 8, pair);
    pair[0].request.true_cfg_scale = pair[1].request.true_cfg_scale = 2;
    pair[0].request.negative_prompt = negative;
    pair[1].request.negative_prompt = other;
    pair[0].request.seed = 3;
    pair[0].request.guidance = 2;
    pair[0].request.format = FLUX1_FORMAT_JPEG;
    pair[0].request.preview_every = 1;
    assert_true(together_fits(&pair[0], &pair[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_of_one_kind_are_taken_in_order),
        cmocka_unit_test(nobody_is_passed_twice),
        cmocka_unit_test(workers_share),
        cmocka_unit_test(kinds_differ_by_what_a_batch_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
