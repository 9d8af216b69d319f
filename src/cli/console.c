#include "cli/console.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* There is one standard error in a process. */
static bool quiet_mode, muted;
static atomic_bool told, line_shown; /* flux1 serve prints failures from several threads */
static char subject[256];
static flux1_error *collected;

void console_quiet(bool quiet) { quiet_mode = quiet; }

void console_mute(bool mute) { muted = mute; }

bool console_has_told(void) { return told; }

void console_subject(const char *text) { snprintf(subject, sizeof subject, "%s", text ? text : ""); }

bool console_is_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

void console_wipe(void)
{
    if (line_shown)
        fputs("\r\033[K", stderr);
    line_shown = false;
}

/* One write a line, so that lines of several processes don't mix. Control characters in a file name or a prompt must
 * not steer the terminal. */
static void print_line(const char *about, const char *format, va_list ap)
{
    char line[8192];
    if (muted)
        return;
    size_t begin = (size_t)snprintf(line, sizeof line, "flux1: %s", about);
    int n = vsnprintf(line + begin, sizeof line - begin - 1, format, ap);
    size_t end = n < 0 ? begin : (size_t)n + begin < sizeof line - 2 ? (size_t)n + begin : sizeof line - 2;
    line[end] = '\0';
    utf8_blank_controls(line, '?', "\n");
    for (char *c = line; (c = strchr(c, '\n'));)
        *c = ' ';
    console_wipe();
    end = strlen(line);
    line[end] = '\n';
    fwrite(line, 1, end + 1, stderr);
    fflush(stderr);
}

static void print_failure_list(flux1_status status, const char *format, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    if (collected && collected->status == FLUX1_OK) {
        collected->status = status;
        vsnprintf(collected->message, sizeof collected->message, format, again);
        utf8_blank_controls(collected->message, ' ', ""); /* as error_set has it */
    }
    va_end(again);
    if (!muted)
        told = true;
    print_line(subject, format, ap);
}

void print_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    print_failure_list(FLUX1_ERR_ARGUMENT, format, ap);
    va_end(ap);
}

void print_failure(flux1_status status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    print_failure_list(status, format, ap);
    va_end(ap);
}

flux1_error *console_collect(flux1_error *into)
{
    flux1_error *before = collected;
    collected = into;
    return before;
}

void print_note(const char *format, ...)
{
    va_list ap;
    if (quiet_mode)
        return;
    va_start(ap, format);
    print_line("", format, ap);
    va_end(ap);
}

/* ---- warnings ---- */

static char **kept;
static size_t kept_count;

void print_warning(const char *format, ...)
{
    char message[8192];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof message, format, ap);
    va_end(ap);
    for (size_t i = 0; i < kept_count; i++)
        if (strcmp(kept[i], message) == 0) /* as of each preview */
            return;
    print_note("warning: %s", message);
    if (muted)
        return;
    char *copy = strdup(message);
    char **larger = copy ? realloc(kept, (kept_count + 1) * sizeof *kept) : NULL;
    if (!larger) {
        free(copy);
        return;
    }
    kept = larger;
    kept[kept_count++] = copy;
}

const char *console_warning(size_t index) { return index < kept_count ? kept[index] : NULL; }

void console_forget_warnings(void)
{
    while (kept_count > 0)
        free(kept[--kept_count]);
    free(kept);
    kept = NULL;
}

/* ---- standard output ---- */

void print_plain(const char *text, const char *keep)
{
    bool control;
    for (size_t n; (n = utf8_next(text, &control)) > 0; text += n)
        if (control && !strchr(keep, *text))
            putchar('?');
        else
            fwrite(text, 1, n, stdout);
}

void print_name(const char *name)
{
    if (isatty(STDOUT_FILENO))
        print_plain(name, "");
    else
        fputs(name, stdout);
    putchar('\n');
}

/* ---- the redrawn line ---- */

int console_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

void console_redraw(const char *text)
{
    char line[512];
    snprintf(line, sizeof line, "%.*s", console_width(), text);
    utf8_blank_controls(line, '?', ""); /* such as a name from the hub */
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    line_shown = true;
}
