/* Errands: their order, their thread, what they may do with themselves, and what becomes of those that come late. */
#include "server/errands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 5 };

typedef struct one {
    errand e; /* first: one is where its errand is */
    char name;
} one;

typedef struct record {
    errands list;
    pthread_mutex_t gate; /* whoever runs an errand waits for it */
    pthread_cond_t news;  /* one has run */
    char order[COUNT + 1];
    pthread_t thread; /* of the last one */
} record;

static void note(errand *e, void *user)
{
    record *r = user;
    pthread_mutex_lock(&r->gate);
    r->order[strlen(r->order)] = ((one *)(void *)e)->name;
    r->thread = pthread_self();
    pthread_cond_signal(&r->news);
    pthread_mutex_unlock(&r->gate);
}

static void open_with_gate(record *r)
{
    *r = (record){.news = PTHREAD_COND_INITIALIZER};
    assert_int_equal(pthread_mutex_init(&r->gate, NULL), 0);
    assert_int_equal(errands_open(&r->list, r, NULL), FLUX1_OK);
}

static void they_run_in_order_on_another_thread(void **state)
{
    (void)state;
    record r;
    one all[COUNT];
    open_with_gate(&r);
    pthread_mutex_lock(&r.gate); /* so that all of them are there before the first has run */
    for (int i = 0; i < COUNT; i++) {
        all[i] = (one){{.run = note}, (char)('a' + i)};
        errands_add(&r.list, &all[i].e);
    }
    pthread_mutex_unlock(&r.gate);
    errands_end(&r.list); /* also those that are left */
    assert_string_equal(r.order, "abcde");
    assert_false(pthread_equal(r.thread, pthread_self()));
    errands_close(&r.list);
    pthread_mutex_destroy(&r.gate);
}

/* Twice. */
static void note_again(errand *e, void *user)
{
    record *r = user;
    note(e, user);
    e->run = note;
    errands_add(&r->list, e);
}

static void note_and_free(errand *e, void *user)
{
    note(e, user);
    free(e);
}

static void one_may_add_itself_again_and_is_behind_the_others(void **state)
{
    (void)state;
    record r;
    one again = {{.run = note_again}, 'a'}, other = {{.run = note}, 'b'}, later = {{.run = note}, 'c'};
    open_with_gate(&r);
    pthread_mutex_lock(&r.gate);
    errands_add(&r.list, &again.e);
    errands_add(&r.list, &other.e);
    while (strlen(r.order) < 3) /* before the end, from which on it would run at once */
        pthread_cond_wait(&r.news, &r.gate);
    errands_add(&r.list, &later.e); /* to a list that has become empty */
    pthread_mutex_unlock(&r.gate);
    errands_end(&r.list);
    assert_string_equal(r.order, "abac");
    errands_close(&r.list);
    pthread_mutex_destroy(&r.gate);
}

static void one_may_free_itself(void **state)
{
    (void)state;
    record r;
    one *all[COUNT];
    open_with_gate(&r);
    pthread_mutex_lock(&r.gate);
    for (int i = 0; i < COUNT; i++) {
        assert_non_null(all[i] = malloc(sizeof *all[i]));
        *all[i] = (one){{.run = note_and_free}, (char)('a' + i)};
        errands_add(&r.list, &all[i]->e);
    }
    pthread_mutex_unlock(&r.gate);
    errands_end(&r.list);
    assert_string_equal(r.order, "abcde");
    errands_close(&r.list);
    pthread_mutex_destroy(&r.gate);
}

static void who_comes_late_runs_it_himself(void **state)
{
    (void)state;
    record r;
    one late = {{.run = note}, 'z'};
    open_with_gate(&r);
    errands_end(&r.list);
    errands_end(&r.list);
    errands_add(&r.list, &late.e);
    assert_string_equal(r.order, "z");
    assert_true(pthread_equal(r.thread, pthread_self()));
    errands_close(&r.list);
    pthread_mutex_destroy(&r.gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(they_run_in_order_on_another_thread),
                                       cmocka_unit_test(one_may_add_itself_again_and_is_behind_the_others),
                                       cmocka_unit_test(one_may_free_itself),
                                       cmocka_unit_test(who_comes_late_runs_it_himself)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
