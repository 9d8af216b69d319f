/* torch's CPU generator, against torch's own numbers. */
#include "base/rng.h"
#include "base/half.h"

#include "rng_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static double relative_l2(const float *x, const uint32_t *bits, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double y = f32_from_bits(bits[i]), d = x[i] - y;
        error += d * d;
        norm += y * y;
    }
    return sqrt(error / norm);
}

static void twister_is_the_standard_mt19937(void **state)
{
    (void)state;
    rng r;
    uint32_t x = 0;
    rng_seed(&r, 5489); /* ISO C++ 29.6.5: the 10000th number from the default seed */
    for (int i = 0; i < 10000; i++)
        x = rng_u32(&r);
    assert_int_equal(x, 4123659995u);
}

static void only_the_low_32_bits_seed(void **state)
{
    (void)state;
    rng a, b;
    rng_seed(&a, 5);
    rng_seed(&b, (1ull << 32) + 5);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rng_u32(&a), rng_u32(&b));
}

static void normals_equal_torch_for_every_size_and_seed(void **state)
{
    (void)state;
    static float x[1000];
    for (size_t g = 0; g < COUNT(rng_goldens); g++) {
        const rng_golden *golden = &rng_goldens[g];
        rng r;
        rng_seed(&r, golden->seed);
        rng_normal(&r, x, golden->count);
        if (golden->count < 16)
            for (size_t i = 0; i < golden->count; i++)
                assert_int_equal(f32_bits(x[i]), golden->bits[i]);
        assert_true(relative_l2(x, golden->bits, golden->count) <= 1e-7);
    }
}

static void spare_of_a_pair_survives_calls(void **state)
{
    (void)state;
    float x[64];
    rng r;
    const uint32_t *expected = golden_chain;
    rng_seed(&r, 7);
    for (size_t c = 0; c < COUNT(golden_chain_sizes); c++) {
        size_t n = golden_chain_sizes[c];
        rng_normal(&r, x, n);
        assert_true(relative_l2(x, expected, n) <= 1e-7);
        expected += n;
    }
}

static void long_draws_equal_torch(void **state)
{
    (void)state;
    static float x[16384];
    for (size_t g = 0; g < COUNT(rng_longs); g++) {
        const rng_long *golden = &rng_longs[g];
        rng r;
        double sum = 0, squares = 0;
        rng_seed(&r, golden->seed);
        rng_normal(&r, x, COUNT(x));
        for (size_t i = 0; i < COUNT(x); i++) {
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        assert_true(fabs(sum - golden->sum) < 1e-4);
        assert_true(fabs(squares - golden->squares) < 1e-3);
        assert_true(fabsf(x[0] - golden->first) < 1e-6f && fabsf(x[COUNT(x) - 1] - golden->last) < 1e-6f);
    }
}

/* randn [1, 16, 128, 128], the latent of a 1024² picture. */
static void full_size_noise_equals_torch(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        float first[4], last[2];
        double squares;
    } golden[] = {
        {0, {-1.125840f, -1.152360f, -0.250579f, -0.433879f}, {-1.213868f, 0.076860f}, 262243.021},
        {42, {1.926915f, 1.487284f, 0.900717f, -2.105521f}, {-1.762246f, -2.329417f}, 263317.734},
    };
    enum { N = 16 * 128 * 128 };
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    for (size_t g = 0; g < COUNT(golden); g++) {
        rng r;
        double squares = 0;
        rng_seed(&r, golden[g].seed);
        rng_normal(&r, x, N);
        for (int i = 0; i < N; i++)
            squares += (double)x[i] * x[i];
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(x[i] - golden[g].first[i]) < 1e-6f);
        for (int i = 0; i < 2; i++)
            assert_true(fabsf(x[N - 2 + i] - golden[g].last[i]) < 1e-6f);
        assert_true(fabs(squares - golden[g].squares) < 2e-3);
    }
    free(x);
}

static void nothing_is_drawn_for_zero_values(void **state)
{
    (void)state;
    rng r;
    float x;
    rng_seed(&r, 1);
    rng_normal(&r, NULL, 0);
    rng_normal(&r, &x, 1);
    float first = x;
    rng_seed(&r, 1);
    rng_normal(&r, &x, 1);
    assert_int_equal(f32_bits(first), f32_bits(x));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twister_is_the_standard_mt19937),
        cmocka_unit_test(only_the_low_32_bits_seed),
        cmocka_unit_test(normals_equal_torch_for_every_size_and_seed),
        cmocka_unit_test(spare_of_a_pair_survives_calls),
        cmocka_unit_test(long_draws_equal_torch),
        cmocka_unit_test(full_size_noise_equals_torch),
        cmocka_unit_test(nothing_is_drawn_for_zero_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
