/* The vector decoders of packed types against the decoders of tensor/decode.h, which tests/tensor holds to the gguf
 * package and torch: the same bits for every block, NaNs aside, on every instruction set that the machine has. */
#include "ops/cpu/cpu.h"
#include "tensor/scale.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 24, COLS = 1280, VALUES = ROWS * COLS, ROUNDS = 12, CANARY = 64 };

static const struct {
    const char *name;
    const cpu_decoders *decoders;
} SETS[] = {
#if defined(__x86_64__)
    {"avx2", &cpu_decoders_avx2},
    {"avx512", &cpu_decoders_avx512},
#elif defined(__aarch64__)
    {"neon", &cpu_decoders_neon},
#endif
    {"portable", NULL},
};

static bool present(int set)
{
#if defined(__x86_64__)
    if (SETS[set].decoders == &cpu_decoders_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (SETS[set].decoders == &cpu_decoders_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
#endif
#if defined(__aarch64__)
    if (SETS[set].decoders == &cpu_decoders_neon)
        return true;
#endif
    return SETS[set].decoders == NULL;
}

static uint64_t state = 88172645463325252ull;
static uint64_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}
static int64_t below(int64_t n) { return (int64_t)(random_bits() >> 33) % n; }

static bool same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0; }

/* Rounds 0 to 3: each byte alike, so that scales are zeros, infinities or NaNs and all codes the least or the largest;
 * then random bytes, whose f16 scales are subnormal, infinite or NaN now and then. */
static void fill(unsigned char *p, size_t bytes, int round)
{
    static const unsigned char alike[] = {0x00, 0xff, 0x7c, 0x80};
    for (size_t i = 0; i < bytes; i++)
        p[i] = round < 4 ? alike[round] : (unsigned char)(random_bits() >> 40);
}

/* Of one window of the matrix, on one instruction set. */
static void expect_window(int set, const tensor *t, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    static float out[VALUES + CANARY], right[COLS];
    const matrix_piece p = {.type = t->type, .ld = COLS, .rows = ROWS, .cols = COLS, .packed = t, .row = 3, .col = 5};
    memset(out, 0xff, sizeof out);
    const matrix_piece plain = cpu_decode_piece(SETS[set].decoders, &p, 3 + row, rows, 5 + col, cols, out);
    assert_true(plain.type == DTYPE_F32 && plain.ld == cols && plain.rows == rows && plain.cols == cols);
    assert_true(plain.row == 3 + row && plain.col == 5 + col && plain.data == (const unsigned char *)out);
    for (int64_t r = 0; r < rows; r++) {
        assert_int_equal(tensor_decode(t, (row + r) * COLS + col, cols, right, NULL), FLUX1_OK);
        for (int64_t c = 0; c < cols; c++)
            if (!same(out[r * cols + c], right[c]))
                fail_msg("%s, %s: element (%lld, %lld) is %a, should be %a", SETS[set].name,
                         dtype_describe(t->type)->name, (long long)(row + r), (long long)(col + c),
                         (double)out[r * cols + c], (double)right[c]);
    }
    for (int64_t i = rows * cols; i < rows * cols + CANARY; i++) /* nothing behind them is written */
        assert_memory_equal(&out[i], &(uint32_t){UINT32_MAX}, sizeof *out);
}

static void expect_tensor(const tensor *t)
{
    for (int set = 0; set < (int)(sizeof SETS / sizeof *SETS); set++) {
        if (!present(set))
            continue;
        expect_window(set, t, 0, ROWS, 0, COLS);
        for (int i = 0; i < 12; i++) { /* windows that begin and end anywhere in a block */
            int64_t col = below(COLS), row = below(ROWS);
            expect_window(set, t, row, 1 + below(ROWS - row), col, 1 + below(COLS - col));
        }
    }
}

static float factors[VALUES];
static tensor list_of(dtype type, void *data, int64_t count)
{
    return (tensor){.type = type, .dims = 1, .shape = {count}, .data = data};
}

