/* PNG: pixels and texts come back as they were; what cannot be written is one sentence and leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "image/png.h"
#include "support/png_pixels.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256], target[300];

static int make_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/flux1-png-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    snprintf(target, sizeof target, "%s/picture.png", folder);
    return 0;
}

/* Removes the folder's files and says how many there were. */
static int empty_folder(void)
{
    int count = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[600];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
        count++;
    }
    closedir(d);
    return count;
}

static int remove_folder(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}

static uint8_t *noise(int width, int height)
{
    size_t n = 3u * (size_t)width * (size_t)height;
    uint8_t *rgb = malloc(n);
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)(x >> 24);
    }
    return rgb;
}

static flux1_status write_picture(const char *path, int width, int height, const uint8_t *rgb, const image_text *texts,
                                  size_t count, flux1_error *err)
{
    builder b = {0};
    flux1_status st = png_encode(path, &(rgb_pixels){width, height, rgb}, texts, count, &b, err);
    if (st == FLUX1_OK)
        st = file_write(path, b.text, b.length, err);
    builder_free(&b);
    return st;
}

static void expect_pixels(int width, int height, const uint8_t *rgb)
{
    int got_width, got_height;
    uint8_t *got = png_pixels(target, &got_width, &got_height);
    assert_non_null(got);
    assert_int_equal(got_width, width);
    assert_int_equal(got_height, height);
    assert_memory_equal(got, rgb, 3u * (size_t)width * (size_t)height);
    free(got);
}

static void round_trip(int width, int height, const image_text *texts, size_t count)
{
    flux1_error err = {0};
    png_picture back;
    uint8_t *rgb = noise(width, height);
    assert_int_equal(write_picture(target, width, height, rgb, texts, count, &err), FLUX1_OK);
    expect_pixels(width, height, rgb);
    assert_int_equal(png_file_read_texts(target, &back, &err), FLUX1_OK);
    assert_int_equal(back.width, width);
    assert_int_equal(back.height, height);
    assert_int_equal(back.text_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(back.texts[i].key, texts[i].key);
        assert_string_equal(back.texts[i].text, texts[i].text);
    }
    png_picture_free(&back);
    free(rgb);
    assert_int_equal(empty_folder(), 1);
}

static void pixels_come_back_as_they_were(void **state)
{
    (void)state;
    round_trip(1, 1, NULL, 0);
    round_trip(17, 5, NULL, 0);
    round_trip(64, 256, NULL, 0);
}

static void texts_come_back_in_every_script(void **state)
{
    (void)state;
    const image_text texts[] = {
        {"parameters", "a red fox\nSteps: 4"},
        {"latin1", "caf\xC3\xA9 \xC3\xBF"},
        {"beyond", "\xE7\x8B\x90 \xF0\x9F\xA6\x8A"},
        {"control", "tab\there"},
        {"empty", ""},
    };
    round_trip(8, 8, texts, sizeof texts / sizeof *texts);
}

/* The chunk's name stands four bytes before its keyword. */
static void latin1_goes_into_text_and_the_rest_into_itxt(void **state)
{
    (void)state;
    const image_text texts[] = {{"kAscii", "fox"}, {"kLatin", "caf\xC3\xA9"}, {"kHan", "\xE7\x8B\x90"}};
    const char *chunk[] = {"tEXt", "tEXt", "iTXt"};
    uint8_t *rgb = noise(4, 4);
    char bytes[4096];
    assert_int_equal(write_picture(target, 4, 4, rgb, texts, 3, NULL), FLUX1_OK);
    FILE *f = fopen(target, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (int i = 0; i < 3; i++) {
        size_t at = 0, length = strlen(texts[i].key);
        while (at + length < n && memcmp(bytes + at, texts[i].key, length) != 0)
            at++;
        assert_true(at >= 4 && at + length < n);
        assert_memory_equal(bytes + at - 4, chunk[i], 4);
    }
    free(rgb);
    empty_folder();
}

static void expect_refusal(const char *path, flux1_status status, const char *part)
{
    flux1_error err = {0};
    uint8_t *rgb = noise(64, 64);
    assert_int_equal(write_picture(path, 64, 64, rgb, NULL, 0, &err), status);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, part));
    free(rgb);
}

static void unwritable_places_are_named_and_stay_empty(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/absent/x.png", folder);
    expect_refusal(path, FLUX1_ERR_IO, "does not exist");
    expect_refusal(folder, FLUX1_ERR_IO, "folder");
    if (geteuid() != 0) {
        chmod(folder, 0555);
        expect_refusal(target, FLUX1_ERR_IO, "permission");
        chmod(folder, 0755);
    }
    assert_int_equal(empty_folder(), 0);
}

static void text_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    flux1_error err = {0};
    uint8_t *rgb = noise(4, 4);
    const image_text text = {"parameters", "a \xFF fox"};
    assert_int_equal(write_picture(target, 4, 4, rgb, &text, 1, &err), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "UTF-8"));
    free(rgb);
    assert_int_equal(empty_folder(), 0);
}

