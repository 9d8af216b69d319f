/* Encoders: bits against the gguf package's and torch's; of the K types, the errors against those of simpler types and
 * against the bounds that llama.cpp's own tests set. */
#include "tensor/encode.h"
#include "tensor/decode.h"
#include "tensor/encode_search.h"
#include "weights/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BYTES_MAX (4 * 8192)
#define SAMPLES 8192

static void encode(dtype type, const float *x, int64_t count, unsigned char *out)
{
    dtype_encoder_of(type, NULL)(x, count / dtype_describe(type)->block_elements, out);
}

static void bits_are_the_oracle_s(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,    DTYPE_Q5_1,   DTYPE_Q8_0,
                                  DTYPE_F16,  DTYPE_BF16, DTYPE_F8_E4M3, DTYPE_F8_E5M2};
    unsigned char got[BYTES_MAX];
    store *goldens;
    flux1_error err = {0};
    if (store_open_file(TEST_DATA "/goldens/encode.safetensors", &goldens, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    const tensor *values = &store_find(goldens, "values")->view;
    const int64_t count = tensor_elements(values);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.stored", dtype_describe(types[i])->name);
        const tensor *want = &store_find(goldens, name)->view;
        memset(got, 0x5a, sizeof got);
        encode(types[i], values->data, count, got);
        if (memcmp(got, want->data, tensor_bytes(want)) != 0)
            fail_msg("%s differs from the golden", name);
        assert_int_equal(got[tensor_bytes(want)], 0x5a);
    }
    store_close(goldens);
}

/* Normally distributed enough: the sum of 12 uniform numbers. */
static void make_samples(float x[SAMPLES])
{
    uint64_t s = 88172645463325252u;
    for (int i = 0; i < SAMPLES; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            sum += (double)(s >> 11) * 0x1p-53;
        }
        x[i] = (float)(0.02 * sum);
    }
}

/* Root of the mean squared error, through the decoder. */
static double error_of(dtype type, const float *x, int64_t count)
{
    static unsigned char bytes[BYTES_MAX];
    static float back[SAMPLES];
    double sum = 0;
    encode(type, x, count, bytes);
    for (int64_t i = 0; i < count; i++)
        back[i] = NAN;
    dtype_describe(type)->decode(bytes, count / dtype_describe(type)->block_elements, back);
    for (int64_t i = 0; i < count; i++)
        sum += ((double)x[i] - back[i]) * ((double)x[i] - back[i]);
    return sqrt(sum / (double)count);
}

static void k_types_are_better_than_simple_ones_of_their_bits(void **state)
{
    (void)state;
    static float x[SAMPLES];
    make_samples(x);
    const double q4 = error_of(DTYPE_Q4_0, x, SAMPLES), q5 = error_of(DTYPE_Q5_0, x, SAMPLES);
    assert_true(error_of(DTYPE_Q4_K, x, SAMPLES) < 0.85 * q4);
    assert_true(error_of(DTYPE_Q5_K, x, SAMPLES) < 0.855 * q5);
    assert_true(error_of(DTYPE_Q6_K, x, SAMPLES) < 0.415 * q5);
    /* of 3.44 and 2.63 bits against 4.5 */
    assert_true(error_of(DTYPE_Q3_K, x, SAMPLES) < 1.72 * q4);
    assert_true(error_of(DTYPE_Q2_K, x, SAMPLES) < 3.25 * q4);
}

/* llama.cpp, tests/test-quantize-fns.cpp: 0.1 + 2·cos(i), 4096 values; the root of the sum of squared errors, divided
 * by their number, is at most 0.002, of 3 bits 0.0040, of 2 bits 0.0075. */
static void errors_are_within_llama_cpp_s_bounds(void **state)
{
    (void)state;
    static const struct {
        dtype type;
        double bound;
    } rows[] = {{DTYPE_Q4_0, 0.002},  {DTYPE_Q4_1, 0.002}, {DTYPE_Q5_0, 0.002}, {DTYPE_Q5_1, 0.002},
                {DTYPE_Q8_0, 0.002},  {DTYPE_Q4_K, 0.002}, {DTYPE_Q5_K, 0.002}, {DTYPE_Q6_K, 0.002},
                {DTYPE_Q3_K, 0.0040}, {DTYPE_Q2_K, 0.0075}};
    float x[4096];
    for (int i = 0; i < 4096; i++)
        x[i] = 0.1f + 2 * cosf((float)i);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double error = error_of(rows[i].type, x, 4096) / sqrt(4096);
        if (!(error <= rows[i].bound))
            fail_msg("%s: %g, at most %g", dtype_describe(rows[i].type)->name, error, rows[i].bound);
    }
}

/* Blocks that a search may stumble over decode to finite values near what they were. */
static void constant_and_tiny_blocks_stay_what_they_are(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    static const float constants[] = {0, -0.0f, 1, -1, 0.02f, -300, 1e-30f, -1e-38f, 0x1p-149f};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t k = 0; k < sizeof constants / sizeof *constants; k++) {
            float x[256];
            for (int i = 0; i < 256; i++)
                x[i] = constants[k];
            const double error = error_of(types[t], x, 256);
            if (!(error <= 0.01 * fabs((double)constants[k]) + 1e-29))
                fail_msg("%s of %g: error %g", dtype_describe(types[t])->name, (double)constants[k], error);
        }
}

static void instruction_sets_agree(void **state)
{
    (void)state;
    static float x[SAMPLES];
    const encode_search *best = encode_search_best(), *plain = &encode_search_portable;
    make_samples(x);
    for (int i = 0; i + 32 <= SAMPLES; i += 16) {
        const encode_fit a = best->span(x + i, 32, 15), b = plain->span(x + i, 32, 15);
        const float c = best->signed_scale(x + i, 32), d = plain->signed_scale(x + i, 32);
        assert_memory_equal(&a, &b, sizeof a);
        assert_memory_equal(&c, &d, sizeof c);
    }
}

static void limits_are_where_values_become_infinite(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F8_E5M2};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        unsigned char bytes[4];
        float limit, beyond, back;
        dtype_encoder *e = dtype_encoder_of(types[i], &limit);
        e(&limit, 1, bytes);
        dtype_describe(types[i])->decode(bytes, 1, &back);
        assert_true(isfinite(back));
        beyond = nextafterf(limit, INFINITY);
        e(&beyond, 1, bytes);
        dtype_describe(types[i])->decode(bytes, 1, &back);
        assert_true(isinf(back));
    }
    assert_null(dtype_encoder_of(DTYPE_IQ4_NL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_the_oracle_s),
        cmocka_unit_test(k_types_are_better_than_simple_ones_of_their_bits),
        cmocka_unit_test(errors_are_within_llama_cpp_s_bounds),
        cmocka_unit_test(constant_and_tiny_blocks_stay_what_they_are),
        cmocka_unit_test(instruction_sets_agree),
        cmocka_unit_test(limits_are_where_values_become_infinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
