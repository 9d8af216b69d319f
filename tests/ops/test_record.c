/* A step's list of calls on the CPU backend: it repeats the calls with the arguments they had, and gives way where it
 * cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/record.h"

#include <math.h>
#include <string.h>

enum { ROWS = 3, COLS = 8, ARENA = 1 << 20 };

typedef struct place {
    ops *o;
    flux1_error err;
    act q, out, x;
    attention_args args;
    int others, fail_at; /* calls of `other`; the one that fails, 0: none */
    int made;            /* steps made by their calls */
    bool uploads;
} place;

static void open_place(place *p, size_t bytes)
{
    *p = (place){.args = {.heads = 2, .scale = 0.5f}};
    ops_config c = {.arithmetic = DTYPE_F32, .threads = 1, .err = &p->err};
    assert_int_equal(ops_cpu_create(&c, &p->o), FLUX1_OK);
    assert_int_equal(ops_reserve(p->o, bytes), FLUX1_OK);
    assert_int_equal(ops_create(p->o, ACT_HEADS, shape_rows(1, 0, ROWS, COLS), &p->q), FLUX1_OK);
    assert_int_equal(ops_create(p->o, ACT_LINEAR, shape_rows(1, 0, ROWS, COLS), &p->out), FLUX1_OK);
    assert_int_equal(ops_create(p->o, ACT_RESIDUAL, shape_rows(1, 0, ROWS, COLS), &p->x), FLUX1_OK);
}

static flux1_status put(place *p, act a)
{
    float v[ROWS * COLS];
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, COLS}, .data = v};
    for (int i = 0; i < ROWS * COLS; i++)
        v[i] = sinf((float)i);
    return ops_upload(p->o, &host, a);
}

static void get(place *p, float v[ROWS * COLS])
{
    tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, COLS}, .data = v};
    assert_int_equal(ops_download(p->o, p->x, &host), FLUX1_OK);
}

static flux1_status other(place *p)
{
    return ++p->others == p->fail_at ? error_set(&p->err, FLUX1_ERR_COMM, "as asked") : FLUX1_OK;
}

static flux1_status again_other(ops *o, const void *args)
{
    (void)o;
    return other(*(place *const *)args);
}

/* x += attention(q, q, q) + itself, by a tensor that is there meanwhile. */
static flux1_status calls(place *p)
{
    ops *o = p->o;
    const attention_args mine = p->args; /* gone when the step is replayed */
    size_t mark = ops_mark(o);
    act twice;
    p->made++;
    TRY(ops_attention(o, p->q, p->q, p->q, &mine, p->out));
    TRY(ops_create(o, ACT_RESIDUAL, shape_rows(1, 0, ROWS, COLS), &twice));
    TRY(ops_add(o, p->out, 1, (act){0}, p->out, twice));
    TRY(ops_add(o, p->x, 1, (act){0}, twice, p->x));
    if (p->uploads)
        TRY(put(p, p->q));
    record_other(o, again_other, &p, sizeof p);
    TRY(other(p));
    ops_release(o, mark);
    return FLUX1_OK;
}

static flux1_status step(place *p, uint64_t number)
{
    bool done;
    TRY(ops_step_set(p->o, 0));
    TRY(ops_step_replay(p->o, number, &done));
    if (!done) {
        TRY(calls(p));
        TRY(ops_step_record(p->o));
    }
    return ops_step_end(p->o, 0);
}

/* x after three steps, `made` of which were made by their calls. */
static void three_steps(place *p, int made, const float *want, float *got)
{
    p->made = p->others = 0;
    assert_int_equal(put(p, p->q), FLUX1_OK);
    assert_int_equal(put(p, p->x), FLUX1_OK);
    for (int i = 0; i < 3; i++) {
        if (step(p, 5) != FLUX1_OK)
            fail_msg("%s", p->err.message);
        p->args.scale = 0.5f + (float)(made == 1 ? i : 0); /* nobody looks at it any more */
    }
    p->args.scale = 0.5f;
    assert_int_equal(p->made, made);
    assert_int_equal(p->others, 3);
    get(p, got);
    if (want)
        assert_memory_equal(want, got, ROWS * COLS * sizeof *want);
}

static void a_step_is_repeated_with_its_arguments(void **state)
{
    (void)state;
    float want[ROWS * COLS], got[ROWS * COLS];
    place p;
    open_place(&p, ARENA);
    p.o->calls = NULL; /* as with eager */
    three_steps(&p, 3, NULL, want);
    ops_destroy(p.o);
    open_place(&p, ARENA);
    const ops_table *own = p.o->fn;
    three_steps(&p, 1, want, got);
    assert_ptr_equal(p.o->fn, own);
    three_steps(&p, 0, want, got); /* another loop of the same number */
    assert_int_equal(step(&p, 6), FLUX1_OK);
    assert_int_equal(p.made, 1); /* another number */
    act more;
    assert_int_equal(ops_create(p.o, ACT_RESIDUAL, shape_rows(1, 0, 1, 1), &more), FLUX1_OK);
    assert_int_equal(step(&p, 6), FLUX1_OK);
    assert_int_equal(p.made, 2); /* what a step creates would lie elsewhere */
    ops_destroy(p.o);
}

