/* What a GPU holds between calls: weights that stay or are streamed, steps that are recorded and replayed, what is made
 * once; in memory that is tight. */
#include "ops/checkops_cuda_model.h"

static void replayed_steps_give_what_eager_ones_give(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    float eager[MODEL_ROWS * MODEL_WIDTH], replayed[MODEL_ROWS * MODEL_WIDTH];
    make_weights(weights);
    assert_int_equal(run_model(weights, true, eager), 0);
    assert_int_equal(run_model(weights, false, replayed),
                     MODEL_STEPS - 2); /* the first runs as it is, the second is recorded */
    assert_memory_equal(eager, replayed, sizeof eager);
    free_weights(weights);
}

/* ---- branches ---- */

/* Both parts, each through two weights of its own, the hidden rows in the arena: x += gelu(in·Wᵀ)·Vᵀ. */
static flux1_status try_branches(model *m, act in, act x)
{
    ops *o = m->r.o;
    for (act_part p = PART_TEXT; p <= PART_IMAGE; p++) {
        TRY(ops_branch(o, BRANCH_OF(p)));
        const act from = act_of(in, p), to = act_of(x, p);
        const size_t mark = ops_mark(o);
        act hidden;
        TRY(ops_create(o, ACT_LINEAR, shape_rows(1, 0, act_rows(from), MODEL_WIDTH), &hidden));
        TRY(ops_product(o, from, m->w[2 * p], &(epilogue){.f = ACTIVATION_GELU_TANH}, hidden));
        TRY(ops_product(o, hidden, m->w[2 * p + 1], &(epilogue){.residual = to}, to));
        ops_release(o, mark);
    }
    return ops_branch(o, 0);
}

static flux1_status try_branched_step(model *m, act in, act x)
{
    ops *o = m->r.o;
    bool replayed;
    TRY(ops_step_replay(o, 3, &replayed));
    if (replayed)
        return FLUX1_OK;
    for (int i = 0; i < 4; i++)
        TRY(ops_block_begin(o, m->b[i]));
    TRY(ops_cast(o, x, in)); /* what both begin behind */
    TRY(try_branches(m, in, x));
    TRY(ops_cast(o, x, in)); /* what comes behind both */
    TRY(try_branches(m, in, x));
    for (int i = 0; i < 4; i++)
        TRY(ops_block_end(o, m->b[i]));
    return ops_step_record(o);
}

enum { TEXT_ROWS = 5, IMAGE_ROWS = 41 };

static void run_branches(const tensor *weights, bool branches, float *out)
{
    model m;
    act in, x;
    open_model(&m, weights, false);
    cuda_self(m.r.o)->branches.wanted = branches;
    run *r = &m.r;
    const size_t mark = ops_mark(r->o);
    ok(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, TEXT_ROWS, IMAGE_ROWS, MODEL_WIDTH), &in));
    ok(r, ops_create(r->o, ACT_RESIDUAL, shape_rows(1, TEXT_ROWS, IMAGE_ROWS, MODEL_WIDTH), &x));
    fill(r, x, false);
    const size_t before = ops_mark(r->o);
    for (int k = 0; k < MODEL_STEPS; k++) {
        ok(r, try_branched_step(&m, in, x));
        if (k == 1) /* the recorded one */
            assert_int_equal(cuda_self(r->o)->branches.beside, branches);
        assert_int_equal(ops_mark(r->o), before);
    }
    assert_int_equal(cuda_self(r->o)->branches.stream != NULL, branches);
    keep(r, x);
    memcpy(out, r->out, r->count * sizeof *out);
    ops_release(r->o, mark);
    close_run(r);
}

static void branches_give_what_their_order_gives(void **state)
{
    (void)state;
    enum { VALUES = (TEXT_ROWS + IMAGE_ROWS) * MODEL_WIDTH };
    tensor weights[MODEL_BLOCKS];
    float ordered[VALUES], branched[VALUES];
    make_weights(weights);
    run_branches(weights, false, ordered);
    run_branches(weights, true, branched);
    assert_memory_equal(ordered, branched, sizeof ordered);
    free_weights(weights);
}

