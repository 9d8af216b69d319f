/* GGUF headers by hand, good ones and each way that one can be bad (after llama.cpp's tests/test-gguf.cpp); and what
 * files that are written, GGUF or safetensors, do not take. */
#include "weights/gguf.h"
#include "weights/tensor_file.h"

#include "support/gguf_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { F32 = 0, Q8_0 = 8, I8 = 24, U32 = 4, I32 = 5, BOOL = 7, STRING = 8, ARRAY = 9 };

static gguf_builder b;

/* The bytes in memory of just their size, so that a sanitizer sees what is read behind them. */
static flux1_status parse(size_t size, gguf *out, flux1_error *err)
{
    static unsigned char *exact;
    free(exact);
    exact = malloc(size ? size : 1);
    memcpy(exact, b.bytes, size);
    return gguf_parse(exact, size, "m.gguf", out, err);
}

static void expect(flux1_status status, const char *words)
{
    gguf g;
    flux1_error err = {0};
    assert_int_equal(parse(b.size, &g, &err), status);
    assert_int_equal(g.count, 0);
    assert_null(g.entry);
    if (strncmp(err.message, "m.gguf: ", 8) != 0 || !strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

/* Two tensors and some metadata of every kind. */
static void put_good(uint32_t version)
{
    put_start(&b, version, 2, 5);
    put_text(&b, "general.architecture"), put_number(&b, STRING, 4), put_text(&b, "flux");
    put_text(&b, "a.flag"), put_number(&b, BOOL, 4), put_number(&b, 1, 1);
    put_text(&b, "tokens"), put_number(&b, ARRAY, 4), put_number(&b, STRING, 4), put_number(&b, 2, 8);
    put_text(&b, "x"), put_text(&b, "");
    put_text(&b, "nested"), put_number(&b, ARRAY, 4), put_number(&b, ARRAY, 4), put_number(&b, 1, 8);
    put_number(&b, U32, 4), put_number(&b, 1, 8), put_number(&b, 7, 4);
    put_text(&b, "comfy.gguf.orig_shape.flat"), put_number(&b, ARRAY, 4), put_number(&b, I32, 4), put_number(&b, 3, 8);
    put_number(&b, 2, 4), put_number(&b, 1, 4), put_number(&b, 3, 4);
    put_info(&b, "w.weight", 2, (uint64_t[]){32, 3}, Q8_0, 0);
    put_info(&b, "flat", 1, (uint64_t[]){6}, F32, 128); /* 102 bytes, aligned to 32 */
    put_data(&b, 32, 128 + 24);
}

static void tensors_and_metadata_are_read(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        gguf g;
        flux1_error err = {0};
        put_good(version);
        if (parse(b.size, &g, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        assert_string_equal(g.architecture, "flux");
        assert_int_equal(g.count, 2);
        const gguf_entry *w = gguf_find(&g, "w.weight"), *flat = gguf_find(&g, "flat");
        assert_ptr_equal(flat, &g.entry[0]); /* sorted */
        assert_null(gguf_find(&g, "w"));
        assert_true(w->view.type == DTYPE_Q8_0 && w->view.dims == 2 && w->view.shape[0] == 3 && w->view.shape[1] == 32);
        assert_int_equal(((unsigned char *)w->view.data)[5], 5);
        assert_true(flat->view.dims == 3 && flat->view.shape[0] == 2 && flat->view.shape[2] == 3);
        assert_int_equal(((unsigned char *)flat->view.data)[0], 128);
        assert_int_equal(g.texts, 1); /* a list of texts is none */
        assert_int_equal(g.text[0].key_length, strlen("general.architecture"));
        assert_memory_equal(g.text[0].key, "general.architecture", g.text[0].key_length);
        assert_int_equal(g.text[0].length, 4);
        assert_memory_equal(g.text[0].text, "flux", 4);
        gguf_free(&g);
        gguf_free(&g);
    }
}

static void expect_good(void)
{
    gguf g;
    flux1_error err = {0};
    if (parse(b.size, &g, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    gguf_free(&g);
}

/* A number, a text and lists of numbers may be the last bytes of a file without tensors, and a key may have 255 bytes.
 */
static void a_file_may_end_with_its_metadata(void **state)
{
    (void)state;
    char name[256] = "";
    memset(name, 'k', 255);
    put_start(&b, 3, 0, 1), put_text(&b, name), put_number(&b, BOOL, 4), put_number(&b, 1, 1);
    expect_good();
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, STRING, 4), put_text(&b, "text");
    expect_good();
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4), put_number(&b, U32, 4), put_number(&b, 1, 8);
    put_number(&b, 7, 4);
    expect_good();
    put_start(&b, 3, 0, 0);
    expect_good();
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4);
    for (int i = 0; i < 3; i++) /* lists of lists, as many as may be */
        put_number(&b, ARRAY, 4), put_number(&b, 1, 8);
    put_number(&b, U32, 4), put_number(&b, 1, 8), put_number(&b, 7, 4);
    expect_good();
}

/* Without tensors nothing behind it tells that the last value is not all there. */
static void its_last_value_is_whole(void **state)
{
    (void)state;
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, U32, 4), put_number(&b, 1, 3);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4), put_number(&b, U32, 4), put_number(&b, 2, 8);
    put_number(&b, 1, 4);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, STRING, 4), put_number(&b, 3, 8), put_number(&b, 0, 2);
    expect(FLUX1_ERR_FORMAT, "cut off");
}

