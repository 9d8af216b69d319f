/* A program that is spoken to line by line, with a memory that both sides see. It may hang, die or talk nonsense: each
 * is a status, and dialog_end leaves nothing of it behind. Sentences about the program lack their subject, which the
 * caller knows: "was ended by signal 9". Linux.
 *
 * The program finds open: DIALOG_LINES, a stream socket for lines in both directions; DIALOG_MEMORY, the shared memory
 * (it may grow, never shrink); DIALOG_ALIVE, a pipe that nothing is written to and that ends with this process;
 * DIALOG_SCRIPT, the bytes that it was given to read as a file. Its standard input is empty; what it prints is kept:
 * its last line stands in messages. It leads a process group of its own, so that a terminal's interrupt does not reach
 * it. */
#ifndef FLUX1_BASE_DIALOG_H
#define FLUX1_BASE_DIALOG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { DIALOG_LINES = 3, DIALOG_MEMORY, DIALOG_ALIVE, DIALOG_SCRIPT, DIALOG_TARGETS_END };
enum { DIALOG_LINE = 4096 }; /* bytes of a line at most, with its end */

typedef struct dialog dialog;

/* Starts argv[0], a path, with these arguments (ended by NULL). FLUX1_ERR_IO, FLUX1_ERR_MEMORY. */
flux1_status dialog_start(char *const argv[], const void *script, size_t script_bytes, dialog **out, flux1_error *err);

/* Ends it, and all that it has started in its group: at once by SIGKILL, or where `gently` only if it does not end
 * within two seconds of the end of its lines. NULL is fine. */
void dialog_end(dialog *d, bool gently);

/* One line, without its end. FLUX1_ERR_IO if the program has ended, or takes nothing for `seconds`. */
flux1_status dialog_say(dialog *d, double seconds, flux1_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The next line, NUL-terminated, without its end; valid until the next call. FLUX1_ERR_IO: it has ended (the sentence
 * has how, and its last words); FLUX1_ERR_LIMIT: there is none within `seconds`; FLUX1_ERR_FORMAT: a line too long, or
 * with bytes that are no text. */
flux1_status dialog_hear(dialog *d, double seconds, const char **line, flux1_error *err);

/* Of the shared memory, which becomes at least that large: bytes that are this process's to write and read until the
 * next call. FLUX1_ERR_MEMORY. */
flux1_status dialog_memory(dialog *d, size_t bytes, void **memory, flux1_error *err);
void dialog_memory_drop(dialog *d); /* its pages go back; its content is zeros then */

#endif
