#include "cli/lines.h"

#include "cli/cli.h"
#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)64 << 10)
#define WAIT_MS 500 /* a signal right before a wait must not be lost */

void lines_free(lines *l)
{
    free(l->data);
    if (l->path)
        close(l->fd);
    *l = (lines){0};
}

bool is_standard_input(const char *path) { return strcmp(path, "-") == 0 || strcmp(path, "/dev/stdin") == 0; }

const char *lines_name(const lines *l) { return l->path ? l->path : "standard input"; }

/* Without O_NONBLOCK the opening of a pipe would wait for its writer, whatever signal comes. */
bool lines_open(lines *l, const char *path)
{
    *l = (lines){0};
    if (is_standard_input(path))
        return true;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        print_failure(FLUX1_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
        return false;
    }
    l->fd = fd;
    l->path = path;
    return true;
}

void lines_tell_waiting(const lines *l, const char *what)
{
    if (isatty(l->fd))
        print_note("waiting for %s on the terminal; Ctrl-D on an empty line ends it", what);
}

/* Room for READ_BYTES more and a NUL. */
static bool make_room(lines *l)
{
    if (l->begin > 0) {
        memmove(l->data, l->data + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->room - l->end > READ_BYTES)
        return true;
    char *more = realloc(l->data, l->end + 2 * READ_BYTES);
    if (!more) {
        print_failure(FLUX1_ERR_MEMORY, "out of memory for a line of %s", lines_name(l));
        return false;
    }
    l->data = more;
    l->room = l->end + 2 * READ_BYTES;
    return true;
}

/* Reads what there is. LINE_READ: something came, or the end. */
static line_state read_more(lines *l, bool wait)
{
    struct pollfd input = {.fd = l->fd, .events = POLLIN};
    if (was_interrupted())
        return LINE_INTERRUPTED;
    int ready = poll(&input, 1, wait ? WAIT_MS : 0); /* unlike read, it comes back from a signal */
    if (ready == 0)
        return wait ? LINE_READ : LINE_NONE;
    if (ready < 0 && errno == EINTR)
        return was_interrupted() ? LINE_INTERRUPTED : LINE_READ;
    if (!make_room(l))
        return LINE_FAILED;
    ssize_t n = read(l->fd, l->data + l->end, READ_BYTES);
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        print_failure(FLUX1_ERR_IO, "%s: cannot read: %s", lines_name(l), strerror(errno));
        return LINE_FAILED;
    }
    l->ended = n == 0;
    l->end += n > 0 ? (size_t)n : 0;
    return LINE_READ;
}

/* Editors on Windows write one. */
static void skip_mark(char **text, size_t *bytes)
{
    const size_t mark = *bytes >= 3 && memcmp(*text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    *text += mark;
    *bytes -= mark;
}

/* What has come of a line that is left out. */
static void skip_rest(lines *l)
{
    const size_t left = l->end - l->begin;
    const char *newline = left > 0 ? memchr(l->data + l->begin, '\n', left) : NULL;
    l->begin = newline ? (size_t)(newline + 1 - l->data) : l->end;
    l->skipping = !newline;
}

line_state lines_next(lines *l, bool wait, char **line, size_t *bytes)
{
    for (;;) {
        if (l->skipping)
            skip_rest(l);
        const size_t left = l->end - l->begin;
        char *first = left > 0 ? l->data + l->begin : NULL, *newline = left > 0 ? memchr(first, '\n', left) : NULL;
        if (newline || (l->ended && left > 0)) {
            *line = first;
            *bytes = newline ? (size_t)(newline - first) : left;
            first[*bytes] = '\0';
            l->begin += *bytes + (newline != NULL);
            l->number++;
            if (l->number == 1)
                skip_mark(line, bytes);
            return LINE_READ;
        }
        if (l->ended)
            return LINE_END;
        if (left > LINE_MOST) {
            l->number++;
            l->skipping = true;
            return LINE_LONG;
        }
        line_state st = read_more(l, wait);
        if (st != LINE_READ)
            return st;
    }
}

line_state lines_all(lines *l, size_t most, char **text, size_t *bytes)
{
    while (!l->ended) {
        line_state st = read_more(l, true);
        if (st == LINE_READ && l->end - l->begin > most) {
            print_failure(FLUX1_ERR_LIMIT, "%s: longer than %zu bytes, the limit of a prompt", lines_name(l), most);
            return LINE_FAILED;
        }
        if (st != LINE_READ)
            return st;
    }
    if (!l->data && !make_room(l))
        return LINE_FAILED;
    l->data[l->end] = '\0';
    *text = l->data + l->begin;
    *bytes = l->end - l->begin;
    skip_mark(text, bytes);
    return LINE_READ;
}
