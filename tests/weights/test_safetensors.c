/* The format's rules (huggingface/safetensors, README and its tests of bad files): what breaks one is refused, with
 * file and tensor named. */
#include "weights/safetensors.h"

#include "support/safetensors_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void expect_status(const char *header, size_t data_size, flux1_status status, const char *tensor_name,
                          const char *words)
{
    size_t size;
    safetensors s;
    flux1_error err = {0};
    unsigned char *bytes = safetensors_build(header, NULL, data_size, &size);
    assert_int_equal(safetensors_parse(bytes, size, "m.safetensors", &s, &err), status);
    assert_int_equal(s.count, 0);
    assert_null(s.entry);
    if (strncmp(err.message, "m.safetensors: ", 15) != 0 || !strstr(err.message, tensor_name) ||
        !strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, tensor_name, words);
    free(bytes);
}

static void expect_fault(const char *header, size_t data_size, const char *tensor_name, const char *words)
{
    expect_status(header, data_size, FLUX1_ERR_FORMAT, tensor_name, words);
}

static safetensors parse(const char *header, size_t data_size, unsigned char **bytes)
{
    size_t size;
    safetensors s;
    flux1_error err = {0};
    *bytes = safetensors_build(header, NULL, data_size, &size);
    if (safetensors_parse(*bytes, size, "m.safetensors", &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

static void tensors_are_found_where_they_lie(void **state)
{
    (void)state;
    unsigned char *bytes;
    safetensors s =
        parse("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[4,12]},"
              "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}   ",
              12, &bytes);
    assert_int_equal(s.count, 2);
    assert_string_equal(s.entry[0].name, "a");
    const safetensors_entry *b = safetensors_find(&s, "b");
    assert_non_null(b);
    assert_int_equal(b->view.type, DTYPE_F32);
    assert_int_equal(b->view.dims, 2);
    assert_int_equal(b->view.shape[0], 2);
    assert_int_equal(*(unsigned char *)b->view.data, 4);
    assert_int_equal(*(unsigned char *)safetensors_find(&s, "a")->view.data, 0);
    assert_null(safetensors_find(&s, "c"));
    assert_null(safetensors_find(&s, "__metadata__"));
    safetensors_free(&s);
    free(bytes);
}

static void empty_tensors_scalars_and_empty_files_are_legal(void **state)
{
    (void)state;
    unsigned char *bytes;
    safetensors s = parse("{}", 0, &bytes);
    assert_int_equal(s.count, 0);
    assert_null(safetensors_find(&s, "a"));
    safetensors_free(&s);
    free(bytes);
    s = parse("{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"e\":{\"dtype\":\"F32\",\"shape\":[2,0],"
              "\"data_offsets\":[4,4]},"
              "\"z\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[0,0]},\"f\":{\"dtype\":\"F8_E4M3\",\"shape\":["
              "3],\"data_offsets\":[4,7]}}",
              7, &bytes);
    assert_int_equal(s.count, 4);
    assert_int_equal(safetensors_find(&s, "s")->view.dims, 0);
    assert_int_equal(tensor_elements(&safetensors_find(&s, "s")->view), 1);
    assert_int_equal(tensor_bytes(&safetensors_find(&s, "e")->view), 0);
    assert_int_equal(safetensors_find(&s, "f")->view.type, DTYPE_F8_E4M3);
    safetensors_free(&s);
    free(bytes);
}

static void header_length_must_lie_in_the_file(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[16];
        size_t size;
        const char *words;
    } cases[] = {
        {{0}, 0, "the file is empty"},
        {{2, 0, 0}, 7, "at least 8"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "the file ends after 2"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "18446744073709551615"},
        {{255, 255, 255, 255, 255, 255, 255, 127, '{', '}'}, 10, "at most 100000000"},
        {{1, 225, 245, 5, 0, 0, 0, 0, '{', '}'}, 10, "100000001"}, /* 100,000,001 */
        {{0, 225, 245, 5, 0, 0, 0, 0, '{', '}'}, 10, "the file ends after 2"},
        {{0, 0, 0, 0, 0, 0, 0, 0, '{'}, 8, "does not begin with '{'"},
        {{2, 0, 0, 0, 0, 0, 0, 0, '[', ']'}, 10, "does not begin with '{'"},
        {{3, 0, 0, 0, 0, 0, 0, 0, ' ', '{', '}'}, 11, "does not begin with '{'"},
        {{1, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        safetensors s;
        flux1_error err = {0};
        assert_int_equal(safetensors_parse(cases[i].bytes, cases[i].size, "m.safetensors", &s, &err), FLUX1_ERR_FORMAT);
        if (!strstr(err.message, "m.safetensors: ") || !strstr(err.message, cases[i].words))
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].words);
    }
}

static void header_must_be_strict_json(void **state)
{
    (void)state;
    expect_fault("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4, "", "cut short");
    expect_fault("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} x", 4, "", "not valid JSON");
    expect_fault("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "", "UTF-8");
    char deep[300] = "{\"a\":";
    memset(deep + 5, '[', 200);
    expect_fault(deep, 0, "", "64 levels");
    expect_fault("{\"x_embedder.long.enough.weight\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
                 "\"x_embedder.long.enough.weight\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                 0, "\"x_embedder.long.enough.weight\"", "twice");
}

static void members_of_a_wrong_type_are_refused(void **state)
{
    (void)state;
    expect_fault("{\"a.w\":7}", 0, "tensor \"a.w\"", "not an object");
    expect_fault("{\"a.w\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"", "\"dtype\" is missing");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"", "\"shape\" is missing");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor \"a.w\"", "\"data_offsets\" is missing");
    expect_fault("{\"a.w\":{\"dtype\":null,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"dtype\" is missing");
    expect_fault("{\"a.w\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"dtype\" is 32");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"shape\" is 4");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"shape[0]\"");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"shape[0]\"");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"",
                 "\"shape[0]\"");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "list of 9");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "tensor \"a.w\"",
                 "begin and an end");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "tensor \"a.w\"",
                 "at most 2");
    expect_fault("{\"__metadata__\":{\"x\":1}}", 0, "__metadata__", "not a text");
    expect_fault("{\"__metadata__\":[]}", 0, "__metadata__", "not an object");
}

