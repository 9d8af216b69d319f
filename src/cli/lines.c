#include "cli/lines.h"

#include "cli/cli.h"
#include "cli/console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MOST ((size_t)4 << 20)
#define READ_BYTES ((size_t)64 << 10)

void lines_free(lines *l)
{
    free(l->data);
    *l = (lines){0};
}

/* Room for READ_BYTES more and a NUL. */
static bool make_room(lines *l)
{
    if (l->begin > 0) {
        memmove(l->data, l->data + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->end > LINE_MOST) {
        print_error("standard input, line %ld: longer than %zu bytes", l->number + 1, LINE_MOST);
        return false;
    }
    if (l->room - l->end > READ_BYTES)
        return true;
    char *more = realloc(l->data, l->end + 2 * READ_BYTES);
    if (!more) {
        print_error("out of memory for a line of standard input");
        return false;
    }
    l->data = more;
    l->room = l->end + 2 * READ_BYTES;
    return true;
}

/* Reads what there is. LINE_READ: something came, or the end. */
static line_state read_more(lines *l, bool wait)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (was_interrupted())
        return LINE_INTERRUPTED;
    int ready = poll(&input, 1, wait ? -1 : 0); /* unlike read, it comes back from a signal */
    if (ready == 0)
        return LINE_NONE;
    if (ready < 0 && errno == EINTR)
        return was_interrupted() ? LINE_INTERRUPTED : LINE_READ;
    if (!make_room(l))
        return LINE_FAILED;
    ssize_t n = read(STDIN_FILENO, l->data + l->end, READ_BYTES);
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        print_error("standard input: cannot read: %s", strerror(errno));
        return LINE_FAILED;
    }
    l->ended = n == 0;
    l->end += n > 0 ? (size_t)n : 0;
    return LINE_READ;
}

line_state lines_next(lines *l, bool wait, char **line, size_t *bytes)
{
    for (;;) {
        size_t left = l->end - l->begin;
        char *first = left > 0 ? l->data + l->begin : NULL, *newline = left > 0 ? memchr(first, '\n', left) : NULL;
        if (newline || (l->ended && left > 0)) {
            *line = first;
            *bytes = newline ? (size_t)(newline - first) : left;
            first[*bytes] = '\0';
            l->begin += *bytes + (newline != NULL);
            l->number++;
            return LINE_READ;
        }
        if (l->ended)
            return LINE_END;
        line_state st = read_more(l, wait);
        if (st != LINE_READ)
            return st;
    }
}
