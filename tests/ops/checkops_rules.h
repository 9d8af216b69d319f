/* Rules that are not arithmetic, each on a run that is open already, which is closed. */
#ifndef FLUX1_TESTS_CHECKOPS_RULES_H
#define FLUX1_TESTS_CHECKOPS_RULES_H

#include "ops/checkops.h"

/* slots: how many the backend has. */
static void hold_finite(run *r, int slots)
{
    int slot;
    act good = input(r, ACT_LINEAR, 2, 300, 33), bad = output(r, ACT_LINEAR, 1, 3, 5);
    ok(r, ops_finite(r->o, good, 4));
    ok(r, ops_finite_first(r->o, &slot));
    assert_int_equal(slot, -1);
    ok(r, ops_finite(r->o, bad, slots - 1));
    ok(r, ops_finite(r->o, bad, 7));
    ok(r, ops_finite_first(r->o, &slot));
    assert_int_equal(slot, 7);
    ok(r, ops_finite_first(r->o, &slot));
    assert_int_equal(slot, -1);
    ok(r, ops_finite(r->o, bad, 9)); /* two steps that end before anybody asks */
    ok(r, ops_step_end(r->o, 4));
    ok(r, ops_finite(r->o, good, 3));
    ok(r, ops_finite(r->o, bad, slots - 2));
    ok(r, ops_step_end(r->o, 5));
    ok(r, ops_step_wait(r->o, 4, &slot));
    assert_int_equal(slot, 9);
    ok(r, ops_step_wait(r->o, 5, &slot));
    assert_int_equal(slot, slots - 2);
    ok(r, ops_step_end(r->o, 6));
    ok(r, ops_step_wait(r->o, 6, &slot));
    assert_int_equal(slot, -1);
    assert_int_equal(ops_finite(r->o, bad, slots), FLUX1_ERR_INTERNAL);
    close_run(r);
}

/* One cell that is not finite is found wherever it is, and not beside what is looked at. */
static inline void hold_finite_cell(run *r)
{
    enum { COLS = 37 };
    const act row = joint(r, ACT_RESIDUAL, 1, 0, 1, COLS + 1, false), seen = act_columns(row, 0, COLS);
    for (int i = 0; i < 2 * (COLS + 1); i++) {
        const float wrong = i > COLS ? -INFINITY : NAN, right = 1;
        const act cell = act_columns(row, i % (COLS + 1), 1);
        int slot;
        ok(r, ops_upload(r->o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {1}, .data = (void *)&wrong}, cell));
        ok(r, ops_finite(r->o, seen, 1));
        ok(r, ops_finite_first(r->o, &slot));
        assert_int_equal(slot, i % (COLS + 1) < COLS ? 1 : -1);
        ok(r, ops_upload(r->o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {1}, .data = (void *)&right}, cell));
    }
    close_run(r);
}

/* What finite remembers of a layer's output on the way to its norm: a NaN that came in by the product or by the
 * residual, an infinity that the sum made; nothing where all is finite, or nobody asked. */
static void hold_finite_norm(run *r)
{
    enum { ROWS = 5, COLS = 72, PLACE = 3 * COLS + COLS - 1 };
    static float values[ROWS * COLS];
    const tensor host = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, COLS}, .data = values};
    linear_weight w = {.w = linear_of(r, COLS, 8, true)};
    act good = joint(r, ACT_LINEAR, 1, 0, ROWS, 8, false), bad = joint(r, ACT_LINEAR, 1, 0, ROWS, 8, true),
        x = joint(r, ACT_RESIDUAL, 1, 0, ROWS, COLS, false), out = joint(r, ACT_LINEAR, 1, 0, ROWS, COLS, true);
    norm_behind norm = {.slot = 6, .eps = 1e-6f, .out = out};
    int slot;
    for (int kind = 0; kind < 5; kind++) {
        const float wrong[] = {1, 1, NAN, -INFINITY, NAN};
        values[PLACE] = wrong[kind];
        norm.slot = kind == 4 ? -1 : 6;
        ok(r, ops_upload(r->o, &host, x));
        ok(r, ops_linear_norm(r->o, kind == 1 ? bad : good, &w, &(epilogue){.residual = x}, x, &norm));
        ok(r, ops_finite_first(r->o, &slot));
        assert_int_equal(slot, kind == 0 || kind == 4 ? -1 : 6);
    }
    assert_int_equal((norm.slot = OPS_SLOTS, ops_linear_norm(r->o, good, &w, &(epilogue){.residual = x}, x, &norm)),
                     FLUX1_ERR_INTERNAL);
    close_run(r);
}

/* A NaN passes through attention and activations. */
static void hold_nan(run *r)
{
    int slot;
    act q = joint(r, ACT_HEADS, 1, 0, 4, 128, true), k = joint(r, ACT_HEADS, 1, 0, 40, 128, false);
    for (int kind = 0; kind < 4; kind++) { /* heads of 64 and of 16, with and without a mask */
        act out = joint(r, ACT_HEADS, 1, 0, 4, 128, false);
        ok(r, ops_attention(r->o, q, k, k, &(attention_args){.heads = kind / 2 ? 8 : 2, .scale = 1, .causal = kind % 2},
                            out));
        ok(r, ops_finite(r->o, out, 0));
        ok(r, ops_finite_first(r->o, &slot));
        assert_int_equal(slot, 0);
    }
    for (int f = 0; f < 5; f++) {
        act y = joint(r, ACT_HEADS, 1, 0, 4, 128, false);
        ok(r, ops_activate(r->o, (activation)f, q, (act){0}, y));
        ok(r, ops_finite(r->o, y, f));
        ok(r, ops_finite_first(r->o, &slot));
        assert_int_equal(slot, f);
    }
    close_run(r);
}

