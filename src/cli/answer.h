/* The JSON object that answers a line of --jsonl (docs/jsonl.schema.json). */
#ifndef FLUX1_CLI_ANSWER_H
#define FLUX1_CLI_ANSWER_H

#include "base/json_write.h"

typedef struct answer {
    const json_value *id; /* as the line had it; NULL: it had none */
    long line;
    const flux1_error *error; /* FLUX1_OK in it: done */
} answer;

/* The members that every answer has, into the object that `w` has open. */
void answer_put(json_writer *w, const answer *a);

/* The whole answer to a line that became no request. */
void answer_print(const answer *a);

#endif
