/* What the requests of one run share: a context and a model, opened when the first request has turned out to be usable.
 */
#ifndef FLUX1_CLI_SESSION_H
#define FLUX1_CLI_SESSION_H

#include "cli/cli.h"

typedef struct session {
    const options *opt;
    flux1_context *context;
    flux1_context_info info;
    flux1_context *writer; /* writes pictures while the other context is busy */
    flux1_model *model;
    struct opened_lora *loras; /* that requests have named so far */
    double load_seconds;       /* not reported yet */
    bool failed;               /* it could not be opened, and no other request can use it */
} session;

/* Where several processes were started: opens the context, for which the others wait. Prints an error on failure;
 * returns the exit status. */
int session_join(session *s);

/* Does nothing where it is open. Prints an error on failure; returns the exit status. */
int session_open(session *s);
void session_close(session *s);

/* The request's --lora files, opened where they are not yet, and printed what applies. uses: LORA_MAX. Prints an error
 * on failure; returns the exit status. */
int session_adapters(session *s, const options *opt, flux1_adapter_use *uses);

#endif