/* A number of that name is none, nor is a text of another name, though as long as this one or the alignment's. */
static void the_architecture_is_a_text(void **state)
{
    (void)state;
    gguf g;
    put_start(&b, 3, 0, 4), put_text(&b, "general.architecturf"), put_number(&b, STRING, 4), put_text(&b, "flux");
    put_text(&b, "general.alignmenu"), put_number(&b, STRING, 4), put_text(&b, "13");
    put_text(&b, "general.architecture"), put_number(&b, U32, 4), put_number(&b, 1, 4);
    put_text(&b, "general.name"), put_number(&b, STRING, 4), put_text(&b, "flux");
    assert_int_equal(parse(b.size, &g, NULL), FLUX1_OK);
    assert_string_equal(g.architecture, "");
    gguf_free(&g);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    put_good(3);
    for (size_t size = 0; size < b.size; size++) {
        gguf g;
        flux1_error err = {0};
        if (parse(size, &g, &err) != FLUX1_ERR_FORMAT || strncmp(err.message, "m.gguf: ", 8) != 0)
            fail_msg("%zu bytes: \"%s\"", size, err.message);
    }
}

static void versions_are_told(void **state)
{
    (void)state;
    put_good(1);
    expect(FLUX1_ERR_UNSUPPORTED, "version 1");
    put_good(4);
    expect(FLUX1_ERR_UNSUPPORTED, "version 4");
    put_good(0);
    expect(FLUX1_ERR_UNSUPPORTED, "version 0");
    put_good(3u << 24);
    expect(FLUX1_ERR_UNSUPPORTED, "big-endian");
    put_good(3);
    b.bytes[3] = 'f';
    expect(FLUX1_ERR_FORMAT, "not a GGUF file");
}

static void counts_are_bounded(void **state)
{
    (void)state;
    put_start(&b, 3, UINT64_MAX, 0);
    expect(FLUX1_ERR_LIMIT, "18446744073709551615 tensors");
    put_start(&b, 3, 0, UINT64_MAX);
    expect(FLUX1_ERR_LIMIT, "metadata");
    put_start(&b, 3, 65536, 0);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1);
    expect(FLUX1_ERR_FORMAT, "cut off");
}

