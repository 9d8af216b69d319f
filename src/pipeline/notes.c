#include "pipeline/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void notes_add(notes *n, flux1_log_level level, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    const int length = vsnprintf(NULL, 0, format, ap);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    note *larger = text ? realloc(n->note, (n->count + 1) * sizeof *larger) : NULL;
    if (larger) {
        vsnprintf(text, (size_t)length + 1, format, again);
        n->note = larger;
        n->note[n->count++] = (note){level, text};
    } else {
        n->failed = true;
        free(text);
    }
    va_end(again);
    va_end(ap);
}

void notes_free(notes *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->note[i].text);
    free(n->note);
    *n = (notes){0};
}
