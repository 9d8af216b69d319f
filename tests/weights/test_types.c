/* Every storage type against goldens of the gguf package, torch and bitsandbytes, bit for bit. */
#include "weights/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static store *goldens;

static int open_goldens(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (store_open_file(TEST_DATA "/goldens/types.safetensors", &goldens, &err) == FLUX1_OK)
        return 0;
    print_error("%s\n", err.message);
    return -1;
}

static int close_goldens(void **state)
{
    (void)state;
    store_close(goldens);
    return 0;
}

static const tensor *golden(const char *type, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", type, what);
    const store_tensor *t = store_find(goldens, name);
    if (!t)
        fail_msg("the goldens lack %s", name);
    return &t->view;
}

/* Equal bits; all NaNs are alike. */
static bool same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0; }

static void expect_same(const char *name, const float *got, const float *expected, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!same(got[i], expected[first + i]))
            fail_msg("%s: element %lld is %a, it should be %a", name, (long long)(first + i), (double)got[i],
                     (double)expected[first + i]);
}

/* The whole, and pieces that begin and end within blocks. */
static void check_type(dtype type)
{
    const char *name = dtype_describe(type)->name;
    const tensor *stored = golden(name, "stored"), *decoded = golden(name, "decoded");
    const float *expected = decoded->data;
    const int64_t count = tensor_elements(decoded);
    tensor t = {.type = type, .dims = 1, .shape = {count}, .data = stored->data};
    float *out = malloc((size_t)count * sizeof *out);
    assert_int_equal(tensor_bytes(&t), tensor_bytes(stored));
    assert_int_equal(tensor_decode(&t, 0, count, out, NULL), FLUX1_OK);
    expect_same(name, out, expected, 0, count);
    for (int64_t first = 0; first < count; first += 97)
        for (int64_t n = 1; n <= count - first && n < 700; n = 3 * n + 1) {
            memset(out, 0xff, (size_t)count * sizeof *out);
            assert_int_equal(tensor_decode(&t, first, n, out, NULL), FLUX1_OK);
            expect_same(name, out, expected, first, n);
            assert_true(isnan(out[n]) || n == count);
        }
    free(out);
}

static void every_type_decodes_as_the_oracle_does(void **state)
{
    (void)state;
    int checked = 0;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        const dtype_info *info = dtype_describe((dtype)type);
        if (!info->decode || info->needs_scale || type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 ||
            type == DTYPE_F64)
            continue;
        check_type((dtype)type);
        checked++;
    }
    assert_int_equal(checked, 14);
}

/* Blocks of 64 with a short last one, nested and flat; −0 equals 0 (bitsandbytes' kernels differ in it). */
static void bitsandbytes_weights_have_its_values(void **state)
{
    (void)state;
    static const char *const names[] = {"nf4.nested", "nf4.flat", "fp4.nested", "int8"};
    static float out[19200];
    for (size_t i = 0; i < 4; i++) {
        const tensor *w = golden(names[i], "weight"), *decoded = golden(names[i], "decoded");
        const int64_t count = tensor_elements(decoded);
        const float *expected = decoded->data;
        assert_non_null(w->scale);
        assert_true(tensor_elements(w) == count && w->shape[0] == decoded->shape[0]);
        for (int64_t first = 0; first < count; first += 97) {
            assert_int_equal(tensor_decode(w, first, count - first, out, NULL), FLUX1_OK);
            for (int64_t k = first; k < count; k++)
                if (out[k - first] != expected[k])
                    fail_msg("%s: element %lld is %a, it should be %a", names[i], (long long)k, (double)out[k - first],
                             (double)expected[k]);
        }
    }
    assert_null(store_find(goldens, "nf4.nested.weight.absmax"));
    assert_null(store_find(goldens, "int8.SCB"));
}

static void types_are_found_by_ggml_s_number(void **state)
{
    (void)state;
    dtype type = DTYPE_COUNT;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        int number = dtype_describe((dtype)i)->ggml;
        if (number < 0)
            continue;
        assert_true(dtype_from_ggml((uint32_t)number, &type));
        assert_int_equal(type, i);
    }
    assert_false(dtype_from_ggml(4, &type)); /* Q4_2, gone since 2023 */
    assert_false(dtype_from_ggml(UINT32_MAX, &type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_decodes_as_the_oracle_does),
        cmocka_unit_test(bitsandbytes_weights_have_its_values),
        cmocka_unit_test(types_are_found_by_ggml_s_number),
    };
    return cmocka_run_group_tests(tests, open_goldens, close_goldens);
}
