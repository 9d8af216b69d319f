/* ops/cuda against ops/ref (checkops.h): on an emulated GPU (cuda_emulator/: the same kernels compiled for this
 * processor, NVIDIA's libraries made of plain C), or with
 * --gpu on the real one; --gpu --bench times the entries there instead, beside a copy. Then what only this backend has:
 * weights that stay or are streamed, steps that are recorded and replayed, memory that runs out. */
#define ARENA ((size_t)24 << 20)
#include "ops/checkops.h"
#include "ops/cuda/cuda.h"
#include "ops/cuda/notes.h"
#include "ops/cuda_emulator/emulator.h"

static ops_device *gpu;
static bool emulated = true;

static void open_fp8(run *r, dtype arithmetic, ops_fp8 fp8, bool rounded, uint64_t seed)
{
    start_run(r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = arithmetic, .fp8 = fp8, .threads = 2, .device = gpu}, rounded, seed);
}

static void open_cuda(run *r, dtype arithmetic, bool rounded, uint64_t seed)
{
    open_fp8(r, arithmetic, FP8_NO, rounded, seed);
}

static int open_gpu(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (emulated)
        cuda_libraries_replace(cuda_emulator());
    if (ops_cuda_device.open(0, &gpu, &err) != FLUX1_OK || cuda_device_ready((cuda_device *)gpu, &err) != FLUX1_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    const cuda_device *d = (cuda_device *)gpu;
    print_message("%s, %s\n", gpu->info.name, d->versions);
    if (!d->lib->blas || !d->lib->dnn) { /* kernels of our own would answer in their place, and all would pass */
        print_error("cuBLASLt and cuDNN are needed to check them: %s%s\n", d->lib->place[CUDA_BLAS].missing,
                    d->lib->place[CUDA_DNN].missing);
        return 1;
    }
    return 0;
}

static int close_gpu(void **state)
{
    (void)state;
    ops_cuda_device.close(gpu);
    if (emulated)
        assert_int_equal(cuda_emulator_counts().live_allocations, 0);
    return 0;
}

/* ---- every entry ---- */

static double compare(const check *c, dtype arithmetic, ops_fp8 fp8, int variant)
{
    bool rounded = arithmetic == DTYPE_BF16;
    run ref, one, dry;
    start_run(&ref, ops_ref_create, NULL, &(ops_config){.arithmetic = DTYPE_F32, .fp8 = fp8, .threads = 1}, rounded,
              (uint64_t)variant);
    c->body(&ref);
    open_fp8(&one, arithmetic, fp8, rounded, (uint64_t)variant);
    c->body(&one);
    start_run(&dry, NULL, &ops_cuda_sizing, &(ops_config){.arithmetic = arithmetic, .fp8 = fp8, .threads = 2}, rounded,
              (uint64_t)variant);
    c->body(&dry);
    if (cuda_self(one.o)->arena_peak > ops_dry_count(dry.o)->arena_peak)
        fail_msg("%s, variant %d: %zu bytes of the arena were used, the dry run counts %zu", c->name, variant,
                 cuda_self(one.o)->arena_peak, ops_dry_count(dry.o)->arena_peak);
    double error = distance(&ref, &one);
    if (written_gap(&one) >= 0)
        fail_msg("%s, variant %d: something was written beside activation %d", c->name, variant, written_gap(&one));
    close_run(&ref);
    close_run(&one);
    close_run(&dry);
    return error;
}

/* e4m3 products in tensor cores, fast sums: they keep some 14 bits of a sum (seen on an H100: 1.7e-4). */
#define FAST_SUMS 5e-4

/* How many variants are further off than they may be. */
static int compare_all(const check *list, size_t count, ops_fp8 fp8)
{
    int wrong = 0;
    for (size_t i = 0; i < count; i++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const check *c = &list[i];
            double worst = 0;
            for (int v = 1; v <= c->variants; v++) {
                double error = compare(c, bf16 ? DTYPE_BF16 : DTYPE_F32, fp8, v);
                if (!(error <= (bf16 ? c->bf16 : !emulated && fp8 && c->f32 < FAST_SUMS ? FAST_SUMS : c->f32))) {
                    print_error("%s, %s, variant %d: error %g\n", c->name, bf16 ? "bf16" : "f32", v, error);
                    wrong++;
                }
                worst = error > worst ? error : worst;
            }
            print_message("%-41s %-4s worst error %.1e\n", c->name, bf16 ? "bf16" : "f32", worst);
        }
    return wrong;
}

static void every_entry_of_cuda_is_what_ref_says(void **state)
{
    (void)state;
    const cuda_emulator_counters before = cuda_emulator_counts();
    assert_int_equal(compare_all(checks, sizeof checks / sizeof *checks, FP8_NO), 0);
    if (emulated) /* heads wider than cuDNN is good at went the other way */
        assert_true(cuda_emulator_counts().kernel[CUDA_KERNEL_softmax] > before.kernel[CUDA_KERNEL_softmax]);
}

/* Attention where cuDNN is not there: kernels of our own do all of it, those on tensor cores what they take. */
static void attention_without_cudnn_is_what_ref_says(void **state)
{
    (void)state;
    const cuda_emulator_counters before = cuda_emulator_counts();
    if (!emulated)
        skip();
    cuda_emulator_libraries(true, false);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (strncmp(checks[i].name, "attention", 9) == 0)
            assert_int_equal(compare_all(&checks[i], 1, FP8_NO), 0);
    cuda_emulator_libraries(true, true);
    const cuda_emulator_counters after = cuda_emulator_counts();
    assert_int_equal(after.sdpas, before.sdpas);
    assert_true(after.kernel[CUDA_KERNEL_attention] > before.kernel[CUDA_KERNEL_attention]);
    assert_true(after.kernel[CUDA_KERNEL_attention_64] > before.kernel[CUDA_KERNEL_attention_64]);
    assert_true(after.kernel[CUDA_KERNEL_attention_128] > before.kernel[CUDA_KERNEL_attention_128]);
}

/* With a scale a row, and with one for a whole operand. Where the library is there, it does the products whose sizes it
 * takes. */
static void products_in_fp8_are_what_ref_says(void **state)
{
    (void)state;
    if (!gpu->info.fp8) {
        printf("skipped: this GPU has no fp8\n");
        skip();
    }
    for (ops_fp8 fp8 = FP8_ROWS; fp8 <= FP8_WHOLE; fp8++) {
        int64_t before = cuda_emulator_counts().matmuls;
        assert_int_equal(compare_all(fp8_checks, sizeof fp8_checks / sizeof *fp8_checks, fp8), 0);
        if (emulated)
            assert_true(cuda_emulator_counts().matmuls > before);
    }
}

/* ---- a small model: blocks of one square weight each, x ← gate[step]·(x·Wᵀ + b) + x ---- */

enum { MODEL_BLOCKS = 9, MODEL_WIDTH = 64, MODEL_ROWS = 10, MODEL_STEPS = 5 };

typedef struct model {
    run r;
    block *b[MODEL_BLOCKS];
    weight *w[MODEL_BLOCKS];
    act x, in, gate;
    bool replayed;
} model;

/* The store of the weights at hand: memory that is used again has other contents, so other weights are of another
 * store. */
static uint64_t model_store = 77;
static ops_fp8 model_fp8; /* FP8_NO but where a test says otherwise */

static void make_activations(model *m)
{
    run *r = &m->r;
    r->random = 4711;
    ok(r, ops_create(r->o, ACT_RESIDUAL, shape_rows(1, 0, MODEL_ROWS, MODEL_WIDTH), &m->x));
    ok(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, MODEL_ROWS, MODEL_WIDTH), &m->in));
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, MODEL_STEPS, MODEL_WIDTH), &m->gate));
    fill(r, m->x, false);
    fill(r, m->gate, false);
}