/* A weight outside its block's bracket is refused, and a block that is begun twice. */
static void hold_bracket(run *r)
{
    weight *w = linear_of(r, 4, 4, false);
    act in = input(r, ACT_LINEAR, 1, 2, 4), out = output(r, ACT_LINEAR, 1, 2, 4);
    assert_int_equal(ops_block_begin(r->o, r->held), FLUX1_ERR_INTERNAL);
    ok(r, ops_block_end(r->o, r->held));
    assert_int_equal(ops_product(r->o, in, w, &(epilogue){0}, out), FLUX1_ERR_INTERNAL);
    assert_non_null(strstr(r->err.message, "the block"));
    close_run(r);
}

/* A block that is destroyed gives back its weights and nobody else's; the others go on. */
static inline void hold_block_destroy(run *r)
{
    block *blocks[3];
    weight *w[3];
    act in = joint(r, ACT_LINEAR, 2, 3, 0, 7, false), out[2];
    ops_block_destroy(r->o, NULL);
    for (int i = 0; i < 3; i++) {
        w[i] = linear_of(r, 5, 7, true);
        blocks[i] = r->held;
        ok(r, ops_block_end(r->o, blocks[i]));
    }
    for (int i = 0; i < 2; i++) { /* the middle one, then the last */
        ops_block_destroy(r->o, blocks[2 - (i + 1) % 2]);
        out[i] = joint(r, ACT_LINEAR, 2, 3, 0, 5, true);
        ok(r, ops_block_begin(r->o, blocks[0]));
        ok(r, ops_product(r->o, in, w[0], &(epilogue){0}, out[i]));
        ok(r, ops_block_end(r->o, blocks[0]));
        keep(r, out[i]);
    }
    assert_memory_equal(r->out, r->out + r->end[0], r->end[0] * sizeof *r->out);
    w[1] = linear_of(r, 5, 7, true); /* and new ones come behind */
    ok(r, ops_product(r->o, in, w[1], &(epilogue){0}, out[1]));
    ok(r, ops_block_begin(r->o, blocks[0]));
    ops_step_unwind(r->o, ops_mark(r->o)); /* closes old and new */
    for (int i = 0; i < 2; i++)
        assert_int_equal(ops_product(r->o, in, w[i], &(epilogue){0}, out[1]), FLUX1_ERR_INTERNAL);
    close_run(r);
}

/* A step that failed between its brackets is unwound: the next one works, from the same mark of the arena, and what the
 * failed one found not finite is forgotten. */
static inline void hold_unwind(run *r)
{
    weight *w = linear_of(r, 5, 7, true);
    act in = joint(r, ACT_LINEAR, 1, 3, 0, 7, false), out = joint(r, ACT_LINEAR, 1, 3, 0, 5, true),
        bad = joint(r, ACT_LINEAR, 1, 3, 0, 5, true), scratch;
    int slot;
    ok(r, ops_block_end(r->o, r->held));
    size_t mark = ops_mark(r->o);
    for (int step = 0; step < 4; step++) {
        bool fails = step % 2, done;
        ok(r, ops_step_set(r->o, step));
        ok(r, ops_step_replay(r->o, fails ? 8 : 7, &done)); /* what was recorded is not made again to fail */
        if (!done) {
            ok(r, ops_block_begin(r->o, r->held));
            ok(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, 3, 0, 5), &scratch));
            if (fails) {
                ok(r, ops_finite(r->o, bad, 2));
                assert_int_equal(ops_rms_norm(r->o, in, w, 1e-6f, in), FLUX1_ERR_INTERNAL);
                ops_step_unwind(r->o, mark);
                assert_int_equal(ops_mark(r->o), mark);
                assert_int_equal(ops_product(r->o, in, w, &(epilogue){0}, out), FLUX1_ERR_INTERNAL); /* not held */
                ok(r, ops_finite_first(r->o, &slot));
                assert_int_equal(slot, -1);
                continue;
            }
            ok(r, ops_product(r->o, in, w, &(epilogue){0}, scratch));
            ok(r, ops_cast(r->o, scratch, out));
            ok(r, ops_block_end(r->o, r->held));
            ops_release(r->o, mark);
            ok(r, ops_step_record(r->o));
        }
        ok(r, ops_step_end(r->o, step));
        ok(r, ops_step_wait(r->o, step, &slot));
        keep(r, out);
    }
    assert_int_equal(r->kept, 2);
    assert_memory_equal(r->out, r->out + r->end[0], r->end[0] * sizeof *r->out);
    close_run(r);
}

static void hold_tokens(run *r)
{
    weight_recipe t = matrix_recipe(r, WEIGHT_TABLE, 20, 4);
    weight *w = prepare(r, &t, false);
    act ids, out = output(r, ACT_RESIDUAL, 1, 1, 4);
    ok(r, ops_create(r->o, ACT_IDS, shape_rows(1, 1, 0, 1), &ids));
    for (int32_t id = -1; id <= 20; id += 21) {
        ok(r, ops_upload(r->o, &(tensor){.type = DTYPE_I32, .dims = 1, .shape = {1}, .data = &id}, ids));
        assert_int_equal(ops_embed(r->o, ids, w, NULL, 0, out), FLUX1_ERR_ARGUMENT);
    }
    close_run(r);
}

#endif
