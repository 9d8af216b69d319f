/* Decoded values as bytes, against the formula as diffusers has it, in double and with the C library's rounding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/pixels.h"

#include <math.h>
#include <string.h>

static uint8_t by_formula(float x)
{
    float v = x / 2 + 0.5f;
    v = fminf(fmaxf(v, 0), 1);
    return (uint8_t)nearbyint((double)(v * 255.0f));
}

static void bytes_are_the_formula(void **state)
{
    enum { COUNT = 100003 };
    static float values[COUNT];
    static uint8_t bytes[COUNT + 1];
    (void)state;
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)i / (COUNT - 1) * 3 - 1.5f;
    for (int i = 0; i < 256; i++) { /* halves between two bytes, and floats beside them */
        float half = ((float)i + 0.5f) / 255.0f * 2 - 1;
        values[3 * i] = half;
        values[3 * i + 1] = nextafterf(half, -2);
        values[3 * i + 2] = nextafterf(half, 2);
    }
    values[1000] = INFINITY, values[1001] = -INFINITY, values[1002] = -0.0f, values[1003] = 1, values[1004] = -1;
    memset(bytes, 0xa5, sizeof bytes);
    pixels_to_bytes(values, COUNT, bytes);
    for (int i = 0; i < COUNT; i++)
        if (bytes[i] != by_formula(values[i]))
            fail_msg("%.9g becomes %d, not %d", (double)values[i], bytes[i], by_formula(values[i]));
    assert_int_equal(bytes[COUNT], 0xa5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_are_the_formula)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
