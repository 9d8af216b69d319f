/* What a client is told beside the result: what was ignored, rounded or is doubtful. */
#ifndef FLUX1_SERVER_NOTES_H
#define FLUX1_SERVER_NOTES_H

#include "base/json_write.h"

#define NOTES_MAX 24

typedef struct notes {
    char *text[NOTES_MAX];
    int count;
} notes;

/* A note that is there already, one too many, or one for which memory lacks, is dropped. */
void notes_add(notes *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void notes_put(json_writer *w, const char *key, const notes *n); /* as a list of texts */
void notes_free(notes *n);

#endif