/* A step that breaks off in a branch leaves nothing of it: the next ones are right, and end. */
static void a_step_may_break_off_in_a_branch(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    model m;
    make_weights(weights);
    open_model(&m, weights, false);
    cuda_self(m.r.o)->branches.wanted = true;
    run *r = &m.r;
    const size_t mark = ops_mark(r->o);
    for (int k = 0; k < 3; k++) { /* as it is, recorded, and recorded anew */
        bool replayed;
        ok(r, ops_step_replay(r->o, 5, &replayed));
        assert_false(replayed);
        ok(r, ops_block_begin(r->o, m.b[0]));
        ok(r, ops_branch(r->o, 1));
        ok(r, ops_cast(r->o, m.x, m.in));
        if (k == 1) {
            assert_int_equal(ops_product(r->o, m.in, m.w[1], &(epilogue){0}, m.x), FLUX1_ERR_INTERNAL); /* not held */
            ops_step_unwind(r->o, mark);
            continue;
        }
        ok(r, ops_branch(r->o, 2));
        ok(r, ops_branch(r->o, 0));
        ok(r, ops_product(r->o, m.in, m.w[0], &(epilogue){0}, m.x));
        ok(r, ops_block_end(r->o, m.b[0]));
        ok(r, ops_step_record(r->o));
    }
    ok(r, ops_sync(r->o));
    assert_int_equal(ops_mark(r->o), mark);
    close_run(r);
    free_weights(weights);
}

static void weights_stay_for_the_next_backend(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    float first[MODEL_ROWS * MODEL_WIDTH], second[MODEL_ROWS * MODEL_WIDTH];
    if (!emulated)
        skip();
    make_weights(weights);
    run_model(weights, false, first);
    size_t before = cuda_emulator_counts().uploaded_bytes;
    run_model(weights, false, second);
    size_t uploaded = cuda_emulator_counts().uploaded_bytes - before,
           one_weight = MODEL_WIDTH * MODEL_WIDTH * sizeof(float);
    assert_true(uploaded < one_weight); /* activations only */
    assert_memory_equal(first, second, sizeof first);
    free_weights(weights);
}

/* Memory for a few blocks beside the arena: the others are streamed, step after step, and the result is the same. */
static void hold_streaming(void)
{
    tensor weights[MODEL_BLOCKS];
    float resident[MODEL_ROWS * MODEL_WIDTH], streamed[MODEL_ROWS * MODEL_WIDTH];
    make_weights(weights);
    run_model(weights, true, resident);
    for (int i = 0; i < MODEL_BLOCKS; i++) { /* other weights by content, so that none is found on the device */
        tensor copy = weights[i];
        ok(&(run){0}, tensor_create(DTYPE_F32, 2, copy.shape, &weights[i], NULL));
        memcpy(weights[i].data, copy.data, tensor_bytes(&copy));
        tensor_free(&copy);
    }
    model_store++;
    cuda_emulator_memory((size_t)256 << 20); /* less than is left free for the libraries */
    size_t before = cuda_emulator_counts().uploaded_bytes;
    assert_int_equal(run_model(weights, false, streamed), 0);
    assert_true(cuda_emulator_counts().uploaded_bytes - before >=
                (size_t)MODEL_STEPS * (MODEL_BLOCKS - 3) * MODEL_WIDTH * MODEL_WIDTH * sizeof(float));
    assert_memory_equal(resident, streamed, sizeof resident);
    cuda_emulator_memory((size_t)64 << 30);
    free_weights(weights);
}

static void weights_that_do_not_fit_are_streamed(void **state)
{
    (void)state;
    if (!emulated)
        skip();
    for (model_fp8 = FP8_NO; model_fp8 <= FP8_WHOLE; model_fp8++)
        hold_streaming();
    model_fp8 = FP8_NO;
}

/* ---- models of blocks of 64 MiB in memory that is tight ---- */

enum { LARGE_BLOCKS = 12, LARGE_WIDTH = 4096 };
#define LARGE ((size_t)LARGE_WIDTH * LARGE_WIDTH * sizeof(float))
#define MIB ((size_t)1 << 20)

