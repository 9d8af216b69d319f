/* Cancelling: of the call that runs on a context, and by a token that the caller owns. */
#include "pipeline/context.h"

#include <sched.h>
#include <stdlib.h>

struct flux1_cancel_token {
    atomic_int wanted;
    _Atomic(flux1_context *) running; /* the context whose call has this token, or NULL */
    atomic_int reading;               /* how many are between reading `running` and being done with it */
};

void flux1_cancel(flux1_context *context)
{
    if (context)
        atomic_store_explicit(&context->cancel, 1, memory_order_relaxed);
}

flux1_cancel_token *flux1_cancel_token_create(void) { return calloc(1, sizeof(flux1_cancel_token)); }

void flux1_cancel_token_destroy(flux1_cancel_token *token) { free(token); }

void flux1_cancel_token_cancel(flux1_cancel_token *token)
{
    if (!token)
        return;
    atomic_store(&token->wanted, 1);
    atomic_fetch_add(&token->reading, 1);
    flux1_cancel(atomic_load(&token->running));
    atomic_fetch_sub(&token->reading, 1);
}

void flux1_cancel_token_reset(flux1_cancel_token *token)
{
    if (token)
        atomic_store(&token->wanted, 0);
}

bool token_is_cancelled(const flux1_cancel_token *token) { return token && atomic_load(&token->wanted); }

flux1_status token_enter(flux1_context *c, flux1_cancel_token *token)
{
    c->token = token;
    if (!token)
        return FLUX1_OK;
    atomic_store(&token->running, c);
    return token_is_cancelled(token) ? error_set(&c->error, FLUX1_ERR_CANCELLED, "cancelled") : FLUX1_OK;
}

void token_leave(flux1_context *c)
{
    flux1_cancel_token *token = c->token;
    c->token = NULL;
    if (!token)
        return;
    atomic_store(&token->running, NULL);
    while (atomic_load(&token->reading)) /* a cancel that comes late must not hit the context's next call */
        sched_yield();
}
