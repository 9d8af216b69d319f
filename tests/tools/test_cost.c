/* The planner's clock, on events made by hand: every figure is worked out in the comments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/cost.h"

#include <math.h>
#include <string.h>

/* 100 FLOP/s, 10 B/s of memory; 80 FLOP/s in attention; collectives at half their rate; two links along axis 1. */
static machine small_machine(void)
{
    machine m = {.mesh = {2, 4},
                 .peak = {0, 100},
                 .memory_rate = 10,
                 .rate = {{.operation = "attention", .flops = {0, 80}}, {.operation = "add", .bytes = 5}},
                 .rates = 2,
                 .products = 0.5,
                 .collectives = 0.5,
                 .links = {1, 2},
                 .overlap = 1,
                 .packs = true};
    m.exchange[EXCHANGE_GATHER] = (machine_exchange){.seconds = 1, .hop = 0.5, .rate = 20};
    m.exchange[EXCHANGE_SCATTER] = (machine_exchange){.seconds = 2, .hop = 0, .rate = 10};
    m.exchange[EXCHANGE_SHIFT] = (machine_exchange){.seconds = 0, .hop = 1, .rate = 4, .pair_rate = 2};
    return m;
}

static const mesh_config GRID = {.shape = {2, 4}, .sp = 2, .sp_axis = 0, .tp = 4, .tp_axis = 1};

typedef struct bench_clock {
    machine m;
    cost c;
    cost_clock clock;
} bench_clock;

static void start(bench_clock *b)
{
    *b = (bench_clock){.m = small_machine()};
    b->clock = (cost_clock){.m = &b->m, .mesh = &GRID, .dtype = 1, .share = 1, .into = &b->c};
}

static ops_event product(double flops, size_t bytes)
{
    return (ops_event){
        .kind = EVENT_COMPUTE, .operation = "product", .batch = 1, .m = 64, .n = 64, .flops = flops, .bytes_in = bytes};
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%.12g, it should be %.12g", got, want);
}

static double take(bench_clock *b, ops_event e)
{
    double before = b->c.seconds;
    cost_event(&b->clock, &e);
    return b->c.seconds - before;
}

/* A rate of its own, also behind another name; without one it is the arithmetic's peak. */
static void attention_in_int8_has_its_own_rate(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    b.m.rate[b.m.rates++] = (machine_rate){.operation = "attention_int8", .flops = {0, 200}};
    b.m.rate[b.m.rates++] = (machine_rate){.operation = "product_int8_fast", .flops = {0, 400}};
    ops_event e = {.kind = EVENT_COMPUTE, .operation = "attention", .flops = 400, .int8 = INT8_ROTATED};
    near(take(&b, e), 4); /* 400 / (200 · 0.5) */
    e.operation = "attention_part";
    near(take(&b, e), 4);
    e.int8 = INT8_NONE;
    near(take(&b, e), 10); /* 400 / (80 · 0.5) */
    b.m.rates -= 2;
    e.int8 = INT8_ROTATED;
    near(take(&b, e), 10); /* without one, as in floats */
    near(b.c.part[COST_ATTENTION], 28);
}

static void a_product_in_int8_has_its_own_rate(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    b.m.rate[b.m.rates++] = (machine_rate){.operation = "product_int8_fast", .flops = {0, 400}, .weights = 30};
    ops_event e = product(500, 10);
    e.int8 = INT8_ROTATED;
    near(take(&b, e), 2.5); /* 500 / (400 · 0.5) */
    e.bytes_weights = 15;
    near(take(&b, e), 3); /* 2.5 + 15 / 30 */
    e.int8 = INT8_FINE;
    near(take(&b, e), 10); /* 500 / (100 · 0.5) */
    e.int8 = INT8_NONE;
    near(take(&b, e), 10);
    near(b.c.part[COST_PRODUCTS], 25.5);
}

