/* Pictures in every format with what made them, read back by our own reader; pictures that PIL wrote. What other
 * programs read out of ours is checked with exiftool and PIL by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "image/picture_read.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/flux1_picture_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

/* Without the fsync of file_write, which takes most of the time of a thousand files. */
static void put(const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void encode(picture_format format, const picture_texts *texts, builder *out)
{
    static uint8_t rgb[3 * 17 * 9];
    flux1_error err = {0};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7);
    flux1_status st = picture_encode(format, "a picture", 17, 9, rgb, 90, texts, out, &err);
    if (st == FLUX1_ERR_UNSUPPORTED) {
        assert_non_null(strstr(err.message, "made without lib"));
        skip();
    }
    assert_int_equal(st, FLUX1_OK);
    put(out->text, out->length);
}

static void round_trip(picture_format format)
{
    const picture_texts texts = {"a <fox> & \"狐狸\" 🦊\nSteps: 4, Seed: 1, Size: 17x9",
                                 "{\"prompt\": \"a <fox> & \\\"狐狸\\\" 🦊\\u0001\"}", "flux1 0.1.0"};
    builder b = {0};
    picture_facts f;
    encode(format, &texts, &b);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_int_equal(f.format, format);
    assert_int_equal(f.width, 17);
    assert_int_equal(f.height, 9);
    assert_string_equal(f.parameters, texts.parameters);
    assert_string_equal(f.json, texts.json);
    picture_facts_free(&f);
    builder_free(&b);
}

static void png_carries_its_request(void **state) { (void)state, round_trip(PICTURE_PNG); }
static void jpeg_carries_its_request(void **state) { (void)state, round_trip(PICTURE_JPEG); }
static void webp_carries_its_request(void **state) { (void)state, round_trip(PICTURE_WEBP); }

static bool contains(const builder *b, const char *text)
{
    const size_t n = strlen(text);
    for (size_t i = 0; i + n <= b->length; i++)
        if (memcmp(b->text + i, text, n) == 0)
            return true;
    return false;
}

static void marks(picture_format format)
{
    const picture_texts texts = {"a fox", "{}", "flux1 0.1.0"};
    builder with = {0}, without = {0};
    encode(format, &texts, &with);
    encode(format, NULL, &without);
    assert_true(contains(&with, "digitalsourcetype/trainedAlgorithmicMedia"));
    assert_false(contains(&without, "flux1"));
    assert_false(contains(&without, "Media"));
    builder_free(&with);
    builder_free(&without);
}

static void the_mark_is_there_with_texts_only(void **state)
{
    (void)state;
    marks(PICTURE_PNG);
    marks(PICTURE_JPEG);
    marks(PICTURE_WEBP);
}

/* A JPEG's segments hold 64 KiB: the picture is written all the same. */
static void texts_too_long_for_jpeg_are_left_out(void **state)
{
    (void)state;
    char *longest = calloc(1, 70001);
    builder b = {0};
    picture_facts f;
    memset(longest, 'x', 70000);
    encode(PICTURE_JPEG, &(picture_texts){longest, longest, "flux1 0.1.0"}, &b);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_null(f.parameters);
    assert_null(f.json);
    assert_true(contains(&b, "trainedAlgorithmicMedia"));
    picture_facts_free(&f);
    builder_free(&b);
    free(longest);
}

static void expect_file(const char *name, picture_format format, const char *part)
{
    picture_facts f;
    char file[400];
    snprintf(file, sizeof file, "%s/pictures/%s", TEST_DATA, name);
    assert_int_equal(picture_facts_read(file, &f, NULL), FLUX1_OK);
    assert_int_equal(f.format, format);
    assert_int_equal(f.width, 64);
    assert_int_equal(f.height, 48);
    if (part) {
        assert_non_null(f.parameters);
        assert_non_null(strstr(f.parameters, part));
    } else
        assert_null(f.parameters);
    assert_null(f.json);
    picture_facts_free(&f);
}

static void pictures_of_other_writers_are_read(void **state)
{
    (void)state;
    const char *a1111 = "(best:1.2)\nÄpfel 狐狸 🦊\nNegative prompt: ugly";
    expect_file("a1111.png", PICTURE_PNG, a1111);
    expect_file("forge.png", PICTURE_PNG, "Distilled CFG Scale: 3.5");
    expect_file("a1111_be.jpg", PICTURE_JPEG, a1111);
    expect_file("a1111_le.jpg", PICTURE_JPEG, a1111);
    expect_file("a1111_be.webp", PICTURE_WEBP, a1111);
    expect_file("a1111_le.webp", PICTURE_WEBP, a1111);
    expect_file("plain.jpg", PICTURE_JPEG, NULL);
    expect_file("plain.webp", PICTURE_WEBP, NULL);
    expect_file("lossless.webp", PICTURE_WEBP, NULL);
}

/* Cut short anywhere in front of the pixels, and with any byte changed: a status with the path, or facts; no crash. */
static void broken_pictures_are_a_status(const char *name, size_t header)
{
    char file[400], *bytes;
    size_t size;
    flux1_error err = {0};
    picture_facts f;
    snprintf(file, sizeof file, "%s/pictures/%s", TEST_DATA, name);
    assert_int_equal(file_read(file, 1 << 20, &bytes, &size, NULL), FLUX1_OK);
    header = header < size ? header : size;
    for (size_t cut = 0; cut < header; cut += 11) {
        put(bytes, cut);
        assert_int_not_equal(picture_facts_read(path, &f, &err), FLUX1_OK);
        assert_non_null(strstr(err.message, path));
        assert_null(f.parameters);
    }
    for (size_t at = 0; at < header; at += 5) {
        bytes[at] ^= (char)0xFF;
        put(bytes, size);
        picture_facts_read(path, &f, &err);
        picture_facts_free(&f);
        bytes[at] ^= (char)0xFF;
    }
    free(bytes);
}

static void broken_jpegs_are_a_status(void **state) { (void)state, broken_pictures_are_a_status("a1111_be.jpg", 900); }
static void broken_webps_are_a_status(void **state) { (void)state, broken_pictures_are_a_status("a1111_be.webp", 900); }
static void broken_pngs_are_a_status(void **state) { (void)state, broken_pictures_are_a_status("a1111.png", 300); }

static void formats_have_limits(void **state)
{
    (void)state;
    flux1_error err = {0};
    if (picture_check(PICTURE_WEBP, 1, 1, "x", NULL) == FLUX1_OK) {
        assert_int_equal(picture_check(PICTURE_WEBP, 16383, 1, "x", &err), FLUX1_OK);
        assert_int_equal(picture_check(PICTURE_WEBP, 1, 16384, "x", &err), FLUX1_ERR_LIMIT);
    }
    assert_int_equal(picture_check(PICTURE_PNG, 65536, 65536, "x", &err), FLUX1_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_carries_its_request),
        cmocka_unit_test(jpeg_carries_its_request),
        cmocka_unit_test(webp_carries_its_request),
        cmocka_unit_test(the_mark_is_there_with_texts_only),
        cmocka_unit_test(texts_too_long_for_jpeg_are_left_out),
        cmocka_unit_test(pictures_of_other_writers_are_read),
        cmocka_unit_test(broken_jpegs_are_a_status),
        cmocka_unit_test(broken_webps_are_a_status),
        cmocka_unit_test(broken_pngs_are_a_status),
        cmocka_unit_test(formats_have_limits),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
