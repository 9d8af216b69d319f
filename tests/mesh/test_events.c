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

/* Collectives and products. */
static void hear(void *user, const ops_event *e)
{
    heard *h = user;
    bool product = e->kind == EVENT_COMPUTE && strcmp(e->operation, "product") == 0;
    if ((e->kind == EVENT_COLLECTIVE || product) && h->count < EVENTS_MAX)
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

static flux1_status dry_body(const char *shape, dtype arithmetic, mesh_body *run, heard *h, size_t *exchanged)
{
    mesh_config c;
    flux1_error err = {0};
    ops_count count;
    const mesh_device d = {.kind = &ops_cpu_device,
                           .config = {.arithmetic = arithmetic, .threads = 1, .event = hear, .event_user = h}};
    *h = (heard){0};
    TRY(mesh_parse(shape, NULL, NULL, &c, &err));
    flux1_status st = mesh_dry_run(&c, &d, mesh_ranks(&c) - 1, run, NULL, &count, &err);
    if (st != FLUX1_OK)
        print_message("%s\n", err.message);
    *exchanged = count.exchanged;
    return st;
}

static flux1_status dry(const char *shape, heard *h, size_t *exchanged)
{
    return dry_body(shape, DTYPE_F32, body, h, exchanged);
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

enum { TEXT = 7, IMAGE = 13, WIDTH = 8 };

/* Both parts enter a block and attend to each other. */
static flux1_status joint_body(void *arg, mesh *m)
{
    const int64_t all[] = {TEXT, IMAGE};
    int64_t rows[2], span[2];
    norm n[2] = {{.kind = NORM_NONE}, {.kind = NORM_NONE}};
    act x, full, qkv, out;
    (void)arg;
    for (int p = 0; p < 2; p++) {
        rows[p] = mesh_rows(m, all[p]).count;
        span[p] = mesh_span(m, all[p]).count;
    }
    TRY(ops_create(m->o, ACT_RESIDUAL, shape_rows(2, rows[0], rows[1], WIDTH), &x));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(2, span[0], span[1], WIDTH), &full));
    TRY(ops_create(m->o, ACT_HEADS, shape_rows(2, span[0], span[1], 3 * WIDTH), &qkv));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(2, span[0], span[1], WIDTH), &out));
    TRY(mesh_joint_enter(m, n, x, full));
    return mesh_attention(m, act_columns(qkv, 0, WIDTH), act_columns(qkv, WIDTH, WIDTH),
                          act_columns(qkv, 2 * WIDTH, WIDTH), &(attention_args){.heads = 2, .scale = 1}, all, out);
}

/* 2x3, batch 2: of 7 and 13 rows the first sp rank has 4 and 7, the last 3 and 6, and a rank of that 1 and 2. */
static void both_parts_travel_together_in_the_arithmetic_s_own_type(void **state)
{
    (void)state;
    const dtype types[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; i < 2; i++) {
        size_t exchanged, cell = types[i] == DTYPE_BF16 ? 2 : 4;
        heard h;
        assert_int_equal(dry_body("2x3", types[i], joint_body, &h, &exchanged), FLUX1_OK);
        assert_int_equal(h.count, 3);
        assert_string_equal(h.event[0].operation, "all_gather");
        assert_int_equal(h.event[0].bytes_moved, 2 * (1 + 2) * WIDTH * cell * 2); /* to two others */
        assert_string_equal(h.event[1].operation, "shift_begin");
        assert_int_equal(h.event[1].bytes_moved, 2 * 2 * (4 + 7) * WIDTH * cell); /* k and v */
        assert_string_equal(h.event[2].operation, "shift_end");
    }
}

static flux1_status single_body(void *arg, mesh *m)
{
    const int64_t all[] = {TEXT, IMAGE}, text = mesh_span(m, TEXT).count, image = mesh_span(m, IMAGE).count;
    static float cells[3 * WIDTH * WIDTH];
    store_tensor t = {.name = "w",
                      .file = "memory",
                      .store = 1,
                      .view = {.type = DTYPE_F32, .dims = 2, .shape = {3 * WIDTH, WIDTH}, .data = cells}};
    weight_recipe r = recipe_whole(WEIGHT_QKV, &t);
    qkv_weights qkv = {.heads = 2};
    linear_weight up = {0};
    act in, rope, out, hidden, products;
    block *b;
    (void)arg;
    r.heads = 2;
    TRY(ops_block_create(m->o, "weights", &b));
    TRY(ops_prepare(m->o, b, &r, NULL, &qkv.qkv.w));
    r.role = WEIGHT_LINEAR;
    TRY(ops_prepare(m->o, b, &r, NULL, &up.w));
    TRY(ops_block_begin(m->o, b));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(1, text, image, WIDTH), &in));
    TRY(ops_create(m->o, ACT_HEADS, shape_rows(1, text, image, 3 * WIDTH), &products));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(1, text, image, 3 * WIDTH), &hidden));
    TRY(ops_create(m->o, ACT_ROPE, shape_rows(1, text, image, WIDTH / 2), &rope));
    TRY(ops_create(m->o, ACT_LINEAR, shape_rows(1, text, image, WIDTH), &out));
    TRY(mesh_single_attention(m, in, &qkv, rope, products, &up, hidden, &(attention_args){.heads = 2, .scale = 1}, all,
                              out));
    TRY(ops_block_end(m->o, b));
    ops_block_destroy(m->o, b);
    return FLUX1_OK;
}

/* A single block's keys travel while its second product is computed. */
static void keys_are_sent_before_the_product_that_does_not_need_them(void **state)
{
    (void)state;
    static const char *const want[] = {"product", "shift_begin", "product", "shift_end"};
    heard h;
    size_t exchanged;
    assert_int_equal(dry_body("2x1", DTYPE_F32, single_body, &h, &exchanged), FLUX1_OK);
    assert_int_equal(h.count, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(h.event[i].operation, want[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_parts_travel_together_in_the_arithmetic_s_own_type),
        cmocka_unit_test(keys_are_sent_before_the_product_that_does_not_need_them),
        cmocka_unit_test(each_collective_is_an_event),
        cmocka_unit_test(communicators_of_one_rank_tell_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