static void an_operation_takes_the_longer_of_arithmetic_and_memory(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    near(take(&b, product(500, 50)), 10);  /* 500 / (100 · 0.5) = 10; 50 / 10 = 5 */
    near(take(&b, product(500, 200)), 20); /* 200 / 10 */
    /* 400 / (80 · 0.5): attention_part goes at attention's rate */
    near(take(&b, (ops_event){.kind = EVENT_COMPUTE, .operation = "attention_part", .flops = 400}), 10);
    near(take(&b, (ops_event){.kind = EVENT_COMPUTE, .operation = "add", .bytes_in = 10, .bytes_out = 5}),
         3);                                                                                  /* 15/5 */
    near(take(&b, (ops_event){.kind = EVENT_COMPUTE, .operation = "conv", .flops = 300}), 6); /* 300 / (100 · 0.5) */
    near(b.c.part[COST_PRODUCTS], 10);
    near(b.c.part[COST_ATTENTION], 10);
    near(b.c.part[COST_CONVOLUTIONS], 6);
    near(b.c.part[COST_MEMORY], 23);
    near(b.c.seconds, 49);
    assert_int_equal(cost_bound(&b.c), COST_MEMORY);
}

/* Each part where it is the largest, also the first and the last; what is moved is bytes and no part. */
static void the_bound_is_the_largest_part(void **state)
{
    (void)state;
    for (cost_part p = 0; p < COSTS; p++) {
        cost c = {.moved = 1e9, .hidden = 1e9};
        for (cost_part q = 0; q < COSTS; q++)
            c.part[q] = q == p ? 2 : 1;
        assert_int_equal(cost_bound(&c), p);
    }
}

static void costs_are_added_member_by_member(void **state)
{
    (void)state;
    cost sum = {.seconds = 1, .moved = 2, .hidden = 3}, one = {.seconds = 10, .moved = 20, .hidden = 30};
    for (cost_part p = 0; p < COSTS; p++) {
        sum.part[p] = 4 + (double)p;
        one.part[p] = 40;
    }
    cost_add(&sum, &one);
    near(sum.seconds, 11);
    near(sum.moved, 22);
    near(sum.hidden, 33);
    for (cost_part p = 0; p < COSTS; p++)
        near(sum.part[p], 44 + (double)p);
}

static void weights_may_take_time_beside_the_arithmetic(void **state)
{
    (void)state;
    bench_clock b;
    ops_event e = product(500, 0);
    start(&b);
    e.bytes_weights = 20;
    near(take(&b, e), 10); /* 20 / 10 is less */
    b.m.rate[1] = (machine_rate){.operation = "product", .weights = 4};
    near(take(&b, e), 15); /* 10 + 20 / 4 */
    near(b.c.part[COST_PRODUCTS], 25);
    e.flops = 0;
    near(take(&b, e), 5); /* without arithmetic it is memory that it waits for */
    near(b.c.part[COST_MEMORY], 5);
}

static void launches_and_shared_chips_slow_down(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    b.m.launch = 0.25;
    b.m.chips = 2;
    b.clock.share = machine_share(&b.m, 8); /* four ranks on each */
    near(b.clock.share, 4);
    near(take(&b, product(500, 50)), 40.25);
    near(b.c.part[COST_LAUNCH], 0.25);
    near(machine_share(&b.m, 2), 1);
    near(machine_share(&b.m, 3), 2); /* the busier of two */
}

/* 96 × 160 outputs are 3 × 5 tiles; on 2 × 4 cores the busiest has 2 × 2 of them, and the other way around (4 × 2
 * cores) 1 × 3: 3 of 3, so that 15 tiles take the time of 8 · 3 = 24. */
static void a_grid_waits_for_its_busiest_core(void **state)
{
    (void)state;
    bench_clock b;
    ops_event e = product(500, 0);
    start(&b);
    b.m.grid[0] = 2;
    b.m.grid[1] = 4;
    e.m = 96;
    e.n = 160;
    near(take(&b, e), 10.0 * 24 / 15);
    e.m = 95; /* the last row of tiles is not full: 95/96 of that work in the same time */
    e.flops = 500.0 * 95 / 96;
    near(take(&b, e), 10.0 * 24 / 15);
}

static ops_event collective(const char *operation, const char *axis, int ranks, size_t bytes)
{
    return (ops_event){
        .kind = EVENT_COLLECTIVE, .operation = operation, .axis = axis, .ranks = ranks, .bytes_moved = bytes};
}

