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

/* POST /v1/images/generations into a request that has been begun. */
bool openai_request_read(const json_value *object, job_request *r, openai_wishes *w, remarks *n, fault *f);

/* The name that a request has of a model; NULL: none, or one of OpenAI's, which stands for `model` (with a remark). */
bool openai_wanted_model(const json_value *object, const char *model, const char **wanted, remarks *n, fault *f);

#endif
