/* Standard error: errors, notes, and one line that is redrawn on a terminal. Results go to standard output; what of
 * them strangers may have written, names and texts, through the two functions at the end. */
#ifndef FLUX1_CLI_CONSOLE_H
#define FLUX1_CLI_CONSOLE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Prints "flux1: <sentence>", after wiping the redrawn line. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same; what went wrong is `status`, of print_error FLUX1_ERR_ARGUMENT. */
void print_failure(flux1_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Where the first error from here on is kept, as printed but without what console_subject puts in front; NULL: nowhere.
 * Returns the place before. */
flux1_error *console_collect(flux1_error *into);

/* The same, but not after console_quiet(true). */
void print_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void console_quiet(bool quiet);

/* A note "warning: <message>" that is kept too, also where it is not printed: for answers in JSON. One that is kept
 * already is not said again. */
void print_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Those since console_forget_warnings, from 0; NULL behind the last. */
const char *console_warning(size_t index);
void console_forget_warnings(void);

/* From here on nothing is printed to standard error, errors included, and no warning is kept: another process says it,
 * or this one later. */
void console_mute(bool mute);
/* Whether an error was printed. */
bool console_has_told(void);

/* Put in front of each error from here on ("standard input, line 3: "); NULL: nothing. */
void console_subject(const char *subject);

/* Draws `text` over the line drawn before, cut to the terminal's width; wiped by the next error or note. Only where
 * console_is_terminal(). */
void console_redraw(const char *text);
void console_wipe(void);
bool console_is_terminal(void);
int console_width(void); /* characters that fit on that line */

/* Result for people, on standard output: a '?' for each control character that is not in `keep`, which would steer a
 * terminal or begin another line. */
void print_plain(const char *text, const char *keep);

/* Result that programs read too, the name of a file or folder on a line of its own: as it is, but on a terminal as
 * print_plain has it. */
void print_name(const char *name);

#endif
