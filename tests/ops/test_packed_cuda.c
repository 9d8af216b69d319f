/* Weights that stay packed on a GPU, emulated or with --gpu the real one: the bits of their values against the decoders
 * of tensor/, products against those of decoded weights, and (emulated, where memory is as large as a test wants it)
 * which form is chosen. --gpu --bench times the decoding of each type instead, beside a copy. */
#include "ops/checkops_cuda.h"
#include "tensor/scale.h"

enum { ROWS = 13, COLS = 1280, VALUES = ROWS * COLS, ROUNDS = 10 };

static void open_run(run *r, dtype arithmetic, ops_held held)
{
    start_run(r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = arithmetic, .held = held, .threads = 2, .device = gpu}, true, 5);
}

/* ---- tensors ---- */

/* Rounds 0 to 3: each byte alike, so that scales are zeros, infinities or NaNs and all codes the least or the largest;
 * then random bytes, whose f16 scales are subnormal, infinite or NaN now and then. */
static void fill_bytes(run *r, unsigned char *p, size_t bytes, int round)
{
    static const unsigned char alike[] = {0x00, 0xff, 0x7c, 0x80};
    for (size_t i = 0; i < bytes; i++)
        p[i] = round < 4 ? alike[round] : (unsigned char)(draw(r) >> 40);
}

/* Blocks whose values are numbers of moderate size. */
static void fill_moderate(run *r, const tensor *t)
{
    static const dtype plain[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    const dtype_info *info = dtype_describe(t->type);
    unsigned char *p = t->data;
    fill_bytes(r, p, tensor_bytes(t), ROUNDS);
    for (int i = 0; i < 3; i++)
        if (t->type == plain[i])
            for (int64_t k = 0; k < tensor_elements(t); k++) {
                const float x = value(r);
                const uint16_t half = t->type == DTYPE_F16 ? f16_from_f32(x) : bf16_from_f32(x);
                memcpy(p + (size_t)k * (size_t)info->block_bytes, t->type == DTYPE_F32 ? (const void *)&x : &half,
                       (size_t)info->block_bytes);
            }
    /* every pair of bytes that may be an f16 scale, below 2 */
    for (size_t i = 1; info->block_elements >= 32 && i < tensor_bytes(t); i += 2)
        p[i] &= 0xbf;
}

static store_tensor *packed_tensor(run *r, dtype type, int64_t rows, int64_t cols, const tensor_scale *scale)
{
    store_tensor *t = new_tensor(r);
    ok(r, tensor_create(type, 2, (int64_t[]){rows, cols}, &t->view, &r->err));
    t->view.scale = scale;
    fill_moderate(r, &t->view);
    return t;
}

static float factors[VALUES];
static tensor list_of(dtype type, void *data, int64_t count)
{
    return (tensor){.type = type, .dims = 1, .shape = {count}, .data = data};
}

/* Zeros, subnormals, infinities and NaN among numbers; `tame`: numbers alone. */
static void make_factors(run *r, bool tame)
{
    static const float odd[] = {0, -0.0f, 1e-42f, 3e38f, INFINITY, NAN, -1e-30f, 1};
    for (int i = 0; i < VALUES; i++)
        factors[i] = i % 7 == 0 && !tame ? odd[i / 7 % 8] : value(r);
}

/* ---- the bits of values ---- */

static bool same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0; }

