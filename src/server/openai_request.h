/* A request as OpenAI's clients write it. */
#ifndef FLUX1_SERVER_OPENAI_REQUEST_H
#define FLUX1_SERVER_OPENAI_REQUEST_H

#include "server/job_request.h"

/* How the answer is wanted. */
typedef struct openai_wishes {
    bool url, stream;
    int partial; /* previews of each picture */
} openai_wishes;

/* Beside request_common_fields: places in a job_request, and in openai_wishes. */
extern const request_field openai_fields[], openai_wish_fields[];

/* POST /v1/images/generations into a request that has been begun. model: ours; OpenAI's names stand for it. */
bool openai_request_read(const json_value *object, const char *model, job_request *r, openai_wishes *w, remarks *n,
                         fault *f);

/* The name, or the part behind its last slash. */
bool openai_is_model(const char *name, const char *model);

#endif