static void open_model(model *m, const tensor *weights, bool eager)
{
    start_run(&m->r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = DTYPE_F32, .fp8 = model_fp8, .threads = 2, .device = gpu, .eager = eager},
              false, 7);
    run *r = &m->r;
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        store_tensor *t = &r->tensors[i]; /* borrowed: not freed with the run */
        *t = (store_tensor){.name = "w", .file = "memory", .view = weights[i], .store = model_store};
        weight_recipe w = recipe_whole(WEIGHT_LINEAR, t);
        w.piece[0].source = t;
        w.coarse = true;
        ok(r, ops_block_create(r->o, "a block", &m->b[i]));
        ok(r, ops_prepare(r->o, m->b[i], &w, NULL, &m->w[i]));
    }
    make_activations(m);
}

static flux1_status try_block(model *m, int i)
{
    ops *o = m->r.o;
    TRY(ops_block_begin(o, m->b[i]));
    TRY(ops_cast(o, m->x, m->in));
    TRY(ops_product(o, m->in, m->w[i], &(epilogue){.gate = m->gate, .residual = m->x}, m->x));
    return ops_block_end(o, m->b[i]);
}

static flux1_status try_model_step(model *m, int64_t step)
{
    ops *o = m->r.o;
    TRY(ops_step_set(o, step % MODEL_STEPS));
    TRY(ops_step_replay(o, 1, &m->replayed));
    for (int i = 0; i < MODEL_BLOCKS && !m->replayed; i++)
        TRY(try_block(m, i));
    return m->replayed ? FLUX1_OK : ops_step_record(o);
}