static void collectives_take_latency_hops_and_links(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    near(take(&b, collective("all_gather", "tp", 4, 60)), 1 + 3 * 0.5 + 3);  /* 60 / (20 · 2 links · 0.5) */
    near(take(&b, collective("reduce_scatter", "sp", 2, 60)), 2 + 12);       /* 60 / (10 · 1 · 0.5) */
    near(take(&b, collective("all_gather", "all", 8, 60)), 1 + 7 * 0.5 + 6); /* the axis with one link */
    near(b.c.part[COST_EXCHANGE_TP], 5.5);
    near(b.c.part[COST_EXCHANGE_SP], 14);
    near(b.c.part[COST_EXCHANGE_ALL], 10.5);
    near(b.c.moved, 180);
    near(b.c.hidden, 0);
}

/* Of an axis of one rank nothing is exchanged: its links do not count, however few or many. */
static void all_ranks_of_one_axis_use_its_links(void **state)
{
    (void)state;
    const mesh_config only_tp = {.shape = {1, 4}, .sp = 1, .sp_axis = 0, .tp = 4, .tp_axis = 1},
                      only_sp = {.shape = {1, 4}, .sp = 4, .sp_axis = 1, .tp = 1, .tp_axis = 0};
    bench_clock b;
    start(&b);
    b.clock.mesh = &only_tp;
    near(take(&b, collective("all_gather", "all", 4, 60)), 1 + 3 * 0.5 + 3); /* two links */
    b.clock.mesh = &only_sp;
    near(take(&b, collective("all_gather", "all", 4, 60)), 1 + 3 * 0.5 + 3);
    b.m.links[0] = 4;
    near(take(&b, collective("all_gather", "all", 4, 60)), 1 + 3 * 0.5 + 3);
    b.clock.mesh = &only_tp;
    near(take(&b, collective("all_gather", "all", 4, 60)), 1 + 3 * 0.5 + 3);
    b.clock.mesh = &GRID;
    near(take(&b, collective("all_gather", "all", 8, 60)), 1 + 7 * 0.5 + 3); /* the fewer of both */
}

static ops_event shift(const char *axis, size_t bytes)
{
    ops_event e = collective("shift_begin", axis, 2, bytes);
    e.overlaps = true;
    return e;
}

/* 10 bytes between two: a hop of 1 and 10 / (2 · 0.5) = 11 seconds. */
static void a_shift_hides_behind_what_is_computed_in_between(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    near(take(&b, shift("sp", 10)), 0);
    near(take(&b, product(500, 0)), 10);
    near(take(&b, collective("shift_end", "sp", 2, 0)), 1); /* 11 − 10 */
    near(b.c.hidden, 10 * (10.0 / 11));
    near(b.c.moved, 10);
    near(take(&b, shift("sp", 10)), 0);
    near(take(&b, product(1000, 0)), 20);
    near(take(&b, collective("shift_end", "sp", 2, 0)), 0); /* all of it */
    near(b.c.hidden, 10 * (10.0 / 11) + 10);
    near(b.c.part[COST_EXCHANGE_SP], 1);
    b.m.exchange[EXCHANGE_SHIFT] = (machine_exchange){.pair_rate = 20};
    take(&b, shift("sp", 5)); /* half a second */
    take(&b, product(500, 0));
    near(take(&b, collective("shift_end", "sp", 2, 0)), 0);
    near(b.c.hidden, 10 * (10.0 / 11) + 15);
}

/* Between no other ranks a shift takes no time, and hides no bytes; an end without a begin is nothing. */
static void a_shift_without_peers_takes_nothing(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    ops_event begin = shift("sp", 0);
    begin.ranks = 1;
    near(take(&b, begin), 0);
    near(take(&b, collective("shift_end", "sp", 1, 0)), 0);
    near(b.c.hidden, 0);
    take(&b, shift("sp", 10));
    near(take(&b, collective("shift_end", "tp", 4, 0)), 0); /* another axis */
    near(take(&b, collective("shift_end", "sp", 2, 0)), 11);
    near(b.c.hidden, 0);
    b.m.overlap = 0.25; /* what is left would be waited for again */
    near(take(&b, collective("shift_end", "sp", 2, 0)), 0);
    near(b.c.hidden, 0);
}

/* Only a quarter of it runs by itself: 2.75 of 11 beside computing, 8.25 at the end. */
static void without_progress_a_shift_is_waited_for(void **state)
{
    (void)state;
    bench_clock b;
    start(&b);
    b.m.overlap = 0.25;
    take(&b, shift("sp", 10));
    take(&b, product(500, 0));
    near(take(&b, collective("shift_end", "sp", 2, 0)), 8.25);
    near(b.c.hidden, 2.5);
}

