/* Half floats: every value of 16 bits, and the rounding between them. */
#include "base/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void every_half_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (!isnan(f))
            assert_int_equal(f16_from_f32(f), h);
        else
            assert_true(isnan(f16_to_f32(f16_from_f32(f))));
        if (!isnan(b))
            assert_int_equal(bf16_from_f32(b), h);
        else
            assert_true(isnan(bf16_to_f32(bf16_from_f32(b))));
    }
}

/* Between two neighbours a < b: below the middle to a, above it to b, the middle itself to the even one. */
static void floats_round_to_the_nearest_half_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float a = f16_to_f32((uint16_t)h), b = f16_to_f32((uint16_t)(h + 1)), middle = 0.5f * a + 0.5f * b;
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(f16_from_f32(middle), even);
        assert_int_equal(f16_from_f32(nextafterf(middle, a)), h);
        assert_int_equal(f16_from_f32(nextafterf(middle, b)), h + 1);
        assert_int_equal(f16_from_f32(-middle), even | 0x8000);
    }
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        float middle = f32_from_bits(h << 16 | 0x8000u);
        assert_int_equal(bf16_from_f32(middle), h & 1 ? h + 1 : h);
        assert_int_equal(bf16_from_f32(f32_from_bits(h << 16 | 0x7fffu)), h);
        assert_int_equal(bf16_from_f32(f32_from_bits(h << 16 | 0x8001u)), h + 1);
    }
}

static void large_values_become_infinite(void **state)
{
    (void)state;
    assert_int_equal(f16_from_f32(65504.0f), 0x7bff);
    assert_int_equal(f16_from_f32(65519.99f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00); /* the tie between 65504 and 65536 */
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
    assert_int_equal(f16_from_f32(INFINITY), 0x7c00);
    assert_int_equal(bf16_from_f32(3.4028235e38f), 0x7f80);
    assert_int_equal(f16_from_f32(0x1p-25f), 0); /* half of the smallest: to even */
    assert_int_equal(f16_from_f32(-0.0f), 0x8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_a_round_trip),
        cmocka_unit_test(floats_round_to_the_nearest_half_ties_to_even),
        cmocka_unit_test(large_values_become_infinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