static bool run_model_step(model *m, int64_t step)
{
    ok(&m->r, try_model_step(m, step));
    return m->replayed;
}

/* All steps; the result goes to `out` [MODEL_ROWS · MODEL_WIDTH]. Returns how many steps were replayed. */
static int run_model(const tensor *weights, bool eager, float *out)
{
    model m;
    int replayed = 0;
    open_model(&m, weights, eager);
    for (int k = 0; k < MODEL_STEPS; k++)
        replayed += run_model_step(&m, k);
    keep(&m.r, m.x);
    memcpy(out, m.r.out, m.r.count * sizeof *out);
    close_run(&m.r);
    return replayed;
}

static void make_weights(tensor *weights)
{
    run r = {.random = 99};
    model_store++;
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        ok(&r, tensor_create(DTYPE_F32, 2, (int64_t[]){MODEL_WIDTH, MODEL_WIDTH}, &weights[i], &r.err));
        for (int64_t k = 0; k < tensor_elements(&weights[i]); k++)
            ((float *)weights[i].data)[k] = value(&r) * 0.1f;
    }
}

static void free_weights(tensor *weights)
{
    for (int i = 0; i < MODEL_BLOCKS; i++)
        tensor_free(&weights[i]);
}

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

/* ---- failures ---- */

/* A kernel that touches what it must not takes the device with it: that is said once, then at every call that it was.
 */
static void a_device_that_fails_says_so_and_ends(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    ops_device *sound = gpu, *again = NULL;
    flux1_error err = {0};
    if (!emulated)
        skip();
    make_weights(weights);
    cuda_emulator_devices(2);
    for (int nth = 1; nth < 200; nth += 23) { /* in the first step, while one is recorded, in a replay */
        model m;
        flux1_status st = FLUX1_OK;
        int slot;
        int64_t alive = cuda_emulator_counts().live_allocations;
        assert_int_equal(sound->kind->open(1, &gpu, &err), FLUX1_OK);
        open_model(&m, weights, false);
        ops *o = m.r.o;
        cuda_emulator_fail_kernel(nth);
        for (int k = 0; k < 20 && st == FLUX1_OK; k++) {
            st = try_model_step(&m, k);
            st = st == FLUX1_OK ? ops_step_end(o, k) : st;
            st = st == FLUX1_OK ? ops_step_wait(o, k, &slot) : st;
        }
        assert_int_equal(st, FLUX1_ERR_DEVICE);
        assert_non_null(strstr(m.r.err.message, "cuda:1"));
        assert_non_null(strstr(m.r.err.message, "illegal memory access"));
        ops_step_unwind(o, 0);
        assert_int_equal(ops_sync(o), FLUX1_ERR_DEVICE);
        assert_non_null(strstr(m.r.err.message, "start the program again"));
        assert_int_equal(ops_cast(o, m.x, m.in), FLUX1_ERR_DEVICE);
        assert_int_equal(ops_block_begin(o, m.b[0]), FLUX1_ERR_DEVICE);
        assert_int_equal(ops_reserve(o, ARENA), FLUX1_ERR_DEVICE);
        assert_int_equal(gpu->kind->open(1, &again, &err), FLUX1_ERR_DEVICE);
        assert_int_equal(gpu->kind->free_memory(gpu), 0);
        ops_rest(o);
        close_run(&m.r);
        sound->kind->close(gpu);
        assert_int_equal(cuda_emulator_counts().live_allocations, alive);
    }
    gpu = sound;
    cuda_emulator_fail_kernel(0);
    cuda_emulator_devices(1);
    free_weights(weights);
}

/* The same weights in bf16, in fp8 by rows and as wholes are three things, and each is found again. */
static void weights_in_fp8_are_not_taken_for_others(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    float out[3][MODEL_ROWS * MODEL_WIDTH], again[MODEL_ROWS * MODEL_WIDTH];
    make_weights(weights);
    for (model_fp8 = FP8_NO; model_fp8 <= FP8_WHOLE;
         model_fp8++, model_store++) { /* of three stores, for what each should be */
        weight_recipe w = {.role = WEIGHT_LINEAR, .rows = MODEL_WIDTH, .cols = MODEL_WIDTH, .coarse = true};
        size_t before = cuda_emulator_counts().device_bytes,
               one = ops_cuda_sizing.weight_bytes(&(ops_config){.arithmetic = DTYPE_F32, .fp8 = model_fp8}, &w, NULL);
        run_model(weights, false, out[model_fp8]);
        if (emulated)
            assert_int_equal(cuda_emulator_counts().device_bytes - before, MODEL_BLOCKS * one);
    }
    for (model_fp8 = FP8_NO; model_fp8 <= FP8_WHOLE; model_fp8++) {
        run_model(weights, false, again);
        assert_memory_equal(again, out[model_fp8], sizeof again);
        assert_memory_not_equal(out[model_fp8], out[(model_fp8 + 1) % 3], sizeof again);
    }
    model_fp8 = FP8_NO;
    free_weights(weights);
}