static void unknown_dtypes_are_named(void **state)
{
    (void)state;
    expect_status("{\"a.w\":{\"dtype\":\"F5\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, FLUX1_ERR_UNSUPPORTED,
                  "tensor \"a.w\"", "\"F5\"");
    expect_status("{\"a.w\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, FLUX1_ERR_UNSUPPORTED,
                  "tensor \"a.w\"", "\"f32\"");
    expect_status("{\"a.w\":{\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, FLUX1_ERR_UNSUPPORTED,
                  "tensor \"a.w\"", "\"\"");
}

static void overflowing_shapes_are_refused(void **state)
{
    (void)state;
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "more elements");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}}", 0,
                 "tensor \"a.w\"", "more elements");
    expect_fault("{\"a.w\":{\"dtype\":\"F64\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "more bytes");
    expect_fault("{\"a.w\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "needs 9223372036854775807");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[18446744073709551614],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "\"shape[0]\"");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[2,9223372036854775807],\"data_offsets\":[0,4]}}", 4,
                 "tensor \"a.w\"", "more elements");
}

static void offsets_must_fit_shape_and_file(void **state)
{
    (void)state;
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "tensor \"a.w\"", "needs 8");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "tensor \"a.w\"",
                 "has only 7");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "tensor \"a.w\"",
                 "begin and an end");
    expect_fault(
        "{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775800,9223372036854775804]}}", 4,
        "tensor \"a.w\"", "has only 4");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615]}}", 4,
                 "tensor \"a.w\"", "data_offsets");
    expect_fault("{\"a.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "tensor \"a.w\"",
                 "data_offsets");
}

