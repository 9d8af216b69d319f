#include "cli/relay.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A line of ours: MARK, a word, a number, '\n'. The record separator is in no sentence (console.c). */
enum { MARK = 0x1e };

static void write_all(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, bytes, size);
        if (n < 0 && errno == EINTR) /* such as Ctrl-C while a pager waits */
            continue;
        if (n <= 0)
            return; /* whom could one tell? */
        bytes += n;
        size -= (size_t)n;
    }
}

static void tell(const char *word, int number)
{
    char line[32];
    int n = snprintf(line, sizeof line, "%c%s %d\n", MARK, word, number);
    fflush(stderr);
    write_all(line, (size_t)n); /* at once, so that it is not mixed with others' lines */
}

void relay_tell_start(void) { tell("start", 0); }

void relay_tell_end(int status, bool spoken) { tell(spoken ? "spoken" : "end", status); }

static void understand(relay *r)
{
    char word[sizeof r->line];
    int number;
    r->line[r->length] = '\0';
    if (sscanf(r->line, "%31s %d", word, &number) != 2)
        return;
    if (strcmp(word, "start") == 0)
        r->started = true;
    if (strcmp(word, "end") == 0 || strcmp(word, "spoken") == 0) {
        if (!r->silent)
            r->status = number;
        r->started = r->ended = true;
        r->silent |= word[0] == 's';
    }
}

/* The next byte of what mpirun says; true if it is to be passed on. */
static bool take(relay *r, char byte)
{
    if (!r->inside && byte != MARK)
        return !r->silent;
    if (byte == MARK) {
        r->inside = true;
        r->length = 0;
    } else if (byte == '\n') {
        r->inside = false;
        understand(r);
    } else if (r->length + 1 < sizeof r->line) {
        r->line[r->length++] = byte;
    }
    return false;
}

void relay_pass(relay *r, int milliseconds)
{
    char in[4096], out[sizeof in];
    struct pollfd p = {.fd = r->from, .events = POLLIN};
    if (poll(&p, 1, milliseconds) <= 0 || r->from < 0)
        return;
    ssize_t n = read(r->from, in, sizeof in);
    if (n <= 0) {
        close(r->from);
        r->from = -1;
        return;
    }
    size_t kept = 0;
    for (ssize_t i = 0; i < n; i++)
        if (take(r, in[i]))
            out[kept++] = in[i];
    write_all(out, kept);
}