/* Where the library scales no rows (Ada, or before 12.9), fp8 by rows is fp8 by wholes, and the library still does the
 * products. */
/* What the heuristic offers and the call refuses is done with less behind it, or by our own kernel. On a device whose
 * plans are all to be made. */
static void products_that_the_call_refuses_go_another_way(void **state)
{
    ops_device *usual = gpu;
    (void)state;
    if (!emulated)
        skip();
    cuda_emulator_devices(2);
    for (cuda_emulator_refusals what = CUDA_EMULATOR_REFUSES_TAILS; what <= CUDA_EMULATOR_REFUSES_ALL; what++) {
        flux1_error err = {0};
        assert_int_equal(ops_cuda_device.open(1, &gpu, &err), FLUX1_OK);
        cuda_emulator_refuse_products(what);
        const cuda_emulator_counters before = cuda_emulator_counts();
        for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
            if (strcmp(checks[i].name, "linear, aligned") == 0)
                assert_int_equal(compare_all(&checks[i], 1, FP8_NO), 0);
        const cuda_emulator_counters after = cuda_emulator_counts();
        assert_true((after.matmuls > before.matmuls) == (what == CUDA_EMULATOR_REFUSES_TAILS));
        assert_true(after.kernel[CUDA_KERNEL_gemm] > before.kernel[CUDA_KERNEL_gemm] ||
                    what == CUDA_EMULATOR_REFUSES_TAILS);
        ops_cuda_device.close(gpu);
    }
    cuda_emulator_refuse_products(CUDA_EMULATOR_REFUSES_NONE);
    cuda_emulator_devices(1);
    gpu = usual;
}

static void where_rows_cannot_be_scaled_operands_are(void **state)
{
    static const struct {
        int capability;
        size_t cublas;
    } without[] = {{89, 130100}, {100, 130100}, {90, 120800}};
    tensor weights[MODEL_BLOCKS];
    float whole[MODEL_ROWS * MODEL_WIDTH], rows[MODEL_ROWS * MODEL_WIDTH];
    ops_device *hopper = gpu;
    (void)state;
    if (!emulated)
        skip();
    make_weights(weights);
    model_fp8 = FP8_WHOLE;
    run_model(weights, false, whole);
    cuda_emulator_devices(2);
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        flux1_error err = {0};
        cuda_emulator_capability(without[i].capability);
        cuda_emulator_cublas(without[i].cublas);
        assert_int_equal(ops_cuda_device.open(1, &gpu, &err), FLUX1_OK);
        assert_true(gpu->info.fp8);
        int64_t before = cuda_emulator_counts().matmuls;
        model_fp8 = FP8_ROWS;
        run_model(weights, true, rows);
        assert_int_equal(cuda_emulator_counts().matmuls - before, MODEL_STEPS * MODEL_BLOCKS);
        assert_memory_equal(rows, whole, sizeof rows);
        ops_cuda_device.close(gpu);
    }
    gpu = hopper;
    model_fp8 = FP8_NO;
    cuda_emulator_devices(1);
    cuda_emulator_capability(90);
    cuda_emulator_cublas(130100);
    free_weights(weights);
}

/* One product that cuBLASLt refuses, as the emulator does where rows lie an odd number of elements apart. */
static void multiply_odd_rows(void)
{
    enum { K = 33, N = 48 };
    run r;
    open_cuda(&r, DTYPE_BF16, true, 5);
    weight *w = linear_of(&r, N, K, false);
    act in = input(&r, ACT_LINEAR, 1, 3, K), out = output(&r, ACT_LINEAR, 1, 3, N);
    ok(&r, ops_product(r.o, in, w, &(epilogue){0}, out));
    close_run(&r);
}

static void a_large_product_by_our_own_kernel_is_noted_once(void **state)
{
    (void)state;
    cuda_device *d = (cuda_device *)gpu;
    ops_note n;
    if (!emulated)
        skip();
    cuda_notes_forget();
    multiply_odd_rows();
    assert_false(cuda_next_note(&n)); /* too small to matter */
    d->worth_noting = 3 * 33 * 48;
    multiply_odd_rows();
    multiply_odd_rows();
    d->worth_noting = CUDA_WORTH_NOTING;
    assert_true(cuda_next_note(&n));
    assert_false(n.warning);
    assert_string_equal(n.text,
                        "cuda:0: cuBLASLt does not compute a product of 3 x 48 x 33, rows 36 apart, in bf16 "
                        "(driver 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0): this program does it another way, slower");
    assert_false(cuda_next_note(&n));
}