static void tensors_must_tile_the_data(void **state)
{
    (void)state;
    expect_fault("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b.w\":{\"dtype\":\"U8\",\"shape\":["
                 "4],\"data_offsets\":[2,6]}}",
                 6, "\"b.w\"", "overlaps \"a\"");
    expect_fault("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b.w\":{\"dtype\":\"U8\",\"shape\":["
                 "4],\"data_offsets\":[0,4]}}",
                 4, "\"b.w\"", "overlaps");
    expect_fault("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b.w\":{\"dtype\":\"U8\",\"shape\":["
                 "2],\"data_offsets\":[6,8]}}",
                 8, "\"b.w\"", "hole");
    expect_fault("{\"a.w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[1,5]}}", 5, "\"a.w\"", "hole");
    expect_fault("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 5, "",
                 "end at byte 4 of the data section, which has 5");
    expect_fault("{}", 1, "", "end at byte 0");
    expect_fault("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"z.w\":{\"dtype\":\"U8\",\"shape\":["
                 "0],\"data_offsets\":[2,2]}}",
                 4, "\"z.w\"", "overlaps");
}

/* 4 million values in 9 MB would become half a GB in the parser: they are counted by what stands in front of each. */
static void absurdly_many_values_are_refused_before_parsing(void **state)
{
    (void)state;
    enum { MOST = 4000000 };
    static const char before[] = {',', '{', '['};
    char *header = malloc(MOST + 2);
    assert_non_null(header);
    for (int i = 0; i < 3; i++) {
        memset(header, before[i], MOST + 1);
        header[0] = '{';
        header[MOST + 1] = 0;
        expect_status(header, 0, FLUX1_ERR_LIMIT, "", "more than 4000000");
        header[MOST] = 0;
        expect_fault(header, 0, "", "header");
    }
    free(header);
}

static void a_file_that_may_be_one_is_known_by_its_beginning(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[9];
        size_t size;
        bool like;
    } cases[] = {
        {{255, 255, 255, 255, 0, 0, 0, 0, '{'}, 9, true}, {{2, 0, 0, 0, 0, 0, 0, 0, '{'}, 8, false},
        {{2, 0, 0, 0, 0, 0, 0, 0, '['}, 9, false},        {{2, 0, 0, 0, 1, 0, 0, 0, '{'}, 9, false},
        {{2, 0, 0, 0, 0, 2, 0, 0, '{'}, 9, false},        {{2, 0, 0, 0, 0, 0, 4, 0, '{'}, 9, false},
        {{2, 0, 0, 0, 0, 0, 0, 8, '{'}, 9, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(safetensors_like(cases[i].bytes, cases[i].size), cases[i].like);
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    size_t size;
    unsigned char *whole =
        safetensors_build("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", NULL, 4, &size);
    for (size_t n = 0; n < size; n++) {
        safetensors s;
        unsigned char *cut = malloc(n ? n : 1); /* its own block: the sanitizer sees a read beyond it */
        assert_non_null(cut);
        memcpy(cut, whole, n);
        assert_int_equal(safetensors_parse(cut, n, "m.safetensors", &s, NULL), FLUX1_ERR_FORMAT);
        free(cut);
    }
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_where_they_lie),
        cmocka_unit_test(empty_tensors_scalars_and_empty_files_are_legal),
        cmocka_unit_test(header_length_must_lie_in_the_file),
        cmocka_unit_test(header_must_be_strict_json),
        cmocka_unit_test(members_of_a_wrong_type_are_refused),
        cmocka_unit_test(unknown_dtypes_are_named),
        cmocka_unit_test(overflowing_shapes_are_refused),
        cmocka_unit_test(offsets_must_fit_shape_and_file),
        cmocka_unit_test(tensors_must_tile_the_data),
        cmocka_unit_test(absurdly_many_values_are_refused_before_parsing),
        cmocka_unit_test(a_file_that_may_be_one_is_known_by_its_beginning),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
