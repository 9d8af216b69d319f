/* torch's normals on CUDA: the generator against Random123's published answers, the normals against values that GPUs
 * have drawn, their order against torch's kernel written out. */
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Random123's kat_vectors, philox4x32 with 10 rounds. */
static void blocks_are_random123s(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT(known); i++) {
        uint32_t out[4];
        philox_block(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void assert_near(const float *x, const float *expected, size_t n, float most)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - expected[i]) <= most);
}

/* torch.randn on a GPU, seed 0, as AUTOMATIC1111's web UI has recorded it (modules/rng_philox.py). */
static void normals_are_those_of_a_gpu(void **state)
{
    (void)state;
    static const float zero[] = {-0.9247f, -0.4253f, -2.6438f, 0.1452f,  -0.1209f, -0.5797f,
                                 -0.6229f, -0.3284f, -1.0745f, -0.3631f, -1.6711f, 2.2655f};
    static const float answer[] = {0.19402f, 2.16137f, -0.17205f, 0.84906f};
    float x[COUNT(zero)];
    philox_normal(0, PHILOX_THREADS_DEFAULT, x, COUNT(x));
    assert_near(x, zero, COUNT(x), 6e-5f);
    philox_normal(42, PHILOX_THREADS_DEFAULT, x, COUNT(x));
    assert_near(x, answer, COUNT(answer), 6e-6f);
}

/* One thread has four values, a stride of all threads apart; then it draws again. */
static void order_follows_the_number_of_threads(void **state)
{
    (void)state;
    static const float quarters[] = {0.99114f, -0.48207f, -0.61761f, 0.18083f};
    enum { N = 9000, THREADS = 1024 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_true(x && y);
    for (int i = 0; i < N; i++)
        x[i] = y[i] = NAN;
    philox_normal(0, THREADS, x, N);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(x[THREADS * (i + 1)] - quarters[i]) <= 6e-6f);
    philox_normal(0, THREADS + 255, y, N); /* whole blocks of threads count */
    assert_memory_equal(x, y, N * sizeof *x);
    for (int i = 0; i < N; i++)
        assert_true(isfinite(x[i]));
    philox_normal(0, PHILOX_THREADS_DEFAULT, y, N);
    assert_memory_equal(x, y, THREADS * sizeof *x); /* each thread's first value does not know of the others */
    assert_memory_not_equal(x + THREADS, y + THREADS, sizeof *x);
    free(x);
    free(y);
}

/* As torch's kernel: idx strides over the elements, four at a time; counters by hand. */
static void every_element_is_its_threads(void **state)
{
    (void)state;
    enum { N = 2 * 4 * 256 + 300 };
    float x[N];
    for (int i = 0; i < N; i++)
        x[i] = NAN;
    philox_normal(0x123456789abcdef0ull, 256, x, N);
    for (int i = 0; i < N; i++) {
        const uint32_t key[2] = {0x9abcdef0, 0x12345678},
                       counter[4] = {(uint32_t)(i / 1024), 0, (uint32_t)(i % 256), 0};
        uint32_t bits[4];
        philox_block(counter, key, bits);
        const int k = i / 256 % 4;
        const double u = bits[k & 2] * 0x1p-32 + 0x1p-33, v = (bits[(k & 2) + 1] * 0x1p-32 + 0x1p-33) * 2 * acos(-1);
        assert_true(fabs(x[i] - sqrt(-2 * log(u)) * (k % 2 ? cos(v) : sin(v))) < 3e-6);
    }
}

/* The latent of a 1024² picture fits into an H100's threads, but not into an RTX 4090's. */
static void sizes_differ_from_gpu_to_gpu(void **state)
{
    (void)state;
    enum { N = 16 * 128 * 128 };
    float *h100 = malloc(N * sizeof *h100), *rtx4090 = malloc(N * sizeof *rtx4090);
    double sum = 0, squares = 0;
    assert_true(h100 && rtx4090);
    philox_normal(1, PHILOX_THREADS_DEFAULT, h100, N);
    philox_normal(1, 196608, rtx4090, N);
    assert_memory_equal(h100, rtx4090, 196608 * sizeof *h100);
    assert_memory_not_equal(h100 + 196608, rtx4090 + 196608, (N - 196608) * sizeof *h100);
    for (int i = 0; i < N; i++) {
        sum += (double)rtx4090[i];
        squares += (double)rtx4090[i] * (double)rtx4090[i];
    }
    assert_true(fabs(sum / N) < 0.01 && fabs(squares / N - 1) < 0.02);
    free(h100);
    free(rtx4090);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_random123s),
        cmocka_unit_test(normals_are_those_of_a_gpu),
        cmocka_unit_test(order_follows_the_number_of_threads),
        cmocka_unit_test(every_element_is_its_threads),
        cmocka_unit_test(sizes_differ_from_gpu_to_gpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
