/* Pictures in every format with what made them, read back by our own reader; pictures that PIL wrote. What other
 * programs read out of ours is checked with exiftool and PIL by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "image/exif.h"
#include "image/picture_read.h"
#include "image/xmp.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

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

static void encode_telling(picture_format format, const picture_texts *texts, builder *out, unsigned *left_out)
{
    static uint8_t rgb[3 * 17 * 9];
    flux1_error err = {0};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7);
    flux1_status st =
        picture_encode("a picture", &(rgb_pixels){17, 9, rgb},
                       &(picture_coding){.format = format, .quality = 90, .texts = texts}, out, left_out, &err);
    if (st == FLUX1_ERR_UNSUPPORTED) {
        assert_non_null(strstr(err.message, "made without lib"));
        skip();
    }
    assert_int_equal(st, FLUX1_OK);
    put(out->text, out->length);
}

static void encode(picture_format format, const picture_texts *texts, builder *out)
{
    encode_telling(format, texts, out, NULL);
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

/* The same in all formats: no byte is lost, and none makes the file invalid. */
static void what_is_no_utf8_is_replaced(void **state)
{
    (void)state;
    const picture_texts texts = {"a \xC3( fox\xFF \xED\xA0\x80", "{\"prompt\": \"\x80\x1B\"}", "flux1 0.1.0"};
    for (int format = 0; format < PICTURE_FORMAT_COUNT; format++) {
        builder b = {0};
        picture_facts f;
        flux1_error err = {0};
        encode((picture_format)format, &texts, &b);
        builder_free(&b);
        assert_int_equal(picture_facts_read(path, &f, &err), FLUX1_OK);
        assert_string_equal(f.parameters, "a \uFFFD( fox\uFFFD \uFFFD\uFFFD\uFFFD");
        assert_string_equal(f.json,
                            format == PICTURE_PNG ? "{\"prompt\": \"\uFFFD\x1B\"}" : "{\"prompt\": \"\uFFFD\uFFFD\"}");
        picture_facts_free(&f);
    }
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
    unsigned left_out = 0;
    builder b = {0};
    picture_facts f;
    memset(longest, 'x', 70000);
    encode_telling(PICTURE_JPEG, &(picture_texts){longest, longest, "flux1 0.1.0"}, &b, &left_out);
    assert_int_equal(left_out, PICTURE_LEFT_PARAMETERS | PICTURE_LEFT_JSON);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_null(f.parameters);
    assert_null(f.json);
    assert_true(contains(&b, "trainedAlgorithmicMedia"));
    picture_facts_free(&f);
    builder_free(&b);
    longest[40000] = '\0'; /* twice as many bytes in EXIF's UTF-16 */
    encode_telling(PICTURE_JPEG, &(picture_texts){longest, longest, "flux1 0.1.0"}, &b, &left_out);
    assert_int_equal(left_out, PICTURE_LEFT_PARAMETERS);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_null(f.parameters);
    assert_string_equal(f.json, longest);
    picture_facts_free(&f);
    builder_free(&b);
    free(longest);
}

static void png_and_webp_have_room_for_long_texts(void **state)
{
    (void)state;
    char *longest = calloc(1, 300001);
    picture_facts f;
    memset(longest, 'x', 300000);
    for (int format = PICTURE_PNG; format <= PICTURE_WEBP; format += PICTURE_WEBP - PICTURE_PNG) {
        builder b = {0};
        unsigned left_out = 99;
        encode_telling((picture_format)format, &(picture_texts){longest, longest, "flux1 0.1.0"}, &b, &left_out);
        assert_int_equal(left_out, 0);
        assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
        assert_string_equal(f.parameters, longest);
        assert_string_equal(f.json, longest);
        picture_facts_free(&f);
        builder_free(&b);
    }
    free(longest);
}

/* ---- PNGs whose texts libpng leaves out ---- */

