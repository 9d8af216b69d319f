/* The dry run's collectives: one event each, whose bytes are what this rank sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mesh/mesh.h"

#include <string.h>

#define EVENTS_MAX 16

typedef struct heard {
    ops_event event[EVENTS_MAX];
    int count;
} heard;

/* The collectives' alone. */
static void hear(void *user, const ops_event *e)
{
    heard *h = user;
    if (e->kind == EVENT_COLLECTIVE && h->count < EVENTS_MAX)
        h->event[h->count++] = *e;
}

static flux1_status body(void *arg, mesh *m)
{
    (void)arg;
    act some;
    void *bytes;
    TRY(ops_create(m->o, ACT_PARTIAL, shape_rows(1, 0, 4, 4), &some));
    TRY(ops_exchange(m->o, 64, &bytes));
    TRY(m->tp_comm->fn->all_gather(m->tp_comm, bytes, bytes, 10));
    TRY(m->tp_comm->fn->reduce_scatter(m->tp_comm, bytes, bytes, 5));
    TRY(m->sp_comm->fn->shift_begin(m->sp_comm, bytes, bytes, 7, 1));
    TRY(m->sp_comm->fn->shift_end(m->sp_comm));
    return m->all->fn->all_gather(m->all, bytes, bytes, 1);
}

static flux1_status dry(const char *shape, heard *h, size_t *exchanged)
{
    mesh_config c;
    flux1_error err = {0};
    ops_count count;
    const mesh_device d = {.kind = &ops_ref_device,
                           .config = {.arithmetic = DTYPE_F32, .threads = 1, .event = hear, .event_user = h}};
    *h = (heard){0};
    TRY(mesh_parse(shape, NULL, NULL, &c, &err));
    flux1_status st = mesh_dry_run(&c, &d, mesh_ranks(&c) - 1, body, NULL, &count, &err);
    *exchanged = count.exchanged;
    return st;
}

static void each_collective_is_an_event(void **state)
{
    (void)state;
    const ops_event want[] = {
        {.operation = "all_gather", .bytes_moved = 20, .ranks = 3, .axis = "tp"}, /* 10 bytes to 2 others */
        {.operation = "reduce_scatter",
         .bytes_moved = 40,
         .ranks = 3,
         .axis = "tp"}, /* 5 floats of 4 bytes to 2 others */
        {.operation = "shift_begin", .bytes_moved = 7, .ranks = 2, .axis = "sp", .overlaps = true},
        {.operation = "shift_end", .ranks = 2, .axis = "sp"},
        {.operation = "all_gather", .bytes_moved = 5, .ranks = 6, .axis = "all"},
    };
    heard h;
    size_t exchanged;
    assert_int_equal(dry("2x3", &h, &exchanged), FLUX1_OK);
    assert_int_equal(exchanged, 20 + 40 + 7 + 5);
    assert_int_equal(h.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(h.event[i].operation, want[i].operation);
        assert_int_equal(h.event[i].bytes_moved, want[i].bytes_moved);
        assert_int_equal(h.event[i].ranks, want[i].ranks);
        assert_string_equal(h.event[i].axis, want[i].axis);
        assert_int_equal(h.event[i].overlaps, want[i].overlaps);
        assert_true(h.event[i].arena >= 4 * 4 * sizeof(float) + 64); /* the activation and the exchange memory */
    }
}

static void communicators_of_one_rank_tell_nothing(void **state)
{
    (void)state;
    heard h;
    size_t exchanged;
    assert_int_equal(dry("1x1", &h, &exchanged), FLUX1_OK);
    assert_int_equal(exchanged, 0);
    assert_int_equal(h.count, 0);
    assert_int_equal(dry("2x1", &h, &exchanged), FLUX1_OK); /* sp and all */
    assert_int_equal(exchanged, 7 + 1);
    assert_int_equal(h.count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_collective_is_an_event),
        cmocka_unit_test(communicators_of_one_rank_tell_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