static void metadata_is_checked(void **state)
{
    (void)state;
    put_start(&b, 3, 0, 1), put_text(&b, ""), put_number(&b, U32, 4), put_number(&b, 1, 4);
    expect(FLUX1_ERR_FORMAT, "a key's name of 0 bytes");
    put_start(&b, 3, 0, 1), put_number(&b, UINT64_MAX, 8), put_number(&b, 0, 8);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1), put_text(&b, "k\xff"), put_number(&b, U32, 4), put_number(&b, 1, 4);
    expect(FLUX1_ERR_FORMAT, "a key's name");
    put_start(&b, 3, 0, 1), put_text(&b, "k1x"), put_number(&b, U32, 4), put_number(&b, 1, 4);
    b.bytes[b.size - 10] = '\0'; /* of the name */
    expect(FLUX1_ERR_FORMAT, "a key's name of 3 bytes");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, 13, 4), put_number(&b, 1, 8);
    expect(FLUX1_ERR_FORMAT, "unknown type 13");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, STRING, 4), put_number(&b, UINT64_MAX, 8);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4), put_number(&b, U32, 4);
    put_number(&b, UINT64_MAX / 4 + 2, 8), put_number(&b, 0, 8);
    expect(FLUX1_ERR_FORMAT, "cut off");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4), put_number(&b, 13, 4), put_number(&b, 0, 8);
    expect(FLUX1_ERR_FORMAT, "unknown type");
    put_start(&b, 3, 0, 1), put_text(&b, "k"), put_number(&b, ARRAY, 4);
    for (int i = 0; i < 9; i++)
        put_number(&b, ARRAY, 4), put_number(&b, 1, 8);
    expect(FLUX1_ERR_FORMAT, "lists in lists");
    put_start(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++)
        put_text(&b, "again"), put_number(&b, U32, 4), put_number(&b, 1, 4);
    expect(FLUX1_ERR_FORMAT, "\"again\" twice");
    put_start(&b, 3, 0, 4); /* names that begin alike are others */
    for (int i = 0; i < 4; i++)
        put_text(&b, (const char *[]){"key.1", "key", "key.10", "key.1"}[i]), put_number(&b, BOOL, 4),
            put_number(&b, 1, 1);
    expect(FLUX1_ERR_FORMAT, "\"key.1\" twice");
}

static void alignment_is_a_power_of_two(void **state)
{
    (void)state;
    static const uint64_t bad[] = {0, 13, 33};
    gguf g;
    for (size_t i = 0; i < 3; i++) {
        put_start(&b, 3, 0, 1), put_text(&b, "general.alignment"), put_number(&b, U32, 4), put_number(&b, bad[i], 4);
        expect(FLUX1_ERR_FORMAT, "power of two");
    }
    put_start(&b, 3, 0, 1), put_text(&b, "general.alignment"), put_number(&b, STRING, 4), put_text(&b, "32");
    expect(FLUX1_ERR_FORMAT, "32-bit number");
    put_start(&b, 3, 2, 1), put_text(&b, "general.alignment"), put_number(&b, U32, 4), put_number(&b, 64, 4);
    put_info(&b, "a", 1, (uint64_t[]){1}, F32, 0), put_info(&b, "b", 1, (uint64_t[]){1}, F32, 64);
    put_data(&b, 64, 68);
    assert_int_equal(parse(b.size, &g, NULL), FLUX1_OK);
    assert_int_equal(*(unsigned char *)g.entry[1].view.data, 64);
    gguf_free(&g);
    put_start(&b, 3, 2, 1), put_text(&b, "general.alignment"), put_number(&b, U32, 4), put_number(&b, 1, 4);
    put_info(&b, "a", 1, (uint64_t[]){1}, F32, 0), put_info(&b, "b", 1, (uint64_t[]){1}, F32, 4);
    put_data(&b, 1, 8);
    assert_int_equal(parse(b.size, &g, NULL), FLUX1_OK);
    assert_int_equal(*(unsigned char *)g.entry[1].view.data, 4);
    gguf_free(&g);
}

/* One tensor with this in its info. */
static void put_one(const char *name, uint32_t dims, const uint64_t *shape, uint32_t type, uint64_t offset)
{
    put_start(&b, 3, 1, 0);
    put_info(&b, name, dims, shape, type, offset);
    put_data(&b, 32, 64);
}