static void copies_for_exchanges_count_where_they_are_made(void **state)
{
    (void)state;
    bench_clock b;
    const ops_event pack = {.kind = EVENT_MEMORY, .operation = "pack", .bytes_in = 20, .bytes_out = 20};
    const ops_event unpack = {.kind = EVENT_MEMORY, .operation = "unpack", .bytes_in = 10, .bytes_out = 20};
    const ops_event create = {.kind = EVENT_MEMORY, .operation = "create", .bytes_out = 20};
    start(&b);
    near(take(&b, pack), 4);
    near(take(&b, unpack), 3);
    near(take(&b, create), 0);
    b.m.packs = false;
    near(take(&b, pack), 0);
    near(take(&b, unpack), 0);
}

typedef struct span {
    cost_part part;
    const char *block;
    double begin, end;
} span;

typedef struct told {
    span span[8];
    int count;
} told;

static void hear(void *user, cost_part part, const char *operation, const char *in, double begin, double end)
{
    told *t = user;
    (void)operation;
    assert_true(t->count < 8);
    t->span[t->count++] = (span){part, in, begin, end};
}

static void expect_span(const span *s, cost_part part, const char *in, double begin, double end)
{
    assert_int_equal(s->part, part);
    if (!s->block || !in)
        assert_ptr_equal(s->block, in);
    else
        assert_string_equal(s->block, in);
    near(s->begin, begin);
    near(s->end, end);
}

/* A span of no length is none: launches on a machine that has no launch time, an end with all of it hidden. */
static void listeners_hear_every_span(void **state)
{
    (void)state;
    bench_clock b;
    told t = {0};
    start(&b);
    b.clock.listener = hear;
    b.clock.user = &t;
    take(&b, shift("sp", 10)); /* beside the others */
    take(&b, product(500, 0));
    take(&b, (ops_event){.kind = EVENT_WEIGHTS, .operation = "block_begin", .block = "single.0"});
    take(&b, collective("shift_end", "sp", 2, 0));
    take(&b, shift("tp", 10));
    take(&b, product(200, 0));
    take(&b, collective("shift_end", "tp", 2, 0));
    take(&b, shift("sp", 10));
    take(&b, product(1000, 0));
    take(&b, collective("shift_end", "sp", 2, 0)); /* all of it is hidden */
    assert_int_equal(t.count, 8);
    expect_span(&t.span[0], COST_EXCHANGE_SP, NULL, 0, 11);
    expect_span(&t.span[1], COST_PRODUCTS, NULL, 0, 10);
    expect_span(&t.span[2], COST_EXCHANGE_SP, "single.0", 10, 11);
    expect_span(&t.span[3], COST_EXCHANGE_TP, "single.0", 11, 17); /* a hop, and 10 / (2 · 2 links · 0.5) */
    expect_span(&t.span[4], COST_PRODUCTS, "single.0", 11, 15);
    expect_span(&t.span[5], COST_EXCHANGE_TP, "single.0", 15, 17);
    expect_span(&t.span[6], COST_EXCHANGE_SP, "single.0", 17, 28);
    expect_span(&t.span[7], COST_PRODUCTS, "single.0", 17, 37);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_in_int8_has_its_own_rate),
        cmocka_unit_test(a_product_in_int8_has_its_own_rate),
        cmocka_unit_test(an_operation_takes_the_longer_of_arithmetic_and_memory),
        cmocka_unit_test(the_bound_is_the_largest_part),
        cmocka_unit_test(costs_are_added_member_by_member),
        cmocka_unit_test(weights_may_take_time_beside_the_arithmetic),
        cmocka_unit_test(launches_and_shared_chips_slow_down),
        cmocka_unit_test(a_grid_waits_for_its_busiest_core),
        cmocka_unit_test(collectives_take_latency_hops_and_links),
        cmocka_unit_test(all_ranks_of_one_axis_use_its_links),
        cmocka_unit_test(a_shift_hides_behind_what_is_computed_in_between),
        cmocka_unit_test(a_shift_without_peers_takes_nothing),
        cmocka_unit_test(without_progress_a_shift_is_waited_for),
        cmocka_unit_test(copies_for_exchanges_count_where_they_are_made),
        cmocka_unit_test(listeners_hear_every_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