/* The same of an attention that cuDNN refuses: a head of 12 channels. */
static void a_large_attention_by_our_own_kernel_is_noted(void **state)
{
    (void)state;
    cuda_device *d = (cuda_device *)gpu;
    run r;
    ops_note n;
    if (!emulated)
        skip();
    cuda_notes_forget();
    d->worth_noting = 1;
    open_cuda(&r, DTYPE_BF16, true, 5);
    act q = input(&r, ACT_HEADS, 1, 5, 36), k = input(&r, ACT_HEADS, 1, 7, 36), v = input(&r, ACT_HEADS, 1, 7, 36),
        out = output(&r, ACT_LINEAR, 1, 5, 36);
    ok(&r, ops_attention(r.o, q, k, v, &(attention_args){.heads = 3, .scale = 0.3f}, out));
    close_run(&r);
    d->worth_noting = CUDA_WORTH_NOTING;
    assert_true(cuda_next_note(&n));
    assert_non_null(strstr(n.text, "cuDNN does not compute an attention of 5 queries on 7 keys, 3 heads of 12 ("));
    assert_false(cuda_next_note(&n));
}

static CUresult refuse_kernels(CUmodule *module, const void *image)
{
    (void)module;
    (void)image;
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
}

/* What the build was made for, what the GPU and the driver are. */
static void a_gpu_that_the_build_is_not_for_is_refused(void **state)
{
    (void)state;
    if (!emulated)
        skip();
    cuda_libraries other = *cuda_emulator();
    ops_device *second;
    flux1_error err = {0};
    other.cuModuleLoadData = refuse_kernels;
    cuda_libraries_replace(&other);
    cuda_emulator_devices(2);
    assert_int_equal(ops_cuda_device.open(1, &second, &err), FLUX1_ERR_UNSUPPORTED);
    cuda_emulator_devices(1);
    cuda_libraries_replace(cuda_emulator());
    assert_non_null(strstr(err.message, "device cuda:1: cannot load the kernels, compiled by CUDA "));
    assert_non_null(strstr(err.message, " for sm_"));
    assert_non_null(strstr(err.message, ", on sm_90: "));
    assert_non_null(strstr(err.message, " (driver 13.0)"));
}

static cublasStatus_t no_cublas(cublasLtHandle_t *handle)
{
    (void)handle;
    return CUBLAS_STATUS_NOT_INITIALIZED;
}
static cudnnStatus_t no_cudnn(cudnnHandle_t *handle)
{
    (void)handle;
    return CUDNN_STATUS_NOT_INITIALIZED;
}

/* A device opens before its libraries have started, and keeps the error for each backend that is made on it; cuDNN's
 * is told to whoever asks it for something. */
static void libraries_that_do_not_start_are_told_when_they_are_needed(void **state)
{
    (void)state;
    flux1_error err = {0};
    ops_device *other;
    ops *o;
    if (!emulated)
        skip();
    cuda_libraries without = *cuda_emulator();
    without.cublasLtCreate = no_cublas;
    const int64_t live = cuda_emulator_counts().live_objects;
    cuda_emulator_devices(2);
    cuda_libraries_replace(&without);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ops_cuda_device.open(1, &other, &err), FLUX1_OK);
        for (int k = 0; k < 2 && i == 0; k++) {
            err = (flux1_error){0};
            assert_int_equal(ops_cuda_create(&(ops_config){.device = other, .err = &err}, &o), FLUX1_ERR_DEVICE);
            assert_non_null(strstr(err.message, "device cuda:1: cuBLASLt does not start (driver 13.0, cuBLASLt 13.1"));
        }
        ops_cuda_device.close(other); /* the second time: nobody has waited for it */
        assert_int_equal(cuda_emulator_counts().live_objects, live);
    }
    without = *cuda_emulator();
    without.cudnnCreate = no_cudnn;
    assert_int_equal(ops_cuda_device.open(1, &other, &err), FLUX1_OK);
    run r;
    start_run(&r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = DTYPE_BF16, .threads = 1, .device = other}, true, 1);
    act q = joint(&r, ACT_HEADS, 1, 0, 64, 128, false), out = joint(&r, ACT_LINEAR, 1, 0, 64, 128, true);
    assert_int_equal(ops_attention(r.o, q, q, q, &(attention_args){.heads = 2, .scale = 0.1f}, out),
                     FLUX1_ERR_INTERNAL);
    assert_non_null(strstr(r.err.message, "cuDNN does not start"));
    close_run(&r);
    ops_cuda_device.close(other);
    cuda_libraries_replace(cuda_emulator());
    cuda_emulator_devices(1);
}

