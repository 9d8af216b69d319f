#include "tensor/scale.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* a sanitizer's malloc stops the program when asked for too much, unless told to return NULL as malloc does */
const char *__asan_default_options(void) __attribute__((visibility("default")));
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void dtypes_are_found_by_their_exact_name(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        dtype type = DTYPE_COUNT;
        const char *name = dtype_describe((dtype)i)->name;
        if (!dtype_describe((dtype)i)->in_safetensors) {
            assert_false(dtype_from_name(name, strlen(name), &type));
            continue;
        }
        assert_true(dtype_from_name(name, strlen(name), &type));
        assert_int_equal(type, i);
    }
    dtype type = DTYPE_U8;
    assert_false(dtype_from_name("F3", 2, &type));
    assert_false(dtype_from_name("BF16x", 5, &type));
    assert_false(dtype_from_name("bf16", 4, &type));
    assert_false(dtype_from_name("", 0, &type));
    assert_int_equal(type, DTYPE_U8);
    assert_true(dtype_from_name("F16 and more", 3, &type));
    assert_int_equal(type, DTYPE_F16);
}

/* 1, -2, 0.5 and infinity as written by hand; the data begins at an odd address, as in a file it may. */
static void decoding_reads_each_type_at_any_address(void **state)
{
    (void)state;
    static const float expected[] = {1, -2, 0.5f, INFINITY};
    static const unsigned char f32[] = {9, 0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 0, 63, 0, 0, 128, 127};
    static const unsigned char bf16[] = {9, 128, 63, 0, 192, 0, 63, 128, 127};
    static const unsigned char f16[] = {9, 0, 60, 0, 192, 0, 56, 0, 124};
    static const unsigned char f64[] = {9, 0, 0, 0, 0, 0, 0,   240, 63, 0, 0, 0, 0, 0, 0,   0,  192,
                                        0, 0, 0, 0, 0, 0, 224, 63,  0,  0, 0, 0, 0, 0, 240, 127};
    static const struct {
        dtype type;
        const unsigned char *bytes;
    } cases[] = {{DTYPE_F32, f32}, {DTYPE_BF16, bf16}, {DTYPE_F16, f16}, {DTYPE_F64, f64}};
    for (int c = 0; c < 4; c++) {
        tensor t = {.type = cases[c].type, .dims = 2, .shape = {2, 2}, .data = (void *)(uintptr_t)(cases[c].bytes + 1)};
        float x[4];
        assert_int_equal(tensor_decode(&t, 0, 4, x, NULL), FLUX1_OK);
        assert_memory_equal(x, expected, sizeof x);
        assert_int_equal(tensor_decode(&t, 1, 2, x, NULL), FLUX1_OK);
        assert_memory_equal(x, expected + 1, 2 * sizeof *x);
        assert_int_equal(tensor_decode(&t, 4, 0, x, NULL), FLUX1_OK);
    }
    tensor t = {.type = DTYPE_F8_E8M0, .dims = 1, .shape = {4}, .data = (void *)(uintptr_t)f32};
    float x;
    flux1_error err = {0};
    assert_int_equal(tensor_decode(&t, 0, 1, &x, &err), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "F8_E8M0"));
}

/* Two blocks of Q8_0, scales 1 and 2, values −1 and 3; the middle of both, then a factor of 0.5 and one per 16
 * elements.
 */
static void a_piece_of_blocks_is_decoded_and_scaled(void **state)
{
    (void)state;
    unsigned char stored[2 * 34];
    float x[40], rows[] = {1, 10, 100, 1000}, half = 0.5f;
    for (int b = 0; b < 2; b++) {
        memset(stored + 34 * b, b ? 3 : 255, 34);
        stored[34 * b] = 0, stored[34 * b + 1] = b ? 0x40 : 0x3c; /* f16: 1, 2 */
    }
    tensor t = {.type = DTYPE_Q8_0, .dims = 2, .shape = {4, 16}, .data = stored};
    assert_int_equal(tensor_bytes(&t), 68);
    assert_int_equal(tensor_decode(&t, 30, 4, x, NULL), FLUX1_OK);
    assert_true(x[0] == -1 && x[1] == -1 && x[2] == 6 && x[3] == 6);
    tensor_scale one = {.kind = SCALE_FACTOR, .factor = {.type = DTYPE_F32, .dims = 0, .data = &half}};
    t.scale = &one;
    assert_int_equal(tensor_decode(&t, 31, 2, x, NULL), FLUX1_OK);
    assert_true(x[0] == -0.5f && x[1] == 3);
    tensor_scale each = {.kind = SCALE_ROWS,
                         .factor = {.type = DTYPE_F32, .dims = 1, .shape = {4}, .data = rows},
                         .constant = 2,
                         .row = 16};
    t.scale = &each;
    assert_int_equal(tensor_decode(&t, 15, 40, x, NULL), FLUX1_OK);
    assert_true(x[0] == -2 && x[1] == -20 && x[16] == -20 && x[17] == 1200 && x[32] == 1200 && x[33] == 12000);
    /* a view of the last two rows */
    t.data = stored + 34, t.shape[0] = 2, each.first = 32;
    assert_int_equal(tensor_decode(&t, 15, 2, x, NULL), FLUX1_OK);
    assert_true(x[0] == 1200 && x[1] == 12000);
}

