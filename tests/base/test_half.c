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

/* The table of the OCP specification at its corners, and every code there and back. */
static void every_e4m3_survives_a_round_trip(void **state)
{
    (void)state;
    assert_true(e4m3_to_f32(0x7e) == 448.0f && e4m3_to_f32(0x08) == 0x1p-6f && e4m3_to_f32(0x07) == 0x1.cp-7f &&
                e4m3_to_f32(0x01) == 0x1p-9f && e4m3_to_f32(0x38) == 1.0f);
    for (uint32_t q = 0; q < 256; q++) {
        float f = e4m3_to_f32((uint8_t)q);
        if ((q & 0x7f) == 0x7f)
            assert_true(isnan(f));
        assert_int_equal(e4m3_from_f32(f), isnan(f) ? (signbit(f) ? 0xff : 0x7f) : q);
    }
}

static void floats_round_to_the_nearest_e4m3_ties_to_even(void **state)
{
    (void)state;
    for (uint8_t q = 0; q < 0x7e; q++) {
        float a = e4m3_to_f32(q), b = e4m3_to_f32((uint8_t)(q + 1)), middle = 0.5f * (a + b);
        uint8_t even = (uint8_t)(q & 1 ? q + 1 : q);
        assert_int_equal(e4m3_from_f32(middle), even);
        assert_int_equal(e4m3_from_f32(nextafterf(middle, a)), q);
        assert_int_equal(e4m3_from_f32(nextafterf(middle, b)), q + 1);
        assert_int_equal(e4m3_from_f32(-middle), even | 0x80);
    }
    assert_int_equal(e4m3_from_f32(449.0f), 0x7e); /* there is no infinity */
    assert_int_equal(e4m3_from_f32(-1e30f), 0xfe);
    assert_int_equal(e4m3_from_f32(INFINITY), 0x7e);
    assert_int_equal(e4m3_from_f32(1e-40f), 0);
    assert_true(e4m3_scale(448.0f) == 1.0f && e4m3_scale(0.0f) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_a_round_trip),
        cmocka_unit_test(floats_round_to_the_nearest_half_ties_to_even),
        cmocka_unit_test(large_values_become_infinite),
        cmocka_unit_test(every_e4m3_survives_a_round_trip),
        cmocka_unit_test(floats_round_to_the_nearest_e4m3_ties_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