static void lack_of_memory_says_how_much_was_needed(void **state)
{
    (void)state;
    run r;
    if (!emulated)
        skip();
    open_cuda(&r, DTYPE_F32, false, 1);
    cuda_emulator_memory((size_t)300 << 20);
    assert_int_equal(ops_reserve(r.o, (size_t)1 << 30), FLUX1_ERR_MEMORY);
    assert_non_null(strstr(r.err.message, "1024 MiB"));
    assert_non_null(strstr(r.err.message, "activations"));
    cuda_emulator_memory((size_t)64 << 30);
    close_run(&r);
}

/* ---- rules that are not arithmetic ---- */

static void finite_remembers_the_lowest_slot(void **state)
{
    (void)state;
    run r;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        open_cuda(&r, bf16 ? DTYPE_BF16 : DTYPE_F32, false, 1);
        hold_finite(&r, CUDA_SLOTS);
        open_cuda(&r, bf16 ? DTYPE_BF16 : DTYPE_F32, false, 1);
        hold_finite_norm(&r);
    }
}

static void a_nan_passes_through_attention_and_activations(void **state)
{
    (void)state;
    run r;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        open_cuda(&r, bf16 ? DTYPE_BF16 : DTYPE_F32, false, 3);
        hold_nan(&r);
    }
}

/* A NaN, or an infinity, in a product with coarse weights is seen behind it, in its own row at least. */
static void hold_nan_in_product(run *r)
{
    static const float bad[] = {NAN, -INFINITY};
    enum { K = 32, N = 48 };
    weight *w = linear_of(r, N, K, true);
    for (int i = 0; i < 2; i++) {
        int slot;
        act in = input(r, ACT_LINEAR, 1, 3, K), out = output(r, ACT_LINEAR, 1, 3, N), one = act_columns(in, 5, 1);
        tensor t;
        ok(r, tensor_create(DTYPE_F32, 3, (int64_t[]){1, 3, 1}, &t, &r->err));
        ((float *)t.data)[1] = bad[i];
        ok(r, ops_upload(r->o, &t, one));
        ok(r, ops_product(r->o, in, w, &(epilogue){0}, out));
        ok(r, ops_finite(r->o, out, i));
        ok(r, ops_finite_first(r->o, &slot));
        assert_int_equal(slot, i);
        tensor_free(&t);
    }
    close_run(r);
}

static void a_nan_passes_through_products_in_fp8(void **state)
{
    (void)state;
    run r;
    for (ops_fp8 fp8 = FP8_ROWS; fp8 <= FP8_WHOLE; fp8++) {
        open_fp8(&r, DTYPE_BF16, fp8, true, 5);
        hold_nan_in_product(&r);
        start_run(&r, ops_ref_create, NULL, &(ops_config){.arithmetic = DTYPE_F32, .fp8 = fp8, .threads = 1}, true, 5);
        hold_nan_in_product(&r);
    }
}

/* A norm that is written in e4m3 is what would have been made of it. On a GPU the two kernels may round a last bit
 * differently. */
static void norms_in_e4m3_are_what_quantise_makes_of_them(void **state)
{
    (void)state;
    int64_t fewer = 0;
    if (!gpu->info.fp8)
        skip();
    for (uint64_t seed = 0; seed < 12; seed++) {
        run r[2];
        int64_t launched[2];
        for (int named = 0; named < 2; named++) {
            int64_t before = cuda_emulator_counts().kernel[CUDA_KERNEL_quantise];
            open_fp8(&r[named], DTYPE_BF16, FP8_ROWS, true, seed);
            read_norm(&r[named], named);
            launched[named] = cuda_emulator_counts().kernel[CUDA_KERNEL_quantise] - before;
        }
        double error = distance(&r[0], &r[1]);
        if (!(error <= (emulated ? 0 : 5e-3)))
            fail_msg("seed %d: %g", (int)seed, error);
        fewer += launched[0] - launched[1];
        if (emulated && ((cuda_device *)gpu)->scales_rows)
            assert_true(launched[1] + 2 <= launched[0]); /* two products, of one part at least */
        close_run(&r[0]);
        close_run(&r[1]);
    }
    assert_true(!emulated || fewer > 24);
}

