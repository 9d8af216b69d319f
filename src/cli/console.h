/* Standard error: complaints, notes, and one line that is redrawn on a terminal. Results never come here. */
#ifndef FLUX1_CLI_CONSOLE_H
#define FLUX1_CLI_CONSOLE_H

#include <stdbool.h>

/* "flux1: sentence", after the redrawn line was wiped. Always shown. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, but not shown after console_quiet(true). */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void console_quiet(bool quiet);

/* What complaints are about from here on ("standard input, line 3: "), said in front of each; NULL: nothing. */
void console_subject(const char *subject);

/* Draws `text` over the line drawn before, cut to the terminal's width; wiped by the next complaint or note. Only where
 * console_is_terminal(). */
void console_redraw(const char *text);
void console_wipe(void);
bool console_is_terminal(void);

#endif
