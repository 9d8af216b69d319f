/* A GPU that fails, or is not what the build is for; libraries that are not there, do not start or refuse a product; no
 * memory; a cancel. */
#include "ops/checkops_cuda_model.h"
#include "ops/cuda/notes.h"

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

/* One product that cuBLASLt refuses, as the emulator does where rows lie an odd number of elements apart. Returns how
 * far those of the input do. */
static int64_t multiply_odd_rows(void)
{
    enum { K = 33, N = 48 };
    run r;
    open_cuda(&r, DTYPE_BF16, true, 5);
    weight *w = linear_of(&r, N, K, false);
    act in = input(&r, ACT_LINEAR, 1, 3, K), out = output(&r, ACT_LINEAR, 1, 3, N);
    ok(&r, ops_product(r.o, in, w, &(epilogue){0}, out));
    const int64_t apart = whole(in).cols;
    close_run(&r);
    return apart;
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
    char text[256];
    snprintf(
        text, sizeof text,
        "cuda:0: cuBLASLt does not compute a product of 3 x 48 x 33, rows %d apart, in bf16 (driver 13.0, cuBLASLt "
        "13.1.0, cuDNN 9.19.0): this program does it another way, slower",
        (int)multiply_odd_rows());
    d->worth_noting = CUDA_WORTH_NOTING;
    assert_true(cuda_next_note(&n));
    assert_false(n.warning);
    assert_string_equal(n.text, text);
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

int main(int argc, char **argv)
{
    use_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_fails_says_so_and_ends),
        cmocka_unit_test(weights_in_fp8_are_not_taken_for_others),
        cmocka_unit_test(where_rows_cannot_be_scaled_operands_are),
        cmocka_unit_test(a_large_product_by_our_own_kernel_is_noted_once),
        cmocka_unit_test(a_large_attention_by_our_own_kernel_is_noted),
        cmocka_unit_test(a_gpu_that_the_build_is_not_for_is_refused),
        cmocka_unit_test(libraries_that_do_not_start_are_told_when_they_are_needed),
        cmocka_unit_test(lack_of_memory_says_how_much_was_needed),
        cmocka_unit_test(a_cancel_stops_every_operation),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
