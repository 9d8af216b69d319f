/* Addresses of the hub. */
#ifndef FLUX1_FETCH_URL_H
#define FLUX1_FETCH_URL_H

#include "base/builder.h"

#include <stdbool.h>

/* Where the hub is: HF_ENDPOINT without slashes at its end, else https://huggingface.co; malloc'd. FLUX1_ERR_ARGUMENT
 * if that is no http address, FLUX1_ERR_MEMORY. */
flux1_status url_endpoint(char **out, flux1_error *err);

/* Adds text with all bytes but letters, digits, "_.-~" and those in `safe` as %XX: Python's urllib.parse.quote. */
void url_quote(builder *b, const char *text, const char *safe);

/* Whether this is an http or https address. */
bool url_is_web(const char *url);

/* Whether both have the same scheme, host and port, in the same spelling (any case): then a token for one may go to
 * the other. */
bool url_same_origin(const char *a, const char *b);

/* The host of an address for messages, "?" if it has none; cut to fit. Nothing behind it: an address may be signed. */
const char *url_host(const char *url, char *out, size_t room);

/* Whether a Location header is a path on the same server. */
bool url_is_relative(const char *location);

#endif