static tensor large_weights; /* all of a block's, in all blocks: what lies there plays no part */

static int open_large(void **state)
{
    (void)state;
    flux1_error err = {0};
    return tensor_create(DTYPE_F32, 2, (int64_t[]){LARGE_WIDTH, LARGE_WIDTH}, &large_weights, &err);
}

static int close_large(void **state)
{
    (void)state;
    tensor_free(&large_weights);
    cuda_emulator_memory((size_t)64 << 30);
    return 0;
}

typedef struct large {
    store_tensor tensor[LARGE_BLOCKS];
    block *b[LARGE_BLOCKS];
    int blocks;
} large;

/* Blocks of store numbers from `first` on. */
static void make_large(run *r, large *m, int blocks, uint64_t first)
{
    weight *w;
    m->blocks = blocks;
    for (int i = 0; i < blocks; i++) {
        m->tensor[i] =
            (store_tensor){.name = "w", .file = "memory", .view = large_weights, .store = first + (uint64_t)i};
        weight_recipe recipe = recipe_whole(WEIGHT_LINEAR, &m->tensor[i]);
        ok(r, ops_block_create(r->o, "a large block", &m->b[i]));
        ok(r, ops_prepare(r->o, m->b[i], &recipe, NULL, &w));
    }
}

/* A step of recording `number`: all blocks, one after the other. Returns how many of them were uploaded; −1: replayed.
 */
static int step_large(run *r, const large *m, uint64_t number)
{
    bool replayed;
    size_t before = cuda_emulator_counts().uploaded_bytes;
    ok(r, ops_step_replay(r->o, number, &replayed));
    for (int i = 0; i < m->blocks && !replayed; i++) {
        ok(r, ops_block_begin(r->o, m->b[i]));
        ok(r, ops_block_end(r->o, m->b[i]));
    }
    if (!replayed)
        ok(r, ops_step_record(r->o));
    return replayed ? -1 : (int)((cuda_emulator_counts().uploaded_bytes - before) / LARGE);
}

static uint64_t new_stores(void)
{
    static uint64_t next = 1000000;
    return next += 1000;
}

static void open_bare(run *r, size_t arena_bytes)
{
    *r = (run){0};
    ok(r, ops_cuda_create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 2, .err = &r->err, .device = gpu}, &r->o));
    ok(r, ops_reserve(r->o, arena_bytes));
}

static void keep_nothing(void)
{
    gpu->kind->kept_budget(gpu, 1);
    gpu->kind->kept_budget(gpu, 0);
}

/* Room for so many blocks beside what a backend has for itself and what is left to the libraries. */
static void room_for(int blocks)
{
    keep_nothing();
    cuda_emulator_memory(cuda_emulator_counts().device_bytes + 612 * MIB + (size_t)blocks * LARGE);
}

/* The first picture leaves all blocks on the GPU. The second's activations take the place of two, and the ten that are
 * left are no room for those two: they are wanted themselves. They stay, and the two are streamed. */
static void a_larger_picture_after_a_smaller_one_streams(void **state)
{
    (void)state;
    uint64_t stores = new_stores();
    run r;
    large m;
    if (!emulated)
        skip();
    room_for(LARGE_BLOCKS);
    open_bare(&r, MIB);
    make_large(&r, &m, LARGE_BLOCKS, stores);
    assert_int_equal(step_large(&r, &m, 1), LARGE_BLOCKS);
    close_run(&r);
    open_bare(&r, 612 * MIB - 100 * MIB + 2 * LARGE);
    make_large(&r, &m, LARGE_BLOCKS, stores);
    assert_true(step_large(&r, &m, 1) <= LARGE_BLOCKS);
    close_run(&r);
}

