#include "server/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void failure_tell(const server *s, const char *format, ...)
{
    char text[FLUX1_MESSAGE_MAX + 512];
    va_list ap;
    if (!s->settings.tell)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    s->settings.tell(text);
}

static bool is_requests(flux1_status status)
{
    return status == FLUX1_ERR_ARGUMENT || status == FLUX1_ERR_LIMIT || status == FLUX1_ERR_UNSUPPORTED;
}

/* "PATH: why" without the path; NULL: it is no such sentence, or still has a slash. */
static const char *behind_path(const char *text)
{
    const char *slash = strchr(text, '/'), *colon = strstr(text, ": ");
    return colon && slash < colon && !strchr(colon, '/') ? colon + 2 : NULL;
}

bool failure_fault(const server *s, fault *f, flux1_status status, const char *what, const char *sentence)
{
    const char *text = sentence && sentence[0] ? sentence : flux1_status_text(status);
    if (is_requests(status))
        return fault_set(f, FAULT_INVALID, NULL, "%s", text);
    failure_tell(s, "%s: %s", what, text);
    if (!strchr(text, '/'))
        return fault_set(f, FAULT_SERVER, NULL, "%s", text);
    const char *why = behind_path(text);
    return fault_set(f, FAULT_SERVER, NULL, "%s: %s", what, why ? why : flux1_status_text(status));
}

bool failure_write(const server *s, fault *f, const flux1_error *err, const char *what)
{
    static const struct {
        int number;
        const char *why;
    } rows[] = {{ENOSPC, "the server's disk is full, and its operator has to make room"},
                {EDQUOT, "the server's quota of its disk is used up, and its operator has to make room"},
                {EFBIG, "the server may not write files of this size, and its operator has to raise the limit"}};
    failure_fault(s, f, err->status, what, err->message);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (err->status == FLUX1_ERR_IO && err->number == rows[i].number)
            return fault_set(f, FAULT_STORAGE, NULL, "%s: %s", what, rows[i].why);
    return false;
}
