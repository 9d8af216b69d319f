#include "server/remarks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void remarks_add(remarks *n, const char *format, ...)
{
    char text[FLUX1_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n->count == REMARKS_MAX)
        return;
    for (int i = 0; i < n->count; i++)
        if (strcmp(n->text[i], text) == 0)
            return;
    if ((n->text[n->count] = strdup(text)))
        n->count++;
}

void remarks_put(json_writer *w, const char *key, const remarks *n)
{
    json_begin_array(w, key);
    for (int i = 0; i < n->count; i++)
        json_put_string(w, NULL, n->text[i]);
    json_end_array(w);
}

void remarks_free(remarks *n)
{
    for (int i = 0; i < n->count; i++)
        free(n->text[i]);
    n->count = 0;
}