/* Of a model that does not fit, what fits stays: only the others are uploaded in every step. */
static void what_fits_stays_and_the_rest_is_streamed(void **state)
{
    (void)state;
    run r;
    large m;
    if (!emulated)
        skip();
    room_for(8);
    open_bare(&r, MIB);
    make_large(&r, &m, LARGE_BLOCKS, new_stores());
    step_large(&r, &m, 1);
    step_large(&r, &m, 1);
    int again = step_large(&r, &m, 1);
    assert_true(again >= LARGE_BLOCKS - 8 && again <= LARGE_BLOCKS - 8 + 3); /* three slots have the room of blocks */
    ops_rest(r.o);
    int after = step_large(&r, &m, 1);
    assert_true(after >= 0 && after <= again + 1);
    close_run(&r);
}

/* One backend, two models of which either fits: the one that rests gives way, and both are recorded. */
static void blocks_of_an_idle_model_give_way(void **state)
{
    (void)state;
    run r;
    large m[2];
    if (!emulated)
        skip();
    room_for(8);
    open_bare(&r, MIB);
    for (int i = 0; i < 2; i++)
        make_large(&r, &m[i], 6, new_stores());
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < 2; i++) {
            ok(&r, ops_reserve(r.o, MIB)); /* a stage begins */
            int uploaded = step_large(&r, &m[i], 1 + (uint64_t)i);
            assert_true(uploaded == (turn == 0 ? 6 : 4)); /* the other's six took the place of four */
            assert_int_equal(step_large(&r, &m[i], 1 + (uint64_t)i), 0);
            assert_int_equal(step_large(&r, &m[i], 1 + (uint64_t)i), -1);
        }
    close_run(&r);
}

/* Blocks on the device that may be the model's or not, since none was begun yet, are held until their memory is wanted.
 */
static void blocks_that_were_never_begun_give_way(void **state)
{
    (void)state;
    run r;
    large m, n;
    uint64_t stores = new_stores();
    if (!emulated)
        skip();
    room_for(8);
    open_bare(&r, MIB);
    make_large(&r, &m, 4, stores);
    assert_int_equal(step_large(&r, &m, 1), 4);
    close_run(&r);
    open_bare(&r, MIB);
    make_large(&r, &n, 6, new_stores());
    make_large(&r, &m, 4, stores);
    assert_int_equal(step_large(&r, &n, 1), 6);
    assert_int_equal(step_large(&r, &n, 1), 0);
    assert_int_equal(step_large(&r, &n, 1), -1); /* none was streamed: that is not recorded */
    close_run(&r);
}

/* A backend at rest holds nothing that another one needs; where nobody needed it, it goes on where it was. */
static void weights_at_rest_are_found_again(void **state)
{
    (void)state;
    run r, other;
    large m, n;
    if (!emulated)
        skip();
    room_for(6);
    open_bare(&r, MIB);
    make_large(&r, &m, 4, new_stores());
    for (int k = 0; k < 3; k++)
        assert_int_equal(step_large(&r, &m, 7), k == 0 ? 4 : k == 1 ? 0 : -1);
    ops_rest(r.o);
    assert_int_equal(step_large(&r, &m, 7), -1);
    ops_rest(r.o);
    open_bare(&other, MIB);
    make_large(&other, &n, 3, new_stores());
    assert_int_equal(step_large(&other, &n, 1), 3);
    close_run(&other);
    int again = step_large(&r, &m, 7); /* what was recorded lies elsewhere now */
    assert_true(again > 0 && again < 4);
    assert_int_equal(step_large(&r, &m, 7), 0);
    assert_int_equal(step_large(&r, &m, 7), -1);
    ops_rest(r.o);
    open_bare(&other, MIB); /* again, and stays where the recorded ones lay */
    make_large(&other, &n, 3, new_stores());
    assert_int_equal(step_large(&other, &n, 1), 3);
    cuda_emulator_memory((size_t)64 << 30);
    assert_true(step_large(&r, &m, 8) > 0);
    assert_int_equal(step_large(&r, &m, 7), 0);
    assert_int_equal(step_large(&r, &m, 7), -1);
    close_run(&other);
    close_run(&r);
}