static void what_is_written_beside_an_activation_is_found(void **state)
{
    (void)state;
    if (!emulated)
        skip();
    for (int before = 0; before < 2; before++) {
        run r;
        open_cuda(&r, DTYPE_BF16, true, 1);
        input(&r, ACT_LINEAR, 1, 3, 40);
        act a = joint(&r, ACT_LINEAR, 1, 3, 5, 48, false); /* 3 units of the arena */
        assert_int_equal(written_gap(&r), -1);
        ok(&r, ops_sync(r.o));
        uint16_t *values = (uint16_t *)(uintptr_t)((cuda_buffer *)a.buffer)->data;
        values[before ? -2 : 3 * 128] = values[before ? -1 : 3 * 128 + 1] = 0; /* the emulated GPU's memory is ours */
        assert_int_equal(written_gap(&r), before ? 1 : 2);
        close_run(&r);
    }
}

static void a_weight_outside_its_bracket_is_refused(void **state)
{
    (void)state;
    run r;
    open_cuda(&r, DTYPE_F32, false, 1);
    hold_bracket(&r);
}

static void a_destroyed_block_leaves_the_others(void **state)
{
    (void)state;
    run r;
    open_cuda(&r, DTYPE_F32, false, 1);
    hold_block_destroy(&r);
}

static void a_failed_step_is_unwound(void **state)
{
    (void)state;
    run r;
    open_cuda(&r, DTYPE_F32, false, 1);
    hold_unwind(&r);
}

static void a_token_outside_the_table_is_an_argument_error(void **state)
{
    (void)state;
    run r;
    open_cuda(&r, DTYPE_F32, false, 1);
    hold_tokens(&r);
}

/* In the middle of a recording too: the next step begins from nothing. */
static void a_cancel_stops_every_operation(void **state)
{
    (void)state;
    tensor weights[MODEL_BLOCKS];
    model m;
    atomic_int cancel = 0;
    bool replayed;
    make_weights(weights);
    open_model(&m, weights, false);
    ops *o = m.r.o;
    o->cancel = &cancel;
    run_model_step(&m, 0);
    ok(&m.r, ops_step_replay(o, 1, &replayed));
    ok(&m.r, ops_cast(o, m.x, m.in));
    cancel = 1;
    assert_int_equal(ops_cast(o, m.x, m.in), FLUX1_ERR_CANCELLED);
    assert_int_equal(ops_activate(o, ACTIVATION_SILU, m.x, (act){0}, m.x), FLUX1_ERR_CANCELLED);
    cancel = 0;
    for (int k = 1; k < MODEL_STEPS; k++)
        replayed = run_model_step(&m, k);
    assert_true(replayed);
    close_run(&m.r);
    free_weights(weights);
}

/* NCCL with nobody else (several GPUs: test_goldens.c): gathered, reduced and sent to itself, in that order, five rows
 * of three are what they were. */
static void a_link_of_one_gives_back_what_it_is_given(void **state)
{
    (void)state;
    if (!cuda_link_possible()) {
        printf("skipped: NCCL is not there\n");
        skip();
    }
    enum { ROWS = 5, COLS = 3 };
    float numbers[ROWS * COLS], back[ROWS * COLS];
    tensor from = {.type = DTYPE_F32, .dims = 2, .shape = {ROWS, COLS}, .data = numbers}, to = from;
    unsigned char id[OPS_LINK_ID];
    run r;
    act x, y;
    ops_link *l;
    void *at[4];
    for (int i = 0; i < ROWS * COLS; i++)
        numbers[i] = (float)i - 7.25f;
    to.data = back;
    open_cuda(&r, DTYPE_F32, false, 1);
    ops *o = r.o;
    ok(&r, cuda_link_id(id, o->err));
    ok(&r, cuda_link_create(o, id, 1, 0, &l));
    ok(&r, ops_create(o, ACT_PARTIAL, shape_rows(1, 0, ROWS, COLS), &x));
    ok(&r, ops_create(o, ACT_PARTIAL, shape_rows(1, 0, ROWS, COLS), &y));
    ok(&r, ops_upload(o, &from, x));
    for (int i = 0; i < 4; i++)
        ok(&r, ops_exchange(o, sizeof numbers, &at[i]));
    ok(&r, ops_pack(o, x, 0, ROWS, at[0]));
    ok(&r, cuda_link_all_gather(l, at[0], at[1], sizeof numbers));
    ok(&r, cuda_link_reduce_scatter(l, at[1], at[2], ROWS * COLS));
    ok(&r, cuda_link_shift_begin(l, at[2], at[3], sizeof numbers, 1));
    ok(&r, cuda_link_shift_end(l));
    ok(&r, ops_unpack(o, at[3], y, 0, ROWS));
    ok(&r, ops_download(o, y, &to));
    assert_memory_equal(numbers, back, sizeof numbers);
    cuda_link_abort(l);
    assert_int_equal(cuda_link_all_gather(l, at[0], at[1], sizeof numbers), FLUX1_ERR_COMM);
    cuda_link_destroy(l);
    close_run(&r);
}

