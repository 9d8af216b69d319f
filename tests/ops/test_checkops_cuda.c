/* ops/cuda against ops/ref (checkops.h), and its rules that are not arithmetic, on an emulated GPU or with --gpu on the
 * real one; --gpu --bench times the entries there instead, beside a copy. */
#include "ops/checkops_cuda.h"
#include "ops/checkops_cases.h"
#include "ops/checkops_rules.h"

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
    use_arguments(argc, argv);
    if (argued(argc, argv, "--bench"))
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_of_cuda_is_what_ref_says),
        cmocka_unit_test(attention_without_cudnn_is_what_ref_says),
        cmocka_unit_test(products_in_fp8_are_what_ref_says),
        cmocka_unit_test(products_that_the_call_refuses_go_another_way),
        cmocka_unit_test(a_destroyed_block_leaves_the_others),
        cmocka_unit_test(a_failed_step_is_unwound),
        cmocka_unit_test(finite_remembers_the_lowest_slot),
        cmocka_unit_test(a_nan_passes_through_attention_and_activations),
        cmocka_unit_test(a_nan_passes_through_products_in_fp8),
        cmocka_unit_test(norms_in_e4m3_are_what_quantise_makes_of_them),
        cmocka_unit_test(what_is_written_beside_an_activation_is_found),
        cmocka_unit_test(a_weight_outside_its_bracket_is_refused),
        cmocka_unit_test(a_token_outside_the_table_is_an_argument_error),
        cmocka_unit_test(a_link_of_one_gives_back_what_it_is_given),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