static void kept_weights_keep_to_a_budget(void **state)
{
    (void)state;
    run r;
    large m;
    if (!emulated)
        skip();
    keep_nothing();
    gpu->kind->kept_budget(gpu, 2 * LARGE);
    open_bare(&r, MIB);
    size_t before = cuda_emulator_counts().device_bytes;
    make_large(&r, &m, 4, new_stores());
    assert_int_equal(step_large(&r, &m, 1), 4); /* what is needed is there all the same */
    assert_int_equal(step_large(&r, &m, 1), 0);
    ops_rest(r.o);
    assert_int_equal(cuda_emulator_counts().device_bytes - before, 2 * LARGE);
    assert_int_equal(step_large(&r, &m, 1), 2); /* the last two are still there */
    gpu->kind->kept_budget(gpu, 0);
    close_run(&r);
}

static void released(void *owner) { ++*(int *)owner; }

/* Bytes of a kept block, taken out and put in again, stand for an upload. */
static void kept_weights_are_exported_and_adopted(void **state)
{
    (void)state;
    run r;
    large m;
    uint64_t key[2], stores = new_stores();
    size_t bytes;
    flux1_error err = {0};
    if (!emulated)
        skip();
    open_bare(&r, MIB);
    make_large(&r, &m, 1, stores);
    gpu->kind->block_key(r.o, m.b[0], key, &bytes);
    assert_int_equal(bytes, LARGE);
    unsigned char *copy = malloc(bytes);
    int back = 0;
    ops_loan *loan;
    const ops_lent lent = {.bytes = copy, .count = bytes, .release = released, .owner = &back};
    assert_int_equal(gpu->kind->block_export(r.o, m.b[0], copy), FLUX1_OK); /* not there yet: uploaded for this */
    assert_memory_equal(copy, large_weights.data, bytes);
    assert_int_equal(step_large(&r, &m, 1), 0); /* and found by the step */
    close_run(&r);
    keep_nothing();
    for (int twice = 1; twice <= 2; twice++) { /* the second time it is there already */
        assert_int_equal(gpu->kind->kept_adopt(gpu, key, &lent, &loan, &err), FLUX1_OK);
        assert_null(loan);
        assert_int_equal(back, twice); /* copied */
    }
    memset(copy, 0, bytes);
    open_bare(&r, MIB);
    make_large(&r, &m, 1, stores);
    assert_int_equal(step_large(&r, &m, 1), 0);
    assert_int_equal(gpu->kind->block_export(r.o, m.b[0], copy), FLUX1_OK);
    assert_memory_equal(copy, large_weights.data, bytes);
    close_run(&r);
    keep_nothing();
    gpu->kind->kept_budget(gpu, LARGE - 1);
    assert_int_equal(gpu->kind->kept_adopt(gpu, key, &lent, &loan, &err), FLUX1_ERR_MEMORY);
    assert_int_equal(back, 3);
    gpu->kind->kept_budget(gpu, 0);
    free(copy);
}

/* ---- what a run costs once ---- */

/* Nothing but handles before the first upload; nothing at all for a run like the one before. */
static void what_is_fixed_is_made_once(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    float first[MODEL_ROWS * MODEL_WIDTH], out[MODEL_ROWS * MODEL_WIDTH];
    model m;
    if (!emulated)
        skip();
    make_weights(weights);
    size_t pinned = cuda_emulator_counts().pinned_bytes;
    open_model(&m, weights, false);
    assert_true(cuda_emulator_counts().pinned_bytes - pinned <= 64 << 10); /* the checks' flags */
    cuda_emulator_counters before = {0}, after;
    for (int k = 0; k < 3; k++) {
        before = cuda_emulator_counts();
        ok(&m.r, ops_reserve(m.r.o, k == 2 ? ARENA / 2 : ARENA)); /* no more than there is */
        make_activations(&m);
        for (int step = 0; step < MODEL_STEPS; step++)
            assert_int_equal(run_model_step(&m, step), k > 0 || step > 1);
        m.r.count = 0, m.r.kept = 0;
        keep(&m.r, m.x);
        memcpy(k ? out : first, m.r.out, sizeof out);
        if (k)
            assert_memory_equal(first, out, sizeof out);
        ops_rest(m.r.o);
        after = cuda_emulator_counts();
        assert_true(k == 0 || (after.allocations == before.allocations && after.plans == before.plans));
    }
    ok(&m.r, ops_reserve(m.r.o, 2 * ARENA)); /* it moves: what was recorded is of no use */
    make_activations(&m);
    for (int step = 0; step < MODEL_STEPS; step++)
        assert_int_equal(run_model_step(&m, step), step > 1);
    close_run(&m.r);
    before = cuda_emulator_counts();
    run_model(weights, false, out); /* another backend on the same device */
    assert_int_equal(cuda_emulator_counts().plans, before.plans);
    assert_memory_equal(first, out, sizeof out);
    free_weights(weights);
}