static void parts_of_a_step_are_kept_beside_each_other(void **state)
{
    (void)state;
    const uint64_t first = 3 * OPS_STEP_PARTS, second = first + OPS_STEP_PARTS - 1, another = second + 1;
    place p;
    open_place(&p, ARENA);
    assert_int_equal(put(&p, p.q), FLUX1_OK);
    assert_int_equal(put(&p, p.x), FLUX1_OK);
    const struct {
        uint64_t number;
        int made;
    } steps[] = {{first, 1}, {second, 2}, {first, 2}, {second, 2}, {second, 2}, {another, 3}, {another, 3}, {first, 4}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(step(&p, steps[i].number), FLUX1_OK);
        assert_int_equal(p.made, steps[i].made);
        assert_int_equal(p.others, i + 1);
    }
    ops_destroy(p.o);
}

static void what_cannot_be_repeated_is_made_each_time(void **state)
{
    (void)state;
    float want[ROWS * COLS], got[ROWS * COLS];
    place p;
    open_place(&p, ARENA);
    three_steps(&p, 1, NULL, want);
    p.uploads = true;
    p.o->calls->step = 1; /* another step's */
    three_steps(&p, 3, want, got);
    ops_destroy(p.o);
    open_place(&p, ARENA);
    p.o->calls->memory->peak = p.o->calls->memory->size - 100; /* the list does not fit */
    three_steps(&p, 3, want, got);
    ops_destroy(p.o);
}

static void a_failed_step_forgets_the_list(void **state)
{
    (void)state;
    float want[ROWS * COLS], got[ROWS * COLS];
    place p;
    open_place(&p, ARENA);
    three_steps(&p, 1, NULL, want);
    size_t mark = ops_mark(p.o);
    for (int made = 0; made < 2; made++) { /* fails when replayed, then when made */
        p.made = p.others = 0;
        p.fail_at = 1;
        assert_int_equal(step(&p, 5), FLUX1_ERR_COMM);
        assert_int_equal(p.made, made);
        ops_step_unwind(p.o, mark);
        assert_int_equal(ops_mark(p.o), mark);
        assert_false(record_active(p.o));
    }
    p.fail_at = 0;
    three_steps(&p, 1, want, got);
    assert_int_equal(ops_reserve(p.o, ARENA), FLUX1_OK); /* a new arena has no list */
    assert_null(p.o->calls->part[5].first);
    ops_destroy(p.o);
}

/* The dry run's arena has room for exactly the list that the step takes. */
static void the_dry_run_counts_the_list(void **state)
{
    (void)state;
    place p;
    open_place(&p, ARENA);
    assert_int_equal(step(&p, 5), FLUX1_OK);
    size_t bytes = p.o->calls->bytes;
    ops_destroy(p.o);
    size_t peak[2];
    for (int eager = 0; eager < 2; eager++) {
        p = (place){.args = {.heads = 2, .scale = 0.5f}};
        ops_config c = {.arithmetic = DTYPE_F32, .threads = 1, .err = &p.err, .eager = eager};
        assert_int_equal(ops_dry_create(&c, &ops_cpu_sizing, &p.o), FLUX1_OK);
        assert_int_equal(ops_create(p.o, ACT_HEADS, shape_rows(1, 0, ROWS, COLS), &p.q), FLUX1_OK);
        assert_int_equal(ops_create(p.o, ACT_LINEAR, shape_rows(1, 0, ROWS, COLS), &p.out), FLUX1_OK);
        assert_int_equal(ops_create(p.o, ACT_RESIDUAL, shape_rows(1, 0, ROWS, COLS), &p.x), FLUX1_OK);
        assert_int_equal(step(&p, 5), FLUX1_OK);
        peak[eager] = ops_dry_count(p.o)->arena_peak;
        ops_destroy(p.o);
    }
    assert_true(bytes > 0);
    assert_int_equal(peak[0] - peak[1], bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_repeated_with_its_arguments),
        cmocka_unit_test(parts_of_a_step_are_kept_beside_each_other),
        cmocka_unit_test(what_cannot_be_repeated_is_made_each_time),
        cmocka_unit_test(a_failed_step_forgets_the_list),
        cmocka_unit_test(the_dry_run_counts_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
