/* What an answer of the hub means for the user. */
#ifndef FLUX1_FETCH_EXPLAIN_H
#define FLUX1_FETCH_EXPLAIN_H

#include "base/hub.h"
#include "fetch/http.h"

typedef struct fetch_subject {
    const char *endpoint;
    const hub_name *name;
    const char *token_source; /* where the token is from; NULL: there is none */
} fetch_subject;

/* The sentence for a call that ended as HTTP_REFUSED or HTTP_FAILED; file: what it was about, NULL: the listing.
 * Returns FLUX1_ERR_IO. */
flux1_status explain(const fetch_subject *s, const char *file, const http_call *c, http_outcome outcome,
                     flux1_error *err);

#endif
