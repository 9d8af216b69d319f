/* Lines for the user that arise where there is no context to log them. */
#ifndef FLUX1_PIPELINE_NOTES_H
#define FLUX1_PIPELINE_NOTES_H

#include "base/status.h"

#include <stdbool.h>

typedef struct note {
    flux1_log_level level;
    char *text;
} note;

typedef struct notes {
    note *note;
    size_t count;
    bool failed; /* memory was lacking for one */
} notes;

/* One more line. A failed allocation is remembered: callers check once, at the end. */
void notes_add(notes *n, flux1_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void notes_free(notes *n); /* harmless on zeroed ones */

#endif
