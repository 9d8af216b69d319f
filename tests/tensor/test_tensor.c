#include "tensor/tensor.h"

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
    tensor t = {.type = DTYPE_F8_E5M2, .dims = 1, .shape = {4}, .data = (void *)(uintptr_t)f32};
    float x;
    flux1_error err = {0};
    assert_int_equal(tensor_decode(&t, 0, 1, &x, &err), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "F8_E5M2"));
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
        cmocka_unit_test(created_tensors_are_zero),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(shapes_are_written_as_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