/* All rows of a weight by the kernel, in `slab` rows at a time. */
static void expect_values(run *r, const weight_recipe *recipe, bool bf16, int64_t slab, bool packs)
{
    const size_t mark = ops_mark(r->o);
    weight *w = prepare_with(r, recipe, NULL);
    const cuda_weight *c = cuda_w(w);
    act out = joint(r, ACT_LINEAR, 1, 0, recipe->rows, recipe->cols, true);
    assert_int_equal(c->packed, packs);
    if (packs) {
        for (int64_t first = 0; first < recipe->rows; first += slab) {
            const int64_t count = recipe->rows - first < slab ? recipe->rows - first : slab;
            cuda_view to = cuda_view_of(act_slice(out, first, count));
            ok(r, cuda_packed_decode(cuda_self(r->o), c, first, count, &to));
        }
        float *line = malloc((size_t)recipe->cols * sizeof *line);
        assert_non_null(line);
        r->count = 0, r->kept = 0;
        keep(r, out);
        for (int64_t i = 0; i < recipe->rows; i++) {
            ok(r, recipe_decode(recipe, i, 0, recipe->cols, line, &r->err));
            for (int64_t k = 0; k < recipe->cols; k++) {
                const float want = bf16 ? bf16_round(line[k]) : line[k], got = r->out[i * recipe->cols + k];
                if (!same(want, got))
                    fail_msg("%s: element (%lld, %lld) is %a, should be %a",
                             dtype_describe(recipe->piece[0].source->view.type)->name, (long long)i, (long long)k,
                             (double)got, (double)want);
            }
        }
        free(line);
    }
    ok(r, ops_block_end(r->o, r->held));
    ops_block_destroy(r->o, r->held);
    ops_release(r->o, mark);
}

static void expect_type(dtype type, const tensor_scale *scale)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        run r;
        open_run(&r, bf16 ? DTYPE_BF16 : DTYPE_F32, HELD_PACKED);
        for (int round = 0; round < ROUNDS; round++) {
            store_tensor *t = packed_tensor(&r, type, ROWS, COLS, scale);
            fill_bytes(&r, t->view.data, tensor_bytes(&t->view), round);
            weight_recipe w = recipe_whole(WEIGHT_LINEAR, t);
            w.piece[0].source = t;
            expect_values(&r, &w, bf16, round % 2 ? ROWS : 5, true);
        }
        close_run(&r);
    }
}

/* One that needs nothing beside it. */
static bool is_packed_type(dtype type)
{
    const dtype_info *info = dtype_describe(type);
    const bool plain = type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F64;
    return info->decode && !info->needs_scale && !plain;
}

static void every_block_decodes_to_the_host_s_bits(void **state)
{
    (void)state;
    int count = 0;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (!is_packed_type((dtype)type))
            continue;
        expect_type((dtype)type, NULL);
        count++;
    }
    assert_int_equal(count, 14); /* twelve of GGUF and two of fp8 */
}

static void factors_of_matrices_and_rows(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_I8};
    make_factors(&(run){.random = 3}, false);
    for (int i = 0; i < 3; i++) {
        const tensor_scale one = {.kind = SCALE_FACTOR, .factor = list_of(DTYPE_F32, factors + 1, 1)},
                           rows = {.kind = SCALE_ROWS,
                                   .factor = list_of(DTYPE_F32, factors, ROWS + 2),
                                   .constant = 1.0f / 127,
                                   .row = COLS,
                                   .first = 2 * COLS};
        expect_type(types[i], &one);
        expect_type(types[i], &rows);
    }
}