static void tensors_are_checked(void **state)
{
    (void)state;
    char name[300] = "";
    const uint64_t few[] = {4, 2, 1, 1, 1}, odd[] = {33, 1}, negative[] = {UINT64_MAX}, huge[] = {INT64_MAX, 4},
                   many[] = {(uint64_t)1 << 62};
    put_one("w", 4, few, F32, 0); /* as a convolution's */
    expect_good();
    put_one("w", 5, few, F32, 0);
    expect(FLUX1_ERR_FORMAT, "5 dimensions");
    put_one("w", 1, negative, F32, 0);
    expect(FLUX1_ERR_FORMAT, "a dimension of 18446744073709551615");
    put_one("w", 2, huge, F32, 0);
    expect(FLUX1_ERR_FORMAT, "cannot have the shape");
    put_one("w", 1, many, F32, 0);
    expect(FLUX1_ERR_FORMAT, "cannot have the shape");
    put_one("w", 2, odd, Q8_0, 0);
    expect(FLUX1_ERR_FORMAT, "multiples of 32");
    put_one("w", 2, (uint64_t[]){16, 2}, Q8_0, 0); /* a block of two rows */
    expect(FLUX1_ERR_FORMAT, "multiples of 32");
    put_one("w", 1, few, 4, 0); /* Q4_2, gone since 2023 */
    expect(FLUX1_ERR_UNSUPPORTED, "type number 4");
    put_one("w", 1, few, F32, 32);
    expect(FLUX1_ERR_FORMAT, "begins at byte 32");
    put_one("w", 1, (uint64_t[]){100}, F32, 0);
    expect(FLUX1_ERR_FORMAT, "has only 64; fetch it again");
    put_one("", 1, few, F32, 0);
    expect(FLUX1_ERR_FORMAT, "a tensor's name of 0 bytes");
    memset(name, 'n', 256);
    put_one(name, 1, few, F32, 0);
    expect(FLUX1_ERR_FORMAT, "256 bytes");
    put_start(&b, 3, 2, 0), put_info(&b, "w", 1, few, F32, 0), put_info(&b, "w", 1, few, F32, 32), put_data(&b, 32, 64);
    expect(FLUX1_ERR_FORMAT, "two tensors \"w\"");
    put_start(&b, 3, 2, 0), put_info(&b, "v", 1, few, F32, 0), put_info(&b, "w", 1, few, F32, 0), put_data(&b, 32, 64);
    expect(FLUX1_ERR_FORMAT, "the one before it ends at 32");
    /* one of no bytes, behind the last byte of the file */
    put_start(&b, 3, 2, 0), put_info(&b, "v", 1, few, F32, 0), put_info(&b, "w", 1, (uint64_t[]){0}, F32, 32);
    put_data(&b, 32, 16);
    expect(FLUX1_ERR_FORMAT, "\"w\" needs 0 bytes from byte 32 of the data, but the file has only 16");
}

/* 32 bytes end where the next begins, 33 do not; one of no bytes may begin at the end, and one of a byte may not. */
static void tensors_begin_where_they_are_aligned(void **state)
{
    (void)state;
    gguf g;
    put_start(&b, 3, 4, 0);
    put_info(&b, "a", 1, (uint64_t[]){32}, I8, 0), put_info(&b, "b", 1, (uint64_t[]){33}, I8, 32);
    put_info(&b, "c", 1, (uint64_t[]){32}, I8, 96), put_info(&b, "d", 1, (uint64_t[]){0}, F32, 128);
    put_data(&b, 32, 128);
    assert_int_equal(parse(b.size, &g, NULL), FLUX1_OK);
    assert_int_equal(*(unsigned char *)gguf_find(&g, "b")->view.data, 32);
    assert_int_equal(*(unsigned char *)gguf_find(&g, "c")->view.data, 96);
    gguf_free(&g);
    put_start(&b, 3, 1, 0), put_info(&b, "a", 1, (uint64_t[]){1}, I8, 0), put_data(&b, 32, 0);
    expect(FLUX1_ERR_FORMAT, "has only 0");
    put_start(&b, 3, 1, 0), put_info(&b, "a", 1, (uint64_t[]){1}, I8, 0); /* which ends before it */
    expect(FLUX1_ERR_FORMAT, "has only 0");
}