/* ---- --bench ---- */

static bool stored_bf16(act a) { return ((const cuda_buffer *)a.buffer)->bf16; }

#include "ops/checkops_bench.h"

/* Bytes a second, read and written, of the driver's own copy between two pieces of 1 GiB. */
static double copy_rate(void)
{
    enum { CALLS = 10 };
    const size_t bytes = (size_t)1 << 30;
    const cuda_libraries *lib = ((cuda_device *)gpu)->lib;
    run r;
    CUdeviceptr at[2];
    open_cuda(&r, DTYPE_BF16, false, 1);
    cuda_ops *o = cuda_self(r.o);
    for (int i = 0; i < 2; i++)
        ok(&r, cuda_device_allocate((cuda_device *)gpu, bytes, "a copy", &at[i], &r.err));
    double best = INFINITY;
    for (int turn = 0; turn < 6; turn++) {
        double begin = seconds();
        for (int k = 0; k < CALLS; k++)
            assert_int_equal(lib->cuMemcpyDtoDAsync(at[1], at[0], bytes, o->stream), CUDA_SUCCESS);
        ok(&r, ops_sync(r.o));
        best = turn > 0 ? fmin(best, (seconds() - begin) / CALLS) : best;
    }
    for (int i = 0; i < 2; i++)
        cuda_device_release((cuda_device *)gpu, at[i]);
    close_run(&r);
    return 2.0 * (double)bytes / best;
}

/* What fits the L2 cache may come out above the copy. */
static void time_entries(dtype arithmetic, double copy)
{
    for (size_t i = 0; i < TIMINGS; i++) {
        run r;
        double work;
        open_cuda(&r, arithmetic, false, 1);
        double best = time_entry(&r, i, 20, &work);
        printf("%-36s %-4s %9.4f ms %9.1f %s", timings[i].name, arithmetic == DTYPE_F32 ? "f32" : "bf16", best * 1e3,
               work / best * 1e-9, timings[i].flops ? "GFLOP/s\n" : "GB/s");
        if (!timings[i].flops)
            printf(", %.0f %% of a copy\n", 100 * work / best / copy);
    }
}

static int bench(void)
{
    if (open_gpu(NULL) != 0)
        return 1;
    double copy = copy_rate();
    printf("copy of 1 GiB: %.1f GB/s read and written\n", copy * 1e-9);
    time_entries(DTYPE_BF16, copy);
    time_entries(DTYPE_F32, copy);
    return close_gpu(NULL);
}

int main(int argc, char **argv)
{
    emulated = !(argc > 1 && !strcmp(argv[1], "--gpu"));
    if (argc > 2 && !strcmp(argv[2], "--bench"))
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_of_cuda_is_what_ref_says),
        cmocka_unit_test(attention_without_cudnn_is_what_ref_says),
        cmocka_unit_test(products_in_fp8_are_what_ref_says),
        cmocka_unit_test(replayed_steps_give_what_eager_ones_give),
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
        cmocka_unit_test(a_device_that_fails_says_so_and_ends),
        cmocka_unit_test(blocks_in_other_forms_have_other_keys),
        cmocka_unit_test(a_destroyed_block_leaves_the_others),
        cmocka_unit_test(a_failed_step_is_unwound),
        cmocka_unit_test(weights_in_fp8_are_not_taken_for_others),
        cmocka_unit_test(products_that_the_call_refuses_go_another_way),
        cmocka_unit_test(where_rows_cannot_be_scaled_operands_are),
        cmocka_unit_test(a_large_product_by_our_own_kernel_is_noted_once),
        cmocka_unit_test(a_large_attention_by_our_own_kernel_is_noted),
        cmocka_unit_test(a_gpu_that_the_build_is_not_for_is_refused),
        cmocka_unit_test(libraries_that_do_not_start_are_told_when_they_are_needed),
        cmocka_unit_test(lack_of_memory_says_how_much_was_needed),
        cmocka_unit_test(finite_remembers_the_lowest_slot),
        cmocka_unit_test(a_nan_passes_through_attention_and_activations),
        cmocka_unit_test(a_nan_passes_through_products_in_fp8),
        cmocka_unit_test(norms_in_e4m3_are_what_quantise_makes_of_them),
        cmocka_unit_test(what_is_written_beside_an_activation_is_found),
        cmocka_unit_test(a_weight_outside_its_bracket_is_refused),
        cmocka_unit_test(a_token_outside_the_table_is_an_argument_error),
        cmocka_unit_test(a_cancel_stops_every_operation),
        cmocka_unit_test(a_link_of_one_gives_back_what_it_is_given),
    };
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--only"))
            cmocka_set_test_filter(argv[i + 1]);
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