/* Four bits of bitsandbytes: each block's absmax, plain and nested, the type that the value is rounded to. */
static void codes_of_four_bits(void **state)
{
    (void)state;
    static const dtype rounded[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static unsigned char numbers[VALUES];
    run r = {.random = 7};
    make_factors(&r, false);
    fill_bytes(&r, numbers, sizeof numbers, ROUNDS);
    tensor_scale s = {.kind = SCALE_CODES, .block = 64, .first = 128, .nested_block = 256, .nested_offset = 0.1f};
    for (int i = 0; i < 16; i++)
        s.code[i] = (float)i * 0.13f - 1;
    for (int i = 0; i < 6; i++) {
        s.rounded = rounded[i % 3];
        s.absmax = i < 3 ? list_of(DTYPE_F32, factors, VALUES / 64 + 2) : list_of(DTYPE_U8, numbers, VALUES / 64 + 2);
        s.nested_code = i < 3 ? (tensor){0} : list_of(DTYPE_F32, factors + 500, 256);
        s.nested_absmax = i < 3 ? (tensor){0} : list_of(DTYPE_F32, factors + 1, 8);
        expect_type(DTYPE_BNB4, &s);
    }
}

/* ---- recipes ---- */

static weight_recipe of_tensor(const store_tensor *t) { return recipe_whole(WEIGHT_LINEAR, t); }

/* Pieces below and beside each other, of one type and of several, slices that end with blocks; those that cut one are
 * decoded when they come. */
static void recipes_of_pieces_and_slices(void **state)
{
    (void)state;
    run r;
    open_run(&r, DTYPE_BF16, HELD_PACKED);
    make_factors(&r, true);
    const tensor_scale codes = {.kind = SCALE_CODES,
                                .block = 64,
                                .code = {-1, -0.5f, 0, 0.5f, 1},
                                .absmax = list_of(DTYPE_F32, factors, VALUES),
                                .rounded = DTYPE_BF16};
    weight_recipe a = of_tensor(packed_tensor(&r, DTYPE_Q4_K, 24, 512, NULL)), w,
                  b = of_tensor(packed_tensor(&r, DTYPE_BF16, 8, 512, NULL)),
                  c = of_tensor(packed_tensor(&r, DTYPE_BNB4, 32, 512, &codes)),
                  f64 = of_tensor(weight_tensor(&r, DTYPE_F64, 2, (int64_t[]){8, 512}));
    expect_values(&r, &a, true, 7, true);
    ok(&r, recipe_stack(&a, &b, &w, &r.err)); /* q and k packed, v not */
    expect_values(&r, &w, true, 7, true);
    ok(&r, recipe_beside(&w, &c, &w, &r.err));
    expect_values(&r, &w, true, 7, true);
    weight_recipe rows = recipe_rows(&w, 5, 22), cols = recipe_cols(&w, 256, 512), cut = recipe_cols(&w, 64, 512),
                  late = recipe_cols(&w, 128, 256), odd = recipe_cols(&c, 128, 28);
    expect_values(&r, &rows, true, 7, true);
    expect_values(&r, &cols, true, 7, true);
    expect_values(&r, &cut, true, 7, false);
    expect_values(&r, &late, true, 7, false);
    expect_values(&r, &odd, true, 7, false);
    expect_values(&r, &b, true, 7, false); /* nothing is packed */
    ok(&r, recipe_stack(&a, &f64, &w, &r.err));
    expect_values(&r, &w, true, 7, false); /* a piece that stays as it is nowhere */
    weight_recipe table = recipe_whole(WEIGHT_TABLE, a.piece[0].source);
    expect_values(&r, &table, true, 7, false); /* looked up, not multiplied */
    close_run(&r);
}

/* ---- products ---- */

/* Several linear layers with all that may come behind the product and beside it. */
static void products_of(run *r, int variant)
{
    const int64_t k = 512, n = variant % 2 ? 768 : 520, batch = 1 + variant % 3, rows = 1 + 6 * variant;
    make_factors(r, true);
    weight_recipe w = of_tensor(packed_tensor(r, variant % 2 ? DTYPE_Q6_K : DTYPE_Q4_0, n, k, NULL)),
                  bias = recipe_whole(WEIGHT_VECTOR, weight_tensor(r, DTYPE_F32, 1, &n)),
                  up = of_tensor(packed_tensor(r, DTYPE_BF16, n, 4, NULL)),
                  down = of_tensor(packed_tensor(r, DTYPE_BF16, 4, k, NULL));
    weight *p = prepare_with(r, &w, &bias);
    adapter low = {.up = prepare_with(r, &up, NULL), .down = prepare_with(r, &down, NULL), .scale = 0.5f};
    act in = joint(r, ACT_LINEAR, batch, 0, rows, k, false), x = joint(r, ACT_RESIDUAL, batch, 0, rows, n, false);
    for (int i = 0; i < 4; i++) {
        act out = joint(r, ACT_LINEAR, batch, 0, rows, n, true);
        const epilogue e = {.f = i == 1 ? ACTIVATION_GELU_TANH : ACTIVATION_NONE, .residual = i == 2 ? x : (act){0}};
        ok(r, ops_linear(r->o, in, &(linear_weight){.w = p, .adapters = &low, .adapter_count = i == 3}, &e, out));
        keep(r, out);
    }
}

/* most: bytes of a weight that are decoded at a time; 0: as it is. */
static void expect_products(dtype arithmetic, int variant, size_t most)
{
    run r[2];
    for (int i = 0; i < 2; i++) {
        open_run(&r[i], arithmetic, i ? HELD_PACKED : HELD_DECODED);
        if (most)
            cuda_self(r[i].o)->decoded_most = most;
        const int64_t before = cuda_emulator_counts().kernel[CUDA_KERNEL_decode];
        products_of(&r[i], variant);
        const int64_t decoded = cuda_emulator_counts().kernel[CUDA_KERNEL_decode] - before;
        assert_true(!emulated || i == 0 ? decoded == 0 : most ? decoded > 8 : decoded == 4);
        if (i && most)
            assert_true(cuda_self(r[i].o)->decoded_bytes <= most);
    }
    assert_int_equal(r[0].count, r[1].count);
    if (!most)
        assert_memory_equal(r[0].out, r[1].out, r[0].count * sizeof(float));
    assert_true(distance(&r[0], &r[1]) <= (!most ? 0 : arithmetic == DTYPE_BF16 ? 4e-3 : 1e-6));
    close_run(&r[0]);
    close_run(&r[1]);
}

static void products_are_those_of_decoded_weights(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            expect_products(bf16 ? DTYPE_BF16 : DTYPE_F32, variant, 0);
            expect_products(bf16 ? DTYPE_BF16 : DTYPE_F32, variant, 300 << 10);
            expect_products(bf16 ? DTYPE_BF16 : DTYPE_F32, variant, 40 << 10); /* less than a tile of rows */
        }
}

