/* Standard input line by line, blocking or not. */
#ifndef FLUX1_CLI_LINES_H
#define FLUX1_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef enum line_state {
    LINE_READ,
    LINE_NONE, /* none is there yet (not waiting) */
    LINE_END,
    LINE_INTERRUPTED,
    LINE_FAILED /* an error was printed */
} line_state;

typedef struct lines {
    char *data;
    size_t begin, end, room; /* what was read and not given yet: [begin, end) */
    bool ended;
    long number; /* of the line given last, from 1 */
} lines;

/* The next line without its newline, ended by NUL, good until the next call; the last line needs no newline. wait:
 * until there is one, the end, or a signal. */
line_state lines_next(lines *l, bool wait, char **line, size_t *bytes);
void lines_free(lines *l);

#endif