static void numbers_without_their_scale_are_refused(void **state)
{
    (void)state;
    signed char stored[2] = {1, 2};
    float x[2], factor = 3;
    tensor t = {.type = DTYPE_I8, .dims = 1, .shape = {2}, .data = stored};
    assert_false(tensor_decodes(&t));
    assert_int_equal(tensor_decode(&t, 0, 2, x, NULL), FLUX1_ERR_UNSUPPORTED);
    tensor_scale scale = {.kind = SCALE_FACTOR, .factor = {.type = DTYPE_F32, .data = &factor}};
    t.scale = &scale;
    assert_int_equal(tensor_decode(&t, 0, 2, x, NULL), FLUX1_OK);
    assert_true(x[0] == 3 && x[1] == 6);
}

static void created_tensors_are_zero(void **state)
{
    (void)state;
    tensor t;
    assert_int_equal(tensor_create(DTYPE_F32, 3, (int64_t[]){2, 3, 4}, &t, NULL), FLUX1_OK);
    assert_int_equal(tensor_elements(&t), 24);
    assert_int_equal(tensor_bytes(&t), 96);
    for (int i = 0; i < 24; i++)
        assert_true(((float *)t.data)[i] == 0);
    tensor_free(&t);
    assert_null(t.data);
    tensor_free(&t);
    assert_int_equal(tensor_create(DTYPE_F32, 0, NULL, &t, NULL), FLUX1_OK);
    assert_int_equal(tensor_bytes(&t), 4);
    tensor_free(&t);
    assert_int_equal(tensor_create(DTYPE_BF16, 2, (int64_t[]){0, 7}, &t, NULL), FLUX1_OK);
    assert_non_null(t.data);
    assert_int_equal(tensor_bytes(&t), 0);
    tensor_free(&t);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    tensor t;
    flux1_error err = {0};
    assert_int_equal(tensor_create(DTYPE_F32, 2, (int64_t[]){-1, 3}, &t, &err), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "[-1, 3]"));
    assert_int_equal(tensor_create(DTYPE_F32, 2, (int64_t[]){INT64_MAX, 2}, &t, &err), FLUX1_ERR_ARGUMENT);
    assert_int_equal(tensor_create(DTYPE_F64, 1, (int64_t[]){INT64_MAX}, &t, &err), FLUX1_ERR_ARGUMENT);
    assert_int_equal(tensor_create(DTYPE_U8, 1, (int64_t[]){(int64_t)1 << 56}, &t, &err), FLUX1_ERR_MEMORY);
    assert_int_equal(tensor_create(DTYPE_F32, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, &t, &err), FLUX1_ERR_ARGUMENT);
    assert_null(t.data);
}

static void shapes_are_written_as_lists(void **state)
{
    (void)state;
    char text[32], small[6];
    assert_string_equal(tensor_shape_text(2, (int64_t[]){3, 64}, text, sizeof text), "[3, 64]");
    assert_string_equal(tensor_shape_text(0, NULL, text, sizeof text), "[]");
    assert_string_equal(tensor_shape_text(2, (int64_t[]){3, 64000}, small, sizeof small), "[3, 6");
    assert_string_equal(tensor_shape_text(3, (int64_t[]){3, 6, 9}, small, sizeof small), "[3, 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtypes_are_found_by_their_exact_name),
        cmocka_unit_test(decoding_reads_each_type_at_any_address),
        cmocka_unit_test(a_piece_of_blocks_is_decoded_and_scaled),
        cmocka_unit_test(numbers_without_their_scale_are_refused),
        cmocka_unit_test(created_tensors_are_zero),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(shapes_are_written_as_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