/* ---- a model ---- */

enum { BLOCKS = 6, WIDTH = 2048 };
#define PACKED_BYTES ((size_t)WIDTH * WIDTH / 32 * 18)

typedef struct model {
    store_tensor tensor[BLOCKS];
    block *b[BLOCKS];
    weight *w[BLOCKS];
    act x[2];
} model;

static tensor values; /* all of a block's, in all blocks: only where they lie plays a part */

static void make_model(run *r, model *m)
{
    static uint64_t stores = 500000;
    stores += BLOCKS;
    for (int i = 0; i < BLOCKS; i++) {
        m->tensor[i] = (store_tensor){.name = "w", .file = "memory", .view = values, .store = stores + (uint64_t)i};
        const weight_recipe w = of_tensor(&m->tensor[i]);
        ok(r, ops_block_create(r->o, "a block", &m->b[i]));
        ok(r, ops_prepare(r->o, m->b[i], &w, NULL, &m->w[i]));
    }
    for (int i = 0; i < 2; i++)
        m->x[i] = joint(r, ACT_LINEAR, 1, 0, 2, WIDTH, false);
}

/* A step of recording 1. Returns the bytes that were uploaded. */
static size_t step(run *r, const model *m, bool *replayed)
{
    const size_t before = cuda_emulator_counts().uploaded_bytes;
    ok(r, ops_step_replay(r->o, 1, replayed));
    for (int i = 0; i < BLOCKS && !*replayed; i++) {
        ok(r, ops_block_begin(r->o, m->b[i]));
        ok(r, ops_product(r->o, m->x[i % 2], m->w[i], &(epilogue){0}, m->x[1 - i % 2]));
        ok(r, ops_block_end(r->o, m->b[i]));
    }
    if (!*replayed)
        ok(r, ops_step_record(r->o));
    ok(r, ops_sync(r->o));
    return cuda_emulator_counts().uploaded_bytes - before;
}

static void room_for(size_t bytes)
{
    gpu->kind->kept_budget(gpu, 1);
    gpu->kind->kept_budget(gpu, 0);
    cuda_emulator_memory(cuda_emulator_counts().device_bytes + CUDA_SPARE + ARENA + CUDA_WORKSPACE + CUDA_BOUNCE +
                         ((size_t)64 << 10) + bytes);
}

/* Three steps with room for `bytes` of weights. Returns what the second one uploaded. */
static size_t run_model(size_t bytes, ops_held held, bool packed, bool is_replayed, float *out)
{
    run r;
    model m;
    bool replayed;
    room_for(bytes);
    open_run(&r, DTYPE_BF16, held);
    make_model(&r, &m);
    step(&r, &m, &replayed);
    const size_t again = step(&r, &m, &replayed);
    step(&r, &m, &replayed);
    assert_int_equal(replayed, is_replayed);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(cuda_w(m.w[i])->packed, packed);
    keep(&r, m.x[0]);
    memcpy(out, r.out, r.count * sizeof *out);
    close_run(&r);
    cuda_emulator_memory((size_t)64 << 30);
    return again;
}

