/* flux1 generate: a session (context and model, opened when the first request has turned out to be usable) and requests
 * on it. */
#ifndef FLUX1_CLI_GENERATE_H
#define FLUX1_CLI_GENERATE_H

#include "cli/cli.h"

typedef struct session {
    const options *opt;
    flux1_context *context;
    flux1_context *writer; /* for previews: the other context is busy then */
    flux1_model *model;
    double load_seconds; /* not told yet */
    bool failed;         /* it could not be opened: no other request will fare better */
} session;

void session_close(session *s);

/* What may be done beside a request. */
typedef struct request_company {
    const flux1_text *text; /* its prompt, encoded before; NULL: it is encoded within */
    void (*reached)(void *user, const flux1_progress *progress); /* how far the request has come; may be NULL */
    void *user;
} request_company;

/* One request from its options to its files and what is printed of them. On failure complains; returns the exit status.
 * company may be NULL. */
int generate_request(session *s, const options *opt, const request_company *company);

/* --jsonl: a request a line. */
int batch_run(const options *opt);

#endif