static void an_original_shape_must_fit(void **state)
{
    (void)state;
    gguf g;
    for (int wrong = 0; wrong < 3; wrong++) { /* another type, too many numbers, another product */
        put_start(&b, 3, 1, 1);
        put_text(&b, "comfy.gguf.orig_shape.w"), put_number(&b, ARRAY, 4), put_number(&b, wrong == 0 ? U32 : I32, 4);
        put_number(&b, wrong == 1 ? 9 : 2, 8);
        for (int i = 0; i < (wrong == 1 ? 9 : 2); i++)
            put_number(&b, wrong == 2 ? UINT32_MAX : 2, 4);
        put_info(&b, "w", 1, (uint64_t[]){4}, F32, 0);
        put_data(&b, 32, 16);
        expect(FLUX1_ERR_FORMAT, "orig_shape.w\" is not a shape");
    }
    put_start(&b, 3, 1, 1); /* a text, whose length and bytes are the list's type and count */
    put_text(&b, "comfy.gguf.orig_shape.w"), put_number(&b, STRING, 4), put_number(&b, I32, 8);
    put_number(&b, 0x0100000000, 5);
    put_info(&b, "w", 1, (uint64_t[]){4}, F32, 0), put_data(&b, 32, 16);
    expect(FLUX1_ERR_FORMAT, "orig_shape.w\" is not a shape");
    put_start(&b, 3, 1, 1); /* as many dimensions as a tensor may have */
    put_text(&b, "comfy.gguf.orig_shape.w"), put_number(&b, ARRAY, 4), put_number(&b, I32, 4), put_number(&b, 8, 8);
    for (int i = 0; i < 8; i++)
        put_number(&b, i == 7 ? 4 : 1, 4);
    put_info(&b, "w", 1, (uint64_t[]){4}, F32, 0), put_data(&b, 32, 16);
    assert_int_equal(parse(b.size, &g, NULL), FLUX1_OK);
    assert_true(g.entry[0].view.dims == 8 && g.entry[0].view.shape[0] == 1 && g.entry[0].view.shape[7] == 4);
    assert_int_equal(((unsigned char *)g.entry[0].view.data)[1], 1);
    gguf_free(&g);
    char other[] = "comfy.gguf.orig_shape.w";
    other[0] = 'd';
    put_start(&b, 3, 1, 1), put_text(&b, other), put_number(&b, STRING, 4), put_text(&b, "something else");
    put_info(&b, "w", 1, (uint64_t[]){4}, F32, 0), put_data(&b, 32, 16);
    expect_good();
}

/* ---- writing ---- */