static void add_u32(builder *b, size_t v)
{
    builder_add_bytes(b, (const char[]){(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v}, 4);
}

/* PNG, annex D, bit by bit. */
static uint32_t crc(const char *bytes, size_t size)
{
    uint32_t c = 0xFFFFFFFF;
    for (size_t i = 0; i < size; i++) {
        c ^= (uint8_t)bytes[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xEDB88320 ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void add_chunk(builder *b, const char *type, const char *data, size_t size)
{
    add_u32(b, size);
    const size_t begin = b->length;
    builder_add_bytes(b, type, 4);
    builder_add_bytes(b, data, size);
    add_u32(b, crc(b->text + begin, b->length - begin));
}

/* A picture whose chunk behind the header has that type and content, `wrong` added to the last byte of its check. */
static void put_with_chunk(const char *type, const char *data, size_t size, int wrong, size_t before)
{
    enum { HEADER_END = 33 };
    builder plain = {0}, b = {0};
    encode(PICTURE_PNG, NULL, &plain);
    builder_add_bytes(&b, plain.text, HEADER_END);
    for (size_t i = 0; i < before; i++)
        add_chunk(&b, "tEXt", "Comment\0x", 9);
    add_chunk(&b, type, data, size);
    b.text[b.length - 1] = (char)(b.text[b.length - 1] + wrong);
    builder_add_bytes(&b, plain.text + HEADER_END, plain.length - HEADER_END);
    assert_false(b.failed);
    put(b.text, b.length);
    builder_free(&plain);
    builder_free(&b);
}

#define EXPECT_PROBLEM(type, data, wrong, before, sentence)             \
    do {                                                                \
        put_with_chunk(type, data, sizeof data - 1, wrong, before);     \
        assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK); \
        assert_non_null(f.problem);                                     \
        assert_null(f.parameters);                                      \
        assert_non_null(strstr(f.problem, sentence));                   \
        picture_facts_free(&f);                                         \
    } while (0)

/* Nine million letters, packed behind these bytes; `wrong` as put_with_chunk's. */
static void expect_large(const char *type, const char *before, size_t bytes, int wrong)
{
    enum { LETTERS = 9000000 };
    picture_facts f;
    uLongf packed = compressBound(LETTERS);
    char *letters = malloc(LETTERS), *chunk = malloc(bytes + packed);
    assert_true(letters && chunk);
    memset(letters, 'a', LETTERS);
    memcpy(chunk, before, bytes);
    assert_int_equal(compress((Bytef *)chunk + bytes, &packed, (const Bytef *)letters, LETTERS), Z_OK);
    put_with_chunk(type, chunk, bytes + packed, wrong, 0);
    free(letters);
    free(chunk);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_non_null(f.problem);
    assert_non_null(strstr(f.problem, wrong ? "\"parameters\" is damaged; get"
                                            : "\"parameters\" takes more than 8000000 bytes; a program"));
    picture_facts_free(&f);
}

static void a_text_that_a_png_cannot_give_is_named(void **state)
{
    (void)state;
    picture_facts f;
    EXPECT_PROBLEM("tEXt", "parameters\0a fox", 1, 0, "\"parameters\" is damaged; get");
    EXPECT_PROBLEM("zTXt", "parameters\0\0no zlib", 0, 0, "\"parameters\" is damaged");
    EXPECT_PROBLEM("zTXt", "prompt\0\7no method", 0, 0, "\"prompt\" is damaged");
    EXPECT_PROBLEM("iTXt", "flux1\0\1\0\0\0no zlib", 0, 0, "\"flux1\" is damaged");
    EXPECT_PROBLEM("iTXt", "flux1\0\1\0", 0, 0, "\"flux1\" is damaged");
    EXPECT_PROBLEM("zTXt", "no keyword", 0, 0, "one of its texts is damaged");
    EXPECT_PROBLEM("tEXt", "parameters\0a fox", 0, 1200, "\"parameters\" comes behind so many others");
    expect_large("zTXt", "parameters\0", 12, 0);
    expect_large("zTXt", "parameters\0", 12, 1);
    expect_large("iTXt", "parameters\0\1\0\0", 15, 0);
    put_with_chunk("tEXt", "Comment\0a fox", 13, 1, 0); /* not a text that says how it was made */
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_null(f.problem);
    picture_facts_free(&f);
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

/* A block with a comment alone, whose numbers have the header's order. */
static size_t exif_block(bool header_low, bool text_low, const uint16_t *text, size_t count, uint8_t *out)
{
    static const uint8_t high[] = {'M', 'M', 0,    42,   0, 0, 0, 8,                    /* the directory is at 8 */
                                   0,   1,   0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0, 26, /* EXIF: at 26 */
                                   0,   0,   0,    0,                                   /* */
                                   0,   1,   0x92, 0x86, 0, 7, 0, 0, 0, 0, 0, 0, 0, 44, /* UserComment: at 44 */
                                   0,   0,   0,    0},
                         low[] = {'I', 'I', 42,   0,    8, 0, 0, 0,                    /* */
                                  1,   0,   0x69, 0x87, 4, 0, 1, 0, 0, 0, 26, 0, 0, 0, /* */
                                  0,   0,   0,    0,                                   /* */
                                  1,   0,   0x86, 0x92, 7, 0, 0, 0, 0, 0, 44, 0, 0, 0, /* */
                                  0,   0,   0,    0};
    memcpy(out, header_low ? low : high, sizeof high);
    out[header_low ? 32 : 35] = (uint8_t)(8 + 2 * count);
    memcpy(out + sizeof high, "UNICODE", 8);
    for (size_t i = 0; i < count; i++) {
        out[sizeof high + 8 + 2 * i + (text_low ? 0 : 1)] = (uint8_t)text[i];
        out[sizeof high + 8 + 2 * i + (text_low ? 1 : 0)] = (uint8_t)(text[i] >> 8);
    }
    return sizeof high + 8 + 2 * count;
}

static void expect_comment(bool header_low, bool text_low, const uint16_t *text, const char *expected)
{
    uint8_t block[300];
    char *comment;
    size_t count = 0;
    while (text[count])
        count++;
    const size_t size = exif_block(header_low, text_low, text, count, block);
    assert_int_equal(exif_comment(block, size, &comment, &(bool){false}, NULL), FLUX1_OK);
    assert_non_null(comment);
    assert_string_equal(comment, expected);
    free(comment);
}

/* The picture of `made` with other bytes in place of the first `bytes` that are `old`: what it says is left of it, and
 * what is told. problem NULL: nothing. */
static void expect_damaged(const builder *made, const char *old, const char *other, size_t bytes, bool json,
                           bool parameters, const char *problem)
{
    picture_facts f;
    char *copy = malloc(made->length), *at = copy;
    assert_non_null(copy);
    memcpy(copy, made->text, made->length);
    while (memcmp(at, old, bytes) != 0)
        assert_true(++at + bytes <= copy + made->length);
    memcpy(at, other, bytes);
    put(copy, made->length);
    free(copy);
    assert_int_equal(picture_facts_read(path, &f, NULL), FLUX1_OK);
    assert_int_equal(f.json != NULL, json);
    assert_int_equal(f.parameters != NULL, parameters);
    if (!problem)
        assert_null(f.problem);
    else if (!f.problem || !strstr(f.problem, problem))
        fail_msg("\"%s\" lacks \"%s\"", f.problem ? f.problem : "", problem);
    picture_facts_free(&f);
}

/* What leads to the comment, in the order of exif_add: the header, the first directory's place and length, the entry of
 * the EXIF directory, the comment's. */
static void damaged_blocks(picture_format format)
{
    static const struct {
        const char *old, *other;
        size_t bytes;
    } exif[] = {{"MM\0*\0\0\0\x08", "MM\1*\0\0\0\x08", 8},
                {"MM\0*\0\0\0\x08", "MM\0*\0\1\0\x08", 8},
                {"\x87\x69\0\4\0\0\0\1\0", "\x87\x69\0\4\0\0\0\1\x40", 9},
                {"\0\1\x92\x86\0\7\0", "\0\1\x92\x86\0\7\1", 7}};
    const picture_texts texts = {
        .parameters = "a fox\nSteps: 1, Seed: 2, Size: 17x9", .json = "{\"prompt\": \"a fox\"}", .software = "flux1"};
    builder made = {0};
    encode(format, &texts, &made);
    for (size_t i = 0; i < sizeof exif / sizeof *exif; i++)
        expect_damaged(&made, exif[i].old, exif[i].other, exif[i].bytes, true, false, "its EXIF block");
    expect_damaged(&made, "</flux1:request>", "</flux1:regvest>", 16, false, true,
                   "its XMP block, which has flux1's own text, is damaged; get the picture again");
    expect_damaged(&made, "<flux1:request>", "<flux1:reqnest>", 15, false, true, "its XMP block");
    expect_damaged(&made, "MM", "MM", 2, true, true, NULL);
    builder_free(&made);
    const picture_texts none = {.parameters = NULL, .json = NULL, .software = "a camera's"};
    encode(format, &none, &made);
    expect_damaged(&made, "MM", "MM", 2, false, false, NULL);
    builder_free(&made);
}

static void a_damaged_block_of_a_jpeg_is_named(void **state) { (void)state, damaged_blocks(PICTURE_JPEG); }
static void a_damaged_block_of_a_webp_is_named(void **state) { (void)state, damaged_blocks(PICTURE_WEBP); }

/* Code points from Unicode's charts; U+4E00, U+5F00 and U+7A00 have a low byte that is zero. */
static void the_order_of_a_comment_is_its_mark_s_then_the_header_s(void **state)
{
    (void)state;
    static const uint16_t fox[] = {0x4E00, 0x53EA, 0x7EA2, 0x8272, 0x7684, 0x72D0, 0x72F8, 0},
                          one[] = {0x4E00, 0x6735, 0x82B1, 0}, rare[] = {0x7A00, 0x6709, 0x7684, 0x82B1, 0},
                          korean[] = {0xAC00, 0xC800, 0xB300, 0xACE0, 0},
                          marked[] = {0xFEFF, 0x4E00, 0x7A00, 0x4E00, 0x7A00, 0},
                          latin[] = {'a', ' ', 'f', 'o', 'x', 0}, marked_latin[] = {0xFEFF, 'f', 'o', 'x', 0},
                          few_latin[] = {0x7EA2, 0x8272, 0x7684, 0x72D0, 0x72F8, 0x7EA2, 0x8272, 'f', 'o', 'x', 0},
                          short_latin[] = {'o', 'k', 0}, word[] = {0x4E00, 0}, open[] = {0x5F00, 0},
                          blank[] = {0x3000, 0}, private[] = {0xE0E1, 0xE2E3, 0xE4E5, 0},
                          lone[] = {'a', 0xDC00, 'b', 'c', 'd', 0},
                          mixed[] = {0x7EA2, 0x8272, 0x7684, 0x72D0, 0x72F8, '\n', 'S', 't', 'e', 'p', 's', 0};
    for (int low = 0; low < 2; low++) {
        expect_comment(low, low, fox, "一只红色的狐狸");
        expect_comment(low, low, one, "一朵花");
        expect_comment(low, low, rare, "稀有的花");
        expect_comment(low, low, korean, "가저대고");
        expect_comment(low, low, word, "一");
        expect_comment(low, low, open, "开");
        expect_comment(low, low, blank, "\u3000");
        expect_comment(low, low, private, "\uE0E1\uE2E3\uE4E5"); /* makes no text in either order */
        expect_comment(low, low, lone, "a\uFFFDbcd");
        for (int header = 0; header < 2; header++) {
            expect_comment(header, low, marked, "一稀一稀");
            expect_comment(header, low, marked_latin, "fox");
            expect_comment(header, low, latin, "a fox");
            expect_comment(header, low, few_latin, "红色的狐狸红色fox");
            expect_comment(header, low, short_latin, "ok");
            expect_comment(header, low, mixed, "红色的狐狸\nSteps");
        }
    }
}

/* A comment of that code (8 bytes) and text in a block whose lowest bytes come first; NULL: none is read. */
static void expect_code(const char *code, const char *text, size_t bytes, const char *expected)
{
    uint8_t block[300];
    char *comment;
    bool damaged;
    const size_t size = exif_block(true, true, NULL, 0, block);
    memcpy(block + size - 8, code, 8);
    memcpy(block + size, text, bytes);
    block[32] = (uint8_t)(8 + bytes);
    assert_int_equal(exif_comment(block, size + bytes, &comment, &damaged, NULL), FLUX1_OK);
    assert_false(damaged);
    if (expected)
        assert_string_equal(comment, expected);
    else
        assert_null(comment);
    free(comment);
}

static void a_comment_may_be_ascii_or_of_no_code(void **state)
{
    (void)state;
    expect_code("ASCII\0\0", "a fox\0x", 7, "a fox");
    expect_code("\0\0\0\0\0\0\0", "a fox", 5, "a fox");
    expect_code("ASCII\0\0", "a \xFF", 3, NULL); /* no UTF-8 */
    expect_code("JIS\0\0\0\0", "a fox", 5, NULL);
    expect_code("ASCII\0\0", "", 0, NULL);
}

/* A comment shorter than its code is none; entries behind the block's end, and a comment that begins there, are damage.
 */
static void what_a_block_leads_to_lies_in_it(void **state)
{
    (void)state;
    static const uint8_t cut[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 2, 0, 0x31, 1, 2, 0, 1, 0, 0, 0, 'x', 0, 0, 0};
    uint8_t block[300];
    char *comment;
    bool damaged;
    assert_int_equal(exif_comment(cut, sizeof cut, &comment, &damaged, NULL), FLUX1_OK);
    assert_true(damaged && !comment);
    const size_t size = exif_block(true, true, NULL, 0, block);
    block[32] = 4;
    assert_int_equal(exif_comment(block, size, &comment, &damaged, NULL), FLUX1_OK);
    assert_true(!damaged && !comment);
    block[32] = 8;
    block[39] = 0x7F; /* of its offset */
    assert_int_equal(exif_comment(block, size, &comment, &damaged, NULL), FLUX1_OK);
    assert_true(damaged && !comment);
}

/* TIFF's directories begin at words: with a name of odd length, too. */
static void directories_begin_at_even_bytes(void **state)
{
    (void)state;
    static const char *const names[] = {"flux1 0.1.0", "flux1 0.10.0"};
    for (int i = 0; i < 2; i++) {
        builder b = {0};
        exif_add(&b, names[i], "a fox");
        assert_int_equal((uint8_t)b.text[33] % 2, 0); /* the lowest byte of the second entry's value */
        builder_free(&b);
    }
}

/* XML's own characters, and those that it must not have, which JSON may write as escapes. */
static void json_comes_back_out_of_xml(void **state)
{
    (void)state;
    builder b = {0};
    char *json;
    bool damaged;
    xmp_add(&b, "a <b>", "{\"x\": \"<&>'\xEF\xBF\xBE|\xEF\xBF\xBF|\xEF\xBF\xBD\"}\t\r\n\x01");
    assert_int_equal(xmp_json(b.text, b.length, &json, &damaged, NULL), FLUX1_OK);
    assert_false(damaged);
    assert_string_equal(json, "{\"x\": \"<&>'\\ufffe|\\uffff|\xEF\xBF\xBD\"}\t\r\n\xEF\xBF\xBD");
    free(json);
    builder_free(&b);
    static const char last[] = "<flux1:request>&quot;&apos;&amp;lt;&unknown;</flux1:request>";
    assert_int_equal(xmp_json(last, sizeof last - 1, &json, &damaged, NULL), FLUX1_OK);
    assert_false(damaged);
    assert_string_equal(json, "\"'&lt;&unknown;");
    free(json);
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
        cmocka_unit_test(what_is_no_utf8_is_replaced),
        cmocka_unit_test(the_mark_is_there_with_texts_only),
        cmocka_unit_test(texts_too_long_for_jpeg_are_left_out),
        cmocka_unit_test(png_and_webp_have_room_for_long_texts),
        cmocka_unit_test(a_text_that_a_png_cannot_give_is_named),
        cmocka_unit_test(pictures_of_other_writers_are_read),
        cmocka_unit_test(the_order_of_a_comment_is_its_mark_s_then_the_header_s),
        cmocka_unit_test(a_comment_may_be_ascii_or_of_no_code),
        cmocka_unit_test(what_a_block_leads_to_lies_in_it),
        cmocka_unit_test(directories_begin_at_even_bytes),
        cmocka_unit_test(json_comes_back_out_of_xml),
        cmocka_unit_test(a_damaged_block_of_a_jpeg_is_named),
        cmocka_unit_test(a_damaged_block_of_a_webp_is_named),
        cmocka_unit_test(broken_jpegs_are_a_status),
        cmocka_unit_test(broken_webps_are_a_status),
        cmocka_unit_test(broken_pngs_are_a_status),
        cmocka_unit_test(formats_have_limits),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