/* Decoded where that fits, otherwise packed; and where that does not fit either, streamed packed. */
static void the_form_follows_from_the_memory(void **state)
{
    (void)state;
    if (!emulated)
        skip();
    static float plain[2 * WIDTH], other[2 * WIDTH];
    const size_t decoded = (size_t)WIDTH * WIDTH * 2;
    run r = {.random = 11};
    ok(&r, tensor_create(DTYPE_Q4_0, 2, (int64_t[]){WIDTH, WIDTH}, &values, &r.err));
    for (size_t i = 0; i < tensor_bytes(&values); i++)
        ((unsigned char *)values.data)[i] = i % 18 == 0 ? 0 : i % 18 == 1 ? 0x24 : (unsigned char)(draw(&r) >> 40);
    assert_int_equal(run_model(BLOCKS * decoded, HELD_AUTO, false, true, plain), 0);
    assert_true(isfinite(plain[0]) && plain[0] != 0);
    assert_int_equal(run_model(BLOCKS * decoded - (64 << 10), HELD_AUTO, true, true, other), 0);
    assert_memory_equal(plain, other, sizeof plain);
    assert_int_equal(run_model(BLOCKS * decoded, HELD_PACKED, true, true, other), 0);
    assert_memory_equal(plain, other, sizeof plain);
    const size_t streamed = run_model(decoded + 4 * PACKED_BYTES, HELD_AUTO, true, false, other);
    assert_true(streamed > PACKED_BYTES && streamed <= BLOCKS * PACKED_BYTES);
    assert_memory_equal(plain, other, sizeof plain);
    assert_true(run_model(4 * decoded, HELD_DECODED, false, false, other) >= decoded);
    assert_memory_equal(plain, other, sizeof plain);
    tensor_free(&values);
}

/* What is recorded writes where values are decoded: when that room has moved, for a larger weight, it is recorded
 * again. */
static void a_recording_ends_when_its_room_has_moved(void **state)
{
    (void)state;
    run r;
    model m;
    bool replayed;
    weight *w;
    block *b;
    open_run(&r, DTYPE_BF16, HELD_PACKED);
    values = packed_tensor(&r, DTYPE_Q4_0, WIDTH, WIDTH, NULL)->view;
    make_model(&r, &m);
    for (int i = 0; i < 3; i++)
        step(&r, &m, &replayed);
    assert_true(replayed);
    weight_recipe larger = of_tensor(packed_tensor(&r, DTYPE_Q8_0, 2 * WIDTH, WIDTH, NULL));
    ok(&r, ops_block_create(r.o, "a larger block", &b));
    ok(&r, ops_prepare(r.o, b, &larger, NULL, &w));
    ok(&r, ops_block_begin(r.o, b));
    ok(&r, ops_block_end(r.o, b));
    step(&r, &m, &replayed);
    assert_false(replayed);
    step(&r, &m, &replayed);
    assert_true(replayed);
    close_run(&r);
}

/* The cache on disk asks for forms before anything is begun. */
static void keys_and_bytes_are_of_the_form(void **state)
{
    (void)state;
    if (!emulated)
        skip();
    uint64_t key[4][2];
    size_t bytes[4];
    run r[4];
    const ops_held held[] = {HELD_AUTO, HELD_PACKED, HELD_DECODED, HELD_AUTO};
    run make = {.random = 11};
    store_tensor *t = packed_tensor(&make, DTYPE_Q8_0, 2048, 2048, NULL);
    const weight_recipe w = of_tensor(t);
    for (int i = 0; i < 4; i++) {
        block *b;
        weight *one;
        room_for((size_t)(i == 3 ? 6 : 64) << 20);
        open_run(&r[i], DTYPE_BF16, held[i]);
        ok(&r[i], ops_block_create(r[i].o, "a block", &b));
        ok(&r[i], ops_prepare(r[i].o, b, &w, NULL, &one));
        gpu->kind->block_key(r[i].o, b, key[i], &bytes[i]);
        const ops_config c = {.arithmetic = DTYPE_BF16, .held = i % 2 ? HELD_PACKED : HELD_DECODED};
        assert_int_equal(bytes[i], cuda_weight_bytes(&c, &w, NULL));
        if (i % 2) { /* as the file has it */
            unsigned char *form = malloc(bytes[i]);
            ok(&r[i], gpu->kind->block_export(r[i].o, b, form));
            assert_memory_equal(form, t->view.data, bytes[i]);
            free(form);
        }
        close_run(&r[i]);
        cuda_emulator_memory((size_t)64 << 30);
    }
    assert_int_equal(bytes[0], (size_t)2048 * 2048 * 2);
    assert_int_equal(bytes[1], (size_t)2048 * 2048 / 32 * 34);
    assert_memory_equal(key[0], key[2], sizeof key[0]);
    assert_memory_equal(key[1], key[3], sizeof key[0]);
    assert_memory_not_equal(key[0], key[1], sizeof key[0]);
    tensor_free(&t->view);
}