/* Weights are the same only if all is that they are made of; a file's bytes are the same wherever they are mapped. */
static void blocks_in_other_forms_have_other_keys(void **state)
{
    (void)state;
    enum { FORMS = 8 };
    run r;
    weight *w;
    uint64_t key[FORMS][2];
    tensor data = {.type = DTYPE_BF16, .dims = 2, .shape = {6, 4}, .data = &key}, elsewhere = data;
    elsewhere.data = &r;
    file_identity file = {.device = 1, .inode = 2, .size = 3, .seconds = 4};
    store_tensor of_file = {.name = "w", .file = "f", .view = data, .store = 5, .source = file, .offset = 64},
                 mapped_again = {.name = "w", .file = "f", .view = elsewhere, .store = 6, .source = file, .offset = 64},
                 further = {.name = "w", .file = "f", .view = data, .store = 5, .source = file, .offset = 128};
    weight_recipe form[FORMS];
    for (int i = 0; i < FORMS; i++)
        form[i] = recipe_whole(i % 2 ? WEIGHT_QKV : WEIGHT_LINEAR, i == 6   ? &further
                                                                   : i == 7 ? &mapped_again
                                                                            : &of_file);
    form[1].heads = 1, form[3].heads = 2, form[2].coarse = true, form[4] = recipe_rows(&form[0], 0, 3);
    form[5] = recipe_rows(&form[0], 1, 3), form[7].role = WEIGHT_LINEAR;
    open_fp8(&r, DTYPE_BF16, FP8_ROWS, false, 1);
    for (int i = 0; i < FORMS; i++) {
        size_t bytes;
        ok(&r, ops_block_create(r.o, "a block", &r.held));
        ok(&r, ops_prepare(r.o, r.held, &form[i], NULL, &w));
        gpu->kind->block_key(r.o, r.held, key[i], &bytes);
        for (int k = 0; k < i; k++)
            assert_int_equal(memcmp(key[i], key[k], sizeof key[0]) == 0, k == 0 && i == 7);
    }
    close_run(&r);
}

int main(int argc, char **argv)
{
    use_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replayed_steps_give_what_eager_ones_give),
        cmocka_unit_test(branches_give_what_their_order_gives),
        cmocka_unit_test(a_step_may_break_off_in_a_branch),
        cmocka_unit_test(weights_stay_for_the_next_backend),
        cmocka_unit_test(weights_that_do_not_fit_are_streamed),
        cmocka_unit_test_setup_teardown(a_larger_picture_after_a_smaller_one_streams, open_large, close_large),
        cmocka_unit_test_setup_teardown(what_fits_stays_and_the_rest_is_streamed, open_large, close_large),
        cmocka_unit_test_setup_teardown(blocks_of_an_idle_model_give_way, open_large, close_large),
        cmocka_unit_test_setup_teardown(blocks_that_were_never_begun_give_way, open_large, close_large),
        cmocka_unit_test_setup_teardown(weights_at_rest_are_found_again, open_large, close_large),
        cmocka_unit_test_setup_teardown(kept_weights_keep_to_a_budget, open_large, close_large),
        cmocka_unit_test_setup_teardown(kept_weights_are_exported_and_adopted, open_large, close_large),
        cmocka_unit_test(what_is_fixed_is_made_once),
        cmocka_unit_test(blocks_in_other_forms_have_other_keys),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
