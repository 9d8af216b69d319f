/* Codes in paths and queries; tests/cli/serve.py has the headers. */
#include "server/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* RFC 3986, 2.1: % and two hexadecimal digits, in either case. What is no code, and %00, stays. */
static void codes_are_read_but_for_nul(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"/a%20b%2Fc%2fd", "/a b/c/d"},
                                          {"%41%7e%C3%a9", "A~\xc3\xa9"},
                                          {"/%00", "/%00"},
                                          {"/health%00x", "/health%00x"},
                                          {"%0", "%0"},
                                          {"%", "%"},
                                          {"%%41", "%A"},
                                          {"%4g%g4", "%4g%g4"},
                                          {"%\x11\x12", "%\x11\x12"},
                                          {"%2500", "%00"},
                                          {"%01%ff", "\1\xff"},
                                          {"", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        strcpy(text, rows[i][0]);
        assert_int_equal(framing_unescape(NULL, NULL, text), strlen(rows[i][1]));
        assert_string_equal(text, rows[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(codes_are_read_but_for_nul)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