/* GGUF has four dimensions, ggml's types, and blocks along the last dimension; safetensors its own types. */
static void what_a_format_does_not_have_is_not_added(void **state)
{
    (void)state;
    static const struct {
        bool is_gguf, good;
        dtype type;
        int dims;
        int64_t shape[TENSOR_DIMS + 1];
    } rows[] = {{true, true, DTYPE_F32, 4, {1, 2, 3, 4}},
                {true, false, DTYPE_F32, 5, {1, 2, 3, 4, 5}},
                {false, true, DTYPE_F32, 5, {1, 2, 3, 4, 5}},
                {false, false, DTYPE_F32, TENSOR_DIMS + 1, {1, 1, 1, 1, 1}},
                {true, true, DTYPE_F32, 0, {0}},
                {true, true, DTYPE_Q8_0, 2, {3, 64}},
                {true, false, DTYPE_Q8_0, 2, {64, 3}},
                {true, false, DTYPE_Q8_0, 0, {0}},
                {false, false, DTYPE_Q8_0, 2, {3, 64}},
                {true, false, DTYPE_F8_E4M3, 1, {4}},
                {false, true, DTYPE_F8_E4M3, 1, {4}},
                {true, false, DTYPE_F32, 2, {INT64_MAX, 2}},
                {false, false, DTYPE_F32, 2, {INT64_MAX, 2}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tensor_file f = {.is_gguf = rows[i].is_gguf};
        size_t index = 9;
        flux1_error err = {0};
        const flux1_status st =
            tensor_file_add(&f, "the tensor", rows[i].type, rows[i].dims, rows[i].shape, &index, &err);
        if (st != (rows[i].good ? FLUX1_OK : FLUX1_ERR_LIMIT) || f.count != rows[i].good)
            fail_msg("row %zu: status %d, \"%s\"", i, st, err.message);
        if (!rows[i].good && (!strstr(err.message, "\"the tensor\"") ||
                              !strstr(err.message, rows[i].is_gguf ? ": GGUF cannot" : ": safetensors cannot")))
            fail_msg("row %zu: \"%s\"", i, err.message);
        tensor_file_free(&f);
    }
}

static void a_written_header_is_the_one_made_by_hand(void **state)
{
    (void)state;
    enum { F32_VALUE = 6, Q8_BYTES = 102, F32_BYTES = 24, ALIGN = 32 };
    static const int64_t wide[] = {3, 32}, flat[] = {6};
    const float eps = 1e-6f;
    uint32_t bits;
    tensor_file f = {.is_gguf = true};
    builder header = {0};
    size_t index[2];
    flux1_error err = {0};
    memcpy(&bits, &eps, sizeof bits);
    assert_int_equal(tensor_file_text(&f, "general.architecture", 20, "flux", 4, &err), FLUX1_OK);
    assert_int_equal(tensor_file_number(&f, "a.number", 0x87654321, &err), FLUX1_OK);
    assert_int_equal(tensor_file_real(&f, "a.real", eps, &err), FLUX1_OK);
    assert_int_equal(tensor_file_add(&f, "w.weight", DTYPE_Q8_0, 2, wide, &index[0], &err), FLUX1_OK);
    assert_int_equal(tensor_file_add(&f, "flat", DTYPE_F32, 1, flat, &index[1], &err), FLUX1_OK);
    assert_int_equal(tensor_file_gguf(&f, &header, &err), FLUX1_OK);
    put_start(&b, 3, 2, 3);
    put_text(&b, "general.architecture"), put_number(&b, STRING, 4), put_text(&b, "flux");
    put_text(&b, "a.number"), put_number(&b, U32, 4), put_number(&b, 0x87654321, 4);
    put_text(&b, "a.real"), put_number(&b, F32_VALUE, 4), put_number(&b, bits, 4);
    put_info(&b, "w.weight", 2, (uint64_t[]){32, 3}, Q8_0, 0);
    put_info(&b, "flat", 1, (uint64_t[]){6}, F32, 4 * ALIGN);
    assert_int_equal(header.length, b.size);
    assert_memory_equal(header.text, b.bytes, b.size);
    const size_t start = (b.size + ALIGN - 1) / ALIGN * ALIGN;
    assert_true(f.tensor[index[0]].bytes == Q8_BYTES && f.tensor[index[0]].offset == start);
    assert_true(f.tensor[index[1]].bytes == F32_BYTES && f.tensor[index[1]].offset == start + 4 * ALIGN);
    assert_int_equal(f.bytes, start + 5 * ALIGN);
    builder_free(&header);
    tensor_file_free(&f);
}

/* Transformers refuses a file without a format. The largest elements come first, so that all are aligned. */
static void so_is_one_of_safetensors(void **state)
{
    (void)state;
    static const char wanted[] = "{\"__metadata__\":{\"format\":\"pt\",\"by\":\"\\\"us\\\"\"},"
                                 "\"wide\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                                 "\"scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]},"
                                 "\"half\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[20,26]},"
                                 "\"byte\":{\"dtype\":\"I8\",\"shape\":[5],\"data_offsets\":[26,31]},"
                                 "\"more\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[31,32]}}";
    static const struct {
        const char *name;
        dtype type;
        int dims;
        int64_t shape[2];
        size_t offset;
    } rows[] = {{"byte", DTYPE_I8, 1, {5}, 26},
                {"half", DTYPE_BF16, 1, {3}, 20},
                {"wide", DTYPE_F32, 2, {2, 2}, 0},
                {"more", DTYPE_I8, 1, {1}, 31},
                {"scale", DTYPE_F32, 0, {0}, 16}};
    enum { COUNT = sizeof rows / sizeof *rows };
    const size_t padded = (sizeof wanted - 1 + 7) / 8 * 8;
    tensor_file f = {0};
    builder header = {0};
    size_t index;
    flux1_error err = {0};
    assert_int_equal(tensor_file_text(&f, "format", 6, "pt", 2, &err), FLUX1_OK);
    assert_int_equal(tensor_file_text(&f, "by", 2, "\"us\"", 4, &err), FLUX1_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(tensor_file_add(&f, rows[i].name, rows[i].type, rows[i].dims, rows[i].shape, &index, &err),
                         FLUX1_OK);
    assert_int_equal(tensor_file_safetensors(&f, &header, &err), FLUX1_OK);
    assert_int_equal(header.length, 8 + padded);
    assert_memory_equal(header.text, ((unsigned char[]){padded & 255, padded >> 8, 0, 0, 0, 0, 0, 0}), 8);
    assert_memory_equal(header.text + 8, wanted, sizeof wanted - 1);
    for (size_t i = sizeof wanted - 1; i < padded; i++)
        assert_int_equal(header.text[8 + i], ' ');
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(f.tensor[i].offset, header.length + rows[i].offset);
    assert_int_equal(f.bytes, header.length + 32);
    builder_free(&header);
    tensor_file_free(&f);
}

static void names_and_keys_are_bounded_and_keys_keep_their_first_value(void **state)
{
    (void)state;
    char longest[TENSOR_FILE_NAME_MAX + 2] = {0}, text[] = "first, and more";
    memset(longest, 'k', TENSOR_FILE_NAME_MAX + 1);
    for (int is_gguf = 0; is_gguf < 2; is_gguf++) {
        tensor_file f = {.is_gguf = is_gguf};
        size_t index;
        flux1_error err = {0};
        assert_int_equal(tensor_file_add(&f, longest, DTYPE_F32, 0, NULL, &index, &err), FLUX1_ERR_LIMIT);
        assert_int_equal(tensor_file_add(&f, longest + 1, DTYPE_F32, 0, NULL, &index, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, "names", 5, "", 0, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, "name of it", 4, text, 5, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, "name", 4, "second", 6, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, "names", 5, "second", 6, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, "", 0, "none", 4, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, longest, TENSOR_FILE_NAME_MAX + 1, "none", 4, &err), FLUX1_OK);
        assert_int_equal(tensor_file_text(&f, longest, TENSOR_FILE_NAME_MAX, "long", 4, &err), FLUX1_OK);
        assert_int_equal(f.facts, 3);
        assert_string_equal(f.fact[0].text, "");
        assert_string_equal(f.fact[1].key, "name");
        assert_string_equal(f.fact[1].text, "first");
        assert_string_equal(f.fact[2].text, "long");
        assert_int_equal(tensor_file_number(&f, "n", 7, &err), FLUX1_OK);
        assert_int_equal(tensor_file_number(&f, "n", 8, &err), FLUX1_OK);
        assert_int_equal(tensor_file_real(&f, "r", 0.5f, &err), FLUX1_OK);
        assert_int_equal(tensor_file_real(&f, "n", 0.5f, &err), FLUX1_OK);
        assert_int_equal(f.facts, is_gguf ? 5 : 3);
        assert_true(!is_gguf ||
                    (f.fact[3].number == 7 && !f.fact[3].is_real && f.fact[4].is_real && f.fact[4].real == 0.5f));
        tensor_file_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_and_metadata_are_read),
        cmocka_unit_test(a_file_may_end_with_its_metadata),
        cmocka_unit_test(its_last_value_is_whole),
        cmocka_unit_test(the_architecture_is_a_text),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(versions_are_told),
        cmocka_unit_test(counts_are_bounded),
        cmocka_unit_test(metadata_is_checked),
        cmocka_unit_test(alignment_is_a_power_of_two),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(tensors_begin_where_they_are_aligned),
        cmocka_unit_test(an_original_shape_must_fit),
        cmocka_unit_test(what_a_format_does_not_have_is_not_added),
        cmocka_unit_test(a_written_header_is_the_one_made_by_hand),
        cmocka_unit_test(so_is_one_of_safetensors),
        cmocka_unit_test(names_and_keys_are_bounded_and_keys_keep_their_first_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