/* A limit on the file's size stands for a full disk, at every place of the file; in a child, since the limit stays. */
static void full_disk_is_one_sentence_and_leaves_nothing(void **state)
{
    (void)state;
    uint8_t *rgb = noise(64, 64); /* noise: about 12 kB of PNG */
    for (rlim_t limit = 0; limit <= 12000; limit += 1000) {
        pid_t child = fork();
        if (child == 0) {
            flux1_error err = {0};
            struct rlimit size = {limit, limit};
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &size);
            flux1_status st = write_picture(target, 64, 64, rgb, NULL, 0, &err);
            _exit(st == FLUX1_ERR_IO && strstr(err.message, target) && strstr(err.message, "cannot write") ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_int_equal(empty_folder(), 0);
    }
    free(rgb);
}

static void failed_write_leaves_the_old_picture(void **state)
{
    (void)state;
    flux1_error err = {0};
    uint8_t *rgb = noise(8, 8);
    const image_text bad = {"parameters", "\xC0\x80"};
    assert_int_equal(write_picture(target, 8, 8, rgb, NULL, 0, &err), FLUX1_OK);
    assert_int_not_equal(write_picture(target, 8, 8, rgb, &bad, 1, &err), FLUX1_OK);
    expect_pixels(8, 8, rgb);
    free(rgb);
    assert_int_equal(empty_folder(), 1);
}

static void broken_files_are_a_status(void **state)
{
    (void)state;
    flux1_error err = {0};
    png_picture back;
    uint8_t *rgb = noise(16, 16);
    static char bytes[8192];
    const image_text text = {"parameters", "a fox"};
    assert_int_equal(write_picture(target, 16, 16, rgb, &text, 1, &err), FLUX1_OK);
    FILE *f = fopen(target, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t cut = 0; cut < n; cut += 7) { /* cut short anywhere */
        f = fopen(target, "wb");
        fwrite(bytes, 1, cut, f);
        fclose(f);
        assert_int_not_equal(png_file_read_texts(target, &back, &err), FLUX1_OK);
        assert_non_null(strstr(err.message, target));
    }
    for (size_t at = 8; at < n; at += 5) { /* any byte changed: a status or a picture, never a crash */
        bytes[at] ^= 0x55;
        f = fopen(target, "wb");
        fwrite(bytes, 1, n, f);
        fclose(f);
        png_file_read_texts(target, &back, &err);
        png_picture_free(&back);
        bytes[at] ^= 0x55;
    }
    free(rgb);
    empty_folder();
}

/* A picture of 8×8 with a chunk of text behind its header that says it has `claim` bytes and has `length`, all of them
 * holes in the file. */
static void write_text_of_holes(uint32_t claim, uint32_t length)
{
    flux1_error err = {0};
    uint8_t *rgb = noise(8, 8);
    char bytes[1024];
    const uint8_t chunk[8] = {
        (uint8_t)(claim >> 24), (uint8_t)(claim >> 16), (uint8_t)(claim >> 8), (uint8_t)claim, 't', 'E', 'X', 't'};
    assert_int_equal(write_picture(target, 8, 8, rgb, NULL, 0, &err), FLUX1_OK);
    FILE *f = fopen(target, "r+b");
    const size_t size = fread(bytes, 1, sizeof bytes, f), header = 8 + 25;
    assert_in_range(size, header, sizeof bytes - 1);
    assert_int_equal(fseek(f, (long)header, SEEK_SET), 0);
    assert_int_equal(fwrite(chunk, 1, sizeof chunk, f), sizeof chunk);
    assert_int_equal(fseek(f, (long)length + 4, SEEK_CUR), 0);
    assert_int_equal(fwrite(bytes + header, 1, size - header, f), size - header);
    assert_int_equal(fclose(f), 0);
    free(rgb);
}

/* libpng makes room for a chunk before it looks whether the file has it. */
static void a_claim_of_much_text_takes_no_memory(void **state)
{
    (void)state;
    flux1_error err = {0};
    png_picture back;
    write_text_of_holes(0x74000000, 4096);
    assert_int_equal(png_file_read_texts(target, &back, &err), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(err.message, "more than 64 MiB"));
    write_text_of_holes(100u << 20, 100u << 20);
    assert_int_equal(png_file_read_texts(target, &back, &err), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(err.message, "more than 64 MiB"));
    assert_int_equal(empty_folder(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_come_back_as_they_were),
        cmocka_unit_test(texts_come_back_in_every_script),
        cmocka_unit_test(latin1_goes_into_text_and_the_rest_into_itxt),
        cmocka_unit_test(unwritable_places_are_named_and_stay_empty),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
        cmocka_unit_test(full_disk_is_one_sentence_and_leaves_nothing),
        cmocka_unit_test(failed_write_leaves_the_old_picture),
        cmocka_unit_test(broken_files_are_a_status),
        cmocka_unit_test(a_claim_of_much_text_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