static void make_factors(void)
{
    static const float odd[] = {0, -0.0f, 1e-42f, 3e38f, INFINITY, NAN, -1e-30f, 1};
    for (int i = 0; i < VALUES; i++)
        factors[i] = i % 7 == 0 ? odd[i / 7 % 8] : (float)below(2000001) * 1e-6f - 1;
}

/* A matrix of the type, at an odd address. */
static void expect_type(dtype type, const struct tensor_scale *scale)
{
    static unsigned char memory[VALUES * 8 + 1];
    tensor t = {.type = type, .dims = 2, .shape = {ROWS, COLS}, .data = memory + 1, .scale = scale};
    for (int round = 0; round < ROUNDS; round++) {
        fill(t.data, tensor_bytes(&t), round);
        expect_tensor(&t);
    }
}

static void every_block_decodes_to_the_same_bits(void **unused)
{
    (void)unused;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        const dtype_info *info = dtype_describe((dtype)type);
        if (!info->decode || info->needs_scale)
            continue;
        expect_type((dtype)type, NULL);
    }
}

static void factors_of_matrices_and_rows(void **unused)
{
    (void)unused;
    static const dtype types[] = {DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_I8};
    make_factors();
    for (int i = 0; i < 3; i++) {
        expect_type(types[i], &(tensor_scale){.kind = SCALE_FACTOR, .factor = list_of(DTYPE_F32, factors + 1, 1)});
        expect_type(types[i], &(tensor_scale){.kind = SCALE_ROWS,
                                              .factor = list_of(DTYPE_F32, factors, ROWS + 2),
                                              .constant = 1.0f / 127,
                                              .row = COLS,
                                              .first = 2 * COLS});
    }
}

