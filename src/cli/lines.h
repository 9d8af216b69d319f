/* Standard input, or a file that may be a pipe, line by line or as a whole, blocking or not. A signal ends every wait.
 * A byte order mark of UTF-8 at the beginning is left out. */
#ifndef FLUX1_CLI_LINES_H
#define FLUX1_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_MOST ((size_t)4 << 20)

typedef enum line_state {
    LINE_READ,
    LINE_NONE, /* none is there yet (not waiting) */
    LINE_LONG, /* longer than LINE_MOST bytes: it counts, and is left out */
    LINE_END,
    LINE_INTERRUPTED,
    LINE_FAILED /* an error was printed */
} line_state;

/* All zero: standard input. */
typedef struct lines {
    int fd;
    const char *path; /* NULL: standard input */
    char *data;
    size_t begin, end, room; /* what was read and not given yet: [begin, end) */
    bool ended, skipping;    /* nothing more comes; the rest of a long line is left out */
    long number;             /* of the line given last, from 1 */
} lines;

/* "-" and "/dev/stdin" */
bool is_standard_input(const char *path);

/* Opens a file, a pipe or standard input; `path` must outlive *l. Prints an error and returns false on failure. */
bool lines_open(lines *l, const char *path);
const char *lines_name(const lines *l); /* "standard input", or the path */

/* Where it is a terminal: prints a note that `what` is waited for. */
void lines_tell_waiting(const lines *l, const char *what);

/* The next line without its newline, ended by NUL, good until the next call; the last line needs no newline. wait:
 * until there is one, the end, or a signal. */
line_state lines_next(lines *l, bool wait, char **line, size_t *bytes);

/* All that is left, at most `most` bytes, ended by NUL, good until lines_free. LINE_READ, or why there is none. */
line_state lines_all(lines *l, size_t most, char **text, size_t *bytes);
void lines_free(lines *l);

#endif