/* ---- --bench ---- */

/* FLUX.1's largest weight, decoded as a whole: least time of several turns of a few calls each. */
static void time_type(dtype type, double copy)
{
    enum { TURNS = 6, CALLS = 10, N = 12288, K = 3072 };
    static tensor_scale scale;
    const dtype_info *info = dtype_describe(type);
    scale = (tensor_scale){.kind = type == DTYPE_BNB4 ? SCALE_CODES : SCALE_ROWS,
                           .block = 64,
                           .row = K,
                           .constant = 1.0f / 127,
                           .rounded = DTYPE_BF16};
    tensor numbers = {0};
    run r = {0};
    ok(&r, tensor_create(DTYPE_F32, 1, (int64_t[]){(int64_t)N * K / 64}, &numbers, &r.err));
    scale.factor = scale.absmax = numbers;
    open_run(&r, DTYPE_BF16, HELD_PACKED);
    const weight_recipe w =
        recipe_whole(WEIGHT_LINEAR, packed_tensor(&r, type, N, K, info->needs_scale ? &scale : NULL));
    const cuda_weight *c = cuda_w(prepare_with(&r, &w, NULL));
    CUdeviceptr at;
    ok(&r, cuda_device_allocate((cuda_device *)gpu, (size_t)N * K * 2, "a weight's values", &at, &r.err));
    const cuda_view out = cuda_dense_view(at, N, K, true);
    double best = INFINITY;
    for (int turn = 0; turn <= TURNS; turn++) { /* the first is not counted */
        const double begin = seconds();
        for (int i = 0; i < CALLS; i++)
            ok(&r, cuda_packed_decode(cuda_self(r.o), c, 0, N, &out));
        ok(&r, ops_sync(r.o));
        best = turn > 0 ? fmin(best, (seconds() - begin) / CALLS) : best;
    }
    const double bytes = (double)tensor_bytes(&w.piece[0].source->view) + (double)N * K * 2;
    printf("decode %-8s %9.4f ms %9.1f GB/s", info->name, best * 1e3, bytes / best * 1e-9);
    printf(", %.0f %% of a copy\n", 100 * bytes / best / copy);
    fflush(stdout);
    cuda_device_release((cuda_device *)gpu, at);
    close_run(&r);
    tensor_free(&numbers);
}

static int bench(void)
{
    if (open_gpu(NULL) != 0)
        return 1;
    const double copy = copy_rate();
    printf("copy of 1 GiB: %.1f GB/s read and written\n", copy * 1e-9);
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (is_packed_type((dtype)type) || type == DTYPE_I8 || type == DTYPE_BNB4)
            time_type((dtype)type, copy);
    return close_gpu(NULL);
}

int main(int argc, char **argv)
{
    use_arguments(argc, argv);
    if (argued(argc, argv, "--bench"))
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_decodes_to_the_host_s_bits),
        cmocka_unit_test(factors_of_matrices_and_rows),
        cmocka_unit_test(codes_of_four_bits),
        cmocka_unit_test(recipes_of_pieces_and_slices),
        cmocka_unit_test(products_are_those_of_decoded_weights),
        cmocka_unit_test(the_form_follows_from_the_memory),
        cmocka_unit_test(a_recording_ends_when_its_room_has_moved),
        cmocka_unit_test(keys_and_bytes_are_of_the_form),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
