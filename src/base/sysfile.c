#define _GNU_SOURCE /* O_CLOEXEC */
#include "base/sysfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool sysfile_open(sysfile *f, const char *folder, const char *name)
{
    char path[SYSFILE_PATH];
    int length = snprintf(path, sizeof path, "%s%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    f->at = f->have = 0;
    f->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return f->descriptor >= 0;
}

void sysfile_close(sysfile *f) { close(f->descriptor); }

/* Reads on behind what is there, which is moved to the front; false at the end and on errors. */
static bool read_more(sysfile *f)
{
    memmove(f->bytes, f->bytes + f->at, f->have - f->at);
    f->have -= f->at;
    f->at = 0;
    ssize_t count;
    do
        count = read(f->descriptor, f->bytes + f->have, sizeof f->bytes - 1 - f->have);
    while (count < 0 && errno == EINTR);
    if (count <= 0)
        return false;
    f->have += (size_t)count;
    return true;
}

char *sysfile_line(sysfile *f)
{
    for (bool whole = true;;) { /* whole: the line's start is still in the buffer */
        char *line = f->bytes + f->at, *end = memchr(line, '\n', f->have - f->at);
        if (end) {
            *end = '\0';
            f->at = (size_t)(end + 1 - f->bytes);
            if (whole)
                return line;
            whole = true;
        } else if (f->have - f->at == sizeof f->bytes - 1) {
            f->at = f->have = 0;
            whole = false;
        } else if (!read_more(f)) {
            bool last = whole && f->have > 0;
            f->bytes[f->have] = '\0';
            f->at = f->have = 0;
            return last ? f->bytes : NULL;
        }
    }
}

bool sysfile_number(const char **text, uint64_t *out)
{
    const char *p = *text + strspn(*text, " \t");
    if (*p < '0' || *p > '9')
        return false;
    uint64_t number = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(number, (uint64_t)10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            return false;
    *text = p;
    *out = number;
    return true;
}

bool sysfile_value(const char *line, const char *key, uint64_t *out)
{
    size_t length = strlen(key);
    uint64_t number;
    if (strncmp(line, key, length) != 0 || !strchr(" \t", line[length]))
        return false;
    const char *rest = line + length;
    if (!sysfile_number(&rest, &number))
        return false;
    if (strcmp(rest, " kB") == 0) {
        if (__builtin_mul_overflow(number, (uint64_t)1024, &number))
            return false;
    } else if (*rest) {
        return false;
    }
    *out = number;
    return true;
}

bool sysfile_find(const char *folder, const char *name, const char *key, uint64_t *out)
{
    sysfile f;
    bool found = false;
    if (!sysfile_open(&f, folder, name))
        return false;
    for (const char *line; !found && (line = sysfile_line(&f));)
        found = sysfile_value(line, key, out);
    sysfile_close(&f);
    return found;
}

bool sysfile_only(const char *folder, const char *name, uint64_t *out)
{
    sysfile f;
    uint64_t number = 0;
    if (!sysfile_open(&f, folder, name))
        return false;
    const char *line = sysfile_line(&f);
    bool ok = line && sysfile_number(&line, &number) && !*line && !sysfile_line(&f);
    sysfile_close(&f);
    if (ok)
        *out = number;
    return ok;
}