/* Four bits of bitsandbytes: each block's absmax, plain and nested, the type that the value is rounded to. */
static void codes_of_four_bits(void **unused)
{
    (void)unused;
    static const dtype rounded[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static unsigned char numbers[VALUES];
    make_factors();
    fill(numbers, sizeof numbers, ROUNDS);
    tensor_scale s = {.kind = SCALE_CODES, .block = 64, .first = 128, .nested_block = 256, .nested_offset = 0.1f};
    for (int i = 0; i < 16; i++)
        s.code[i] = (float)below(2000001) * 1e-6f - 1;
    for (int i = 0; i < 3; i++) {
        s.rounded = rounded[i];
        s.absmax = list_of(DTYPE_F32, factors, VALUES);
        s.nested_code = s.nested_absmax = (tensor){0};
        expect_type(DTYPE_BNB4, &s);
        s.absmax = list_of(DTYPE_U8, numbers, VALUES);
        s.nested_code = list_of(DTYPE_F32, factors, 256);
        s.nested_absmax = list_of(DTYPE_F32, factors + 3, VALUES / 256);
        expect_type(DTYPE_BNB4, &s);
    }
}

/* ---- products ---- */

enum { WIDE = 450, DEEP = 768 }; /* wide enough for a task of 1200 rows */

static void multiply(dtype arithmetic, const tensor *weights, const tensor *x, int64_t rows, float *out)
{
    flux1_error err = {0};
    store_tensor stored = {.name = "w", .file = "memory", .view = *weights};
    const weight_recipe r = recipe_whole(WEIGHT_LINEAR, &stored);
    ops *o;
    block *b;
    weight *w;
    act in, y;
    assert_int_equal(ops_cpu_create(&(ops_config){.arithmetic = arithmetic, .threads = 1, .err = &err}, &o), FLUX1_OK);
    assert_int_equal(ops_reserve(o, 32 << 20), FLUX1_OK);
    assert_int_equal(ops_block_create(o, "w", &b), FLUX1_OK);
    assert_int_equal(ops_prepare(o, b, &r, NULL, &w), FLUX1_OK);
    assert_int_equal(ops_create(o, ACT_LINEAR, shape_rows(1, 0, rows, DEEP), &in), FLUX1_OK);
    assert_int_equal(ops_create(o, ACT_LINEAR, shape_rows(1, 0, rows, WIDE), &y), FLUX1_OK);
    assert_int_equal(ops_upload(o, x, in), FLUX1_OK);
    assert_int_equal(ops_block_begin(o, b), FLUX1_OK);
    assert_int_equal(ops_product(o, in, w, &(epilogue){0}, y), FLUX1_OK);
    assert_int_equal(ops_block_end(o, b), FLUX1_OK);
    assert_int_equal(ops_download(o, y, &(tensor){.dims = 3, .shape = {1, rows, WIDE}, .data = out}), FLUX1_OK);
    ops_destroy(o);
}

/* However the work is cut, a packed weight gives what its values as float32 give: of few rows, one block, several. */
static void a_product_has_the_bits_of_the_decoded_weights(void **unused)
{
    (void)unused;
    static const dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_F8_E4M3};
    static const int64_t heights[] = {5, 100, 600, 1200};
    enum { MOST = 1200 };
    static float plain[WIDE * DEEP], right[MOST * WIDE], out[MOST * WIDE], values[MOST * DEEP];
    static unsigned char packed[WIDE * DEEP * 2];
    for (int i = 0; i < MOST * DEEP; i++)
        values[i] = (float)below(2000001) * 1e-6f - 1;
    for (int i = 0; i < 3; i++) {
        const int64_t width = dtype_describe(types[i])->block_bytes;
        tensor w = {.type = types[i], .dims = 2, .shape = {WIDE, DEEP}, .data = packed};
        for (size_t at = 0; at < tensor_bytes(&w); at++)
            packed[at] = (unsigned char)(random_bits() >> 40) & 0xbf;
        for (size_t at = 1; width > 1 && at < tensor_bytes(&w); at += (size_t)width)
            packed[at] &= 0x1f, packed[at + 2] &= 0x1f; /* finite scales */
        assert_int_equal(tensor_decode(&w, 0, WIDE * DEEP, plain, NULL), FLUX1_OK);
        const tensor dense = {.type = DTYPE_F32, .dims = 2, .shape = {WIDE, DEEP}, .data = plain};
        for (int h = 0; h < 4; h++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                const dtype arithmetic = bf16 ? DTYPE_BF16 : DTYPE_F32;
                const tensor x = {.type = DTYPE_F32, .dims = 3, .shape = {1, heights[h], DEEP}, .data = values};
                memset(out, 0xff, sizeof out);
                multiply(arithmetic, &dense, &x, heights[h], right);
                multiply(arithmetic, &w, &x, heights[h], out);
                assert_memory_equal(out, right, (size_t)(heights[h] * WIDE) * sizeof *out);
            }
    }
}

/* Types that decode, but for floats of 32 and 64 bits, have a vector decoder and are not left to the slow one: products
 * take it for packed ones, the forms of int8 for all. */
static void every_small_type_has_a_vector_decoder(void **unused)
{
    (void)unused;
    for (int set = 0; set < (int)(sizeof SETS / sizeof *SETS); set++)
        for (int type = 0; SETS[set].decoders && type < DTYPE_COUNT; type++)
            if (type != DTYPE_F32 && type != DTYPE_F64 && dtype_describe((dtype)type)->decode &&
                !SETS[set].decoders->of[type].unit)
                fail_msg("%s: none for %s", SETS[set].name, dtype_describe((dtype)type)->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_type_has_a_vector_decoder),
        cmocka_unit_test(every_block_decodes_to_the_same_bits),
        cmocka_unit_test(factors_of_matrices_and_rows),
        cmocka_unit_test(codes_of_four_bits),
        cmocka_unit_test(a_product_has_the_bits_of_the_decoded_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
