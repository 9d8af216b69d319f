#include "base/status.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A sentence cut in the middle of a UTF-8 character would make the whole message invalid: drop the broken tail. */
static void trim_partial_character(char *text)
{
    size_t n = strlen(text), last = n ? utf8_last(text, n) : 0;
    int32_t c;
    if (n > 0 && utf8_decode(text + last, n - last, &c) == 0 && (unsigned char)text[last] >= 0xC0)
        text[last] = '\0';
}

flux1_status error_set(flux1_error *err, flux1_status status, const char *format, ...)
{
    if (!err)
        return status;
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(err->message, sizeof err->message, format, ap);
    va_end(ap);
    if (n < 0)
        err->message[0] = '\0';
    else if ((size_t)n >= sizeof err->message)
        trim_partial_character(err->message);
    /* names of files and texts from them are quoted: they must not steer a terminal, and a message is one line */
    utf8_blank_controls(err->message, ' ', "");
    err->status = status;
    err->number = 0;
    return status;
}

/* The same failure in other words. */
static flux1_status reword(flux1_error *err, const char *first, const char *second, const char *third)
{
    const int number = err->number;
    error_set(err, err->status, "%s%s%s", first, second, third);
    err->number = number;
    return err->status;
}

flux1_status error_prefix(flux1_error *err, const char *format, ...)
{
    if (!err)
        return FLUX1_ERR_INTERNAL;
    char before[FLUX1_MESSAGE_MAX], old[FLUX1_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(before, sizeof before, format, ap);
    va_end(ap);
    memcpy(old, err->message, sizeof old);
    return reword(err, before, ": ", old);
}

flux1_status error_append(flux1_error *err, const char *format, ...)
{
    if (!err)
        return FLUX1_ERR_INTERNAL;
    char more[FLUX1_MESSAGE_MAX], before[FLUX1_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(more, sizeof more, format, ap);
    va_end(ap);
    memcpy(before, err->message, sizeof before);
    return reword(err, before, more, "");
}

flux1_status error_oom(flux1_error *err, size_t bytes, const char *what)
{
    if (bytes)
        return error_set(err, FLUX1_ERR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
    return error_set(err, FLUX1_ERR_MEMORY, "out of memory for %s", what);
}

flux1_status error_io(flux1_error *err, const char *path, const char *verb)
{
    char reason[128];
    int number = errno;
    /* _POSIX_C_SOURCE gives the XSI form: the text lands in the buffer */
    if (strerror_r(number, reason, sizeof reason) != 0)
        snprintf(reason, sizeof reason, "error %d", number);
    error_set(err, FLUX1_ERR_IO, "%s: cannot %s: %s", path, verb, reason);
    if (err)
        err->number = number;
    return FLUX1_ERR_IO;
}

flux1_status error_pass_memory(const flux1_error *from, flux1_error *err)
{
    return from->status == FLUX1_ERR_MEMORY ? error_set(err, from->status, "%s", from->message) : FLUX1_OK;
}

void error_clear(flux1_error *err)
{
    if (!err)
        return;
    err->status = FLUX1_OK;
    err->message[0] = '\0';
}

const char *status_name(flux1_status status)
{
    switch (status) {
#define ROW(name, value, text) \
    case FLUX1_##name: return "FLUX1_" #name;
        FLUX1_STATUS_MAP(ROW)
#undef ROW
    }
    return "FLUX1_ERR_?";
}

const char *status_text(flux1_status status)
{
    switch (status) {
#define ROW(name, value, text) \
    case FLUX1_##name: return text;
        FLUX1_STATUS_MAP(ROW)
#undef ROW
    }
    return "unknown status";
}
