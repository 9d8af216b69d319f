/* What the requests of one run share: a context and a model, opened when the first request has turned out to be usable.
 */
#ifndef FLUX1_CLI_SHARED_MODEL_H
#define FLUX1_CLI_SHARED_MODEL_H

#include "cli/cli.h"

typedef struct shared_model {
    const options *opt;
    flux1_context *context;
    flux1_context_info info;
    flux1_context *writer; /* writes pictures while the other context is busy */
    flux1_model *model;
    struct opened_lora *loras; /* that requests have named so far */
    double load_seconds;       /* not reported yet */
    bool failed;               /* it could not be opened, and no other request can use it */
} shared_model;

/* Where several processes were started: opens the context, for which the others wait. Prints an error on failure;
 * returns the exit status. */
int shared_model_join(shared_model *s);

/* Does nothing where it is open. Prints an error on failure; returns the exit status. */
int shared_model_open(shared_model *s);
void shared_model_close(shared_model *s);

/* The request's --lora files, opened where they are not yet, and printed what applies. uses: LORA_MAX. Prints an error
 * on failure; returns the exit status. */
int shared_model_adapters(shared_model *s, const options *opt, flux1_adapter_use *uses);

#endif
