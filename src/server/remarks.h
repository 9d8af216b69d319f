/* What a client is told beside the result: what was ignored, rounded or is doubtful. */
#ifndef FLUX1_SERVER_REMARKS_H
#define FLUX1_SERVER_REMARKS_H

#include "base/json_write.h"

#define REMARKS_MAX 24

typedef struct remarks {
    char *text[REMARKS_MAX];
    int count;
} remarks;

/* A note that is there already, one too many, or one for which memory lacks, is dropped. */
void remarks_add(remarks *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void remarks_put(json_writer *w, const char *key, const remarks *n); /* as a list of texts */
void remarks_free(remarks *n);

#endif
